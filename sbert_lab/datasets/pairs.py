"""Pairs of texts: reading a file, splitting it without leaks, and searches of them.

Every problem of a file is reported at once, with its row and column. Rows are numbered
as an editor numbers lines: the header of a CSV is row 1, and a record of several lines
has the number of its last. Those of Parquet and of a JSON array are counted from 1.
"""

import csv
import gzip
import io
import json
import logging
import math
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbert_lab._utils import project_root

log = logging.getLogger(__name__)

#: Roles a column can play; the first two must be there.
TEXT_ROLES = ("anchor", "positive", "negative")
ROLES = (*TEXT_ROLES, "label")

#: Fewer pairs than this teach, or measure, next to nothing.
LEAST = 20

#: The number and the content of each row; a table has column names before them.
Records = list[tuple[int, dict[str, Any]]]
Table = tuple[list[str], Records]


class DataError(ValueError):
    """A data file is not usable; `problems` holds every reason, one a line."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        shown = [f"{len(self.problems)} problem(s):", *self.problems[:10]]
        if more := self.problems[10:]:
            shown.append(f"… and {len(more)} more")
        super().__init__("\n  ".join(shown))


@dataclass(frozen=True)
class Pairs:
    """Texts by role: an `anchor` and its `positive` belong together, a `negative` not.

    `rows` are the row numbers of the file `source`, for messages.
    """

    anchor: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...] | None = None
    label: tuple[float, ...] | None = None
    source: Path = Path("pairs")
    rows: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Count the rows from 1 where no file does it."""
        if not self.rows:
            object.__setattr__(self, "rows", tuple(range(1, len(self) + 1)))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.anchor)

    def pick(self, rows: Sequence[int]) -> "Pairs":
        """Return some rows, counted from 0, with the numbers that an editor shows."""
        picked: dict[str, Any] = {
            name: tuple(column[row] for row in rows)
            for name in (*ROLES, "rows")
            if (column := getattr(self, name)) is not None
        }
        return replace(self, **picked)

    def texts(self) -> Iterator[tuple[int, str, str]]:
        """Yield (file's row, role, text) for every text."""
        for role in TEXT_ROLES:
            for row, text in zip(self.rows, getattr(self, role) or (), strict=False):
                yield row, role, text


def plain(text: str) -> str:
    """Return a text without what does not make it another one: case, spacing, form.

    Form is how é is coded, not what a character means: 10⁵ is not 105.
    """
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def lines(text: str) -> list[str]:
    """Split where an editor does; `str.splitlines` also does at a form feed."""
    return re.split(r"\r\n|\r|\n", text)


def read_pairs(path: str | Path, columns: Mapping[str, str] | None = None) -> Pairs:
    """Read and check a file of pairs: CSV, TSV, JSON, JSONL or Parquet, in UTF-8.

    `columns` gives a role its column, e.g. ``{"anchor": "question"}``; others are then
    ignored. Without it the columns are called after `ROLES`, and others are an error,
    for a misspelt ``negative`` would be lost.
    """
    path = Path(path)
    used = {"anchor": "anchor", "positive": "positive", **(columns or {})}
    names, records = read_table(path, tuple(used.values()))
    used |= {} if columns else {name: name for name in names}
    problems = [
        missing(path, name, names) for name in used.values() if name not in names
    ]
    problems += [
        f"{path}: {role!r} is no role; name the columns of {', '.join(ROLES)} with "
        'columns={"anchor": …}, in a command with --anchor …, or rename them'
        for role in used
        if role not in ROLES
    ]
    if len(set(used.values())) < len(used):
        problems.append(f"{path}: one column has two roles in {used}")
    if problems:
        raise DataError(problems)
    return _checked(path, used, records)


def missing(path: Path, name: str, names: Sequence[str]) -> str:
    """Return that a column is missing, in words."""
    if not names:
        return f"{path}: the file is empty"
    meant = "".join(f"; did you mean {n!r}?" for n in names if plain(n) == plain(name))
    shown = ", ".join(repr(other[:60]) for other in names)
    return f"{path}: column {name!r} is missing; the file has {shown}{meant}"


def _checked(path: Path, used: dict[str, str], records: Records) -> Pairs:
    problems = [] if records else [f"{path}: there are no rows"]
    kept: dict[str, list[Any]] = {role: [] for role in used}
    seen: dict[tuple[str, ...], int] = {}
    for row, record in records:
        for role, name in used.items():
            kept[role].append(record.get(name))
            if problem := problem_of(role, record.get(name)):
                problems.append(f"{path}, row {row}, column {name!r}: {problem}")
        key = tuple(plain(str(kept[r][-1] or "")) for r in TEXT_ROLES if r in used)
        if seen.setdefault(key, row) != row and all(key[:2]):
            problems.append(
                f"{path}, row {row}: the same pair as row {seen[key]}; drop one"
            )
    if problems:
        raise DataError(problems)
    if "label" in kept:
        kept["label"] = list(map(float, kept["label"]))
    columns: dict[str, Any] = {role: tuple(values) for role, values in kept.items()}
    return Pairs(**columns, source=path, rows=tuple(row for row, _ in records))


def problem_of(role: str, value: object) -> str:
    """Return what is wrong with a cell, or an empty string."""
    if role == "label":
        with suppress(ValueError, TypeError, OverflowError):
            if math.isfinite(float(value)) and "_" not in str(value):  # type: ignore[arg-type]
                return ""
        return f"a label must be a number, such as 0.5, not {value!r:.60}"
    if value is not None and not isinstance(value, str):
        return f"a text, not {type(value).__name__} {value!r:.60}"
    if value and (half := re.search("[\ud800-\udfff]", value)):
        return f"half a character, {half[0]!r}, which UTF-8 has not: write it whole"
    return "" if value and value.strip() else "the text is empty"


def read_table(path: Path, wanted: Sequence[str] = ()) -> Table:
    """Read CSV, TSV, JSON, JSON lines (these also as ``.gz``) or Parquet.

    By the columns `wanted` a table of texts is told whose cells hold its separators.
    """
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{path}: {what}")
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == ".parquet":
        names, records = _parquet(path)
    elif kind in (".csv", ".tsv"):
        names, records = _csv(path, wanted)
    elif kind in (".json", ".jsonl"):
        names, records = _json(path)
    else:
        known = "give .csv, .tsv, .jsonl, .json or .parquet"
        raise DataError(f"{path}: {kind or 'no'} suffix; {known}")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a column occurs twice in {names}")
    return names, records


def read_texts(path: Path, column: str = "text") -> dict[int, str]:
    """Read texts by row: one a line of ``.txt``, or a column of a table.

    Rows without a text are left out, and counted in a warning.
    """
    if path.suffix.lower() == ".txt":
        texts: dict[int, Any] = dict(enumerate(lines(read_utf8(path)), 1))
    else:
        names, records = read_table(path, [column])
        if column not in names:
            raise DataError(missing(path, column, names))
        texts = {row: record.get(column) for row, record in records}
    found = {row: text for row, text in texts.items() if str(text or "").strip()}
    if problems := [
        f"{path}, row {row}, column {column!r}: {problem}"
        for row, text in found.items()
        if (problem := problem_of("text", text))
    ]:
        raise DataError(problems)
    if not found:
        raise DataError(f"{path}: no row of {len(texts)} holds a text")
    if empty := [row for row in texts if row not in found]:
        told = "%s: %d rows without a text are left out, first row %d"
        log.warning(told, path, len(empty), empty[0])
    return found


def read_authored(name: str) -> list[dict[str, str]]:
    """Return the rows of one of the project's own tables, data/authored."""
    rows = read_table(project_root() / "data" / "authored" / name)[1]
    return [row for _, row in rows]


def read_utf8(path: Path) -> str:
    """Return the text of a file, or say where it is not UTF-8."""
    content = path.read_bytes()
    try:
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
        start = content.index(0) if "\0" in text else None  # UTF-16, .xlsx
    except UnicodeDecodeError as error:
        start = error.start
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable .gz file ({error})") from error
    if start is not None:
        row = len(lines(content[:start].decode(errors="ignore")))
        raise DataError(
            f"{path}, row {row}: byte 0x{content[start]:02x} is not UTF-8; "
            "save the file as UTF-8 (in a spreadsheet: “CSV UTF-8”)"
        )
    return text


def _parquet(path: Path) -> Table:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        return list(table.column_names), list(enumerate(table.to_pylist(), 1))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error


def _csv(path: Path, wanted: Sequence[str]) -> Table:
    file = io.StringIO(read_utf8(path), newline="")
    csv.field_size_limit(2**31 - 1)  # a text may be long

    def headings(separator: str) -> tuple[int, int]:
        file.seek(0)
        first = next(filter(None, csv.reader(file, delimiter=separator)), ())
        names = list(map(plain, first))
        return sum(plain(name) in names for name in wanted), len(names)

    # Of equals the first. \x1f is in no text: one column needs no separator.
    marks = "\x1f\t,;|" if path.suffix.lower() == ".tsv" else "\x1f,;\t|"
    rows, last = [], 0
    try:
        separator = max(marks, key=headings)
        file.seek(0)
        reader = csv.reader(file, delimiter=separator, strict=True)
        for last, cells in enumerate(reader, 1):  # as a spreadsheet counts
            if any(map(str.strip, cells)):
                rows.append((last, cells))
    except csv.Error as error:
        raise DataError(
            f"{path}, row {last + 1}: {error}; a text with quotes or "
            'separators stands in quotes, and its own quotes are doubled ("")'
        ) from error
    names = rows.pop(0)[1] if rows else []
    while names and not names[-1].strip():  # a spreadsheet writes empty columns, too
        names.pop()
    problems = [
        f"{path}, row {row}: more cells than headings; put quotes around a text that "
        "holds the separator"
        for row, cells in rows
        if any(map(str.strip, cells[len(names) :]))
    ]
    if problems:
        raise DataError(problems)
    short = [""] * len(names)
    return names, [
        (row, dict(zip(names, cells + short, strict=False))) for row, cells in rows
    ]


def _json(path: Path) -> Table:
    """Read an object a line, or an array of objects."""
    text, records = read_utf8(path), Records()
    array = text.lstrip().startswith("[")
    for row, part in enumerate([text] if array else lines(text), 1):
        if not part.strip():
            continue
        try:
            found: Any = json.loads(part, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            row += getattr(error, "lineno", 1) - 1
            told = f"no JSON object ({error}); give one a line, or an array of them"
            raise DataError(f"{path}, row {row}: {told}") from error
        for number, record in enumerate(found, 1) if array else [(row, found)]:
            if not isinstance(record, dict):
                raise DataError(f"{path}, row {number}: no JSON object: {record!r:.60}")
            records.append((number, record))
    names = list(dict.fromkeys(name for _, record in records for name in record))
    return names, records


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(items)) < len(items):
        raise ValueError(f"a name occurs twice in {[name for name, _ in items]}")
    return dict(items)


def split_pairs(
    pairs: Pairs, test_share: float = 0.2, seed: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the rows of training and of test, from 0, with no text on both sides.

    Whole `row_groups` are drawn until the test has its share, but `LEAST` at least, or
    a little less; one that is larger goes to training. A side with fewer than `LEAST`
    is a `DataError`.
    """
    if not (isinstance(test_share, float) and 0 < test_share < 1):
        raise ValueError(f"test_share={test_share!r}: between 0 and 1, such as 0.2")
    group = row_groups(pairs)
    sizes = np.bincount(group)
    wanted = max(LEAST, round(test_share * len(pairs)))
    if len(pairs) < wanted + LEAST:
        raise DataError(
            f"{pairs.source}: {len(pairs)} pairs are too few to train on {LEAST} "
            f"and test on {wanted} others; bring more, or a test of their own"
        )
    in_test, taken = np.zeros(len(sizes), bool), 0
    for number in np.random.default_rng(seed).permutation(len(sizes)):
        in_test[number] = taken + sizes[number] <= wanted
        taken += int(sizes[number] * in_test[number])
    if taken < LEAST:
        raise DataError(
            f"{pairs.source}: {sizes.max()} of {len(pairs)} rows hang together by "
            f"texts they share, which leaves {taken} pairs to test on; bring a test"
        )
    test = in_test[group]
    return tuple(np.flatnonzero(~test).tolist()), tuple(np.flatnonzero(test).tolist())


def row_groups(pairs: Pairs) -> NDArray[np.int64]:
    """Return the group of each row, int64 ``[n]``: rows that texts tie together.

    Two rows are tied by an anchor or a positive that they share (`plain`), not by a
    negative: one often answers another question.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number: dict[str, int] = {}
    asked, answered = np.array(
        [
            [number.setdefault(plain(text), len(number)) for text in texts]
            for texts in zip(pairs.anchor, pairs.positive, strict=True)
        ]
    ).T
    graph = coo_array((np.ones(len(pairs)), (asked, answered)), (len(number),) * 2)
    found: NDArray[np.int64] = connected_components(graph, directed=False)[1][asked]
    return found.astype(np.int64)


@dataclass(frozen=True)
class PairSearch:
    """A search made of pairs: the anchors ask, the positives answer.

    `relevant` holds the corpus rows that answer each query. Queries of one `group`,
    int64 ``[q]``, share a text: an interval draws them together.
    """

    queries: tuple[str, ...]
    corpus: tuple[str, ...]
    relevant: tuple[tuple[int, ...], ...]
    group: NDArray[np.int64] = field(repr=False)


def retrieval_from_pairs(
    pairs: Pairs, corpus: Sequence[str] | None = None
) -> PairSearch:
    """Return the search that pairs describe; several rows of an anchor all count.

    Texts that are `plain` the same are one, as first written; the corpus keeps its
    order. Its default is all positives and negatives.
    """
    check_labels(pairs)
    if corpus is None:
        corpus = [*pairs.positive, *(pairs.negative or ())]
    different: dict[str, str] = {}
    for text in corpus:
        different.setdefault(plain(text), text)
    place = {key: row for row, key in enumerate(different)}
    problems = [
        f"{pairs.source}, row {row}: {text[:60]!r} is not in the corpus; add it, or "
        "leave the corpus out to search in all answers"
        for row, text in zip(pairs.rows, pairs.positive, strict=True)
        if plain(text) not in place
    ]
    if problems:
        raise DataError(problems)
    found: dict[str, tuple[str, int, dict[int, None]]] = {}
    rows = zip(pairs.anchor, pairs.positive, row_groups(pairs).tolist(), strict=True)
    for anchor, positive, group in rows:
        _, _, answers = found.setdefault(plain(anchor), (anchor, group, {}))
        answers[place[plain(positive)]] = None
    queries, groups, relevant = zip(*found.values(), strict=True)
    if len(set(groups)) < 2 or len(different) < 2:
        raise DataError(
            f"{pairs.source}: {len(queries)} different anchors, {len(different)} texts "
            "to search in: a test needs two of each, and no answer shared by all"
        )
    texts = tuple(different.values())
    return PairSearch(queries, texts, tuple(map(tuple, relevant)), np.array(groups))


def check_labels(pairs: Pairs) -> None:
    """Refuse labels that tell rows apart, where each positive is a right answer."""
    if pairs.label is not None and len(set(pairs.label)) > 1:
        raise DataError(
            f"{pairs.source}: its labels go from {min(pairs.label):g} to "
            f"{max(pairs.label):g}, but each positive is taken as a right answer: "
            "keep the rows where it is one, without the column of labels"
        )
