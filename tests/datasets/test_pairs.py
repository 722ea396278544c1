"""Every kind of bad file gets an error with its file, row and column."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from sbert_lab.datasets.pairs import DataError, check_no_leak, read_pairs

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


def test_good_file_in_every_format(path):
    pairs = read_pairs(write(path, GOOD))
    assert list(pairs.anchor) == [row["anchor"] for row in GOOD]
    assert list(pairs.positive) == [row["positive"] for row in GOOD]
    assert pairs.negative is None
    assert pairs.label is None
    assert len(pairs) == 3


def test_negative_and_label(path):
    rows = [row | {"negative": f"no {i}", "label": i / 2} for i, row in enumerate(GOOD)]
    pairs = read_pairs(write(path, rows))
    assert pairs.negative == ("no 0", "no 1", "no 2")
    assert pairs.label == (0.0, 0.5, 1.0)


def test_own_column_names_and_further_columns(path):
    rows = [{"q": r["anchor"], "a": r["positive"], "source": "x"} for r in GOOD]
    pairs = read_pairs(write(path, rows), columns={"anchor": "q", "positive": "a"})
    assert pairs.anchor[0] == "heart attack"
    with pytest.raises(DataError, match="column 'q' has no role"):
        read_pairs(path)


def refused(path, rows, *parts, columns=None):
    with pytest.raises(DataError) as caught:
        read_pairs(write(path, rows), columns)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    return caught.value


def first_row(path):
    return 2 if path.suffix in (".csv", ".tsv") else 1


def test_missing_column(path):
    rows = [{"anchor": row["anchor"]} for row in GOOD]
    refused(path, rows, "'positive' is missing", "'anchor'")


def test_empty_text(path):
    rows = [*GOOD, {"anchor": "  ", "positive": "x"}]
    refused(path, rows, f"row {first_row(path) + 3}", "'anchor'", "empty")


def test_wrong_type(tmp_path):
    rows = [GOOD[0], {"anchor": 5, "positive": "x"}, {"anchor": None, "positive": "y"}]
    error = refused(tmp_path / "p.jsonl", rows, "row 2", "'anchor'", "int 5")
    assert "row 3" in error.problems[1]
    rows = [{"anchor": 5, "positive": "x"}]
    refused(tmp_path / "p.parquet", rows, "row 1", "'anchor'", "int 5")


def test_label_that_is_no_number(path):
    rows = [row | {"label": "high"} for row in GOOD]
    refused(path, rows, f"row {first_row(path)}", "'label'", "'high'")


def test_repeated_pair_ignoring_case_and_spacing(path):
    again = {"anchor": "Heart  ATTACK", "positive": "acute myocardial infarction"}
    refused(
        path, [*GOOD, again], f"row {first_row(path) + 3}", f"row {first_row(path)}"
    )


def test_wrong_encoding_names_the_row(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes("anchor,positive\nfine,fine\nx,Körper\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"row 3, about column 2: byte 0xf6 .*UTF-8"):
        read_pairs(path)


def test_byte_order_mark_of_a_spreadsheet(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("anchor,positive\na,b\n", encoding="utf-8-sig")
    assert read_pairs(path).anchor == ("a",)


def test_unquoted_comma(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("anchor,positive\na,b, and c\n")
    with pytest.raises(DataError, match="row 2, column 3: 3 cells under 2 .*quotes"):
        read_pairs(path)


def test_semicolons(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("anchor;positive\na;b\n")
    with pytest.raises(DataError, match="with commas"):
        read_pairs(path)


def test_broken_json_line(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"anchor": "a", "positive": "b"}\n{"anchor": \n[1]\n')
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    assert "row 2, column" in caught.value.problems[0]
    assert "row 3" in caught.value.problems[1]


def test_empty_unknown_broken_and_missing_files(tmp_path):
    empty = tmp_path / "p.csv"
    empty.write_text("")
    with pytest.raises(DataError, match="empty"):
        read_pairs(empty)
    empty.write_text("anchor,positive\n")
    with pytest.raises(DataError, match="no rows"):
        read_pairs(empty)
    (tmp_path / "p.xlsx").touch()
    with pytest.raises(DataError, match=r"\.parquet"):
        read_pairs(tmp_path / "p.xlsx")
    (tmp_path / "p.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not a readable Parquet"):
        read_pairs(tmp_path / "p.parquet")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_pairs(tmp_path / "none.csv")
    with pytest.raises(DataError, match="role 'query'"):
        read_pairs(empty, columns={"query": "q"})


def test_every_problem_is_counted(tmp_path):
    rows = [{"anchor": "", "positive": str(i)} for i in range(25)]
    error = refused(tmp_path / "p.jsonl", rows, "25 problem(s)", "and 15 more")
    assert len(error.problems) == 25


def test_same_text_in_train_and_test(tmp_path):
    train = read_pairs(write(tmp_path / "train.csv", GOOD))
    other = [{"anchor": "flu", "positive": "Influenza"}]
    check_no_leak(train, read_pairs(write(tmp_path / "test.csv", other)))
    leak = [*other, {"anchor": "new", "positive": "acute  myocardial INFARCTION"}]
    with pytest.raises(DataError) as caught:
        check_no_leak(train, read_pairs(write(tmp_path / "test.csv", leak)))
    message = str(caught.value)
    assert "test.csv, row 3, column 'positive'" in message
    assert "train.csv, row 2, column 'positive'" in message


def test_rows_are_numbered_as_an_editor_does(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('anchor,positive\n\n"two\nlines",b\n\nc,\n')
    with pytest.raises(DataError, match="row 6, column 'positive'.*empty"):
        read_pairs(path)


@pytest.mark.parametrize("cell", ['"5 inch\nb,c', 'a "quoted"x,b', '"say"no,b'])
def test_broken_quotes(tmp_path, cell):
    path = tmp_path / "p.csv"
    path.write_text(f"anchor,positive\nfine,fine\n{cell}\nd,e\n")
    if cell.startswith("a "):  # quotes inside an unquoted cell are just text
        assert read_pairs(path).anchor[1] == 'a "quoted"x'
        return
    with pytest.raises(DataError, match=r"p\.csv, row 3: .*doubled"):
        read_pairs(path)


def test_cell_too_long_for_the_reader(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f"anchor,positive\nfine,{'x' * 200_000}\n")
    with pytest.raises(DataError, match="row 2: field larger"):
        read_pairs(path)


def test_one_column_in_two_roles(tmp_path):
    path = write(tmp_path / "p.csv", GOOD)
    with pytest.raises(DataError, match="two roles"):
        read_pairs(path, columns={"anchor": "anchor", "positive": "anchor"})


def test_leak_in_another_unicode_form(tmp_path):
    one = {"anchor": "caf\u00e9", "positive": "x"}
    other = {"anchor": "CAFE\u0301", "positive": "y"}
    train = read_pairs(write(tmp_path / "a.jsonl", [one]))
    test = read_pairs(write(tmp_path / "b.jsonl", [other]))
    with pytest.raises(DataError, match="is also in"):
        check_no_leak(train, test)
