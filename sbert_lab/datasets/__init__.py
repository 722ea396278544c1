"""Data on which the notebooks measure: medical codes, sentence pairs, your own file."""
