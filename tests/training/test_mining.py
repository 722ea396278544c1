"""Hard negatives: against a loop, and how they are drawn."""

from collections import Counter

import numpy as np
import pytest
from conftest import states
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert_lab.datasets.pairs import plain
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.training import hard_negatives
from sbert_lab.training.data import TrainingData, check_columns
from sbert_lab.training.hard_negatives import NoNegativesError, mine

pytestmark = pytest.mark.usefixtures("one_thread")


class Scores:
    """An encoder whose cosines are those of a table, but for a factor."""

    def __init__(self, table, anchors, texts):
        self.table = np.asarray(table, np.float64)  # [anchors, texts]
        self.anchors, self.texts = list(anchors), list(texts)
        part = self.table / (2 * np.linalg.norm(self.table, axis=0).max())
        rest = np.sqrt(1 - (part**2).sum(0))
        self.vectors = np.vstack([part, rest]).T.astype(np.float32)

    def encode_query(self, texts, **_):
        rows = [self.anchors.index(text) for text in texts]
        return np.eye(len(self.anchors) + 1, dtype=np.float32)[rows]

    def encode_document(self, texts, **_):
        return self.vectors[[self.texts.index(text) for text in texts]]

    def score(self, anchor, text):
        return float(self.table[self.anchors.index(anchor), self.texts.index(text)])


def naive(encoder, anchors, positives, corpus, *, rank, relative_margin=None):
    """Return, by anchor, corpus rows of all that is left; and counts."""
    removed = {"known": 0, "relative_margin": 0}
    rows_of, left = {}, {}
    for row, text in enumerate(corpus):
        rows_of.setdefault(plain(text), []).append(row)
    for name in dict.fromkeys(plain(anchor) for anchor in anchors):
        pairs = [i for i, anchor in enumerate(anchors) if plain(anchor) == name]
        anchor = anchors[pairs[0]]
        right = {name} | {plain(positives[i]) for i in pairs}
        lowest = min(encoder.score(anchor, positives[i]) for i in pairs)
        score = {t: encoder.score(anchor, corpus[r[0]]) for t, r in rows_of.items()}
        window = []
        for text in sorted(score, key=lambda text: -score[text]):
            if len(window) == rank[1]:
                break
            if text in right:
                removed["known"] += 1
            else:
                window.append(text)
        left[name] = []
        for text in window[rank[0] :]:
            margin = relative_margin
            if margin is not None and score[text] > lowest - abs(lowest) * margin:
                removed["relative_margin"] += 1
            else:
                left[name].append(rows_of[text][0])
    return left, removed


def case(seed):
    """Draw scores, texts that repeat in several forms, and options."""
    rng = np.random.default_rng(seed)
    forms = [form for i in range(rng.integers(3, 12)) for form in (f"t {i}", f"T  {i}")]
    names = [form for i in range(rng.integers(1, 5)) for form in (f"a {i}", f"A {i}")]
    texts = [*forms, *names]  # an anchor may stand in the corpus too
    table = np.array([rng.permutation(len(texts)) for _ in names])
    table = table - rng.integers(0, len(texts))
    pairs = rng.integers(1, 9)
    anchors = rng.choice(names, pairs).tolist()
    positives = rng.choice(forms, pairs).tolist()
    corpus = rng.choice(texts, rng.integers(1, 2 * len(texts))).tolist()
    first = int(rng.integers(0, 3))
    options = {"rank": (first, first + int(rng.integers(1, 15)))}
    if rng.random() < 0.5:
        options["relative_margin"] = float(rng.choice([0, 0.23, 0.47]))
    return Scores(table, names, texts), (anchors, positives, corpus), options


@pytest.mark.parametrize("at_once", [1_024, 2], ids=["whole", "blocks"])
def test_is_the_loop(monkeypatch, at_once):
    """Every option, alone and with others."""
    monkeypatch.setattr(hard_negatives, "_ANCHORS_AT_ONCE", at_once)
    seen = Counter()

    @settings(deadline=None, max_examples=100, database=None)
    @given(st.integers(0, 2**32))
    def check(seed):
        encoder, (anchors, positives, corpus), options = case(seed)
        left, removed = naive(encoder, anchors, positives, corpus, **options)
        ask = {"corpus": corpus} | options
        if not any(left.values()):
            seen["nothing left"] += 1
            with pytest.raises(NoNegativesError, match="no negative is left"):
                mine(encoder, anchors, positives, **ask)
            return
        width = options["rank"][1] - options["rank"][0]
        whole = mine(encoder, anchors, positives, **ask, per_anchor=width)
        drawn = mine(encoder, anchors, positives, **ask, seed=seed)
        for row, anchor in enumerate(anchors):
            expected = left[plain(anchor)]
            padding = [-1] * (width - len(expected))
            assert whole.negatives[row].tolist() == [*expected, *padding]
            assert drawn.negatives[row].tolist()[0] in (expected or [-1])
        assert whole.removed == drawn.removed == removed
        seen.update(name for name, count in removed.items() if count)
        seen["several forms"] += len({*anchors}) > len(left)

    check()
    assert set(seen) >= {"known", "relative_margin", "nothing left", "several forms"}


def test_whoever_asks_for_thirty_gets_thirty():
    """Behind a hundred answers, which no search as deep as thirty passes."""
    texts = [f"t {i}" for i in range(150)]
    encoder = Scores([np.arange(150, 0, -1)], ["a"], texts)
    ask = {"corpus": texts, "per_anchor": 30, "rank": (0, 30)}
    found = mine(encoder, ["a"] * 100, texts[:100], **ask)
    assert found.negatives.tolist() == [list(range(100, 130))] * 100
    assert found.removed == {"known": 100, "relative_margin": 0}


def test_the_draw_is_even_and_the_seeds():
    names = [f"a {i}" for i in range(2_000)]
    encoder = Scores(np.tile([9.0, 5, 4, 3, 2, 1], (2_000, 1)), names, [*"pqrstu"])
    ask = {"corpus": [*"qrstu"], "per_anchor": 2, "rank": (1, 5)}
    before = states()
    found, same, other = (
        mine(encoder, names, ["p"] * 2_000, seed=seed, **ask) for seed in (0, 0, 1)
    )
    assert states() == before
    np.testing.assert_array_equal(found.negatives, same.negatives)
    assert (found.negatives != other.negatives).mean() > 0.5
    counts = np.bincount(found.negatives.ravel(), minlength=5)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 1_000, atol=110)  # five standard deviations


def test_columns_train():
    encoder = Scores([[9, 5, 4, 3], [3, 2, 9, 1]], ["a", "b"], list("pqrs"))
    ask = {"per_anchor": 3, "corpus": list("pqrs"), "relative_margin": 0.7}
    found = mine(encoder, ["b", "a"], ["r", "p"], **ask)
    assert found.columns() == {
        "anchor": ["b", "a"],
        "positive": ["r", "p"],
        "negative": [["q", "s"], []],
    }
    assert found.rows.tolist() == [0]
    check_columns(TrainingData(found.columns()), MultipleNegativesRankingLoss())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus": []}, "0 texts"),
        ({"anchors": ["a"]}, "1 anchors, 2 positives"),
        ({"rank": (-1, 5)}, "rank=.-1, 5., per_anchor=1"),
        ({"rank": (0, 2), "per_anchor": 3}, "per_anchor=3"),
        ({"rank": (3, 5)}, "no negative is left"),
    ],
)
def test_what_cannot_be_mined_is_said(change, message):
    encoder = Scores([[9, 5, 4, 3], [8, 7, 6, 5]], ["a", "A"], [*"pqrs"])
    ask = {"anchors": ["a", "A"], "positives": ["p", "p"], "corpus": [*"qrs"]}
    with pytest.raises(ValueError, match=message):
        mine(encoder, **ask | change)
