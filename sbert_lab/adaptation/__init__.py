"""A better model for your own texts: from a file of pairs, or from texts alone.

`supervised` trains on pairs, `unsupervised` on texts without pairs, by a `recipe`;
`adapt` does it from beginning to end, and `report` tells before from after.
"""
