"""The paper profile's path, end to end, on models and data laid out as the hub does."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from conftest import WORDS, tiny_encoder, tiny_parts

from sbert_lab._utils import notebook_paths
from sbert_lab.experiments.notebooks import run
from sbert_lab.experiments.profiles import CHANGES, PROFILES
from sbert_lab.models.checkpoint import Layout
from sbert_lab.models.registry import BY_NAME
from sbert_lab.models.sentence_encoder import SentenceEncoder

RAW, TRAINED = "acme/tiny-bert", "acme/tiny-sbert"


def snapshot(home: Path, kind: str, repository: str, revision: str) -> Path:
    """Make an empty snapshot in a Hugging Face cache, and return its folder."""
    base = home / f"{kind}s--{repository.replace('/', '--')}"
    folder = base / "snapshots" / revision
    folder.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text(revision)
    return folder


def text(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, 6))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    home = tmp_path / "hub"
    raw = tiny_encoder(seed=1)
    folder = snapshot(home, "model", RAW, "a" * 40)
    raw.transformer.save_pretrained(folder)  # a plain BERT, with its pooler
    raw.tokenizer.save_pretrained(folder)
    parts = tiny_parts(2, positions=128)
    encoder = SentenceEncoder(*parts, Layout(dimension=16, max_seq_length=128)).eval()
    encoder.save(snapshot(home, "model", TRAINED, "b" * 40) / "model")
    trained = home / "models--acme--tiny-sbert" / "snapshots" / ("b" * 40)
    for path in list((trained / "model").iterdir()):
        path.rename(trained / path.name)
    rng = np.random.default_rng(0)
    for name in PROFILES["paper"].sts:
        entry = BY_NAME[name]
        data = snapshot(home, "dataset", entry.hub, entry.revision)
        for split in ("train", "test"):
            with gzip.open(data / f"{split}.jsonl.gz", "wt") as file:
                for score in rng.uniform(0, 5, size=40):
                    row = {"sentence1": text(rng), "sentence2": text(rng)}
                    file.write(json.dumps(row | {"score": score}) + "\n")
    entry = BY_NAME["all-nli"]
    folder = snapshot(home, "dataset", entry.hub, entry.revision) / "pair-class"
    folder.mkdir()
    premises = [text(rng) for _ in range(40)]
    columns = {
        "premise": [premise for premise in premises for _ in range(3)],
        "hypothesis": [text(rng) for _ in range(120)],
        "label": [0, 1, 2] * 40,
    }
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, folder / "train-00000-of-00001.parquet")
    monkeypatch.setenv("HF_HUB_CACHE", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SBERT_LAB_DATA_HOME", raising=False)
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    return home


def datasets_of_mteb(home: Path) -> None:
    """Lay out a cache of the datasets library, as after a download of mteb's sets."""
    import datasets
    import mteb

    rng = np.random.default_rng(1)
    for name in PROFILES["paper"].mteb:
        source = mteb.get_task(name).metadata.dataset
        splits = {}
        for split in ("train", "test"):
            if name == "Banking77Classification":
                rows = {"text": [text(rng) for _ in range(80)], "label": [0, 1] * 40}
            else:
                first, second = ([text(rng) for _ in range(40)] for _ in "ab")
                score = rng.uniform(0, 5, size=40).tolist()
                rows = {"sentence1": first, "sentence2": second, "score": score}
            splits[split] = str(home / f"{split}.parquet")
            datasets.Dataset.from_dict(rows).to_parquet(splits[split])
        made = home / "made"
        loaded = datasets.load_dataset("parquet", data_files=splits, cache_dir=made)
        prepared = Path(loaded["test"].cache_files[0]["filename"]).parent
        owner, short = source["path"].split("/")
        folder = home / f"{owner}___{short}" / "default" / "0.0.0" / source["revision"]
        shutil.copytree(prepared, folder)
        for file in folder.glob("parquet-*.arrow"):
            file.rename(folder / file.name.replace("parquet", short, 1))
        about = json.loads((folder / "dataset_info.json").read_text())
        about |= {"builder_name": short, "dataset_name": short}
        about |= {"config_name": "default"}
        (folder / "dataset_info.json").write_text(json.dumps(about))
        shutil.rmtree(made)


@pytest.mark.notebook
def test_notebook_05(hub, tmp_path, monkeypatch):
    """mteb's own tasks are loaded as from the hub, beside what is published."""
    datasets_of_mteb(tmp_path / "datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv(
        CHANGES,
        f"model={TRAINED} raw_model={RAW} decides=false ladder_anchors=20 "
        "anchors=30 benchmark=16 queries=40 codes=200 corpus=100",
    )
    path = next(p for p in notebook_paths() if p.name.startswith("05_"))
    done = run(path, "paper", out=tmp_path)
    for name in PROFILES["paper"].mteb:
        assert -1 <= done.record["results"][f"MTEB {name}"]["mean"] <= 1
    assert {c["verdict"] for c in done.record["claims"].values()} == {"not tested"}


@pytest.mark.notebook
def test_notebook_01(hub, tmp_path, monkeypatch):
    monkeypatch.setenv(
        CHANGES,
        f"raw_model={RAW} sbert={TRAINED} decides=false anchors=30 titles=60",
    )
    path = next(p for p in notebook_paths() if p.name.startswith("01_"))
    record = run(path, "paper", out=tmp_path).record
    assert record["profile"] == "paper"
    for name in PROFILES["paper"].sts:
        assert record["results"][f"pairs_{name}"]["mean"] == 40
        assert -1 <= record["results"][f"{name}: raw mean"]["mean"] <= 1
        assert f"{name}: raw pooler" in record["results"]  # its own: nothing is made up
    assert {c["verdict"] for c in record["claims"].values()} == {"not tested"}


@pytest.mark.notebook
@pytest.mark.parametrize("number", ["02", "03"])
def test_notebooks_that_train(hub, tmp_path, monkeypatch, number):
    """On AllNLI and STS Benchmark's training part, as the paper did."""
    monkeypatch.setenv(
        CHANGES,
        f"raw_model={RAW} decides=false runs=2 corpus=60 queries=20 ladder_anchors=20 "
        "graded_anchors=16",
    )
    path = next(p for p in notebook_paths() if p.name.startswith(f"{number}_"))
    record = run(path, "paper", out=tmp_path).record
    results = record["results"]
    rows = "pairs" if number == "02" else "rows_NLI"
    assert results[rows]["mean"] == 120
    trained = "NLI softmax" if number == "02" else "NLI, mean"
    for name in PROFILES["paper"].sts:
        assert -1 <= results[f"{name}: {trained}"]["mean"] <= 1
    assert {c["verdict"] for c in record["claims"].values()} == {"not tested"}


@pytest.mark.notebook
@pytest.mark.parametrize("number", ["07", "08"])
def test_notebooks_that_adapt(hub, tmp_path, monkeypatch, number):
    """A base of the hub learns a field, and what it forgets is measured on STS."""
    monkeypatch.setenv(
        CHANGES,
        f"base={TRAINED} decides=false ladder_anchors=20 known_pairs=80 "
        "known_codes=120 pair_counts=40,60 trial_pairs=40 trial_runs=2 runs=2 "
        "domain_queries=20 domain_codes=80 trial_queries=20 trial_codes=80 texts=64 "
        "libraries=tornado,fsspec,pillow second_pairs=40 second_queries=10 "
        "second_documents=30 rerank_queries=20 rerank_aside=10 rerank_depths=5,10 "
        "repeats=2 turns=1 pages=3 typed=2",
    )
    path = next(p for p in notebook_paths() if p.name.startswith(f"{number}_"))
    record = run(path, "paper", out=tmp_path).record
    results = record["results"]
    if number == "07":
        assert all("gain_" + count in results for count in ("40", "60"))
    else:
        assert all("mixed_" + depth in results for depth in ("5", "10"))
    assert {c["verdict"] for c in record["claims"].values()} == {"not tested"}


@pytest.mark.notebook
def test_says_what_is_missing(tmp_path, monkeypatch):
    """Without network and cache the notebook stops at its start, with the remedy."""
    from sbert_lab.experiments.notebooks import NotebookFailed

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = next(p for p in notebook_paths() if p.name.startswith("01_"))
    with pytest.raises(
        NotebookFailed, match="bert-base-uncased is not on this machine"
    ):
        run(path, "paper", out=tmp_path)
