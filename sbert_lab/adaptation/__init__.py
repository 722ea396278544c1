"""A better model for your own texts: from a file of pairs, or from texts alone.

`recipe` holds the settings, `adapt` trains on pairs, `unsupervised` on texts without
pairs, `measuring` compares before with after, and `report` writes down what was found.
"""
