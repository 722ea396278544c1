"""Pairs: bad rows are refused, splits share no text."""

import csv
import gzip
import io
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from sbert_lab.datasets.leaks import check_no_leak, find_leaks
from sbert_lab.datasets.pairs import (
    LEAST,
    DataError,
    Pairs,
    plain,
    read_pairs,
    read_table,
    retrieval_from_pairs,
    row_groups,
    split_pairs,
)

GOOD = [
    {"anchor": "heart attack", "positive": "Acute myocardial infarction"},
    {"anchor": "broken wrist", "positive": "Fracture of radius, lower end"},
    {"anchor": "ärztlich", "positive": 'a text, with a comma and "quotes"'},
]


def write(path, rows):
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        quote = lambda v: '"' + str(v).replace('"', '""') + '"'  # noqa: E731
        lines = [mark.join(rows[0])]
        lines += [mark.join(quote(v) for v in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(params=["csv", "tsv", "jsonl", "parquet"])
def path(request, tmp_path):
    return tmp_path / f"pairs.{request.param}"


def test_every_format_is_read_and_checked(path):
    rows = [row | {"negative": f"no {i}", "label": i / 2} for i, row in enumerate(GOOD)]
    pairs = read_pairs(write(path, rows))
    assert list(pairs.anchor) == [row["anchor"] for row in GOOD]
    assert list(pairs.positive) == [row["positive"] for row in GOOD]
    assert pairs.negative == ("no 0", "no 1", "no 2")
    assert pairs.label == (0.0, 0.5, 1.0)
    first = pairs.rows[0]
    assert first == (2 if path.suffix in (".csv", ".tsv") else 1)  # below the header
    bad = {"anchor": "Heart  ATTACK", "positive": "acute myocardial infarction"}
    with pytest.raises(
        DataError, match=f"row {first + 3}: the same pair as row {first}"
    ):
        read_pairs(write(path, [*GOOD, bad]))
    with pytest.raises(DataError, match=f"row {first + 3}, column 'anchor': .* empty"):
        read_pairs(write(path, [*GOOD, {"anchor": "  ", "positive": "x"}]))
    with pytest.raises(DataError, match=f"row {first}, column 'label': .*'high'"):
        read_pairs(write(path, [row | {"label": "high"} for row in GOOD]))
    with pytest.raises(DataError, match="'positive' is missing; the file has 'anchor'"):
        read_pairs(write(path, [{"anchor": "a"}]))


def test_own_column_names_and_further_columns(path):
    rows = [{"q": r["anchor"], "a": r["positive"], "source": "x"} for r in GOOD]
    pairs = read_pairs(write(path, rows), columns={"anchor": "q", "positive": "a"})
    assert pairs.anchor[0] == "heart attack"
    assert pairs.negative is pairs.label is None
    with pytest.raises(DataError, match="'q' is no role"):
        read_pairs(path)
    with pytest.raises(DataError, match="one column has two roles"):
        read_pairs(path, columns={"anchor": "q", "positive": "q"})


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("p.csv", b"anchor,positive\nfine,fine\nx,K\xf6rper\n", "row 3: byte 0xf6"),
        ("p.csv", b"anchor,positive\na,b, and c\n", "row 2: more cells"),
        ("p.csv", b'anchor,positive\n\n"two\nlines",b\n\nc,\n', "row 5, .*empty"),
        ("p.csv", b'anchor,positive\nf,f\n"5 inch\nb,c', "row 3: .*doubled"),
        ("p.csv", b"anchor,anchor\na,b\n", "occurs twice"),
        ("p.csv", b"anchor,positive\n", "no rows"),
        ("p.jsonl", b'{"anchor": "a", "positive": "b"}\n{"a": \n', "row 2: no JSON"),
        ("p.jsonl", b'\n{"anchor": "a"}\n[1]\n', "row 3: no JSON"),
        ("p.json", b'[{"anchor": "a"},\n 5]', "row 2: no JSON object: 5"),
        ("p.json", b'[{"anchor": "a"},\n\n{]', "row 3: no JSON"),
        ("p.jsonl", b"[" * 100_000, "row 1: no JSON"),
        ("p.jsonl", b'{"anchor": "a", "anchor": "b"}', "a name occurs twice"),
        ("p.jsonl", b'{"anchor": "a\\ud800", "positive": "b"}', "row 1, .*half a char"),
        ("p.csv.gz", gzip.compress(b"anchor,positive", mtime=0)[:-9], "readable .gz"),
        ("p.csv", "anchor,positive\na,b".encode("utf-16"), "1: byte 0xff.*CSV UTF"),
        ("p.csv", b"PK\x03\x04\x14\x00", "row 1: byte 0x00 is not UTF-8.*spreadsheet"),
        ("p.csv", b"", "the file is empty"),
        ("p.csv", b"anchor, positive\na,b\n", "did you mean ' positive'"),
        ("p.csv", b"q,a\nx,y\n", "'q' is no role.*with columns=.*--anchor"),
        ("p.csv", b"anchor,,positive,\na,,b,c\n", "more cells than headings"),
        ("p.csv", b"anchor,,positive,,x\na,,b,,c\n", "occurs twice"),
        ("p.csv", b'anchor;positive;label\na;b;"1,0"\n', "such as 0.5, not '1,0'"),
        ("p.csv", b"anchor,positive,label\na,b,inf\n", "row 2, .*label.*'inf'"),
        ("p.csv", b"anchor,positive,label\na,b,1_0\n", "row 2, .*label.*'1_0'"),
        ("p.csv", b"anchor,positive,label\na,b,nan\n", "row 2, .*label.*'nan'"),
        ("p.jsonl", b'{"anchor": 5, "positive": "x"}\n', "row 1, .*int 5"),
        ("p.xlsx", b"", r"give .csv, .*\.parquet"),
        ("p.parquet", b"PAR1 no", "not a readable Parquet"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_by_row(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        read_pairs(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_every_problem_is_counted(tmp_path):
    rows = [{"anchor": "", "positive": str(i)} for i in range(25)]
    with pytest.raises(DataError, match=r"25 problem\(s\)[^…]*… and 15 more") as caught:
        read_pairs(write(tmp_path / "p.jsonl", rows))
    assert len(caught.value.problems) == 25
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_pairs(tmp_path / "none.csv")


def test_marks_of_a_spreadsheet_and_zipped_lines(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('anchor,positive\na "quoted"x,b\n', encoding="utf-8-sig")
    assert read_pairs(path).anchor == ('a "quoted"x',)
    path.write_text(f"anchor,positive\n{'a' * 200_000},b\n")
    assert read_pairs(path).anchor == ("a" * 200_000,)
    zipped = tmp_path / "p.jsonl.gz"
    zipped.write_bytes(gzip.compress(b'{"a": 1}\n\n{"b": "2"}\n'))
    assert read_table(zipped) == (["a", "b"], [(1, {"a": 1}), (3, {"b": "2"})])


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=60)
@given(
    st.sampled_from(",;\t|"),
    st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\n", csv.QUOTE_ALL)]),
    st.sampled_from(["csv", "tsv"]),
    st.lists(st.tuples(texts, texts, texts), max_size=8),
)
def test_what_csv_writes_is_read_back(tmp_path_factory, mark, style, suffix, rows):
    """Whatever the cells hold, and separators in a heading nobody asked for."""
    names = ["question", "an answer", "remarks, if any; or\t|none"]
    file = io.StringIO(newline="")
    end, quoting = style
    writer = csv.writer(file, delimiter=mark, lineterminator=end, quoting=quoting)
    writer.writerows([names, *rows])
    path = tmp_path_factory.getbasetemp() / f"written.{suffix}"
    path.write_bytes(file.getvalue().encode())
    found, records = read_table(path, ["an answer", "Question"])
    assert found == names
    expected = [row for row in rows if any(map(str.strip, row))]
    assert [tuple(record.values()) for _, record in records] == expected


@pytest.mark.parametrize(
    ("name", "content", "anchor"),
    [
        ("p.csv", 'anchor;positive\n"a, b, c";d, e\n1,5;2,5\n', ("a, b, c", "1,5")),
        ("p.csv", "positive\tanchor\tnegative\na, b;\tc, d;\te\n", ("c, d;",)),
        ("p.csv", "anchor,positive,,\na,b,,\n,,,\nc,d,,,,\n , \n", ("a", "c")),
        ("p.csv", '\r\n"anchor",positive\r\n"a\r\nb",c\r\n', ("a\r\nb",)),
        ("p.csv", "anchor,positive\n105 CFU,x\n10⁵ CFU,x\n", ("105 CFU", "10⁵ CFU")),
        ("p.csv.gz", "anchor,positive\na,b\n", ("a",)),
        ("p.jsonl", '\n[{"anchor": "a",\n"positive": "b"}]', ("a",)),
        ("p.json", '{"anchor": "a", "positive": "b\u2028c"}\r', ("a",)),
    ],
)  # fmt: skip
def test_what_spreadsheets_and_programs_write_is_read(tmp_path, name, content, anchor):
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if ".gz" in name else data)
    assert read_pairs(tmp_path / name).anchor == anchor


def test_labels_of_every_kind_of_number(tmp_path):
    path = tmp_path / "p.parquet"
    for labels in ([Decimal("0.50"), Decimal(1)], [True, False], [1, 2]):
        rows = [r | {"label": x} for r, x in zip(GOOD, labels, strict=False)]
        assert read_pairs(write(path, rows)).label == tuple(map(float, labels))
    for label in (None, float("nan")):
        with pytest.raises(DataError, match="column 'label': a label must be a number"):
            read_pairs(write(path, [r | {"label": label} for r in GOOD]))
    parquet.write_table(pa.table([["a"], ["b"]], names=["anchor", "anchor"]), path)
    with pytest.raises(DataError, match="not a readable"):
        read_pairs(path)


def test_which_texts_are_the_same():
    """In the dedupe, the leak check, the groups of a split, and what is relevant."""
    for one, other, same in (
        ("10⁵ CFU/ml", "105 CFU/ml", False),
        ("½ tablet", "1⁄2 tablet", False),
        ("é\u00a0x", "E\u0301  X", True),
        ("Straße \u212b", "STRASSE å", True),
    ):
        pairs = pairs_of([(one, "a"), (other, "b"), ("c", "d")])
        assert (plain(one) == plain(other)) is same
        assert (len(set(row_groups(pairs).tolist())) == 2) is same
        assert (len(retrieval_from_pairs(pairs).queries) == 2) is same
        assert bool(find_leaks([[one]], [[other]])) is same


# Splitting


def pairs_of(rows, negative=None):
    anchor, positive = zip(*rows, strict=True)
    return Pairs(tuple(anchor), tuple(positive), negative)


def naive_groups(pairs):
    """Colour the rows, each with all that can be reached from it."""
    texts = [
        {plain(a), plain(p)} for a, p in zip(pairs.anchor, pairs.positive, strict=True)
    ]
    colour = {}
    for start in range(len(texts)):
        if start in colour:
            continue
        number, waiting = len(set(colour.values())), [start]
        while waiting:
            row = waiting.pop()
            if row not in colour:
                colour[row] = number
                waiting += [r for r in range(len(texts)) if texts[r] & texts[row]]
    return [colour[row] for row in range(len(texts))]


words = st.sampled_from([f"w{i}" for i in range(25)] + ["W3", " w4 ", "w 5", "w  5"])


@settings(max_examples=50)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=30))
def test_groups_are_what_hangs_together(rows):
    pairs = pairs_of(rows)
    assert row_groups(pairs).tolist() == naive_groups(pairs)


@settings(max_examples=40)
@given(st.integers(60, 200), st.integers(1, 60), st.floats(0.1, 0.5), st.integers(0, 9))
def test_no_text_is_on_both_sides(count, answers, share, seed):
    rng = np.random.default_rng(seed)
    rows = [(f"q{i}", f"a{rng.integers(answers * 3)}") for i in range(count)]
    pairs = pairs_of(rows)
    try:
        train, test = split_pairs(pairs, share, seed)
    except DataError:
        sizes = np.bincount(row_groups(pairs))
        wanted = max(LEAST, round(share * count))
        assert count < wanted + LEAST or sizes.max() > 1
        return
    assert sorted(train + test) == list(range(count))
    assert LEAST <= len(test) <= max(LEAST, round(share * count))
    check_no_leak(pairs.pick(train), pairs.pick(test))


def test_a_split_follows_its_seed_and_keeps_its_share():
    shared = ("a negative for all ties nothing together",) * 500
    pairs = pairs_of([(f"q{i}", f"a{i}") for i in range(500)], shared)
    first = split_pairs(pairs, 0.2, seed=1)
    assert first == split_pairs(pairs, 0.2, seed=1)
    assert first != split_pairs(pairs, 0.2, seed=2)
    assert len(first[1]) == 100
    assert list(first[1]) == sorted(first[1])
    assert max(first[1]) > 300  # drawn, not cut off


def test_a_large_group_goes_to_training_or_is_refused():
    one = [(f"q{i}", "the one answer") for i in range(60)]
    others = [(f"r{i}", f"b{i}") for i in range(60)]
    _, test = split_pairs(pairs_of([*one, *others]), 0.3)
    assert len(test) == 36
    assert min(test) >= 60
    with pytest.raises(DataError, match="60 of 70 rows hang together.* 10 pairs"):
        split_pairs(pairs_of([*one, *others[:10]]))
    with pytest.raises(DataError, match="39 pairs are too few to train on 20 and test"):
        split_pairs(pairs_of(others[:39]))
    assert len(split_pairs(pairs_of(others[:40]))[1]) == 20
    for share in (0, 1, -0.1, 1.5, "a"):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split_pairs(pairs_of(others[:40]), share)


# Searching


@settings(max_examples=50)
@given(st.lists(st.tuples(words, words), min_size=2, max_size=20), st.booleans())
def test_a_search_is_what_the_pairs_say(rows, with_negatives):
    negative = tuple(f"n{i % 3}" for i in range(len(rows))) if with_negatives else None
    pairs = pairs_of(rows, negative)
    groups = naive_groups(pairs)
    try:
        search = retrieval_from_pairs(pairs)
    except DataError:
        answers = {plain(p) for p in (*pairs.positive, *(negative or ()))}
        assert len(set(groups)) < 2 or len(answers) < 2
        return
    asked, found = list(map(plain, search.queries)), list(map(plain, search.corpus))
    # In the order in which they first occur, as first written.
    assert asked == list(dict.fromkeys(plain(a) for a, _ in rows))
    assert found == list(
        dict.fromkeys(plain(p) for p in (*pairs.positive, *(negative or ())))
    )
    assert set(search.queries) <= set(pairs.anchor)
    for query, relevant, group in zip(
        asked, search.relevant, search.group, strict=True
    ):
        own = [i for i, (anchor, _) in enumerate(rows) if plain(anchor) == query]
        assert {found[i] for i in relevant} == {plain(rows[i][1]) for i in own}
        assert len(set(relevant)) == len(relevant)
        assert {groups[i] for i in own} == {group}


def test_a_corpus_of_its_own_must_hold_the_answers():
    pairs = pairs_of([("q", "A  b"), ("r", "c"), ("Q ", "d")])
    search = retrieval_from_pairs(pairs, ["x", "d", "a B", "D", "c"])
    assert search.queries == ("q", "r")
    assert search.corpus == ("x", "d", "a B", "c")
    assert search.relevant == ((2, 1), (3,))
    with pytest.raises(DataError, match="row 2: 'c' is not in the corpus"):
        retrieval_from_pairs(pairs, ["d", "a b"])
    graded = Pairs(pairs.anchor, pairs.positive, label=(0.0, 1.0, 1.0))
    with pytest.raises(DataError, match="labels go from 0 to 1"):
        retrieval_from_pairs(graded)
