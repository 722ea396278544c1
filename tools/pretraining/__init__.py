"""Pre-training from nothing: a small BERT out of the text of a Debian release.

The modules read in the order that text takes through them: ``readers`` get clean
paragraphs out of files, ``corpus`` drops duplicates and tells held-out documents apart,
``prepare`` learns WordPieces and a static vector for each, ``train`` trains, ``export``
writes what ``transformers`` loads, and ``transfer`` asks what it was worth::

    python -m tools.pretraining corpus --packages PACKAGES --out CORPUS
    python -m tools.pretraining prepare --corpus CORPUS --data DATA
    python -m tools.pretraining train --data DATA --run RUN
    python -m tools.pretraining export --data DATA --run RUN --out FOLDER
    python -m tools.pretraining transfer --weights FOLDER --statics DATA --out FILE

Every command may be repeated; ``train`` goes on from its last checkpoint. ``prepare``
and ``transfer`` need the ``notebooks`` extra.
"""
