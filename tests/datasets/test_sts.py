"""Scored pairs and labelled texts in every form in which they are published."""

import gzip
import json

import numpy as np
import pytest
from huggingface_hub import constants
from material import word_overlap

from sbert_lab.datasets.sts import (
    LabelledTexts,
    ScoredPairs,
    banking77,
    everyday,
    ladder,
    sick,
    stsb,
)
from sbert_lab.models.registry import BY_NAME

ROWS = [("A cat sat.", "A cat is sitting.", 4.5), ("Zwölf Äpfel", "a dog", 0.0)]
MORE = [("one", "two", 2.0)]


def write(path, rows):
    keys = ("sentence1", "sentence2", "score")
    lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


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
    assert len(sick()) == 9927
    assert 0 <= min(stsb().score) < max(stsb().score) <= 5
    assert 1 <= min(sick().score) < max(sick().score) <= 5
    sides = [banking77(split) for split in ("train", "test")]
    assert [len(side) for side in sides] == [10_003, 3_080]
    assert [len(set(side.labels)) for side in sides] == [77, 77]


def test_absence_says_what_to_do(snapshot, monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="SBERT_LAB_DATA_HOME"):
        stsb()
    (tmp_path / "sick").mkdir()
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="SICK_train"):
        sick()


def test_a_quotation_mark_is_a_letter_of_sicks_sentences(monkeypatch, tmp_path):
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    (tmp_path / "sick").mkdir()
    table = 'sentence_A\tsentence_B\trelatedness_score\n"Stop" he said\tA "b"\t4.5\n'
    for name in ("SICK_train", "SICK_trial", "SICK_test_annotated"):
        (tmp_path / "sick" / f"{name}.txt").write_text(table)
    assert read(sick()) == [('"Stop" he said', 'A "b"', 4.5)] * 3


def test_pieces_of_the_hub_are_joined_in_order(snapshot):
    folder = snapshot("stsb")
    write(folder / "data" / "test-00001-of-00002.jsonl.gz", MORE)
    write(folder / "data" / "test-00000-of-00002.jsonl.gz", ROWS)
    assert read(stsb()) == ROWS + MORE


def test_splits_of_the_hubs_copies(snapshot):
    folder = snapshot("stsb")
    for split, rows in (("train", ROWS + MORE), ("validation", MORE), ("test", ROWS)):
        write(folder / f"{split}.jsonl.gz", rows)
    assert [len(stsb(split)) for split in ("train", "dev", "test")] == [3, 1, 2]
    assert read(stsb()) == ROWS
    (folder / "validation.jsonl.gz").unlink()
    with pytest.raises(FileNotFoundError, match="no file for the split 'validation'"):
        stsb("dev")
    write(snapshot("sick") / "test.jsonl.gz", ROWS)
    assert read(sick()) == ROWS


def test_some_pairs_only():
    pairs = ScoredPairs(tuple("abc"), tuple("def"), (1.0, 2.0, 3.0), tuple("ggh"))
    some = pairs.only(np.array([True, False, True]))
    assert some == ScoredPairs(("a", "c"), ("d", "f"), (1.0, 3.0), ("g", "h"))


def test_banking77_keeps_the_order_of_its_rows(snapshot, tmp_path, monkeypatch):
    """Which rows the protocol trains on hangs on the order."""
    rows = [("where is my card?", "card_arrival"), ("a fee, why?", "card_fee")]
    lines = [json.dumps({"text": a, "label_text": b}) for a, b in rows]
    folder = snapshot("banking77")
    (folder / "test.jsonl").write_text("\n".join(lines))
    assert banking77("test") == LabelledTexts(*zip(*rows, strict=True))
    (tmp_path / "banking77").mkdir()
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    text = 'text,category\n"a fee, why?",card_fee\n'
    (tmp_path / "banking77" / "train.csv").write_text(text)
    assert banking77("train") == LabelledTexts((rows[1][0],), (rows[1][1],))


# The project's own ladder


def test_ladder_is_balanced_and_unrepeated():
    pairs = ladder()
    assert len(pairs) == 720
    of_anchor = {}
    for anchor, score in zip(pairs.group, pairs.score, strict=True):
        of_anchor.setdefault(anchor, []).append(score)
    assert len(of_anchor) == 120
    assert all(sorted(scores) == [0, 1, 2, 3, 4, 5] for scores in of_anchor.values())
    assert ladder(7).first == pairs.first[:42]
    sentences = {text.lower() for text in (*pairs.first, *pairs.second)}
    assert len(sentences) == 840


def test_everyday_pairs_are_as_their_page_says():
    pairs, unshared = everyday(), everyday(same_form=True)
    assert (len(pairs), len(set(pairs.group)), len(unshared)) == (600, 100, 500)
    assert len({text.lower() for text in (*pairs.second, *unshared.second)}) == 800
    assert set(pairs.score) <= {half / 2 for half in range(11)}
    assert everyday(7).first == pairs.first[:42]
    words = list(map(word_overlap, unshared.first, unshared.second))
    assert np.mean(np.array(words) > 0) < 0.04  # as "only", "still", "every"
