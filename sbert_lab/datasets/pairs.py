"""Your own pairs: CSV, TSV, JSONL or Parquet, checked row by row before any use.

A training run that meets a bad row after an hour, or a test set that leaks into the
training data, costs more than this file. Every problem is reported at once, with the
file, the row and the column, and nothing is dropped or repaired in silence.

Rows are numbered as an editor numbers lines: the header of a CSV is row 1, and a record
of several lines has the number of its first.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Roles a column can play; the first two must be there.
TEXT_ROLES = ("anchor", "positive", "negative")
ROLES = (*TEXT_ROLES, "label")
REQUIRED = ("anchor", "positive")

_SHOWN = 10  # problems listed in the message; the rest are counted


class DataError(ValueError):
    """A data file is not usable; `problems` holds every reason, one a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        rest = len(problems) - _SHOWN
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  … and {rest} more" if rest > 0 else ""
        super().__init__(f"{len(problems)} problem(s):\n{shown}{more}")


@dataclass(frozen=True)
class Pairs:
    """Texts by role, row by row.

    Parameters
    ----------
    anchor, positive
        Texts that belong together, e.g. a query and its document.
    negative
        A text that does not belong, or None if the file has none.
    label
        A number for each row, or None.
    source
        The file.
    rows
        The file's own row numbers, for messages.
    """

    anchor: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...] | None
    label: tuple[float, ...] | None
    source: Path
    rows: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.anchor)


def read_pairs(path: str | Path, columns: Mapping[str, str] | None = None) -> Pairs:
    """Read and check a file of pairs.

    Parameters
    ----------
    path
        ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``, in UTF-8.
    columns
        Role to column name, e.g. ``{"anchor": "question", "positive": "answer"}``.
        Without it the columns must be called ``anchor`` and ``positive``, and may be
        called ``negative`` and ``label``. Other columns are ignored only when
        `columns` is given; else they are an error, for a misspelt ``negative`` would
        be lost without a word.

    Raises
    ------
    DataError
        With every problem: missing column, empty text, wrong type, wrong encoding,
        repeated pair.
    FileNotFoundError
        No such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    wanted = dict(columns) if columns else {role: role for role in ROLES}
    unknown = sorted(wanted.keys() - set(ROLES))
    if unknown:
        raise DataError([f"{path}: role {unknown[0]!r} is none of {', '.join(ROLES)}"])
    if len(set(wanted.values())) < len(wanted):
        raise DataError([f"{path}: one column has two roles: {wanted}"])
    names, records = read_table(path)
    used = {role: name for role, name in wanted.items() if name in names}
    needed = set(REQUIRED) | (set(columns) if columns else set())
    problems = [
        f"{path}: column {wanted.get(role, role)!r} is missing; the file has "
        f"{', '.join(map(repr, names)) or 'no columns'}{_separator_hint(names)}"
        for role in ROLES
        if role in needed and role not in used
    ]
    if not columns:
        problems += [
            f"{path}: column {name!r} has no role; name the roles with columns=…, or "
            f"rename it to one of {', '.join(ROLES)}"
            for name in names
            if name not in ROLES
        ]
    if problems:
        raise DataError(problems)
    return _checked(path, used, records)


def check_no_leak(train: Pairs, test: Pairs) -> None:
    """Refuse two files that share a text: the score on the second would be a memory.

    Texts are compared without regard to case and spacing.

    Raises
    ------
    DataError
        With both places of every shared text.
    """
    first_seen: dict[str, tuple[int, str]] = {}
    for row, role, text in _texts(train):
        first_seen.setdefault(plain(text), (row, role))
    problems = []
    for row, role, text in _texts(test):
        if (seen := first_seen.get(plain(text))) is not None:
            problems.append(
                f"{test.source}, row {row}, column {role!r}: {text[:60]!r} is also in "
                f"{train.source}, row {seen[0]}, column {seen[1]!r}; keep it on one "
                "side only"
            )
    if problems:
        raise DataError(problems)


def _checked(
    path: Path, used: dict[str, str], records: Iterator[tuple[int, dict[str, Any]]]
) -> Pairs:
    problems: list[str] = []
    kept: dict[str, list[Any]] = {role: [] for role in used}
    rows: list[int] = []
    seen: dict[tuple[str, ...], int] = {}
    for row, record in records:
        values: dict[str, Any] = {}
        for role, name in used.items():
            where = f"{path}, row {row}, column {name!r}"
            value, problem = _value(role, record.get(name))
            values[role] = value
            if problem:
                problems.append(f"{where}: {problem}")
        key = tuple(plain(str(values.get(role, ""))) for role in TEXT_ROLES)
        if key in seen:
            problems.append(
                f"{path}, row {row}, columns {used['anchor']!r} and "
                f"{used['positive']!r}: the same pair as row {seen[key]}; drop one"
            )
        elif all(key[:2]):
            seen[key] = row
        rows.append(row)
        for role, value in values.items():
            kept[role].append(value)
    if not rows:
        problems.append(f"{path}: there are no rows")
    if problems:
        raise DataError(problems)
    return Pairs(
        anchor=tuple(kept["anchor"]),
        positive=tuple(kept["positive"]),
        negative=tuple(kept["negative"]) if "negative" in kept else None,
        label=tuple(kept["label"]) if "label" in kept else None,
        source=path,
        rows=tuple(rows),
    )


def _value(role: str, value: object) -> tuple[object, str]:
    """Return a cell's value and what is wrong with it, or an empty string."""
    if role == "label":
        try:
            number = float(value) if isinstance(value, str | int | float) else None
        except ValueError:
            number = None
        if number is None or number != number:
            return value, f"a label must be a number, not {value!r}"
        return number, ""
    if value is None:
        return "", "the cell is missing"
    if not isinstance(value, str):
        return str(value), f"a text, not {type(value).__name__} {value!r}"
    if not value.strip():
        return "", "the text is empty"
    return value, ""


def read_table(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    """Return the column names of a file, and (row number, record) one by one."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _parquet(path)
    if kind in (".csv", ".tsv"):
        return _csv(path, "\t" if kind == ".tsv" else ",")
    if kind == ".jsonl":
        return _jsonl(path)
    raise DataError(
        [f"{path}: {kind or 'no'} suffix; give .csv, .tsv, .jsonl, .parquet"]
    )


def read_utf8(path: Path) -> str:
    """Return the text of a file, or say where it is not UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        line = content[: error.start].rsplit(b"\n", 1)[-1]
        column = line.count(b"\t" if path.suffix == ".tsv" else b",") + 1
        raise DataError(
            [
                f"{path}, row {row}, about column {column}: byte "
                f"0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8 "
                "(in a spreadsheet: “CSV UTF-8”)"
            ]
        ) from error


def _csv(
    path: Path, separator: str
) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    table = list(_csv_rows(path, separator))
    if not table:
        raise DataError([f"{path}: the file is empty"])
    names = table[0][1]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError([f"{path}, row 1: column {twice[0]!r} occurs twice"])
    long = [
        f"{path}, row {number}, column {len(row)}: {len(row)} cells under {len(names)} "
        "headings; put quotes around a text that holds the separator"
        for number, row in table[1:]
        if len(row) > len(names)
    ]
    if long:
        raise DataError(long)
    records = (
        (number, dict(zip(names, row, strict=False))) for number, row in table[1:]
    )
    return names, records


def _csv_rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line on which it begins."""
    text = io.StringIO(read_utf8(path), newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                [
                    f"{path}, row {begins}: {error}; a text with quotes or separators "
                    'in it stands in quotes, and its own quotes are doubled ("")'
                ]
            ) from error
        if row:
            yield begins, row


def _jsonl(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    records: list[tuple[int, dict[str, Any]]] = []
    problems: list[str] = []
    for row, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            problems.append(f"{path}, row {row}, column {error.colno}: {error.msg}")
            continue
        if isinstance(value, dict):
            records.append((row, value))
        else:
            problems.append(f"{path}, row {row}: an object {{…}}, not {value!r}")
    if problems:
        raise DataError(problems)
    names = list(dict.fromkeys(name for _, record in records for name in record))
    return names, iter(records)


def _parquet(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError([f"{path}: not a readable Parquet file ({error})"]) from error
    return list(table.column_names), enumerate(table.to_pylist(), 1)


def _separator_hint(names: Sequence[str]) -> str:
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        return "; separate the columns with commas, or use .tsv for tabs"
    return ""


def _texts(pairs: Pairs) -> Iterator[tuple[int, str, str]]:
    """Yield (row, role, text) for every text."""
    for role in TEXT_ROLES:
        for row, text in zip(pairs.rows, getattr(pairs, role) or (), strict=False):
            yield row, role, text


def plain(text: str) -> str:
    """Return a text without what does not make it another one: case, spacing, form."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
