import gzip
import json

import numpy as np
import pytest
from huggingface_hub import constants

from sbert_lab.datasets.similarity import (
    ScoredPairs,
    by_name,
    semeval,
    sick,
    similarity_ladder,
    stsb,
)
from sbert_lab.models.registry import BY_NAME

ROWS = [("A cat sat.", "A cat is sitting.", 4.5), ("Zwölf Äpfel", "a dog", 0.0)]
MORE = [("one", "two", 2.0)]


def lines(rows):
    keys = ("sentence1", "sentence2", "score")
    parts = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    return ("\n".join(parts) + "\n").encode()


def write_lines(path, rows):
    path.write_bytes(lines(rows))


def write_gzip(path, rows):
    path.write_bytes(gzip.compress(lines(rows)))


def write_parquet(path, rows):
    import pyarrow as pa
    from pyarrow import parquet

    first, second, score = zip(*rows, strict=True)
    columns = {"sentence1": first, "sentence2": second, "score": score}
    parquet.write_table(pa.table(columns), path)


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


def test_absence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("SBERT_LAB_DATA_HOME", raising=False)
    with pytest.raises(FileNotFoundError, match="SBERT_LAB_DATA_HOME"):
        stsb()
    (tmp_path / "sick").mkdir()
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="SICK_test"):
        sick()


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("test.jsonl", write_lines),
        ("test.jsonl.gz", write_gzip),
        ("data/test-00000-of-00001.parquet", write_parquet),
    ],
)
def test_every_form_of_the_hub_is_read(snapshot, file, write):
    write(snapshot("sts12") / file, ROWS)
    assert read(semeval(2012)) == ROWS
    assert by_name("sts12") == semeval(2012)


def test_pieces_are_joined_in_order(snapshot):
    folder = snapshot("sts16")
    write_parquet(folder / "data" / "test-00001-of-00002.parquet", MORE)
    write_parquet(folder / "data" / "test-00000-of-00002.parquet", ROWS)
    assert read(by_name("sts16")) == ROWS + MORE


def test_two_forms_of_one_split_are_read_once(snapshot):
    folder = snapshot("sts13")
    write_gzip(folder / "test.jsonl.gz", ROWS)
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", ROWS)
    assert read(semeval(2013)) == ROWS


def test_benchmark_from_the_hub_has_three_splits(snapshot):
    folder = snapshot("stsb")
    for split, rows in (("train", ROWS + MORE), ("validation", MORE), ("test", ROWS)):
        write_gzip(folder / f"{split}.jsonl.gz", rows)
    assert [len(stsb(split)) for split in ("train", "dev", "test")] == [3, 1, 2]
    assert read(by_name("stsb")) == ROWS


def test_split_that_a_snapshot_lacks(snapshot):
    write_gzip(snapshot("stsb") / "test.jsonl.gz", ROWS)
    with pytest.raises(FileNotFoundError, match="no file for the split 'validation'"):
        stsb("dev")


def test_sick_from_the_hub_is_whole(snapshot):
    write_gzip(snapshot("sick") / "test.jsonl.gz", ROWS)
    assert read(by_name("sick")) == ROWS
    with pytest.raises(ValueError, match="no split 'train', only 'all'"):
        sick("train")


def test_your_own_files_come_first(snapshot, tmp_path, monkeypatch):
    write_gzip(snapshot("stsb") / "test.jsonl.gz", ROWS)
    own = tmp_path / "own" / "stsb"
    own.mkdir(parents=True)
    (own / "stsb-en-test.csv").write_text('"one, two",three,2.5\n', encoding="utf-8")
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(own.parent))
    assert read(stsb()) == [("one, two", "three", 2.5)]


def test_set_that_is_nowhere_says_how_to_get_it(snapshot):
    with pytest.raises(FileNotFoundError, match="sts14 .* comes from the hub"):
        semeval(2014)


def test_ladder_is_in_groups_of_one_anchor():
    ladder, rungs = by_name("ladder"), similarity_ladder()
    assert read(ladder) == [(r.anchor, r.partner, r.score) for r in rungs]
    assert ladder.group == tuple(r.anchor_id for r in rungs)


@pytest.mark.parametrize("year", [2011, 2017])
def test_years_without_a_task(year):
    with pytest.raises(ValueError, match=f"year={year}: 2012 to 2016"):
        by_name(f"sts{year - 2000}")


@pytest.mark.parametrize("name", ["mnli", "sts", "stsx", ""])
def test_unknown_name_says_what_there_is(name):
    with pytest.raises(ValueError, match=f"no similarity set '{name}'.*sts12 to sts16"):
        by_name(name)


PAIRS = ScoredPairs(("a", "b", "c"), ("d", "e", "f"), (1.0, 2.0, 3.0), ("g", "g", "h"))


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_some_pairs_only(kind):
    some = PAIRS.only(kind([True, False, True]))
    assert some == ScoredPairs(("a", "c"), ("d", "f"), (1.0, 3.0), ("g", "h"))
    assert len(some) == 2


def test_all_pairs_or_none():
    assert PAIRS.only([True] * 3) == PAIRS
    assert PAIRS.only([False] * 3) == ScoredPairs((), (), ())
    assert len(PAIRS) == 3  # as it was


def test_some_pairs_of_a_set_without_groups():
    single = ScoredPairs(PAIRS.first, PAIRS.second, PAIRS.score)
    some = single.only([False, True, True])
    assert some == ScoredPairs(("b", "c"), ("e", "f"), (2.0, 3.0))
    assert some.group == ()


@pytest.mark.parametrize("count", [0, 2, 4])
def test_each_pair_is_kept_or_not(count):
    with pytest.raises(ValueError, match=f"kept has {count} entries, and there are 3"):
        PAIRS.only([True] * count)
