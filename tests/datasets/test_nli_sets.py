"""SICK's entailment, the sample of SNLI, AllNLI, and the triplets made of them."""

import gzip
import json
from collections import Counter
from fnmatch import fnmatch

import numpy as np
import pytest
from huggingface_hub import constants

from sbert_lab.datasets.nli import (
    LABELS,
    Inference,
    all_nli,
    authored,
    nli_triplets,
    sick_entailment,
    snli_sample,
)
from sbert_lab.models.registry import BY_NAME, ENTRIES, data_home, resolve

HEADER = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"
SICK = [
    "1\tA cat sat\tA cat is sitting\t4.5\tENTAILMENT",
    '4\tA cat sat\tA "cat stood\t3.2\tCONTRADICTION',
    "9\tZwölf Äpfel\tA cat sat\t1\tNEUTRAL",
]
SICK_READ = [
    ("A cat sat", "A cat is sitting", "entailment"),
    ("A cat sat", 'A "cat stood', "contradiction"),
    ("Zwölf Äpfel", "A cat sat", "neutral"),
]
ROWS = [("A cat sat.", "It sat.", 0), ("Äpfel", "Red ones.", 1), ("A dog", "A cat", 2)]
ROWS_READ = [(*texts, LABELS[number]) for *texts, number in ROWS]
MORE = [("A dog", "An animal", 0)]


def write_lines(path, rows):
    path.write_bytes(lines(rows))


def write_gzip(path, rows):
    path.write_bytes(gzip.compress(lines(rows)))


def lines(rows):
    keys = ("premise", "hypothesis", "label")
    parts = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    return ("\n".join(parts) + "\n").encode()


def write_parquet(path, rows):
    import pyarrow as pa
    from pyarrow import parquet

    premise, hypothesis, label = zip(*rows, strict=True)
    columns = {"premise": premise, "hypothesis": hypothesis, "label": label}
    parquet.write_table(pa.table(columns), path)


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


@pytest.fixture
def snapshot(own, tmp_path):
    """Make a folder laid out as the hub's cache."""

    def make(name):
        entry = BY_NAME[name]
        repository = tmp_path / "hub" / f"datasets--{entry.hub.replace('/', '--')}"
        folder = repository / "snapshots" / entry.revision
        folder.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(entry.revision)
        return folder

    return make


@pytest.fixture
def subset(own):
    """Make the folder of AllNLI's pairs in the reader's own data."""
    return own("all-nli/pair-class")


def needs(name):
    home = data_home()
    if home is None or not (home / name).is_dir():
        pytest.skip(f"{name} is not here: set SBERT_LAB_DATA_HOME")


# SICK


def test_sick_sizes_and_labels():
    needs("sick")
    counted = {
        split: Counter(pair.label for pair in sick_entailment(split))
        for split in ("train", "trial", "test")
    }
    assert counted == {
        "train": {"entailment": 1299, "neutral": 2536, "contradiction": 665},
        "trial": {"entailment": 144, "neutral": 282, "contradiction": 74},
        "test": {"entailment": 1414, "neutral": 2793, "contradiction": 720},
    }
    train, test = (
        {(pair.premise, pair.hypothesis) for pair in sick_entailment(split)}
        for split in ("train", "test")
    )
    assert len(train & test) == 49
    assert sick_entailment("trial")[0] == Inference(
        premise_id="trial-1",
        topic="sick",
        premise="The young boys are playing outdoors and the man is smiling nearby",
        hypothesis="There is no boy playing outdoors and there is no man smiling",
        label="contradiction",
    )


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("split", "file"),
    [
        ("train", "SICK_train.txt"),
        ("trial", "SICK_trial.txt"),
        ("test", "SICK_test_annotated.txt"),
    ],
)
def test_sick_is_read_as_published(own, split, file, ending):
    text = ending.join([HEADER, *SICK, ""])
    (own("sick") / file).write_bytes(text.encode())
    pairs = sick_entailment(split)
    assert read(pairs) == SICK_READ
    assert [p.premise_id for p in pairs] == [f"{split}-{n}" for n in (1, 1, 3)]
    assert {p.topic for p in pairs} == {"sick"}


def test_sick_trains_unless_told():
    needs("sick")
    assert sick_entailment() == sick_entailment("train")


def test_sick_of_the_hub_has_no_entailment(snapshot):
    write_gzip(snapshot("sick") / "test.jsonl.gz", ROWS)
    for split in ("train", "trial", "test"):
        with pytest.raises(FileNotFoundError, match="hub's copy.*no entailment; put"):
            sick_entailment(split)


def test_authors_files_count_beside_the_hubs(own):
    folder = own("sick")
    write_gzip(folder / "test.jsonl.gz", ROWS)
    (folder / "SICK_train.txt").write_text("\n".join([HEADER, *SICK]), "utf-8")
    assert read(sick_entailment("train")) == SICK_READ


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("5\ta\tb\t3\t-", "entailment_judgment '-' is none of entailment, neutral"),
        ("5\ta\tb\t3\t", "entailment_judgment '' is none of"),
        ("5\ta\tb\t3\tENTAILED", "entailment_judgment 'ENTAILED' is none of"),
        ("5\ta\tb\t3", "entailment_judgment None is none of"),
        ("5\ta\tb\t3\tNEUTRAL\tx", "more cells than headings"),
        ("5\ta", "sentence_B is None, not a text"),
    ],
)
def test_bad_row_of_sick_names_file_and_row(own, row, complaint):
    path = own("sick") / "SICK_trial.txt"
    path.write_text("\n".join([HEADER, *SICK[:2], row, SICK[2]]), "utf-8")
    with pytest.raises(ValueError, match=f"SICK_trial.txt, row 4: {complaint}"):
        sick_entailment("trial")


# the sample of SNLI


def test_sample_sizes_and_labels():
    needs("snli-sample")
    dev, test = snli_sample("dev"), snli_sample("test")
    assert Counter(pair.label for pair in dev) == {
        "entailment": 433,
        "neutral": 421,
        "contradiction": 419,
    }
    assert Counter(pair.label for pair in test) == {
        "entailment": 405,
        "neutral": 429,
        "contradiction": 420,
    }
    assert (len(dev), len(test)) == (1273, 1254)
    assert len({p.premise for p in dev} & {p.premise for p in test}) == 2
    assert {(p.premise, p.hypothesis) for p in dev}.isdisjoint(
        (p.premise, p.hypothesis) for p in test
    )
    for pairs in (dev, test):
        assert len({p.premise_id for p in pairs}) == len({p.premise for p in pairs})
        assert len({p.premise for p in pairs}) == 427
    assert dev[1] == Inference(
        premise_id="dev-1",
        topic="snli-sample",
        premise="Two women are embracing while holding to go packages.",
        hypothesis="Two woman are holding packages.",
        label="entailment",
    )
    assert any('"' in pair.hypothesis for pair in dev)


def test_sample_is_read_by_the_names_of_its_columns(own):
    (own("snli-sample") / "dev.tsv").write_text(
        'label\tpremise\thypothesis\nneutral\t"A man\tHe "waits".\n', "utf-8"
    )
    assert read(snli_sample("dev")) == [('"A man', 'He "waits".', "neutral")]


def test_mark_of_disagreement_names_file_and_row(own):
    (own("snli-sample") / "test.tsv").write_text(
        "label\tpremise\thypothesis\nneutral\ta\tb\n-\ta\tc\n", "utf-8"
    )
    with pytest.raises(ValueError, match=r"test\.tsv, row 3: label '-' is none.*take"):
        snli_sample("test")


def test_misnamed_column_is_named(own):
    (own("snli-sample") / "dev.tsv").write_text(
        "gold_label\tpremise\thypothesis\nneutral\ta\tb\n", "utf-8"
    )
    with pytest.raises(ValueError, match=r"dev\.tsv, row 2: no column 'label'; needed"):
        snli_sample("dev")


# AllNLI

FORMS = [
    ("train-00000-of-00001.parquet", write_parquet),
    ("train.jsonl", write_lines),
    ("train.jsonl.gz", write_gzip),
]


@pytest.mark.parametrize(("file", "write"), FORMS)
def test_all_nli_of_your_own_in_every_form(subset, file, write):
    write(subset / file, ROWS)
    pairs = all_nli()
    assert read(pairs) == ROWS_READ
    assert [pair.premise_id for pair in pairs] == ["train-1", "train-2", "train-3"]
    assert {pair.topic for pair in pairs} == {"all-nli"}


def test_all_nli_of_the_hub_is_the_subset_of_classes(snapshot):
    """The other subsets of the same pairs lie beside it, with the same file names."""
    repository = snapshot("all-nli")
    for name in ("pair", "pair-class", "pair-score", "triplet"):
        (repository / name).mkdir()
        for split, rows in (("train", ROWS + MORE), ("dev", MORE), ("test", ROWS)):
            file = repository / name / f"{split}-00000-of-00001.parquet"
            write_parquet(file, rows if name == "pair-class" else [("x", "y", 0)])
    assert [len(all_nli(split)) for split in ("train", "dev", "test")] == [4, 1, 3]
    assert read(all_nli("test")) == ROWS_READ


def test_your_own_all_nli_comes_first(snapshot, own):
    folder = snapshot("all-nli") / "pair-class"
    folder.mkdir()
    write_parquet(folder / "dev-00000-of-00001.parquet", ROWS)
    assert read(all_nli("dev")) == ROWS_READ
    write_lines(own("all-nli/pair-class") / "dev.jsonl", MORE)
    assert read(all_nli("dev")) == [("A dog", "An animal", "entailment")]


def test_pieces_are_joined_and_premises_named_across_them(subset):
    write_parquet(subset / "train-00001-of-00002.parquet", MORE)
    write_parquet(subset / "train-00000-of-00002.parquet", ROWS)
    pairs = all_nli("train")
    assert read(pairs) == [*ROWS_READ, ("A dog", "An animal", "entailment")]
    assert [p.premise_id for p in pairs] == [f"train-{n}" for n in (1, 2, 3, 3)]


@pytest.mark.parametrize(
    ("ending", "write"), [("parquet", write_parquet), ("jsonl", write_lines)]
)
def test_many_pieces_are_in_the_order_of_their_names(subset, ending, write):
    for n in (3, 0, 7, 5, 1, 6, 2, 4):
        file = subset / f"train-0000{n}-of-00008.{ending}"
        write(file, [(f"premise {n}", "hypothesis", 0)])
    assert [p.premise for p in all_nli()] == [f"premise {n}" for n in range(8)]


def test_classes_are_in_the_order_of_the_hub():
    assert LABELS == ("entailment", "neutral", "contradiction")


def test_draw_is_seeded_in_order_and_without_repetition(subset):
    rows = [(f"premise {n // 2}", f"hypothesis {n}", n % 3) for n in range(60)]
    write_parquet(subset / "train-00000-of-00001.parquet", rows)
    whole = all_nli("train")
    place = {pair: n for n, pair in enumerate(whole)}
    draws = [all_nli("train", rows=20, seed=seed) for seed in range(20)]
    for drawn in draws:
        places = [place[pair] for pair in drawn]  # with the whole set's premise_id
        assert places == sorted(set(places))
        assert len(places) == 20
    assert draws[0] == all_nli("train", rows=20) == all_nli("train", 20, 0)
    assert len(set(draws)) == 20
    assert set().union(*draws) == set(whole)
    assert all_nli("train", rows=60) == whole


@pytest.mark.parametrize("rows", [0, -1, 4])
def test_draw_of_more_or_less_than_there_is(subset, rows):
    write_lines(subset / "dev.jsonl", ROWS)
    with pytest.raises(ValueError, match=f"rows={rows}: 1 to 3, or None"):
        all_nli("dev", rows=rows)


@pytest.mark.parametrize("number", [-1, 3])
@pytest.mark.parametrize(("file", "write"), FORMS)
def test_class_number_out_of_range_names_file_and_row(subset, file, write, number):
    write(subset / file, [*ROWS, ("a", "b", number)])
    with pytest.raises(ValueError, match=f"{file}, row 4: label {number} is none of"):
        all_nli("train", rows=1)


@pytest.mark.parametrize("label", ["-", "0", True, 1.0, None, [1]])
def test_what_is_no_class_number_is_refused(subset, label):
    write_lines(subset / "test.jsonl", [*ROWS, ("a", "b", label)])
    with pytest.raises(ValueError, match=r"test\.jsonl, row 4: label .* is none of"):
        all_nli("test")


def test_row_of_a_later_piece_is_named_with_its_file(subset):
    write_parquet(subset / "dev-00000-of-00002.parquet", ROWS)
    write_parquet(subset / "dev-00001-of-00002.parquet", [("a", "b", 7)])
    with pytest.raises(ValueError, match="dev-00001-of-00002.parquet, row 1: label 7"):
        all_nli("dev")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"premise": "a", "label": 0}', "no column 'hypothesis'"),
        ('{"premise": null, "hypothesis": "b", "label": 0}', "premise is None, not a"),
        ('{"premise": "a", "hypothesis": 5, "label": 0}', "hypothesis is 5, not a"),
        ('{"premise": "a", ', "Expecting"),
    ],
)
def test_broken_line_names_file_and_row(subset, line, complaint):
    text = lines(ROWS).decode() + "\n" + line + "\n"  # the empty line counts
    (subset / "dev.jsonl").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=rf"dev\.jsonl, row 5: {complaint}"):
        all_nli("dev")


def test_only_the_subset_that_is_read_is_fetched(own, monkeypatch):
    asked = {}

    def snapshot_download(repository, **options):
        asked[repository] = options
        raise OSError("no network in tests")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for name in ("all-nli", "stsb"):
        with pytest.raises(FileNotFoundError, match=f"{name} is not on this machine"):
            resolve(name)
    assert asked["sentence-transformers/all-nli"]["allow_patterns"] == [
        "pair-class/*.parquet"
    ]
    assert "*.jsonl.gz" in asked["mteb/stsbenchmark-sts"]["allow_patterns"]
    for entry in ENTRIES:
        for file in ("pair-class/data.pkl", "pair-class/read.py", "model.bin"):
            assert not any(fnmatch(file, pattern) for pattern in entry.files)


# what is not there


@pytest.mark.parametrize(
    ("reader", "split", "known"),
    [
        (sick_entailment, "dev", "'train' or 'trial' or 'test'"),
        (sick_entailment, "all", "'train' or 'trial' or 'test'"),
        (snli_sample, "train", "'dev' or 'test'"),
        (all_nli, "validation", "'train' or 'dev' or 'test'"),
    ],
)
def test_unknown_split_says_which_there_are(own, reader, split, known):
    with pytest.raises(ValueError, match=f"split='{split}': {known}"):
        reader(split)


@pytest.mark.parametrize(
    ("reader", "name", "remedy"),
    [
        (sick_entailment, "sick", "put the SICK_"),
        (snli_sample, "snli-sample", "put dev.tsv and test.tsv"),
        (all_nli, "all-nli", "a network.* pair-class"),
    ],
)
def test_absent_set_says_what_to_do(own, reader, name, remedy):
    with pytest.raises(FileNotFoundError, match=f"{name} is not on.*{remedy}.*README"):
        reader("test")
    own(name)
    with pytest.raises(FileNotFoundError, match=f"{remedy}.*README"):
        reader("test")


def test_split_that_is_missing_says_what_to_do(subset):
    write_lines(subset / "dev.jsonl", ROWS)
    with pytest.raises(FileNotFoundError, match="no file for the split 'train'.*put"):
        all_nli("train")


# triplets


def naive_triplets(pairs):
    """Return the triplets of a premise by looking at all pairs, again and again."""
    result = []
    for number, pair in enumerate(pairs):
        if any(other.premise == pair.premise for other in pairs[:number]):
            continue
        mine = [other for other in pairs if other.premise == pair.premise]
        yes = [other.hypothesis for other in mine if other.label == "entailment"]
        no = [other.hypothesis for other in mine if other.label == "contradiction"]
        for i in range(min(len(yes), len(no))):
            result.append((pair.premise, yes[i], no[i]))
    return result


def inference(premise, hypothesis, label):
    return Inference(hypothesis, "topic", premise, hypothesis, label)


def test_triplets_by_hand():
    pairs = [
        inference("p", "p yes 1", "entailment"),
        inference("q", "q no 1", "contradiction"),
        inference("p", "p maybe", "neutral"),
        inference("p", "p no 1", "contradiction"),
        inference("r", "r yes", "entailment"),
        inference("p", "p yes 2", "entailment"),
        inference("q", "q yes 1", "entailment"),
        inference("q", "q no 2", "contradiction"),
        inference("p", "p no 2", "contradiction"),
        inference("p", "p yes 3", "entailment"),
        inference("s", "s maybe", "neutral"),
    ]
    assert nli_triplets(pairs) == [
        ("p", "p yes 1", "p no 1"),
        ("p", "p yes 2", "p no 2"),
        ("q", "q yes 1", "q no 1"),
    ]
    assert nli_triplets([]) == []
    assert nli_triplets(pairs[:3]) == []


@pytest.mark.parametrize("seed", range(30))
def test_triplets_are_those_of_a_naive_search(seed):
    rng = np.random.default_rng(seed)
    pairs = [
        inference(f"premise {rng.integers(8)}", f"{n}", LABELS[rng.integers(3)])
        for n in range(rng.integers(60))
    ]
    assert nli_triplets(pairs) == naive_triplets(pairs)


def test_each_authored_premise_gives_one_triplet():
    triplets = nli_triplets(authored())
    assert len(triplets) == 400
    assert triplets == naive_triplets(authored())


@pytest.mark.parametrize(
    ("name", "reader", "split", "count"),
    [
        ("snli-sample", snli_sample, "dev", 381),
        ("snli-sample", snli_sample, "test", 366),
        ("sick", sick_entailment, "trial", 2),
        ("sick", sick_entailment, "test", 145),
        ("sick", sick_entailment, "train", 114),
    ],
)
def test_triplets_of_real_sets(name, reader, split, count):
    needs(name)
    triplets = nli_triplets(reader(split))
    assert len(triplets) == count
    if len(reader(split)) < 2000:
        assert triplets == naive_triplets(reader(split))
