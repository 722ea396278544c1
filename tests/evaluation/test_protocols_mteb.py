"""Every protocol beside mteb's own, on the same vectors: the main scores are equal."""

from types import SimpleNamespace

import numpy as np
import pytest

from sbert_lab._utils import random_state_kept
from sbert_lab.evaluation.protocols import (
    classification,
    clustered_rows,
    clustering,
    clustering_legacy,
    pair_classification,
    reranking,
    retrieval,
    sts,
    training_rows,
)

SEEDS = range(4)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Return what makes a task of local data and scores vectors on it."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MTEB_CACHE", str(tmp_path_factory.mktemp("mteb")))
    with random_state_kept():
        mteb = pytest.importorskip("mteb", reason="pip install 'sbert-lab[mteb]'")
        from mteb import abstasks
        from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
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
            return np.stack(
                [self.vectors[t] for batch in inputs for t in batch["text"]]
            )

    def score(base, kind, main, data, vectors, measure="cosine", **settings):
        """Return all of mteb's scores for the vectors, by text, on the data."""
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
            task.dataset, task.data_loaded = data, True
            result = mteb.evaluate(
                LookUp(vectors, measure),
                task,
                cache=None,
                encode_kwargs={"batch_size": 4096, "show_progress_bar": False},
                show_progress_bar=False,
            )
        return result.task_results[0].scores["test"][0]

    bases = SimpleNamespace(
        STS=abstasks.AbsTaskSTS,
        Pair=abstasks.AbsTaskPairClassification,
        Classification=abstasks.AbsTaskClassification,
        Clustering=abstasks.AbsTaskClustering,
        Legacy=AbsTaskClusteringLegacy,
        Retrieval=abstasks.AbsTaskRetrieval,
    )
    yield SimpleNamespace(score=score, **vars(bases))
    patch.undo()


def table(**columns):
    from datasets import Dataset

    return Dataset.from_dict(columns)


def made(rng, count, size=8, coarse=False):
    """Return vectors around a few centres; coarse ones tie often."""
    centres = rng.normal(size=(5, size))
    vectors = centres[rng.integers(5, size=count)] + 0.7 * rng.normal(
        size=(count, size)
    )
    if coarse:
        vectors = np.round(vectors).clip(-1, 1)
    vectors[: count // 20] = vectors[count // 20 : 2 * (count // 20)]  # duplicates
    return vectors.astype(np.float32)


def by_text(prefix, vectors):
    texts = [f"{prefix}{i}" for i in range(len(vectors))]
    return texts, dict(zip(texts, vectors, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("coarse", [False, True])
def test_sts(bench, seed, coarse):
    rng = np.random.default_rng(seed)
    first, second = made(rng, 150, coarse=coarse), made(rng, 150, coarse=coarse)
    second[::7] = first[::7]
    gold = (rng.integers(0, 11, 150) / 2).tolist()  # many are equal
    (a, left), (b, right) = by_text("a", first), by_text("b", second)
    data = {"test": table(sentence1=a, sentence2=b, score=gold)}
    theirs = bench.score(
        bench.STS,
        "STS",
        "cosine_spearman",
        data,
        left | right,
        min_score=0,
        max_score=5,
    )
    ours = sts(first, second, gold)
    assert ours.main_score == theirs["main_score"]
    assert ours.scores.keys() <= theirs.keys()
    for name, value in ours.scores.items():  # mteb scales the gold: rounding differs
        assert value == pytest.approx(theirs[name], rel=1e-12), name
        if name.endswith("_spearman"):
            assert value == theirs[name], name


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_pair_classification(bench, seed, coarse, metric):
    rng = np.random.default_rng(seed)
    first = made(rng, 160, coarse=coarse)
    second = first + rng.normal(size=first.shape).astype(np.float32)
    if coarse:
        second = np.round(second)
    labels = rng.integers(0, 2, 160)
    second[labels == 1] -= (second - first)[labels == 1] * np.float32(0.5)
    (a, left), (b, right) = by_text("a", first), by_text("b", second)
    data = {"test": table(sentence1=a, sentence2=b, labels=labels.tolist())}
    theirs = bench.score(
        bench.Pair, "PairClassification", "max_ap", data, left | right, metric
    )
    ours = pair_classification(first, second, labels, metric=metric)
    assert ours.main_score == theirs["main_score"]
    thresholds = {"cosine_accuracy_threshold", "cosine_f1_threshold"}  # mteb hides them
    for name, value in ours.scores.items():
        if name not in thresholds:
            assert value == theirs[name], name


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kinds", "samples"), [(2, 16), (5, 8)])
def test_classification(bench, seed, kinds, samples):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(kinds, 8))

    def split(count):
        labels = rng.integers(0, kinds, count)
        labels[labels == kinds - 1] *= rng.integers(0, 2, (labels == kinds - 1).sum())
        vectors = centres[labels] + rng.normal(size=(count, 8))
        return vectors.astype(np.float32), labels.tolist()

    (x, y), (x_test, y_test) = split(120), split(90)
    (a, left), (b, right) = by_text("train", x), by_text("test", x_test)
    data = {"train": table(text=a, label=y), "test": table(text=b, label=y_test)}
    base, vectors = bench.Classification, left | right
    theirs = bench.score(
        base, "Classification", "accuracy", data, vectors, samples_per_label=samples
    )
    # Rows that no draw takes may hold anything.
    x = x.copy()
    drawn = training_rows(y, samples_per_label=samples)
    x[sorted(set(range(120)) - {i for rows in drawn for i in rows})] = np.nan
    ours = classification(x, y, x_test, y_test, samples_per_label=samples)
    assert ours.main_score == theirs["main_score"]
    each = theirs["scores_per_experiment"]
    assert ("ap" in ours.scores) == (kinds == 2)
    for name, value in ours.scores.items():
        assert value == theirs[name], name
        assert ours.items[name].tolist() == [one[name] for one in each], name
    np.testing.assert_allclose(ours.items["correct"].mean(1), ours.items["accuracy"])


def hierarchy(rng, groups, words):
    """Return labels of one to three levels, from coarse to fine."""
    labels = []
    for group in groups:
        path = [int(group) // 2, int(group), int(group) * 2 + int(rng.integers(2))]
        path = path[: int(rng.integers(1, 4))]
        labels.append([f"label {i}" for i in path] if words else path)
    return labels


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", ["flat", "numbers", "words"])
def test_clustering(bench, seed, shape):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 4, 180)
    vectors = rng.normal(size=(4, 8))[groups] + rng.normal(size=(180, 8))
    vectors = vectors.astype(np.float32)
    labels = groups.tolist()
    if shape != "flat":
        labels = hierarchy(rng, groups, shape == "words")
    limit = None if seed == 0 else 100
    texts, look_up = by_text("t", vectors)
    theirs = bench.score(
        bench.Clustering,
        "Clustering",
        "v_measure",
        {"test": table(sentences=texts, labels=labels)},
        look_up,
        max_fraction_of_documents_to_embed=None,
        max_document_to_embed=limit,
        max_documents_per_cluster=150,
        n_clusters=4,
        max_depth=2 if seed == 3 else None,
    )
    if limit:
        vectors = vectors.copy()
        vectors[sorted(set(range(180)) - set(clustered_rows(180, limit)))] = np.nan
    ours = clustering(
        vectors,
        labels,
        max_documents=limit,
        draws=4,
        documents_per_draw=150,
        max_depth=2 if seed == 3 else None,
    )
    assert ours.main_score == theirs["main_score"]
    assert ours.scores["ami"] == theirs["ami"]
    assert ours.items["v_measure"].tolist() == list(theirs["v_measures"].values())


def test_clustering_with_what_a_task_takes_by_default(bench):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 1000)
    vectors = rng.normal(size=(3, 8))[groups] + rng.normal(size=(1000, 8))
    vectors = vectors.astype(np.float32)
    texts, look_up = by_text("t", vectors)
    data = {"test": table(sentences=texts, labels=groups.tolist())}
    theirs = bench.score(bench.Clustering, "Clustering", "v_measure", data, look_up)
    ours = clustering(vectors, groups.tolist(), max_documents=int(0.04 * 1000))
    assert ours.main_score == theirs["main_score"]
    assert ours.items["v_measure"].shape == (1, 10)


@pytest.mark.parametrize("seed", SEEDS)
def test_clustering_legacy(bench, seed):
    rng = np.random.default_rng(seed)
    sets, sentences, labels, look_up = [], [], [], {}
    for number, count in enumerate((40, 700, 12)):
        groups = rng.integers(0, 1 if number == 2 else 4, count)
        vectors = rng.normal(size=(4, 6))[groups] + rng.normal(size=(count, 6))
        texts, mine = by_text(f"{number} ", vectors.astype(np.float32))
        look_up |= mine
        sets.append((vectors.astype(np.float32), [f"label {g}" for g in groups]))
        sentences.append(texts)
        labels.append(sets[-1][1])
    data = {"test": table(sentences=sentences, labels=labels)}
    theirs = bench.score(bench.Legacy, "Clustering", "v_measure", data, look_up)
    ours = clustering_legacy(sets)
    assert ours.main_score == theirs["main_score"]
    assert ours.scores["v_measure_std"] == theirs["v_measure_std"]
    assert ours.items["v_measure"].tolist() == theirs["v_measures"]
    assert ours.items["v_measure"][2] == 1.0


def search_task(rng, documents, queries=25, grades=(-1, 0, 1, 1, 2, 3), coarse=True):
    """Return ids, vectors and qrels; some queries are documents, some not judged."""
    corpus = made(rng, documents, coarse=coarse)
    asked = corpus[rng.integers(documents, size=queries)] + made(rng, queries)
    if coarse:
        asked = np.round(asked)
    corpus_ids = [f"d{i}" for i in rng.permutation(documents)]
    query_ids = [f"q{i}" for i in range(queries - 8)] + corpus_ids[:8]
    qrels = {}
    for i, query in enumerate(query_ids[2:]):  # two queries have no entry
        near = np.argsort(-(corpus @ asked[i + 2]))[:40]
        judged = rng.choice(near, int(rng.integers(1, 15)), replace=False)
        qrels[query] = {corpus_ids[j]: int(rng.choice(grades)) for j in judged}
    qrels[query_ids[3]] = {}
    qrels[query_ids[4]] = {corpus_ids[5]: 0}
    qrels[query_ids[5]] = {corpus_ids[5]: 2, "not in the corpus": 1}
    for query in query_ids[-8:]:
        qrels[query][query] = 0
    return query_ids, asked, corpus_ids, corpus, qrels


def their_search(
    bench, kind, main, task, top_ranked=None, measure="cosine", **settings
):
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

    query_ids, asked, corpus_ids, corpus, qrels = task
    (a, left), (b, right) = by_text("query ", asked), by_text("document ", corpus)
    data = RetrievalSplitData(
        corpus=table(id=corpus_ids, text=b),
        queries=table(id=query_ids, text=a),
        relevant_docs={query: dict(grades) for query, grades in qrels.items()},
        top_ranked=top_ranked,
    )
    data, vectors = {"default": {"test": data}}, left | right
    return bench.score(bench.Retrieval, kind, main, data, vectors, measure, **settings)


def assert_same_search(ours, theirs):
    """Compare all: mteb rounds to five decimals, but not its MRR."""
    assert round(ours.main_score, 5) == theirs["main_score"]
    assert len(ours.scores) == 28
    for name, value in ours.scores.items():
        expected = value if name.startswith("mrr") else round(value, 5)
        assert expected == theirs[name], name


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("identical", [False, True])
def test_retrieval(bench, seed, coarse, identical):
    rng = np.random.default_rng(seed)
    grades = (1,) if seed == 0 else (-1, 0, 1, 1, 2, 3)
    task = search_task(rng, 300, grades=grades, coarse=coarse)
    metric = "dot" if seed == 1 else "cosine"
    ours = retrieval(*task, ignore_identical_ids=identical, metric=metric)
    settings = {"measure": metric, "ignore_identical_ids": identical}
    theirs = their_search(bench, "Retrieval", "ndcg_at_10", task, **settings)
    assert_same_search(ours, theirs)
    assert len(ours.ids) == len(ours.items["ndcg_at_10"]) == 25 - 3


def tied_task(rng):
    """Return documents of four directions: hundreds are equally near at the cut."""
    corner = np.array([[1, 0], [0, 1], [1, 1], [-1, 1]], np.float32)
    corpus = corner[rng.integers(4, size=2500)]
    asked = corner[rng.integers(4, size=12)] + np.float32(0.25)
    corpus_ids = [f"d{i}" for i in rng.permutation(2500)]
    query_ids = corpus_ids[:12]
    qrels = {
        query: {corpus_ids[j]: int(rng.integers(1, 3)) for j in rng.choice(2500, 400)}
        for query in query_ids
    }
    return query_ids, asked, corpus_ids, corpus, qrels


@pytest.mark.parametrize("identical", [False, True])
def test_retrieval_where_the_thousandth_place_is_tied(bench, identical):
    task = tied_task(np.random.default_rng(0))
    theirs = their_search(
        bench, "Retrieval", "ndcg_at_10", task, ignore_identical_ids=identical
    )
    assert_same_search(retrieval(*task, ignore_identical_ids=identical), theirs)


def test_reranking_where_the_thousandth_place_is_tied(bench):
    rng = np.random.default_rng(0)
    task = tied_task(rng)
    candidates = {query: rng.permutation(task[2]).tolist() for query in task[0]}
    theirs = their_search(bench, "Reranking", "map_at_1000", task, candidates)
    assert_same_search(reranking(*task, candidates), theirs)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("coarse", [False, True])
def test_reranking(bench, seed, coarse):
    rng = np.random.default_rng(seed)
    grades = (0, 1) if seed == 0 else (-1, 0, 1, 1, 2, 3)
    task = search_task(rng, 1200, grades=grades, coarse=coarse)
    query_ids, _, corpus_ids, _, qrels = task
    candidates = {}
    for i, query in enumerate(query_ids):
        judged = [key for key in qrels.get(query, ()) if key in corpus_ids]
        count = 1100 if i == 10 else 30  # one list is longer than what is kept
        others = rng.choice(corpus_ids, count, replace=False).tolist()
        candidates[query] = rng.permutation(
            list(dict.fromkeys([*judged[:-1], *others]))
        ).tolist()
    candidates[query_ids[6]] = []
    del candidates[query_ids[7]]
    theirs = their_search(bench, "Reranking", "map_at_1000", task, candidates)
    ours = reranking(*task, candidates)
    assert_same_search(ours, theirs)
    assert ours.items["map_at_1000"][ours.ids.index(query_ids[6])] == 0
