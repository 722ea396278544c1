"""Every protocol beside mteb's own, on the same vectors; the six tasks item by item."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny_encoder

from sbert_lab._utils import random_state_kept
from sbert_lab.datasets import icd10cm_tasks as data
from sbert_lab.datasets.icd10cm_tasks import KINDS
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation import tasks
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.evaluation.statistics import bootstrap_score
from sbert_lab.evaluation.tasks import (
    TaskResult,
    classification,
    clustering,
    compare,
    interval,
    measure,
    measure_bm25,
    p_value,
    pair_classification,
    ranking,
    similarity_score,
    sts,
)
from sbert_lab.models.lexical import Bm25

SIZE = 16


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Return what makes a task of local data and scores vectors on it."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MTEB_CACHE", str(tmp_path_factory.mktemp("mteb")))
    with random_state_kept():
        mteb = pytest.importorskip("mteb", reason="pip install 'sbert-lab[mteb]'")
        from mteb import abstasks
        from mteb.models.abs_encoder import AbsEncoder
        from mteb.models.model_meta import ModelMeta, ScoringFunction

    class LookUp(AbsEncoder):
        """Returns the vector that each text was given."""

        def __init__(self, vectors, measure):
            self.vectors = vectors
            self.mteb_model_meta = ModelMeta.create_empty(
                {
                    "name": "local/look-up",
                    "revision": "1",
                    "similarity_fn_name": ScoringFunction(measure),
                }
            )

        def encode(self, inputs, **_):
            texts = [text for batch in inputs for text in batch["text"]]
            return np.stack([self.vectors[text] for text in texts])

    def score(base, kind, main, content, vectors, measure="cosine", **settings):
        """Return mteb's main score for the vectors, by text, on the data."""
        metadata = mteb.TaskMetadata(
            name=f"Local{kind}",
            description="made for a test",
            type=kind,
            main_score=main,
            dataset={"path": "local/made", "revision": "1"},
            eval_langs=["eng-Latn"],
        )
        with random_state_kept():
            task = type(f"Local{kind}", (base,), {"metadata": metadata, **settings})()
            task.dataset, task.data_loaded = content, True
            result = mteb.evaluate(
                LookUp(vectors, measure), task, cache=None, show_progress_bar=False
            )
        return result.task_results[0].scores["test"][0]["main_score"]

    yield SimpleNamespace(score=score, classes=abstasks)
    patch.undo()


def table(**columns):
    from datasets import Dataset

    return Dataset.from_dict(columns)


def made(rng, count, size=8, coarse=False):
    """Return vectors around a few centres; coarse ones tie often."""
    centres = rng.normal(size=(5, size))
    noise = 0.7 * rng.normal(size=(count, size))
    vectors = centres[rng.integers(5, size=count)] + noise
    if coarse:
        vectors = np.round(vectors).clip(-1, 1)
    vectors[: count // 20] = vectors[count // 20 : 2 * (count // 20)]  # duplicates
    return vectors.astype(np.float32)


def by_text(prefix, vectors):
    texts = [f"{prefix}{i}" for i in range(len(vectors))]
    return texts, dict(zip(texts, vectors, strict=True))


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_pairs_equal_mteb(bench, coarse, metric):
    rng = np.random.default_rng(coarse)
    first = made(rng, 160, coarse=coarse)
    second = first + rng.normal(size=first.shape).astype(np.float32)
    if coarse:
        second = np.round(second)
    labels = rng.integers(0, 2, 160)
    second[labels == 1] -= (second - first)[labels == 1] * np.float32(0.5)
    gold = (rng.integers(0, 11, 160) / 2).tolist()  # many are equal
    (a, left), (b, right) = by_text("a", first), by_text("b", second)
    columns, vectors = {"sentence1": a, "sentence2": b}, left | right
    theirs = bench.score(
        bench.classes.AbsTaskPairClassification,
        "PairClassification",
        "max_ap",
        {"test": table(**columns, labels=labels.tolist())},
        vectors,
        metric,
    )
    ours = pair_classification(first, second, labels, metric=metric)
    assert ours.main_score == theirs
    assert interval(ours).mean == pytest.approx(ours.score, abs=1e-6)
    content = {"test": table(**columns, score=gold)}
    scale = {"min_score": 0, "max_score": 5}
    base = bench.classes.AbsTaskSTS
    theirs = bench.score(base, "STS", "cosine_spearman", content, vectors, **scale)
    assert sts(first, second, gold).main_score == theirs


def test_classification_equals_mteb(bench):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 8))

    def split(count):
        labels = rng.integers(0, 5, count) // rng.integers(1, 3, count)
        vectors = centres[labels] + rng.normal(size=(count, 8))
        return vectors.astype(np.float32), labels.tolist()

    (x, y), (x_test, y_test) = split(120), split(90)
    (a, left), (b, right) = by_text("train", x), by_text("test", x_test)
    content = {"train": table(text=a, label=y), "test": table(text=b, label=y_test)}
    base = bench.classes.AbsTaskClassification
    theirs = bench.score(
        base, "Classification", "accuracy", content, left | right, samples_per_label=8
    )
    ours = classification(x, y, x_test, y_test)
    assert ours.main_score == theirs
    assert ours.items.shape == (10, 90)
    assert ours.items.mean() == pytest.approx(theirs)


def test_clustering_equals_mteb(bench):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 180)
    vectors = rng.normal(size=(4, 8))[groups] + rng.normal(size=(180, 8))
    vectors, labels = vectors.astype(np.float32), groups.tolist()
    texts, look_up = by_text("t", vectors)
    theirs = bench.score(
        bench.classes.AbsTaskClustering,
        "Clustering",
        "v_measure",
        {"test": table(sentences=texts, labels=labels)},
        look_up,
        max_fraction_of_documents_to_embed=None,
        max_document_to_embed=None,
        max_documents_per_cluster=700,
        n_clusters=4,
    )
    ours = clustering(vectors, labels, draws=4, documents_per_draw=700)
    assert ours.main_score == theirs
    assert ours.items.shape == (4,)


def search_task(rng, documents, coarse, queries=20):
    """Return ids, vectors and graded qrels; some queries have the id of a document."""
    corpus = made(rng, documents, coarse=coarse)
    asked = corpus[rng.integers(documents, size=queries)]
    asked = asked + rng.normal(size=asked.shape).astype(np.float32)
    corpus_ids = [f"d{i}" for i in rng.permutation(documents)]
    query_ids = [f"q{i}" for i in range(queries - 5)] + corpus_ids[:5]
    qrels = {
        query: {
            corpus_ids[j]: int(rng.choice((-1, 0, 1, 1, 2, 3)))
            for j in np.argsort(-corpus @ row)[: rng.integers(1, 60)]
        }
        for query, row in zip(query_ids, asked, strict=True)
    }
    qrels[query_ids[1]] = {"not in the corpus": 1, corpus_ids[5]: 2}
    qrels[query_ids[2]] = {corpus_ids[5]: 0}
    return query_ids, asked, corpus_ids, corpus, qrels


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_rankings_equal_mteb(bench, coarse, metric):
    """Coarse vectors tie often, at the edge of the thousand too."""
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

    rng = np.random.default_rng(coarse)
    task = search_task(rng, 1500, coarse)
    query_ids, asked, corpus_ids, corpus, qrels = task
    (a, left), (b, right) = by_text("query ", asked), by_text("document ", corpus)
    candidates = {
        query: list(
            {*rng.choice(corpus_ids, 30), *list(qrels[query])[:3]}
            - {"not in the corpus"}
        )
        for query in query_ids
    }
    for kind, main, top in (
        ("Retrieval", "ndcg_at_10", None),
        ("Reranking", "map_at_1000", candidates),
    ):
        content = RetrievalSplitData(
            corpus=table(id=corpus_ids, text=b),
            queries=table(id=query_ids, text=a),
            relevant_docs={query: dict(grades) for query, grades in qrels.items()},
            top_ranked=top,
        )
        theirs = bench.score(
            bench.classes.AbsTaskRetrieval,
            kind,
            main,
            {"default": {"test": content}},
            left | right,
            metric,
        )
        ours = ranking(*task, candidates=top, metric=metric)
        assert ours.metric == main
        assert round(ours.main_score, 5) == theirs


def test_ranking_equals_the_slow_way_block_by_block(monkeypatch):
    monkeypatch.setattr(tasks, "_CORPUS_AT_ONCE", 64)
    task = search_task(np.random.default_rng(2), 300, coarse=True)
    query_ids, asked, corpus_ids, corpus, qrels = task
    scores = asked.round() @ corpus.T  # whole numbers: ties are exact
    found = [
        [key for _, key in sorted(zip(row, corpus_ids, strict=True), reverse=True)]
        for row in scores
    ]
    task = query_ids, asked.round(), corpus_ids, corpus, qrels
    expected = ndcg_at_k(found, [qrels[query] for query in query_ids])
    np.testing.assert_array_equal(ranking(*task, metric="dot").items, expected)


def test_mistakes_are_said():
    ids, vectors = ["a", "b"], np.eye(2, dtype=np.float32)
    qrels = {"a": {"b": 1}, "b": {"a": 1}}
    with pytest.raises(ValueError, match="different ids"):
        ranking(ids, vectors, ["a", "a"], vectors, qrels)
    with pytest.raises(ValueError, match="one of cosine, dot"):
        ranking(ids, vectors, ids, vectors, qrels, metric="l2")
    with pytest.raises(ValueError, match="both kinds|marked 1"):
        pair_classification(vectors, vectors, [1, 1])
    with pytest.raises(ValueError, match="not pairs"):
        sts(vectors, vectors[:1], [1, 2])
    with pytest.raises(ValueError, match="not finite"):
        sts(vectors, vectors * np.nan, [1, 2])


# The six tasks of ICD-10-CM


@pytest.fixture(scope="module")
def models():
    return {seed: tiny_encoder(seed, max_seq_length=24) for seed in (0, 1)}


@pytest.fixture(scope="module")
def found(models):
    return {seed: measure(model.encode, SIZE) for seed, model in models.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interval_and_a_difference_are_of_the_score(found, kind):
    a, b = found[0][kind], found[1][kind]
    one = interval(a)
    assert one.mean == pytest.approx(a.score)
    assert one.low <= one.mean <= one.high
    assert interval(a, b).mean == pytest.approx(a.score - b.score)
    assert p_value(a, a, draws=50) == 1
    assert p_value(a, b, draws=50) == p_value(b, a, draws=50)


def test_all_pairs_are_compared_the_better_one_first(found):
    kinds = ("Retrieval", "STS")
    some = {seed: {k: each[k] for k in kinds} for seed, each in found.items()}
    rows = compare({"a": some[0], "b": some[1], "c": some[0]})
    assert [row[0] for row in rows] == ["Retrieval"] * 3 + ["STS"] * 3
    assert all(row[3].mean >= 0 and 0 < row[4] <= 1 for row in rows)
    perfect = replace(some[0]["STS"], items=some[0]["STS"].gold, score=1.0)
    (row,) = compare({"a": {"STS": some[0]["STS"]}, "perfect": {"STS": perfect}})
    assert row[1:3] == ("perfect", "a")
    assert row[3].low > 0
    assert row[4] < 0.02
    with pytest.raises(ValueError, match="compared in pairs"):
        interval(some[0]["STS"], some[0]["Retrieval"])


def test_documents_have_an_encoder_of_their_own(models):
    """Queries alone go to `encode`; all other texts to `encode_document`."""
    seen = {"query": [], "document": []}

    def encode_as(side):
        return lambda texts: seen[side].extend(texts) or models[0].encode(texts)

    sides = encode_as("query"), encode_as("document")
    found = measure(sides[0], SIZE, kinds=["Retrieval"], encode_document=sides[1])
    search = data.term_retrieval(SIZE)
    assert seen == {"query": [*search.queries], "document": [*search.corpus_texts]}
    assert found["Retrieval"].group == tuple(code[:3] for code in search.relevant)
    seen["query"].clear()
    measure(sides[0], SIZE, kinds=["STS", "Clustering"], encode_document=sides[1])
    assert not seen["query"]
    for wrong in ((), ("Retrieval", "Sorting"), "STS"):
        with pytest.raises(ValueError, match="one or more of Retrieval, STS"):
            measure(models[0].encode, SIZE, kinds=wrong)


def test_bm25_is_ranked_by_its_scores():
    search, few = data.term_retrieval(SIZE), data.candidate_reranking(SIZE)
    found = measure_bm25(SIZE)
    for kind, task, candidates in (
        ("Retrieval", search, [search.corpus_codes] * SIZE),
        ("Reranking", few.task, few.candidates),
    ):
        scores = Bm25(task.corpus_texts).scores(task.queries)
        for row, chosen, answer, item in zip(
            scores, candidates, task.relevant, found[kind].items, strict=True
        ):
            known = dict(zip(task.corpus_codes, row, strict=True))
            order = sorted(chosen, key=lambda code: (known[code], code), reverse=True)
            place = order.index(answer) + 1
            gain = 1 / np.log2(place + 1) if place <= 10 else 0.0
            expected = gain if kind == "Retrieval" else 1 / place
            assert item == pytest.approx(expected)
    assert 0.2 < found["Retrieval"].score < 1


@pytest.mark.parametrize("metric", ["ndcg_at_10", "cosine_spearman", "cosine_ap"])
def test_copies_in_a_group_count_once(metric):
    """Both the interval and the p-value are those of one item of each group."""
    rng = np.random.default_rng(0)
    same = rng.integers(2, size=30).astype(float)
    gold = None if metric == "ndcg_at_10" else same
    ours, theirs = (
        TaskResult(0.0, metric, 0.0, gap * same + rng.normal(size=30), gold)
        for gap in (1.5, 0.7)
    )
    groups = tuple(f"{i:02}" for i in np.repeat(np.arange(30), 4))

    def copied(one):
        twins = None if gold is None else np.repeat(gold, 4)
        return replace(one, items=np.repeat(one.items, 4), gold=twins, group=groups)

    few, many = interval(ours, theirs), interval(copied(ours), copied(theirs))
    assert (many.low, many.high) == pytest.approx((few.low, few.high))
    p = p_value(ours, theirs, draws=200)
    assert p_value(copied(ours), copied(theirs), draws=200) == p


def test_a_set_is_scored_in_its_groups_or_in_part():
    rng = np.random.default_rng(0)
    gold, cosines = rng.integers(0, 6, 60).astype(float), rng.normal(size=(2, 60))
    group = tuple(map(str, np.arange(60) // 6))
    pairs = ScoredPairs(("a",) * 60, ("b",) * 60, tuple(gold), group)
    kept = np.arange(60) % 2 == 0
    ours = similarity_score(pairs, cosines, baseline=cosines**3, kept=kept, seed=3)
    assert ours == bootstrap_score(
        cosines[:, kept],
        gold[kept],
        baseline=cosines[:, kept] ** 3,
        groups=np.array(group)[kept],
        seed=3,
    )
