"""Premises and hypotheses: read as published, bad rows named, rules true."""

import json

import pytest
from huggingface_hub import constants

from sbert_lab.datasets.nli import (
    LABELS,
    Inference,
    all_nli,
    authored,
    nli_triplets,
)
from sbert_lab.models.registry import BY_NAME

ROWS = [("A cat sat.", "It sat.", 0), ("Äpfel", "Red ones.", 1), ("A dog", "A cat", 2)]
ROWS_READ = [(*texts, LABELS[number]) for *texts, number in ROWS]
MORE = [("A dog", "An animal", 0)]


def write(path, rows):
    columns = dict(
        zip(("premise", "hypothesis", "label"), zip(*rows, strict=True), strict=True)
    )
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table(columns), path)
    else:
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in records))


def read(pairs):
    return [(pair.premise, pair.hypothesis, pair.label) for pair in pairs]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Make the folder of a set in the reader's own data; no network, an empty cache."""
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def make(name):
        folder = tmp_path / "own" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    return make


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_all_nli_joins_its_pieces_in_order(own, form):
    subset = own("all-nli/pair-class")
    write(subset / f"train-00001-of-00002.{form}", MORE)
    write(subset / f"train-00000-of-00002.{form}", ROWS)
    pairs = all_nli()
    assert read(pairs) == [*ROWS_READ, ("A dog", "An animal", "entailment")]
    assert {pair.topic for pair in pairs} == {"all-nli"}


def test_all_nli_of_the_hub_is_the_subset_of_classes(own, tmp_path):
    """The other subsets of the same pairs lie beside it; one's own files come first."""
    entry = BY_NAME["all-nli"]
    repository = tmp_path / "hub" / f"datasets--{entry.hub.replace('/', '--')}"
    for name in ("pair", "pair-class", "triplet"):
        folder = repository / "snapshots" / entry.revision / name
        folder.mkdir(parents=True)
        rows = ROWS if name == "pair-class" else [("x", "y", 0)]
        write(folder / "test-00000-of-00001.parquet", rows)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(entry.revision)
    assert read(all_nli("test")) == ROWS_READ
    with pytest.raises(FileNotFoundError, match="pair-class .*the split 'dev'"):
        all_nli("dev")
    write(own("all-nli/pair-class") / "test.jsonl", MORE)
    assert len(all_nli("test")) == 1


@pytest.mark.parametrize("label", [-1, 3])
def test_what_is_no_label_is_refused(own, label):
    write(own("all-nli/pair-class") / "test.jsonl", [*ROWS, ("a", "b", label)])
    with pytest.raises(ValueError, match="none of 0, 1, 2"):
        all_nli("test")


def test_triplets_pair_the_ith_of_each():
    def pair(premise, hypothesis, label):
        return Inference("", "", premise, hypothesis, label)

    pairs = [
        pair("a", "e1", "entailment"),
        pair("b", "e9", "entailment"),
        pair("a", "c1", "contradiction"),
        pair("a", "n1", "neutral"),
        pair("c", "c9", "contradiction"),
        pair("a", "e2", "entailment"),
        pair("a", "c2", "contradiction"),
        pair("a", "e3", "entailment"),
    ]
    assert nli_triplets(pairs) == [("a", "e1", "c1"), ("a", "e2", "c2")]
    assert len(nli_triplets(authored())) == 400


# The project's own pairs


def test_authored_pairs_are_balanced_and_unrepeated():
    pairs = authored()
    assert len(pairs) == 1_200
    hypotheses = {item.hypothesis.lower() for item in pairs}
    assert len(hypotheses | {item.premise.lower() for item in pairs}) == 1_600
    for label in LABELS:
        mine = [item for item in pairs if item.label == label]
        assert len(mine) == len({item.premise_id for item in mine}) == 400
