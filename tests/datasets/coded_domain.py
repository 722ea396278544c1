"""A field with codes, as ICD-10-CM has: real ones, so that relatives are known."""

import numpy as np
from tiny_cross_encoder import WORDS

from sbert_lab.datasets.domains import Domain
from sbert_lab.datasets.icd10cm import RetrievalTask, retrieval_corpus
from sbert_lab.datasets.pairs import Pairs


def coded_domain() -> Domain:
    """Return real codes of 20 categories under made-up texts: answers repeat a word."""
    book = [c for c in retrieval_corpus() if c.category]
    categories = list(dict.fromkeys(c.category for c in book))[:20]
    codes = [c.code for name in categories for c in book if c.category == name][:100]
    rng = np.random.default_rng(0)
    answers = [f"{WORDS[i]} {rng.choice(WORDS[100:])}" for i in range(len(codes))]
    terms = [f"{rng.choice(WORDS[100:])} {WORDS[i]}" for i in range(len(codes))]
    terms[3] = terms[-1]  # the same term in the first category and in the last
    task = RetrievalTask(tuple(terms), tuple(codes), tuple(codes), tuple(answers))
    group = tuple(code[:3] for code in codes)
    every = tuple(answers), tuple(codes), tuple(codes)
    return Domain("made up", Pairs(tuple(terms), tuple(answers)), task, group, *every)
