"""A field with codes, as ICD-10-CM has: real ones, so that relatives are known."""

import numpy as np
from conftest import random_bert
from tiny_cross_encoder import WORDS, pair_tokenizer

from sbert_lab.datasets.domains import Domain
from sbert_lab.datasets.icd10cm import RetrievalTask, retrieval_corpus
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.models.checkpoint import Layout
from sbert_lab.models.sentence_encoder import SentenceEncoder


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


def word_encoder() -> SentenceEncoder:
    """Return a random encoder of width 16 that knows the words of the domain."""
    tokenizer = pair_tokenizer()
    layout = Layout(dimension=16, head=("normalize",))
    return SentenceEncoder(random_bert(len(tokenizer), 16), tokenizer, layout).eval()
