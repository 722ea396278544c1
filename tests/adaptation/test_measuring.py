"""Ranks against sorting, scores against the protocol that equals MTEB's."""

from pathlib import Path

import numpy as np
import pytest
from adapt_cases import general, make_base, own_pairs

from sbert_lab import SentenceEncoder
from sbert_lab.adaptation.measuring import (
    METRICS,
    Measure,
    Measured,
    answer_ranks,
    general_sets,
)
from sbert_lab.datasets.pairs import (
    DataError,
    Pairs,
    retrieval_from_pairs,
    row_groups,
)
from sbert_lab.evaluation.metrics import spearman
from sbert_lab.evaluation.tasks import ranking as retrieval
from sbert_lab.evaluation.statistics import bootstrap_mean


def pairs_of(*rows):
    anchor, positive = zip(*rows, strict=True)
    numbers = tuple(range(2, len(rows) + 2))
    return Pairs(anchor, positive, None, None, Path("test.csv"), numbers)


def random_search(seed, queries=40, corpus=90):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(queries):
        for j in rng.choice(corpus, rng.integers(1, 4), replace=False):
            rows.append((f"q{i}", f"t{j}"))
    return retrieval_from_pairs(pairs_of(*rows), [f"t{j}" for j in range(corpus)])


def vectors(seed, count, width=6):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def measured(search, seed):
    queries, corpus = vectors(seed, len(search.queries)), vectors(9, len(search.corpus))
    return Measured(*answer_ranks(queries, corpus, search.relevant)), queries, corpus


@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_places_in_the_sorted_list(seed, monkeypatch):
    monkeypatch.setattr("sbert_lab.adaptation.measuring._SCORES_AT_ONCE", 300)
    rng = np.random.default_rng(seed)
    queries = rng.integers(-1, 2, (30, 3)).astype(np.float32)  # with many ties
    corpus = rng.integers(-1, 2, (50, 3)).astype(np.float32)
    queries[:, 0], corpus[:, 0] = 1, 1
    relevant = [rng.choice(50, 3, replace=False).tolist() for _ in range(30)]
    ranks, top = answer_ranks(queries, corpus, relevant)
    a = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    b = corpus / np.linalg.norm(corpus, axis=1, keepdims=True)
    for i, scores in enumerate(a @ b.T):
        order = sorted(range(50), key=lambda row: (-scores[row], row))
        assert top[i] == order[0]
        assert ranks[i] == tuple(order.index(row) + 1 for row in relevant[i])


def test_scores_are_those_of_the_protocol():
    search = random_search(0)
    (before, q0, corpus), (after, q1, _) = measured(search, 1), measured(search, 2)
    found = Measure(search, {}).domain(before, after)
    assert [one.metric for one in found] == list(METRICS)
    ids = [f"t{j}" for j in range(len(search.corpus))]
    qrels = {
        q: {ids[j]: 1 for j in rows}
        for q, rows in zip(search.queries, search.relevant, strict=True)
    }
    keys = {
        "nDCG@10": "ndcg_at_10",
        "recall@1": "recall_at_1",
        "recall@10": "recall_at_10",
    }
    b, a = (retrieval(search.queries, q, ids, corpus, qrels) for q in (q0, q1))
    for one in found:
        key = keys[one.metric]
        assert one.before.mean == pytest.approx(b.scores[key], abs=1e-12)
        assert one.after.mean == pytest.approx(a.scores[key], abs=1e-12)
        expected = bootstrap_mean(a.items[key] - b.items[key], groups=search.group)
        for end in ("mean", "low", "high"):
            wanted = getattr(expected, end)
            assert getattr(one.difference, end) == pytest.approx(wanted, abs=1e-12)
        assert one.items == len(search.queries)


def test_all_answers_of_an_anchor_count_however_it_is_written():
    search = retrieval_from_pairs(
        pairs_of(("Q", "a"), ("q ", "B"), ("q", " A"), ("r", "c")),
        ["a", "b", "A ", "c", "d"],
    )
    assert search.queries == ("Q", "r")
    assert search.corpus == ("a", "b", "c", "d")
    assert search.relevant == ((0, 1), (2,))
    assert search.group.tolist() == [0, 1]


def test_groups_are_those_of_the_rows():
    test = own_pairs(40)
    search = retrieval_from_pairs(test, test.positive)
    assert search.group.tolist() == row_groups(test).tolist()
    assert len(set(search.group.tolist())) == 30  # every fourth answer is shared


def test_a_corpus_that_lacks_an_answer_is_refused():
    with pytest.raises(DataError, match=r"test\.csv, row 3: 'b' is not in the corpus"):
        retrieval_from_pairs(pairs_of(("q", "a"), ("r", "b")), ["a", "c"])
    with pytest.raises(DataError, match="1 groups"):
        retrieval_from_pairs(pairs_of(("q", "a"), ("r", "a")), ["a", "c"])


def test_examples_are_those_that_moved_most():
    search = random_search(3)
    (before, _, _), (after, _, _) = measured(search, 1), measured(search, 2)
    better, worse = Measure(search, {}).examples(before, after)
    moved = sorted(
        min(b) - min(a) for b, a in zip(before.ranks, after.ranks, strict=True)
    )
    assert [e.rank_after - e.rank_before for e in worse] == [-m for m in moved[:10]]
    gains = [e.rank_before - e.rank_after for e in better]
    assert gains == moved[::-1][:10]
    for example in (*better, *worse):
        row = search.queries.index(example.query)
        best = search.relevant[row][int(np.argmin(after.ranks[row]))]
        assert example.answer == search.corpus[best]
        assert example.rank_after == min(after.ranks[row])
        assert example.top_before == search.corpus[before.top[row]]
        assert (example.top_after == example.answer) == (example.rank_after == 1)


def test_what_did_not_move_is_no_example():
    search = random_search(3)
    before, _, _ = measured(search, 1)
    assert Measure(search, {}).examples(before, before) == ((), ())


def test_a_measurement_comes_back_to_the_bit(tmp_path):
    base = SentenceEncoder.from_pretrained(make_base(tmp_path / "base"), device="cpu")
    test = own_pairs(40)
    measure = Measure(retrieval_from_pairs(test, test.positive), general())
    found = measure.of(base)
    found.write(tmp_path / "before.json")
    assert Measured.read(tmp_path / "before.json") == found
    assert found == measure.of(base)


def test_general_similarity_is_spearmans(tmp_path):
    base = SentenceEncoder.from_pretrained(make_base(tmp_path / "base"), device="cpu")
    sets = general(40)
    found = Measure(None, sets).of(base)
    assert found.ranks == ()
    turned = Measured(
        cosines={n: tuple(-v for v in c) for n, c in found.cosines.items()}
    )
    (one,) = Measure(None, sets).elsewhere(found, turned)
    gold = np.array(sets["made up"].score)
    rho = spearman(np.array(found.cosines["made up"]), gold)
    assert (one.name, one.metric, one.items) == ("made up", "Spearman", 40)
    assert one.before.mean == pytest.approx(rho)
    assert one.after.mean == pytest.approx(-rho)
    assert one.difference.mean == pytest.approx(-2 * rho)
    assert Measure(None, sets).domain(found, turned) == ()


def test_what_is_here_is_measured(monkeypatch):
    monkeypatch.delenv("SBERT_LAB_DATA_HOME", raising=False)
    assert [*general_sets()] == ["ladder"]


def test_sts_benchmark_is_measured_where_it_is(evaluation_data):
    assert {n: len(s) for n, s in general_sets().items()} == {
        "ladder": 720,
        "STSBenchmark": 1379,
    }
