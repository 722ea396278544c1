"""Scored pairs and labelled texts in every form in which they are published."""

import csv
import gzip
import json
from collections import Counter

import numpy as np
import pytest
from huggingface_hub import constants

from sbert_lab._utils import project_root
from sbert_lab.datasets.sts import (
    LabelledTexts,
    ScoredPairs,
    banking77,
    by_name,
    ladder,
    semeval,
    sick,
    stsb,
)
from sbert_lab.evaluation.error_analysis import word_overlap as overlap
from sbert_lab.evaluation.metrics import pairwise_cosine, spearman
from sbert_lab.models.registry import BY_NAME

ROWS = [("A cat sat.", "A cat is sitting.", 4.5), ("Zwölf Äpfel", "a dog", 0.0)]
MORE = [("one", "two", 2.0)]


def lines(rows):
    keys = ("sentence1", "sentence2", "score")
    parts = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    return ("\n".join(parts) + "\n").encode()


def write(path, rows):
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        first, second, score = zip(*rows, strict=True)
        columns = {"sentence1": first, "sentence2": second, "score": score}
        parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines(rows)))
    else:
        path.write_bytes(lines(rows))


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """Make folders laid out as the hub's cache, read with no network."""
    monkeypatch.delenv("SBERT_LAB_DATA_HOME", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def make(name):
        entry = BY_NAME[name]
        repository = tmp_path / "hub" / f"datasets--{entry.hub.replace('/', '--')}"
        folder = repository / "snapshots" / entry.revision
        (folder / "data").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(entry.revision)
        return folder

    return make


def read(pairs):
    return list(zip(pairs.first, pairs.second, pairs.score, strict=True))


def test_sizes_and_scales(evaluation_data, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(evaluation_data))
    assert [len(stsb(s)) for s in ("train", "dev", "test")] == [5749, 1500, 1379]
    assert [len(sick(s)) for s in ("train", "trial", "test")] == [4500, 500, 4927]
    assert len(sick("all")) == 9927
    assert 0 <= min(stsb().score) < max(stsb().score) <= 5
    assert 1 <= min(sick().score) < max(sick().score) <= 5
    sides = [banking77(split) for split in ("train", "test")]
    assert [len(side) for side in sides] == [10_003, 3_080]
    assert [len(set(side.labels)) for side in sides] == [77, 77]


def test_absence_says_what_to_do(snapshot, monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="SBERT_LAB_DATA_HOME"):
        stsb()
    with pytest.raises(FileNotFoundError, match="sts14 .* comes from the hub"):
        semeval(2014)
    (tmp_path / "sick").mkdir()
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="SICK_test"):
        sick()


@pytest.mark.parametrize(
    "file", ["test.jsonl", "test.jsonl.gz", "data/test-00000-of-00002.parquet"]
)
def test_every_form_of_the_hub_is_read(snapshot, file):
    folder = snapshot("sts12")
    write(folder / file, ROWS)
    assert read(semeval(2012)) == ROWS
    assert by_name("sts12") == semeval(2012)
    # Pieces are joined in order; of two forms of one split, one is read.
    write(folder / "data" / "test-00001-of-00002.parquet", MORE)
    assert read(semeval(2012)) == (ROWS + MORE if "parquet" in file else ROWS)


def test_splits_of_the_hubs_copies(snapshot):
    folder = snapshot("stsb")
    for split, rows in (("train", ROWS + MORE), ("validation", MORE), ("test", ROWS)):
        write(folder / f"{split}.jsonl.gz", rows)
    assert [len(stsb(split)) for split in ("train", "dev", "test")] == [3, 1, 2]
    assert read(by_name("stsb")) == ROWS
    (folder / "validation.jsonl.gz").unlink()
    with pytest.raises(FileNotFoundError, match="no file for the split 'validation'"):
        stsb("dev")
    write(snapshot("sick") / "test.jsonl.gz", ROWS)
    assert read(by_name("sick")) == ROWS
    with pytest.raises(ValueError, match="no split 'train'"):
        sick("train")


def test_your_own_files_come_first(snapshot, tmp_path, monkeypatch):
    write(snapshot("stsb") / "test.jsonl.gz", ROWS)
    own = tmp_path / "own" / "stsb"
    own.mkdir(parents=True)
    (own / "stsb-en-test.csv").write_text('"one, two",three,2.5\n', encoding="utf-8")
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(own.parent))
    assert read(stsb()) == [("one, two", "three", 2.5)]


@pytest.mark.parametrize("name", ["sts11", "sts17", "mnli", "sts", ""])
def test_unknown_name_says_what_there_is(name):
    with pytest.raises(ValueError, match="2012 to 2016|sts12 to sts16"):
        by_name(name)


def test_some_pairs_only():
    pairs = ScoredPairs(
        ("a", "b", "c"), ("d", "e", "f"), (1.0, 2.0, 3.0), ("g", "g", "h")
    )
    some = pairs.only(np.array([True, False, True]))
    assert some == ScoredPairs(("a", "c"), ("d", "f"), (1.0, 3.0), ("g", "h"))
    single = ScoredPairs(pairs.first, pairs.second, pairs.score)
    assert single.only([False] * 3) == ScoredPairs((), (), ())
    with pytest.raises(ValueError, match="kept has 2 entries, and there are 3"):
        pairs.only([True] * 2)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_banking77_keeps_the_order_of_its_rows(form, tmp_path, monkeypatch):
    """Which rows the protocol trains on hangs on the order."""
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    sides = {
        "train": [("where is my card?", "card_arrival"), ("a fee, why?", "card_fee")],
        "test": [("zero", "top_up"), ("my card", "card_arrival"), ("a", "top_up")],
    }
    folder = tmp_path / "banking77"
    folder.mkdir()
    for split, rows in sides.items():
        with (folder / f"{split}.{form}").open(
            "w", encoding="utf-8", newline=""
        ) as file:
            if form == "csv":
                csv.writer(file).writerows([("text", "category"), *rows])
            else:
                for text, label in rows:
                    file.write(json.dumps({"text": text, "label_text": label}) + "\n")
    for split, rows in sides.items():
        assert banking77(split) == LabelledTexts(*zip(*rows, strict=True))
    with pytest.raises(ValueError, match="split='dev': 'train' or 'test'"):
        banking77("dev")


# The project's own ladder


@pytest.fixture(scope="module")
def rungs():
    path = project_root() / "data" / "authored" / "similarity_ladder.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_ladder_is_balanced_and_unrepeated(rungs):
    pairs = ladder()
    assert pairs == by_name("ladder")
    assert read(pairs) == [
        (r["anchor"], r["partner"], float(r["score"])) for r in rungs
    ]
    assert len(pairs) == 720
    of_anchor = {}
    for anchor, score in zip(pairs.group, pairs.score, strict=True):
        of_anchor.setdefault(anchor, []).append(score)
    assert len(of_anchor) == 120
    assert all(sorted(scores) == [0, 1, 2, 3, 4, 5] for scores in of_anchor.values())
    assert ladder(7).first == pairs.first[:42]
    firsts = {row["anchor_id"]: row for row in rungs}.values()
    for column, size in (("topic", 10), ("grammar", 24), ("length", 40)):
        assert set(Counter(row[column] for row in firsts).values()) == {size}
    limits = {"short": (1, 8), "medium": (9, 15), "long": (16, 28)}
    for row in firsts:
        low, high = limits[row["length"]]
        assert low <= len(row["anchor"].split()) <= high
    sentences = {text.lower() for text in (*pairs.first, *pairs.second)}
    assert len(sentences) == 840


def test_words_shared_do_not_climb_the_ladder_but_an_encoder_does(rungs, minilm):
    traps = Counter(row["trap"] for row in rungs)
    for trap in ("negation", "swapped_roles", "number", "antonym"):
        assert traps[trap] >= 40, trap
    bare = [row for row in rungs if row["trap"] == "no_shared_word"]
    assert len(bare) >= 100
    assert all(int(row["score"]) >= 4 for row in bare)
    assert not [r for r in bare if overlap(r["anchor"], r["partner"])]
    pairs = ladder()
    shared = np.array(
        [overlap(*two) for two in zip(pairs.first, pairs.second, strict=True)]
    )
    assert 0.2 < spearman(shared, np.array(pairs.score)) < 0.55
    cosines = pairwise_cosine(minilm.encode(pairs.first), minilm.encode(pairs.second))
    assert spearman(cosines, np.array(pairs.score)) >= 0.80
