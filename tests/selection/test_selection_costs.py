"""Costs by a clock that only the fakes move, and memory in processes of their own."""

import logging
import os
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import issparse

from sbert_lab.models.lexical import Bm25Encoder
from sbert_lab.selection import costs
from sbert_lab.selection.costs import (
    ProcessDied,
    _flat_index,
    encoding_costs,
    footprints,
    search_costs,
    spread,
)
from sbert_lab.selection.rows import Spread

SHORT = [f"query {i}" for i in range(40)]
LONG = [f"a longer text {i}" for i in range(12)]


class Clock:
    """Stands still until it is told to move on."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Timed:
    """An encoder that takes a second a call and `each` a text, times `factor()`."""

    def __init__(self, clock, each=0.1, *, factor=lambda: 1.0, log=None, name=""):
        self.clock, self.each, self.factor = clock, each, factor
        self.log, self.name = log, name
        self.dimension = 4

    def encode(self, texts):
        if self.log is not None:
            self.log.append((self.name, len(texts)))
        self.clock.now += (1 + self.each * len(texts)) * self.factor()
        return np.ones((len(texts), 4), np.float32)


@pytest.fixture
def clock(monkeypatch):
    moved = Clock()
    monkeypatch.setattr(costs, "time", SimpleNamespace(perf_counter=moved))
    return moved


def approx(low, middle, high):
    return pytest.approx((low, middle, high))


def values(one: Spread):
    return (one.minimum, one.median, one.maximum)


def test_rates_are_texts_by_seconds_and_the_first_round_is_left_out(clock):
    calls = []
    slower = {0: 100.0, 1: 1.0, 2: 4.0, 3: 2.0}  # by round; the first one warms up
    a_round = 40 + 1 + 10 + 1  # calls: 40 queries, a batch, 10 paragraphs, a batch

    def factor():
        return slower[(len(calls) - 1) // a_round]

    encoder = Timed(clock, factor=factor, log=calls)
    (found,) = encoding_costs({"a": encoder}, SHORT, LONG, rounds=3, alone=40).values()
    assert len(calls) == 4 * a_round
    for cost, rate in {
        "short_texts": 40 / (1 + 4.0),
        "short_texts_alone": 1 / 1.1,
        "long_texts": 12 / (1 + 1.2),
        "long_texts_alone": 1 / 1.1,
    }.items():
        assert values(found[cost]) == approx(rate / 4, rate / 2, rate), cost
    for cost in ("query_ms_p50", "query_ms_p95"):
        assert values(found[cost]) == approx(1100, 2200, 4400), cost


def test_candidates_take_turns(clock):
    calls = []
    both = {name: Timed(clock, log=calls, name=name) for name in "ab"}
    encoding_costs(both, SHORT, LONG, rounds=2, alone=4)
    turns = [calls[0][0]]
    turns += [now for (last, _), (now, _) in pairwise(calls) if now != last]
    assert turns == ["a", "b"] * 3


def test_percentiles_are_taken_over_the_queries_of_a_round(clock):
    class BySize(Timed):
        def encode(self, texts):
            clock.now += sum(map(len, texts)) / 1e3
            return np.ones((len(texts), 4), np.float32)

    queries = ["x" * n for n in range(1, 22)]  # 1 to 21 ms
    (found,) = encoding_costs(
        {"a": BySize(clock)}, queries, LONG, rounds=2, alone=21
    ).values()
    assert values(found["query_ms_p50"]) == approx(11, 11, 11)
    assert values(found["query_ms_p95"]) == approx(20, 20, 20)


def test_queries_and_documents_are_encoded_as_such(clock):
    class Sides(Timed):
        def encode_query(self, texts):
            clock.now += 2.0 * len(texts)

        def encode_document(self, texts):
            clock.now += 5.0 * len(texts)

    (found,) = encoding_costs({"a": Sides(clock)}, SHORT, LONG, rounds=1).values()
    assert found["query_ms_p50"].median == pytest.approx(2000)
    assert found["short_texts"].median == pytest.approx(1 / 5)
    assert found["long_texts_alone"].median == pytest.approx(1 / 5)


def test_warnings_are_held_back_while_the_clock_runs(clock, caplog):
    class Warns(Timed):
        def encode(self, texts):
            logging.getLogger("sbert_lab.models.sentence_encoder").warning("cut")
            return super().encode(texts)

    encoding_costs({"a": Warns(clock)}, SHORT, LONG, rounds=1)
    assert "cut" not in caplog.text
    logging.getLogger("sbert_lab.models.sentence_encoder").warning("said again")
    assert "said again" in caplog.text


@pytest.mark.parametrize(
    "wrong", [{"rounds": 0}, {"alone": 3}, {"short": []}, {"long": []}]
)
def test_nothing_to_measure_is_refused(clock, wrong):
    options = {"short": SHORT, "long": LONG} | wrong
    with pytest.raises(ValueError, match="one round, four queries"):
        encoding_costs({"a": Timed(clock)}, **options)


def test_spread_by_hand():
    assert spread([3, 1, 2, 10]) == Spread(1, 2.5, 10)


# Search


class Wide:
    """An encoder of some width."""

    def __init__(self, width):
        self.dimension = width

    def encode(self, texts):
        return np.ones((len(texts), self.dimension), np.float32)


CORPUS = [f"the {word} fever of the {i % 3} bone" for i, word in enumerate("abc" * 5)]
CORPUS += ["bone fracture", "fever and cough", "a broken bone of the hand"]


@pytest.mark.parametrize("index_mb", [0.01, 1.6])
def test_time_is_scaled_by_entries(clock, monkeypatch, index_mb):
    """A scan of 3 ns an entry and dimension takes as much however many are indexed."""
    sizes = []

    def scan(queries, index, k, row):
        assert k == 10
        sizes.append(index.ntotal)
        clock.now += 3e-9 * index.ntotal * index.d

    def scan_words(queries, by_word, k, row):
        clock.now += 7e-9 * by_word.shape[1]

    monkeypatch.setattr(costs, "_by_vectors", scan)
    monkeypatch.setattr(costs, "_by_words", scan_words)
    encoders = {"8": Wide(8), "16": Wide(16), "w": Bm25Encoder.fit(CORPUS)}
    found = search_costs(encoders, SHORT[:4], CORPUS, rounds=2, index_mb=index_mb)
    assert values(found["8"]) == approx(24, 24, 24)
    assert values(found["16"]) == approx(48, 48, 48)
    assert values(found["w"]) == approx(7, 7, 7)
    # Four bytes a dimension: as many entries as fill the index.
    assert set(sizes) == {round(index_mb * 1e6 / 32), int(index_mb * 1e6 / 64)}


def test_an_index_holds_a_million_entries_at_most():
    assert costs._entries(1_536, 400) == 260_416
    assert costs._entries(64, 400) == 1_000_000
    assert costs._entries(1e9, 400) == 1
    assert costs._entries(0, 400) == 1_000_000


def test_the_middle_of_the_queries_counts_and_the_first_round_warms_up(
    clock, monkeypatch
):
    rounds = iter([900] * 3 + [1, 2, 30] + [5, 5, 5] + [1, 3, 2])

    def scan(queries, index, k, row):
        clock.now += next(rounds) * index.ntotal * 1e-9

    monkeypatch.setattr(costs, "_by_vectors", scan)
    (found,) = search_costs(
        {"a": Wide(8)}, SHORT[:3], CORPUS, rounds=3, index_mb=0.01
    ).values()
    assert values(found) == approx(2, 2, 5)


def test_equal_widths_share_an_index(monkeypatch):
    seen = []
    monkeypatch.setattr(costs, "_by_vectors", lambda q, i, k, row: seen.append(id(i)))
    encoders = {"a": Wide(8), "b": Wide(8), "c": Wide(4)}
    search_costs(encoders, SHORT[:2], CORPUS, rounds=1, index_mb=0.01)
    assert len(set(seen)) == 2


def test_search_by_words_equals_the_dense_product():
    encoder = Bm25Encoder.fit(CORPUS)
    asked = encoder.encode_query(["fever hand", "broken bone", "cough", "nothing"])
    documents = encoder.encode_document(CORPUS)
    by_word = documents.T.tocsr()
    dense = asked.toarray() @ documents.toarray().T
    for row in range(4):
        for k in (1, 3, len(CORPUS), 100):
            found = costs._by_words(asked, by_word, k, row)
            best = np.sort(dense[row])[::-1][:k]
            np.testing.assert_allclose(dense[row][found], best, rtol=1e-6)
            assert len(set(found.tolist())) == min(k, len(CORPUS))


def test_words_are_searched_in_the_corpus_over_and_over(monkeypatch):
    seen = []
    monkeypatch.setattr(costs, "_by_words", lambda q, m, k, row: seen.append((q, m)))
    encoder = Bm25Encoder.fit(CORPUS)
    search_costs({"w": encoder}, ["fever"], CORPUS, rounds=1, index_mb=0.002)
    asked, by_word = seen[0]
    assert issparse(by_word)
    assert by_word.shape[1] > 2 * len(CORPUS)
    documents = encoder.encode_document(CORPUS).toarray()
    turned = by_word.toarray().T
    for i, row in enumerate(turned):
        np.testing.assert_array_equal(row, documents[i % len(CORPUS)])
    np.testing.assert_array_equal(
        asked.toarray(), encoder.encode_query(["fever"]).toarray()
    )


def test_a_flat_index_is_searched_for_one_query():
    class Index:
        def search(self, queries, k):
            self.asked = queries, k

    index, rows = Index(), np.arange(12.0).reshape(3, 4)
    costs._by_vectors(rows, index, 7, 1)
    np.testing.assert_array_equal(index.asked[0], rows[1:2])
    assert index.asked[1] == 7


# Memory and loading: functions of the module, which another process can call


class Holding(Wide):
    def __init__(self, megabytes):
        super().__init__(4)
        self.held = np.ones(megabytes * 125_000)  # written to, hence resident


def light():
    return Holding(0)


def heavy():
    return Holding(50)


def noting(path, name):
    with open(path, "a") as file:
        file.write(f"{name} {os.getpid()}\n")
    return Holding(0)


def dying():
    os._exit(9)


def refusing():
    raise FileNotFoundError("no such model: make setup")


def test_memory_is_what_the_candidate_holds():
    found = footprints({"light": light, "heavy": heavy}, LONG, rounds=2)
    assert found["light"]["resident_mb"].maximum < 8
    for value in values(found["heavy"]["resident_mb"]):
        assert 45 < value < 60
    assert all(one["load_s"].minimum > 0 for one in found.values())


def test_each_time_in_a_fresh_process_in_turns(tmp_path):
    path, moved = tmp_path / "pids", []
    loaders = {name: partial(noting, path, name) for name in "ab"}
    footprints(loaders, LONG, rounds=2, advance=moved.append)
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [name for name, _ in lines] == ["a", "b", "a", "b"]
    pids = {int(pid) for _, pid in lines}
    assert len(pids) == 4
    assert os.getpid() not in pids
    assert moved == [1, 1, 1, 1]


def test_a_process_that_dies_is_named_and_nobody_waits():
    with pytest.raises(ProcessDied, match="^gone: the process that loaded it died"):
        footprints({"gone": dying}, LONG, rounds=1)


def test_what_loading_says_comes_through():
    with pytest.raises(FileNotFoundError, match="make setup"):
        footprints({"gone": refusing}, LONG, rounds=1)


@pytest.fixture
def logging_as_before():
    yield
    logging.disable(logging.NOTSET)


def test_loading_ends_with_the_first_text(clock, logging_as_before):
    class Slow(Timed):
        def encode_query(self, texts):
            assert len(texts) == 1
            clock.now += 0.5

        def encode_document(self, texts):
            assert texts == LONG
            clock.now += 100

    def load():
        clock.now += 2
        return Slow(clock)

    assert costs._footprint(load, LONG)["load_s"] == 2.5


def test_a_library_is_not_counted_as_the_model():
    def area(path, rss):
        return SimpleNamespace(path=path, rss=rss)

    areas = [
        area("[heap]", 100),
        area("[anon]", 20),
        area("/lib/libtorch_cpu.so", 3_000),
        area("/lib/libgomp-a34.so.1.0.0", 500),
        area("/models/.so/model.safetensors", 4),
    ]
    process = SimpleNamespace(
        memory_info=lambda: SimpleNamespace(rss=sum(a.rss for a in areas)),
        memory_maps=lambda: areas,
    )
    assert costs._own_bytes(process) == 124
    del process.memory_maps
    assert costs._own_bytes(process) == 3_624


def test_the_index_that_is_timed_holds_unit_vectors_and_finds_them():
    index = _flat_index(6, 25_000, np.random.default_rng(0))
    rows = index.reconstruct_n(0, 25_000)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert len(np.unique(rows, axis=0)) == 25_000
    scores, found = index.search(rows[:5], 3)
    np.testing.assert_array_equal(found[:, 0], np.arange(5))
    np.testing.assert_allclose(scores, -np.sort(-(rows[:5] @ rows.T))[:, :3], atol=1e-6)
