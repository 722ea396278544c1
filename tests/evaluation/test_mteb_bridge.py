"""Our encoder in mteb: the contract, the prompts, the names, and what stays untouched.

mteb itself is the reference: its mock tasks, its lookup of prompts, its similarities.
"""

import builtins
import random
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import states, tiny_encoder

from sbert_lab.evaluation import mteb as mteb_bridge
from sbert_lab.evaluation.mteb import MtebEncoder, evaluate, using_mteb
from sbert_lab.evaluation.mteb_local import LOCAL_TASKS, with_local_data
from sbert_lab.models.embedding_cache import EmbeddingCache

with using_mteb() as mteb:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.abs_encoder import get_prompt_name
    from mteb.similarity_functions import (
        select_pairwise_similarity,
        select_similarity,
    )
    from mteb.types import PromptType

ROWS = (
    ("the cat sat on a mat", "a cat sat on the mat", 5.0),
    ("the dog ran", "a quick brown fox jumps", 2.0),
    ("a red bird flew over the hill", "the bird flew", 4.0),
    ("one two three", "the lazy dog", 0.0),
    ("no cat ran", "the cat ran", 3.0),
)


def metadata(name="STSBenchmark", kind="STS"):
    return TaskMetadata(
        name=name,
        description="local",
        type=kind,
        main_score="cosine_spearman",
        dataset={"path": "local/x", "revision": "1"},
        eval_langs=["eng-Latn"],
    )


def sts(rows=ROWS):
    """Return mteb's own STSBenchmark on five pairs."""
    from datasets import Dataset, DatasetDict

    first, second, score = map(list, zip(*rows, strict=True))
    with using_mteb():
        task = mteb.get_task("STSBenchmark")
    columns = {"sentence1": first, "sentence2": second, "score": score}
    task.dataset = DatasetDict(test=Dataset.from_dict(columns))
    task.data_loaded = True
    return task


def clusters():
    """Return a clustering task that keeps a part of the texts, drawn at random."""
    from datasets import Dataset, DatasetDict

    texts = [f"{a} {b}" for a in ("cat", "dog", "bird", "fox") for b in ("a", "the")]
    texts = [f"{text} {verb}" for text in texts for verb in ("sat", "ran", "flew")]
    with using_mteb():
        task = mteb.get_task("MedrxivClusteringS2S.v2")
    columns = {"sentences": texts, "labels": [text.split()[0] for text in texts]}
    task.dataset = DatasetDict(test=Dataset.from_dict(columns))
    task.data_loaded = True
    task.max_fraction_of_documents_to_embed = 0.6
    task.max_documents_per_cluster = 12
    return task


def counted(encoder, monkeypatch):
    """Return a list that grows with every text the transformer is given."""
    seen = []
    inner = encoder._encode_chunk

    def spy(texts, *rest):
        seen.extend(texts)
        return inner(texts, *rest)

    monkeypatch.setattr(encoder, "_encode_chunk", spy)
    return seen


def batches(texts, size=2):
    return [{"text": texts[i : i + size]} for i in range(0, len(texts), size)]


def test_it_is_an_encoder_to_mteb(tiny):
    model = MtebEncoder(tiny)
    assert isinstance(model, mteb.EncoderProtocol)
    assert not isinstance(model, mteb.SearchProtocol)
    assert not isinstance(model, mteb.CrossEncoderProtocol)


@pytest.mark.slow
def test_every_mock_task_passes(tiny):
    """mteb's own contract test: 28 tasks of every kind that reads text."""
    before = states()
    with using_mteb():
        found = mteb.mock_run(MtebEncoder(tiny)).task_results
    assert states() == before
    ran = {name: result for name, result in found.items() if result is not None}
    errors = {n: r.exception for n, r in ran.items() if hasattr(r, "exception")}
    assert not errors
    assert len(ran) >= 28


def test_vectors_are_those_of_the_encoder(tiny):
    texts = [first for first, _, _ in ROWS]
    found = MtebEncoder(tiny).encode(
        batches(texts), task_metadata=metadata(), batch_size=3
    )
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, tiny.encode(texts))
    nothing = MtebEncoder(tiny).encode([], task_metadata=metadata())
    assert nothing.shape == (0, 16)


def test_what_it_cannot_do_is_an_error(tiny):
    model = MtebEncoder(tiny)
    with pytest.raises(ValueError, match="gives float32"):
        model.encode(batches(["a"]), task_metadata=metadata(), precision="int8")
    with pytest.raises(ValueError, match="reads text"):
        model.encode([{"image": [1]}], task_metadata=metadata())


PROMPTS = {
    "STSBenchmark-query": "one ",
    "STSBenchmark": "two ",
    "STS-query": "green ",
    "Retrieval-query": "three ",
    "Retrieval": "red ",
    "STS": "blue ",
    "query": "query : ",
    "document": "passage : ",
}


@pytest.mark.parametrize("dropped", range(len(PROMPTS) + 1))
@pytest.mark.parametrize(
    ("name", "kind"),
    [("STSBenchmark", "STS"), ("NFCorpus", "Retrieval"), ("MyOwn", "Reranking")],
)
@pytest.mark.parametrize("side", [None, *PromptType])
def test_prompts_are_looked_up_as_mteb_does(name, kind, side, dropped):
    prompts = dict(list(PROMPTS.items())[dropped:])
    model = MtebEncoder(tiny_encoder(), prompts=prompts)
    key = get_prompt_name(prompts, metadata(name, kind), side)
    expected = None if key is None else prompts[key]
    assert model.prompt_for(name, kind, side and side.value) == expected


def test_own_prompts_count_and_given_ones_are_stronger():
    encoder = tiny_encoder(prompts={"query": "query : ", "STS": "blue "})
    texts = ["the cat", "a dog"]

    def vectors(side, kind="Retrieval", **options):
        model = MtebEncoder(encoder, **options)
        return model.encode(
            batches(texts), task_metadata=metadata("x", kind), prompt_type=side
        )

    np.testing.assert_array_equal(
        vectors(PromptType.query), encoder.encode(texts, prompt="query : ")
    )
    np.testing.assert_array_equal(vectors(PromptType.document), encoder.encode(texts))
    np.testing.assert_array_equal(
        vectors(None, "STS"), encoder.encode(texts, prompt="blue ")
    )
    np.testing.assert_array_equal(
        vectors(None, "STS", prompts={"STS": "red "}),
        encoder.encode(texts, prompt="red "),
    )
    np.testing.assert_array_equal(
        vectors(PromptType.query, prompts={"query": ""}), encoder.encode(texts)
    )


def test_a_document_gets_the_prompt_that_the_model_has_for_it():
    encoder = tiny_encoder(prompts={"passage": "passage : "})
    found = MtebEncoder(encoder).encode(
        batches(["the cat"]),
        task_metadata=metadata("x", "Retrieval"),
        prompt_type=PromptType.document,
    )
    np.testing.assert_array_equal(found, encoder.encode_document(["the cat"]))
    assert not np.allclose(found, encoder.encode(["the cat"]))


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_is_the_one_the_folder_names(measure):
    model = MtebEncoder(tiny_encoder(similarity=measure))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 16)).astype(np.float32)
    meta = model.mteb_model_meta
    assert meta.similarity_fn_name.value == measure
    matrix, rows = model.similarity(a, b), model.similarity_pairwise(a, b)
    torch.testing.assert_close(matrix.diagonal(), rows, rtol=1e-5, atol=1e-5)
    if measure == "manhattan":  # which mteb does not offer
        expected = torch.from_numpy(-np.abs(a[:, None] - b[None]).sum(-1))
    else:
        expected = select_similarity(a, b, meta.similarity_fn_name)
        pairwise = select_pairwise_similarity(a, b, meta.similarity_fn_name)
        torch.testing.assert_close(rows, pairwise, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(matrix, expected.float(), rtol=1e-5, atol=1e-5)
    assert model.similarity(a[0], torch.from_numpy(b)).shape == (1, 5)


def test_names_and_revisions_follow_the_weights():
    one, same, other = tiny_encoder(0), tiny_encoder(0), tiny_encoder(1)
    first = MtebEncoder(one).mteb_model_meta
    assert first.revision == one.fingerprint()
    assert first.name == f"sbert-lab/encoder-{one.fingerprint()[:12]}"
    assert MtebEncoder(same).mteb_model_meta.revision == first.revision
    assert MtebEncoder(other).mteb_model_meta.revision != first.revision
    model = MtebEncoder(one, name="mine")
    with torch.no_grad():
        one.transformer.embeddings.word_embeddings.weight[3, 0] += 1
    assert model.mteb_model_meta.name == "sbert-lab/mine"
    assert model.mteb_model_meta.revision != first.revision
    assert MtebEncoder(one, name="org/it").mteb_model_meta.name == "org/it"
    short = MtebEncoder(tiny_encoder(0, truncate_dim=8)).mteb_model_meta
    assert short.revision == first.revision  # the weights are the same,
    assert short.experiment_kwargs != first.experiment_kwargs  # the scores are not


def test_two_models_do_not_share_results_in_mtebs_own_cache(tmp_path):
    """By their folder both would be called alike, and the second get the first's."""
    scores = []
    with using_mteb():
        cache = mteb.ResultCache(tmp_path)
        for seed, prompts in ((0, None), (1, None), (0, {"STS": "red "})):
            model = MtebEncoder(tiny_encoder(seed), name="org/run", prompts=prompts)
            result = mteb.evaluate(
                model, sts(), cache=cache, show_progress_bar=False, co2_tracker=False
            )
            scores.append(result[0].get_score())
    assert len(set(scores)) > 1
    assert len(list(tmp_path.rglob("STSBenchmark.json"))) == 3


def test_score_equals_the_formula(tiny):
    from scipy.stats import spearmanr

    (found,) = evaluate(tiny, [sts()], name="org/tiny")
    first, second, gold = zip(*ROWS, strict=True)
    cosines = (tiny.encode(first) * tiny.encode(second)).sum(1)
    assert found.score == pytest.approx(spearmanr(cosines, gold).statistic, abs=1e-12)
    assert (found.task, found.kind) == ("STSBenchmark", "STS")
    assert found.metric == "cosine_spearman"
    assert found.scores["test"][0]["cosine_spearman"] == found.score
    assert asdict(found)["scores"] == found.scores
    assert (found.model, found.revision) == ("org/tiny", tiny.fingerprint())
    assert found.data_revision == mteb.get_task("STSBenchmark").metadata.revision
    assert found.seconds > 0


def test_a_second_run_encodes_nothing(tiny, tmp_path, monkeypatch):
    seen = counted(tiny, monkeypatch)
    first = evaluate(tiny, [sts()], cache_folder=tmp_path)
    texts = {text for row in ROWS for text in row[:2]}
    assert set(seen) == texts
    del seen[:]
    again = evaluate(tiny, [sts()], cache_folder=tmp_path)
    assert seen == []
    assert again[0].score == first[0].score
    evaluate(tiny, [sts()], cache_folder=tmp_path, prompts={"STS": "red "})
    assert set(seen) == {f"red {text}" for text in texts}
    other = tiny_encoder(1)
    seen = counted(other, monkeypatch)
    evaluate(other, [sts()], cache_folder=tmp_path)
    assert set(seen) == texts


def test_cache_is_asked_by_the_encoder_too(tiny, tmp_path):
    cache = EmbeddingCache(tmp_path)
    model = MtebEncoder(tiny, cache=cache)
    for _ in range(2):
        model.encode(batches(["a cat", "a dog"]), task_metadata=metadata())
    assert (cache.hits, cache.misses) == (2, 2)


def test_global_random_state_stays(tiny):
    before = states()
    evaluate(tiny, [clusters(), sts()])
    assert states() == before


def test_first_import_leaves_the_random_state_too():
    """mteb seeds the world while it is imported: seen only in a new process."""
    script = (
        "import random; import numpy as np, torch;"
        "from sbert_lab.evaluation.mteb import using_mteb;"
        "s = lambda: (random.getstate(), np.random.get_state()[1].tolist(),"
        " torch.get_rng_state().tolist());"
        "before = s()\nwith using_mteb(): pass\nprint(s() == before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


def test_a_task_object_can_be_used_again(tiny):
    """Clustering draws from its own generator: unguarded, the second score differs."""
    task = clusters()
    scores = [evaluate(tiny, [task])[0].score for _ in range(3)]
    assert len(set(scores)) == 1
    assert evaluate(tiny, [clusters()])[0].score == scores[0]
    with using_mteb():
        unguarded = [
            mteb.evaluate(MtebEncoder(tiny), task, cache=None, show_progress_bar=False)[
                0
            ].get_score()
            for _ in range(3)
        ]
    assert unguarded[0] == scores[0]
    assert len(set(unguarded)) > 1


def test_a_slip_in_a_prompts_key_is_an_error(tiny):
    with pytest.raises(ValueError, match="did you mean 'STS-query'"):
        evaluate(tiny, [sts()], prompts={"STS-qurey": "query : "})
    for key in ("STS", "STSBenchmark", "STSBenchmark-document", "query"):
        evaluate(tiny, [sts()], prompts={key: "red "})


def test_unknown_tasks_are_errors(tiny):
    with pytest.raises(KeyError, match="STSBenchmrk"):
        evaluate(tiny, ["STSBenchmrk"])
    with pytest.raises(TypeError, match="give a list"):
        evaluate(tiny, "STSBenchmark")
    with pytest.raises(ValueError, match="no local reader for 'STS12'"):
        with_local_data("STS12")


def test_missing_mteb_says_what_to_type(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name == "mteb":
            raise ModuleNotFoundError("No module named 'mteb'", name="mteb")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(ModuleNotFoundError, match=r"pip install 'sbert-lab\[mteb\]'"),
        using_mteb(),
    ):
        pass


def test_import_loads_no_mteb():
    modules = "mteb_bridge, mteb_local, icd10cm_tasks"
    code = (
        f"import sys; from sbert_lab.evaluation import {modules};"
        "print([m for m in ('mteb', 'sklearn', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_bars_are_left_as_they_were(tiny):
    from datasets.utils import (
        disable_progress_bars,
        enable_progress_bars,
        is_progress_bar_enabled,
    )

    before = is_progress_bar_enabled()
    try:
        for switch, shown in (
            (enable_progress_bars, True),
            (disable_progress_bars, False),
        ):
            switch()
            evaluate(tiny, [sts()])
            assert is_progress_bar_enabled() == shown
    finally:
        (enable_progress_bars if before else disable_progress_bars)()


def test_local_data_are_those_of_the_hub(evaluation_data, monkeypatch):
    """Against the statistics that mteb ships of the very data sets.

    To the letter, but for the STS Benchmark: the local edition lacks seven of 74,107.
    """
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(evaluation_data))
    for name in LOCAL_TASKS:
        if name.startswith("Banking") and not (evaluation_data / "banking77").is_dir():
            continue
        task = with_local_data(name)
        assert task.data_loaded
        for split, data in task.dataset.items():
            known = task.metadata.descriptive_stats[split]
            assert len(data) == known["num_samples"]
            column = "text" if "text" in data.column_names else "sentence1"
            statistics = known.get("text_statistics") or known["text1_statistics"]
            letters = statistics["total_text_length"]
            off = 1e-4 if name == "STSBenchmark" else 0
            assert sum(map(len, data[column])) == pytest.approx(letters, rel=off, abs=0)
            if "label" in data.column_names:  # each class under the hub's own number
                classes = known["label_statistics"]["labels"]
                counted = Counter(map(str, data["label"]))
                assert counted == {n: c["count"] for n, c in classes.items()}


def test_absent_data_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sbert_lab.models.registry._from_hub", lambda *_: None)
    for name in LOCAL_TASKS:
        with pytest.raises(FileNotFoundError, match="SBERT_LAB_DATA_HOME"):
            with_local_data(name)


@pytest.mark.slow
def test_published_score_of_sts_benchmark(minilm, evaluation_data, monkeypatch):
    """all-MiniLM-L6-v2 has 0.8203247283 in mteb's repository of results."""
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(evaluation_data))
    (found,) = evaluate(minilm, [with_local_data("STSBenchmark")])
    assert found.score == pytest.approx(0.8203247283, abs=2e-6)


def test_fresh_copies_share_the_data():
    task = SimpleNamespace(seed=42, dataset=object(), rng_state=None, np_rng=None)
    made = mteb_bridge._fresh(task)
    assert made.dataset is task.dataset
    assert made.rng_state.random() == random.Random(42).random()
    assert made.np_rng.random() == np.random.default_rng(42).random()
    assert task.rng_state is task.np_rng is None
