"""ICD-10-CM in mteb's task classes: real ones, offline, the same for everyone."""

import random
import socket

import numpy as np
import pytest
import torch

from sbert_lab.datasets import icd10cm_tasks as data
from sbert_lab.datasets.icd10cm import by_code, split_of
from sbert_lab.evaluation.icd10cm_tasks import TASKS, benchmark, task
from sbert_lab.evaluation.mteb import MtebEncoder, evaluate, using_mteb

with using_mteb() as mteb:
    from mteb import abstasks

KINDS = {
    "ICD10CMTermRetrieval": ("Retrieval", abstasks.AbsTaskRetrieval),
    "ICD10CMHierarchySTS": ("STS", abstasks.AbsTaskSTS),
    "ICD10CMChapterClassification": (
        "Classification",
        abstasks.AbsTaskClassification,
    ),
    "ICD10CMChapterClustering": ("Clustering", abstasks.AbsTaskClustering),
    "ICD10CMSynonymPairClassification": (
        "PairClassification",
        abstasks.AbsTaskPairClassification,
    ),
    "ICD10CMCandidateReranking": ("Reranking", abstasks.AbsTaskRetrieval),
}


@pytest.fixture(scope="module")
def small():
    return benchmark(16)


@pytest.fixture(scope="module")
def scores(small):
    """Each task once, with a tiny model and no way to the network."""
    from conftest import tiny_encoder

    encoder = tiny_encoder(head=("normalize",), max_seq_length=24)
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_, **__):
            raise AssertionError("a task asked the network")

        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        return {one.task: one for one in evaluate(encoder, small)}


def loaded(name, size=None):
    made = task(name, size)
    made.load_data()
    return made


def test_it_is_a_benchmark_of_six_kinds(small):
    assert isinstance(small, mteb.Benchmark)
    assert [one.metadata.name for one in small] == list(TASKS) == list(KINDS)
    for one in small:
        kind, base = KINDS[one.metadata.name]
        assert one.metadata.type == kind
        assert isinstance(one, base)
        assert one.metadata.eval_splits == ["test"]


def test_every_task_runs_offline_and_gives_its_main_score(scores):
    assert list(scores) == list(TASKS)
    for name, one in scores.items():
        assert 0 < one.score < 1
        assert one.kind == KINDS[name][0]
        assert one.scores["test"][0]["main_score"] == one.score
        assert one.metric in one.scores["test"][0]


def test_a_second_run_gives_the_same_scores_and_encodes_nothing(
    scores, tmp_path, monkeypatch
):
    from conftest import tiny_encoder

    encoder = tiny_encoder(head=("normalize",), max_seq_length=24)
    calls = []
    inner = encoder._encode_chunk
    monkeypatch.setattr(
        encoder, "_encode_chunk", lambda *a: calls.append(len(a[0])) or inner(*a)
    )
    names = [n for n in TASKS if "Classification" not in n]  # the quick ones
    first = evaluate(encoder, [task(n, 16) for n in names], cache_folder=tmp_path)
    assert sum(calls) > 0
    del calls[:]
    again = evaluate(encoder, [task(n, 16) for n in names], cache_folder=tmp_path)
    assert calls == []
    assert [one.score for one in again] == [one.score for one in first]
    assert [one.score for one in first] == [scores[name].score for name in names]


def test_revision_is_the_hash_of_the_data(scores):
    makers = (
        data.term_retrieval,
        data.graded_hierarchy,
        data.chapter_classes,
        data.chapter_clusters,
        data.synonym_pairs,
        data.candidate_reranking,
    )
    for name, make in zip(TASKS, makers, strict=True):
        assert scores[name].data_revision == data.content_hash(make(16))
        assert task(name).metadata.revision == data.content_hash(make())
        assert task(name).metadata.revision != scores[name].data_revision


def test_making_tasks_leaves_the_random_state():
    def states():
        numbers = np.random.get_state()  # noqa: NPY002  (what must not change)
        return random.getstate(), numbers[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    benchmark(17)
    assert states() == before


def test_tasks_are_fresh_each_time():
    one, two = (
        task("ICD10CMChapterClustering", 16),
        task("ICD10CMChapterClustering", 16),
    )
    assert one is not two
    assert one.rng_state is not two.rng_state
    one.load_data()
    assert not two.data_loaded


def test_classification_has_no_category_on_both_sides():
    """From what mteb gets: the categories of each side's texts, looked up anew."""
    sides = loaded("ICD10CMChapterClassification").dataset
    categories = {}
    for code in by_code().values():
        if code.category:
            categories.setdefault(code.description, set()).add(code.category)
    for split in ("train", "test"):
        for text in sides[split]["text"]:
            assert split in {split_of(c) for c in categories[text]}
    assert not set(sides["train"]["text"]) & set(sides["test"]["text"])
    assert set(sides["train"]["label"]) == set(sides["test"]["label"])
    assert len(set(sides["test"]["label"])) == 21


def test_retrieval_holds_the_right_codes():
    split = loaded("ICD10CMTermRetrieval").dataset["default"]["test"]
    texts = dict(zip(split["corpus"]["id"], split["corpus"]["text"], strict=True))
    assert len(texts) == len(split["corpus"]) > 15_000
    assert split["top_ranked"] is None
    for name, term in zip(
        split["queries"]["id"], split["queries"]["text"], strict=True
    ):
        ((right, grade),) = split["relevant_docs"][name].items()
        assert grade == 1
        assert by_code()[right].description == texts[right]
        assert term in by_code()[right].inclusion_terms


def test_reranking_orders_twenty_with_one_right():
    split = loaded("ICD10CMCandidateReranking").dataset["default"]["test"]
    assert len(split["top_ranked"]) == len(split["queries"]) > 2000
    for name in split["queries"]["id"]:
        (right,) = split["relevant_docs"][name]
        assert len(split["top_ranked"][name]) == data.CANDIDATES
        assert right in split["top_ranked"][name]


def test_the_scale_of_similarity_is_that_of_its_pairs():
    made = loaded("ICD10CMHierarchySTS")
    scores = made.dataset["test"]["score"]
    assert (made.min_score, made.max_score) == (min(scores), max(scores))


def test_labels_of_pairs_are_half_and_half():
    labels = loaded("ICD10CMSynonymPairClassification").dataset["test"]["labels"]
    assert set(labels) == {0, 1}
    assert sum(labels) * 2 == len(labels)


def test_every_text_is_clustered():
    """mteb's default embeds 4 % of them."""
    made = loaded("ICD10CMChapterClustering", 16)
    count = len(made.dataset["test"])
    seen = []

    class Counting(MtebEncoder):
        def encode(self, inputs, **options):
            found = super().encode(inputs, **options)
            seen.append(len(found))
            return found

    from conftest import tiny_encoder

    with using_mteb():
        mteb.evaluate(
            Counting(tiny_encoder()), made, cache=None, show_progress_bar=False
        )
    assert seen == [count]


def test_the_whole_benchmark_is_affordable():
    """At 800 short texts a second, a minute or two: well inside five."""
    texts = 0
    for name in TASKS:
        made = loaded(name)
        if "default" in made.dataset:
            split = made.dataset["default"]["test"]
            texts += len(split["corpus"]) + len(split["queries"])
        elif name == "ICD10CMChapterClassification":
            drawn = 21 * made.samples_per_label * made.n_experiments
            texts += len(made.dataset["test"])
            texts += min(drawn, len(made.dataset["train"]))
        else:
            columns = {"sentence1", "sentence2", "sentences"}
            rows = made.dataset["test"]
            texts += len(rows) * len(columns & set(rows.column_names))
    assert texts < 60_000


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="no task 'ICD': one of ICD10CMTermRetrieval"):
        task("ICD")


def test_a_trained_model_beats_chance_by_far(minilm):
    names = [TASKS[1], TASKS[4], TASKS[5]]
    similarity, pairs, order = evaluate(minilm, [task(name, 32) for name in names])
    assert similarity.score > 0.5
    assert pairs.score > 0.6  # of pairs that are half right
    assert order.score > 0.4  # where chance gives 0.18
