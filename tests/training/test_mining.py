"""Hard negatives: against a loop, against sentence-transformers, on real codes."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from conftest import states
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab import EmbeddingCache
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.icd10cm import HierarchyGuard
from sbert_lab.datasets.pairs import plain
from sbert_lab.losses import MultipleNegativesRankingLoss, TripletLoss
from sbert_lab.models.lexical import Bm25
from sbert_lab.models.static import StaticEncoder
from sbert_lab.training import hard_negatives
from sbert_lab.training.data import TrainingData, check_columns
from sbert_lab.training.hard_negatives import NoNegativesError, mine

pytestmark = pytest.mark.usefixtures("one_thread")


class Scores:
    """An encoder whose similarities are chosen: a query picks a row of a table."""

    metric = "dot"

    def __init__(self, table, anchors, texts):
        self.table = np.asarray(table, np.float32)  # [anchors, texts]
        self.anchors, self.texts = list(anchors), list(texts)
        self.dimension = len(self.anchors)

    def encode_query(self, texts):
        rows = [self.anchors.index(text) for text in texts]
        return np.eye(self.dimension, dtype=np.float32)[rows]

    def encode_document(self, texts):
        return self.table.T[[self.texts.index(text) for text in texts]]

    encode = encode_document

    def score(self, anchor, text):
        return float(self.table[self.anchors.index(anchor), self.texts.index(text)])


class Vectors:
    """An encoder that looks every text up among random vectors."""

    dimension = 16

    def encode(self, texts):
        return np.stack([self.one(text) for text in texts]).astype(np.float32)

    def one(self, text):
        digest = hashlib.sha256(text.encode()).digest()
        return np.random.default_rng([*digest]).normal(size=self.dimension) + 0.3


def naive(
    encoder, anchors, positives, corpus, *, rank, relative_margin=None, known=(),
    guard=None,
):  # fmt: skip
    """Return, by anchor, corpus rows of all that is left; and counts."""
    removed = dict.fromkeys(("known", "guard", "relative_margin"), 0)
    left = {}
    for name in dict.fromkeys(plain(anchor) for anchor in anchors):
        pairs = [i for i, anchor in enumerate(anchors) if plain(anchor) == name]
        anchor = anchors[pairs[0]]
        right = {name} | {plain(positives[i]) for i in pairs}
        right |= {plain(text) for other, text in known if plain(other) == name}
        lowest = min(encoder.score(anchor, positives[i]) for i in pairs)
        order = sorted(set(corpus), key=lambda text: -encoder.score(anchor, text))
        window, seen = [], set()
        for text in order:
            rows = [r for r, other in enumerate(corpus) if plain(other) == plain(text)]
            if plain(text) in seen or len(window) >= rank[1]:
                continue
            seen.add(plain(text))
            if plain(text) in right:
                removed["known"] += 1
            elif guard is not None and any(guard[i][r] for i in pairs for r in rows):
                removed["guard"] += 1
            else:
                window.append(text)
        left[name] = []
        for text in window[rank[0] :]:
            value, margin = encoder.score(anchor, text), relative_margin
            if margin is not None and value > lowest - abs(lowest) * margin:
                removed["relative_margin"] += 1
            else:
                left[name].append(corpus.index(text))
    return left, removed


def case(seed):
    """Draw scores, texts that repeat in several forms, and options."""
    rng = np.random.default_rng(seed)
    forms = [form for i in range(rng.integers(3, 12)) for form in (f"t {i}", f"T  {i}")]
    names = [form for i in range(rng.integers(1, 5)) for form in (f"a {i}", f"A {i}")]
    texts = [*forms, *names]  # an anchor may stand in the corpus too
    table = np.array([rng.permutation(len(texts)) for _ in names])
    table = (table - rng.integers(0, len(texts))) / 4
    pairs = rng.integers(1, 9)
    anchors = rng.choice(names, pairs).tolist()
    positives = rng.choice(forms, pairs).tolist()
    corpus = rng.choice(texts, rng.integers(1, 2 * len(texts))).tolist()
    first, per_anchor = int(rng.integers(0, 3)), int(rng.integers(1, 4))
    options = {
        "relative_margin": float(rng.choice([0, 0.25, 0.5])),
        "known": [(str(rng.choice(names)), str(rng.choice(texts))) for _ in range(3)],
        "guard": rng.random((pairs, len(corpus))) < 0.2,
    }
    options = {name: value for name, value in options.items() if rng.random() < 0.5}
    options["rank"] = first, first + per_anchor + int(rng.integers(0, 12))
    encoder = Scores(table, names, texts)
    return encoder, (anchors, positives, corpus), per_anchor, options


@pytest.mark.parametrize(
    ("at_once", "spare"), [(1_024, 16), (2, 0)], ids=["whole", "blocks"]
)
def test_is_the_loop(monkeypatch, at_once, spare):
    """Every option, alone and with others; with searches that must go deeper."""
    monkeypatch.setattr(hard_negatives, "_ANCHORS_AT_ONCE", at_once)
    monkeypatch.setattr(hard_negatives, "_SPARE", spare)
    seen = Counter()

    @settings(deadline=None, max_examples=100, database=None)
    @given(st.integers(0, 2**32))
    def check(seed):
        encoder, (anchors, positives, corpus), per_anchor, options = case(seed)
        left, removed = naive(encoder, anchors, positives, corpus, **options)
        ask = {"corpus": corpus, "per_anchor": per_anchor} | options
        if "guard" in options:
            ask["guard"] = lambda pairs, rows: options["guard"][pairs, rows]
        if not any(left.values()):
            seen["nothing left"] += 1
            with pytest.raises(NoNegativesError, match="no negative is left"):
                mine(encoder, anchors, positives, **ask)
            return
        found = mine(encoder, anchors, positives, **ask)
        drawn = mine(encoder, anchors, positives, **ask, sampling="random", seed=seed)
        for row, anchor in enumerate(anchors):
            expected = left[plain(anchor)][:per_anchor]
            expected += [-1] * (per_anchor - len(expected))
            assert found.negatives[row].tolist() == expected
            rows = [r for r in drawn.negatives[row] if r >= 0]
            order = left[plain(anchor)]
            assert len(rows) == min(per_anchor, len(order))
            assert rows == [r for r in order if r in rows]  # nearest first, no other
        assert found.removed == {name: removed[name] for name in found.removed}
        seen.update(name for name, count in removed.items() if count)
        seen["several forms"] += len({*anchors}) > len(left)

    check()
    assert set(seen) >= {
        *("known", "guard", "relative_margin", "nothing left", "several forms")
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"range_min": 3}, {"rank": (3, None)}),
        ({"relative_margin": 0.05, "range_max": 70}, {"relative_margin": 0.05}),
    ],
)
def test_is_sentence_transformers(minilm, peer, tmp_path, theirs, ours):
    """Where nothing but ranks, or all ranks, decide, both mine the same triplets."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    rng, pairs = np.random.default_rng(0), icd10cm.split_pairs("train")
    drawn = [pairs[row] for row in rng.choice(len(pairs), 70, replace=False)]
    unique = {plain(code.description): (term, code) for term, code in drawn}.values()
    anchors = [term for term, _ in unique]
    positives = [code.description for _, code in unique]
    if "relative_margin" in ours:
        ours = ours | {"rank": (0, len(positives))}
    before, cache = states(), EmbeddingCache(tmp_path)
    found = mine(minilm, anchors, positives, per_anchor=3, cache=cache, **ours)
    assert states() == before
    assert cache.misses > 0
    expected = mine_hard_negatives(
        Dataset.from_dict({"anchor": anchors, "positive": positives}),
        peer,
        num_negatives=3,
        verbose=False,
        **theirs,
    )
    names = ("anchor", "positive", "negative")
    got = list(zip(*(found.triplets()[name] for name in names), strict=True))
    want = list(zip(*(expected[name] for name in names), strict=True))
    assert sorted(got) == sorted(want)
    assert len(got) > 150


def test_negative_scores_have_a_margin_below_them():
    encoder = Scores([[-4, -3.9, -4.3, -4.5]], ["a"], list("pqrs"))
    found = mine(encoder, ["a"], ["p"], corpus=list("qrs"), relative_margin=0.1)
    assert found.triplets()["negative"] == ["s"]  # -4.5 <= -4.4; -4 * 0.9 is -3.6


def relatives(mined, pairs, corpus):
    """Return the negatives that are a positive, or stand above or below one's code."""
    above = {c.code: {a.code for a in icd10cm.ancestors(c)} for c in corpus}
    above |= {c.code: {a.code for a in icd10cm.ancestors(c)} for _, c in pairs}
    codes, named = {}, {}
    for term, code in pairs:
        codes.setdefault(plain(term), []).append(code.code)
    for code in corpus:
        named.setdefault(plain(code.description), []).append(code.code)
    found = []
    columns = mined.triplets()
    for anchor, negative in zip(columns["anchor"], columns["negative"], strict=True):
        for a in codes[plain(anchor)]:
            for b in named[plain(negative)]:
                if a == b or a in above[b] or b in above[a]:
                    found.append((anchor, negative))
    return found


def test_no_positive_and_no_relative_is_mined_and_the_seed_draws():
    encoder = StaticEncoder.from_pretrained("wordllama-256")
    pairs, corpus = icd10cm.split_pairs("train"), icd10cm.retrieval_corpus()
    rows = np.random.default_rng(1).choice(len(pairs), 400, replace=False)
    pairs = [pairs[row] for row in rows]
    anchors = [term for term, _ in pairs]
    positives = [code.description for _, code in pairs]
    guard = HierarchyGuard(
        tuple(c.code for _, c in pairs), tuple(c.code for c in corpus)
    )
    ask = {"corpus": [code.description for code in corpus], "per_anchor": 5}
    free = mine(encoder, anchors, positives, **ask)
    safe = mine(encoder, anchors, positives, **ask, guard=guard)
    right = {(plain(a), plain(p)) for a, p in zip(anchors, positives, strict=True)}
    for mined in (free, safe):
        columns = mined.triplets()
        met = zip(columns["anchor"], columns["negative"], strict=True)
        assert not right & {(plain(a), plain(n)) for a, n in met}
        assert (mined.negatives >= 0).all()
    assert free.removed["known"] > 100
    assert len(relatives(free, pairs, corpus)) > 100  # what the guard is for
    assert not relatives(safe, pairs, corpus)
    assert safe.removed["guard"] > 200
    first, same, other = (
        mine(encoder, anchors, positives, **ask, sampling="random", seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.negatives, same.negatives)
    assert (first.negatives != other.negatives).mean() > 0.5


def test_the_draw_is_even():
    names = [f"a {i}" for i in range(2_000)]
    encoder = Scores(np.tile([9.0, 5, 4, 3, 2, 1], (2_000, 1)), names, [*"pqrstu"])
    ask = {"corpus": [*"qrstu"], "per_anchor": 2, "rank": (1, 5), "sampling": "random"}
    found = mine(encoder, names, ["p"] * 2_000, **ask)
    counts = np.bincount(found.negatives.ravel(), minlength=5)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 1_000, atol=110)  # five standard deviations


def test_order_of_the_corpus_does_not_matter():
    encoder, rng = Vectors(), np.random.default_rng(3)
    corpus = [f"text {i}" for i in range(200)]
    anchors = [f"anchor {i}" for i in range(40)]
    ask = {"per_anchor": 4, "rank": (2, 40), "sampling": "random"}
    first = mine(encoder, anchors, corpus[:40], corpus=corpus, **ask)
    shuffled = [corpus[i] for i in rng.permutation(200)]
    again = mine(encoder, anchors, corpus[:40], corpus=shuffled, **ask)
    assert first.triplets() == again.triplets()


def test_words_are_searched_too():
    corpus = ["red cat", "cat", "Cat", "dog cat", "bird", "fish fish", "red dog"]
    found = mine(Bm25(corpus), ["red cat"], ["cat"], corpus=corpus, per_anchor=5)
    (order,) = Bm25(corpus).search(["red cat"], 7)[1]
    wanted = [row for row in order if row in (3, 6)]
    assert found.negatives[0].tolist() == [*wanted, -1, -1, -1]  # no word, no negative
    with pytest.raises(ValueError, match="BM25 does not score"):
        mine(Bm25(corpus), ["red cat"], ["cat"], corpus=corpus, relative_margin=0.1)


def test_columns_train():
    encoder = Scores([[9, 5, 4, 3], [3, 2, 9, 1]], ["a", "b"], list("pqrs"))
    ask = {"per_anchor": 3, "corpus": list("pqrs"), "relative_margin": 0.7}
    found = mine(encoder, ["b", "a"], ["r", "p"], **ask)
    assert found.columns() == {
        "anchor": ["b", "a"],
        "positive": ["r", "p"],
        "negative": [["q", "s"], []],
    }
    assert found.triplets()["anchor"] == ["b", "b"]
    check_columns(TrainingData(found.columns()), MultipleNegativesRankingLoss())
    check_columns(TrainingData(found.triplets()), TripletLoss())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchors": []}, "0 anchors"),
        ({"corpus": []}, "0 texts"),
        ({"anchors": ["a"]}, "1 anchors, 2 positives"),
        ({"per_anchor": 0}, "per_anchor=0"),
        ({"rank": (-1, 5)}, "ranks begin at 0"),
        ({"rank": (0, 2), "per_anchor": 3}, "per_anchor=3"),
        ({"sampling": "top"}, "sampling is one of"),
        ({"rank": (3, 5)}, "no negative is left"),
    ],
)
def test_what_cannot_be_mined_is_said(change, message):
    encoder = Scores([[9, 5, 4, 3], [8, 7, 6, 5]], ["a", "A"], [*"pqrs"])
    ask = {"anchors": ["a", "A"], "positives": ["p", "p"], "corpus": [*"qrs"]}
    with pytest.raises(ValueError, match=message):
        mine(encoder, **ask | change)
