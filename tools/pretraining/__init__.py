"""Pre-training from nothing: a small BERT out of the text of a Debian release.

The modules read in the order that text takes through them:

* ``sources`` names the packages whose prose is used, with their licences;
* ``paragraphs`` and ``readers`` get clean paragraphs out of their files;
* ``corpus`` drops duplicates, tells held-out documents apart, writes both;
* ``vocabulary`` learns the WordPieces, ``static_vectors`` a first vector for each;
* ``prepare`` runs these two over a corpus and writes what training reads;
* ``batches`` and ``masking`` say what each step sees, by seed and step alone;
* ``plan`` says for how long and how fast, ``model`` what is trained;
* ``heldout`` measures, ``checkpoints`` and ``export`` write, ``training`` trains;
* ``starts``, ``transfer`` and ``advantage`` ask what it was worth.

Each imports only from those above it. On the command line::

    python -m tools.pretraining corpus --packages PACKAGES --out CORPUS
    python -m tools.pretraining prepare --corpus CORPUS --data DATA
    python -m tools.pretraining train --data DATA --run RUN --max-tokens 150e6
    python -m tools.pretraining cooldown --data DATA --run RUN --branch BRANCH
    python -m tools.pretraining export --data DATA --run RUN --out FOLDER
    python -m tools.pretraining transfer --weights FOLDER --statics FOLDER --out OUT

Every command may be repeated; ``train`` goes on from its last checkpoint. Only
``prepare`` and ``transfer`` need the ``notebooks`` extra.
"""
