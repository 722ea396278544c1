"""A better model for your own texts: from a file of pairs, or from texts alone.

`split` keeps a test aside, `recipe` says how to train, `unlabelled` is for when there
are no pairs, `run` does it all, and `outcome` is what was found, which `report` shows.
"""
