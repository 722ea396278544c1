"""A better model for your own texts: from a file of pairs, or from texts alone."""
