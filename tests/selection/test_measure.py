"""Quality on pairs against a naive nDCG; costs against a clock of the test's own."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny_encoder

from sbert_lab.datasets.pairs import Pairs, retrieval_from_pairs
from sbert_lab.evaluation import tasks
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.models.lexical import Bm25
from sbert_lab.selection import candidates, measure
from sbert_lab.selection.candidates import Candidate
from sbert_lab.selection.measure import (
    OWN,
    costs,
    in_a_fresh_process,
    measure_all,
    on_pairs,
)
from sbert_lab.selection.recommend import FORMATS


def pairs(rows, negative=None):
    anchor, positive = zip(*rows, strict=True)
    return Pairs(anchor, positive, negative, None, Path("own.csv"))


class Angles:
    """Puts each text at an angle on the unit circle, in degrees."""

    dimension = 2

    def __init__(self, degrees):
        self.degrees = degrees

    def encode(self, texts):
        turned = np.radians([self.degrees[text] for text in texts])
        return np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)

    def encode_query(self, texts):
        assert all(text.startswith("query") for text in texts)
        return self.encode(texts)

    def encode_document(self, texts):
        assert not any(text.startswith("query") for text in texts)
        return self.encode(texts)


def naive_ndcg(degrees, anchor, right, corpus):
    """Sort by angle; DCG over that of an ideal order, ten places."""
    order = sorted(corpus, key=lambda text: abs(degrees[text] - degrees[anchor]))
    gains = [1 / math.log2(i + 2) for i, t in enumerate(order[:10]) if t in right]
    ideal = [1 / math.log2(i + 2) for i in range(min(10, len(right)))]
    return sum(gains) / sum(ideal)


def test_pairs_equal_a_naive_ndcg():
    rng = np.random.default_rng(0)
    texts = [f"text {i}" for i in range(40)]
    queries = [f"query {i}" for i in range(15)]
    angles = rng.uniform(0, 80, len(texts) + len(queries)).tolist()
    degrees = dict(zip(texts + queries, angles, strict=True))
    rows = [(q, texts[i]) for q in queries for i in rng.choice(30, 3, replace=False)]
    rows = [rows[i] for i in rng.permutation(len(rows))]  # a query's rows lie apart
    rows += [("query a", "its answer"), ("query b", "another")]  # groups of their own
    degrees |= {"query a": 85, "its answer": 86, "query b": 88, "another": 89}
    negative = tuple(texts[i] for i in rng.integers(20, 40, len(rows)))
    own = pairs(rows, negative)
    anchors = list(dict.fromkeys(anchor for anchor, _ in rows))
    corpus = {*own.positive, *negative}
    wanted = [
        naive_ndcg(degrees, q, {p for a, p in rows if a == q}, corpus) for q in anchors
    ]
    assert 0.1 < np.mean(wanted[:15]) < 0.9
    found = on_pairs(Angles(degrees), retrieval_from_pairs(own))
    np.testing.assert_allclose(found.items, wanted)
    assert len(set(found.group)) > 1  # queries that share a text are drawn together


def test_bm25_is_judged_by_its_own_scores():
    rows = [("bone pain", "pain of the bone"), ("cough", "cough and fever")]
    own = pairs([*rows, ("fever", "high fever")], ("fever fever", "x1", "pain"))
    search = retrieval_from_pairs(own)
    words = Bm25(search.corpus)
    found = on_pairs(words, search)
    scores = words.scores(["bone pain", "cough", "fever"])
    better = [(scores[i] > scores[i, i]).sum() for i in range(3)]
    places = [n + (scores[i, :i] == scores[i, i]).sum() for i, n in enumerate(better)]
    assert (better, places) == ([0, 0, 1], [0, 0, 2])  # a tie, in the file's order
    np.testing.assert_allclose(found.items, [1 / math.log2(p + 2) for p in places])


@pytest.fixture
def known(monkeypatch):
    """Candidates of this test, under the names that are asked for."""
    encoder = tiny_encoder(
        prompts={"query": "query : ", "document": "passage : "}, head=("normalize",)
    )
    made = {
        "tiny": Candidate("tiny", "a tiny one", load=lambda _: encoder),
        "bm25": Candidate("bm25", "words", load=Bm25),
    }
    monkeypatch.setattr(measure, "candidate", made.__getitem__)
    small = {"process_mb": 1.0, "load_s": 1.0}
    monkeypatch.setattr(measure, "in_a_fresh_process", lambda *_: small)
    return encoder


NAMES = {"mine": "tiny", "words": "bm25"}
QUICK = {"rounds": 1, "index_mb": 0.01, "texts": (8, 4)}


def test_icd10cm_is_measured_as_by_the_tasks(known, tmp_path):
    kinds = ("Retrieval", "STS")
    wanted = tasks.measure(
        known.encode_query, 16, kinds=kinds, encode_document=known.encode_document
    )
    cache = EmbeddingCache(tmp_path)
    _, found = measure_all(NAMES, size=16, kinds=kinds, cache=cache, **QUICK)
    for kind in kinds:
        np.testing.assert_allclose(
            found["mine"][kind].items, wanted[kind].items, atol=1e-5
        )
    assert list(found["words"]) == ["Retrieval"]
    assert cache.misses


def test_a_survey_holds_quality_costs_and_differences(known):
    rows = [(f"the {w} cat", f"a {w} dog ran") for w in ("red", "blue", "green", "one")]
    own = pairs([*rows, ("no bird", "two foxes flew")])
    survey, _ = measure_all(NAMES, pairs=own, **QUICK)
    assert [row.name for row in survey.rows] == ["mine", "words"]
    mine, words = survey.rows
    assert (mine.dimension, mine.bytes_per_entry, mine.lexical) == (16, 64, False)
    assert words.lexical
    assert words.dimension > 3
    gap = survey.difference(OWN, "mine", "words")
    between = mine.quality[OWN].mean - words.quality[OWN].mean
    assert gap.mean == pytest.approx(between)
    assert mine.cost.keys() == words.cost.keys()
    assert survey.about["quality on"] == "own.csv, 5 queries in its 5 answers"
    assert [one.kind for one in survey.indexes] == list(FORMATS)  # as recorded
    known.layout = replace(known.layout, similarity="manhattan")
    with pytest.raises(ValueError, match="'manhattan'.*similarity_fn_name"):
        measure_all(NAMES, pairs=own, **QUICK)


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when it is told to."""
    time = SimpleNamespace(now=0.0)
    monkeypatch.setattr(measure.time, "perf_counter", lambda: time.now)
    return time


class Timed:
    """Takes a second a call and a tenth a text, in the first round more."""

    dimension = 8

    def __init__(self, clock):
        self.clock, self.calls = clock, 0

    def encode(self, texts):
        self.calls += 1
        self.clock.now += 1 + 0.1 * len(texts) + 50 * (self.calls < 100)
        return np.ones((len(texts), 8), np.float32)


def test_candidates_are_timed_in_turns_after_a_warm_up(clock, monkeypatch):
    """A search is scaled to a million entries; those of one width share an index."""
    sizes = []

    class Flat:
        def __init__(self, width):
            self.width, self.ntotal = width, 0

        def add(self, vectors):
            self.ntotal += len(vectors)
            sizes.append(vectors.shape)

        def search(self, queries, k):
            assert (queries.shape, k) == ((1, self.width), 10)
            clock.now += 3e-9 * self.ntotal * self.width

    class Words(Bm25):
        def __init__(self, corpus):
            super().__init__(corpus)
            clock.now += 0.01 * len(corpus)

        def search(self, queries, k):
            assert (len(queries), k) == (1, 10)
            clock.now += 7e-9 * len(self)

    monkeypatch.setattr("faiss.IndexFlatIP", Flat)
    monkeypatch.setattr(measure, "Bm25", Words)
    short, long = [f"t {i}" for i in range(200)], [f"long {i}" for i in range(40)]
    models = {"a": Timed(clock), "b": Timed(clock), "w": Words(["fever", "cough"])}
    found = costs(models, short, long, ["fever", "cough"], rounds=1, index_mb=0.01)
    assert found["a"] == pytest.approx(found["b"])
    assert found["a"] == pytest.approx(
        {
            "short_texts": 200 / 21,
            "short_texts_alone": 1 / 1.1,
            "long_texts": 40 / 5,
            "query_ms_p50": 1_100,
            "query_ms_p95": 1_100,
            "search_ms": 24,
        }
    )
    assert found["w"]["search_ms"] == pytest.approx(7)
    assert found["w"]["long_texts"] == pytest.approx(100)  # to index them
    assert sizes == [(312, 8)]  # entries of 32 bytes that fill the index


def test_memory_is_measured_in_a_process_of_its_own(monkeypatch):
    """The index of these texts takes megabytes, and making it takes time."""
    few, many = ([f"word{i} other{i}" for i in range(n)] for n in (2, 30_000))
    small, large = (in_a_fresh_process("bm25", texts, few) for texts in (few, many))
    assert large["process_mb"] > small["process_mb"] + 5
    assert small["load_s"] > 0
    used = []
    own = SimpleNamespace(load=lambda _: SimpleNamespace(encode=used.append))
    monkeypatch.setattr(candidates, "candidate", lambda _: own)
    candidates.footprint("own", [], ["a", "b"])
    assert used == [["a"], ["a", "b"]]  # memory is that of a model that was used
