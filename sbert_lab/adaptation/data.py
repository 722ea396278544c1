"""What an adaptation is made from, checked before the first second of computation."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.datasets.pairs import (
    LEAST,
    DataError,
    Pairs,
    PairSearch,
    check_labels,
    check_no_leak,
    plain,
    read_table,
    read_utf8,
    retrieval_from_pairs,
    row_groups,
    split_pairs,
)


@dataclass(frozen=True)
class Data:
    """Texts to train on, and to test with.

    Parameters
    ----------
    train
        Pairs to train on; None where there are only texts.
    rows
        Their rows in the file that was given.
    texts
        Texts to train on where there are no pairs.
    search
        What is tested; None for nothing.
    candidates
        Where hard negatives come from; None for the answers of training.
    facts
        Source and counts, for records.
    sha256
        Of each part, by name.
    """

    train: Pairs | None
    rows: tuple[int, ...] = field(default=(), repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)
    search: PairSearch | None = field(default=None, repr=False)
    candidates: tuple[str, ...] | None = field(default=None, repr=False)
    facts: dict[str, Any] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)


def from_pairs(
    pairs: Pairs,
    recipe: Recipe,
    test: Pairs | None = None,
    corpus: Sequence[str] | None = None,
) -> Data:
    """Check pairs, split them if there is no test, and say what will be searched.

    Parameters
    ----------
    pairs, test, corpus
        As `run.adapt`.
    recipe
        Its batch, test share and seed.

    Raises
    ------
    DataError
        Labels that tell rows apart, a text on both sides, answers that the corpus
        lacks, or too few pairs; names the fix.
    """
    for part in (pairs, *([test] if test is not None else [])):
        check_labels(part)
    if test is None:
        rows, kept_aside = split_pairs(pairs, recipe.test_share, recipe.seed)
        train, test = pairs.pick(rows), pairs.pick(kept_aside)
        source = f"{len(test)} rows of {pairs.source.name}, kept aside"
    else:
        train, rows = pairs, tuple(range(len(pairs)))
        check_no_leak(pairs, test)
        source = test.source.name
    _check_counts(train, test, recipe)
    searched = _corpus(corpus, [*train.positive, *test.positive])
    search = retrieval_from_pairs(test, searched)
    return Data(
        train,
        rows,
        search=search,
        candidates=None if corpus is None else tuple(corpus),
        facts={
            "source": pairs.source.name,
            "rows": len(pairs),
            "train": len(train),
            "test": len(test),
            "test source": source,
            "queries": len(search.queries),
            "corpus": len(search.corpus),
            "groups": int(row_groups(train).max()) + 1,
            "test groups": len(np.unique(search.group)),
        },
        sha256={"pairs": sha256(_columns(train))} | _sums(test, corpus),
    )


def from_texts(
    texts: Sequence[str],
    source: str,
    test: Pairs | None = None,
    corpus: Sequence[str] | None = None,
) -> Data:
    """Check texts without pairs; what is tested, if anything, are pairs.

    Raises
    ------
    DataError
        An empty text, fewer than `LEAST` different ones, a corpus without a test, or
        as `from_pairs`. Texts of the corpus may be trained on, queries may not.
    """
    problems = [
        f"{source}, row {row}: not a text, or an empty one"
        for row, text in enumerate(texts, 1)
        if not isinstance(text, str) or not text.strip()
    ]
    different = {} if problems else {plain(text): text for text in reversed(texts)}
    if not problems and len(different) < LEAST:
        problems = [
            f"{source}: {len(different)} different texts; bring {LEAST}, or more"
        ]
    if corpus is not None and test is None:
        problems.append("a corpus is only searched by a test; give one, or neither")
    if test is not None:
        problems += [
            f"{test.source}, row {row}: {anchor[:60]!r} is also in {source}; keep it "
            "on one side only"
            for row, anchor in zip(test.rows, test.anchor, strict=True)
            if plain(anchor) in different
        ]
    if problems:
        raise DataError(problems)
    facts: dict[str, Any] = {
        "source": source,
        "texts": len(texts),
        "train": len(different),
    }
    search = None
    if test is not None:
        check_labels(test)
        _check_test(test)
        search = retrieval_from_pairs(test, _corpus(corpus, test.positive))
        facts |= {
            "test": len(test),
            "test source": test.source.name,
            "queries": len(search.queries),
            "corpus": len(search.corpus),
            "test groups": len(np.unique(search.group)),
        }
    return Data(
        None,
        texts=tuple(texts),
        search=search,
        facts=facts,
        sha256={"texts": sha256(texts)} | _sums(test, corpus),
    )


def read_texts(path: str | Path) -> tuple[str, ...]:
    """Read texts: one a line of ``.txt``, or the column ``text`` of a table.

    Tables are what `read_pairs` reads: CSV, TSV, JSONL and Parquet.

    Empty lines are passed over in ``.txt``.

    Raises
    ------
    FileNotFoundError
        No such file.
    DataError
        Not UTF-8, another suffix, no column ``text``, an empty text, or no texts.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    found: list[tuple[int, Any]]
    if path.suffix.lower() == ".txt":
        lines = read_utf8(path).splitlines()
        found = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    else:
        names, records = read_table(path)
        if "text" not in names:
            raise DataError(
                [
                    f"{path}: column 'text' is missing; the file has "
                    f"{', '.join(map(repr, names)) or 'no columns'}"
                ]
            )
        found = [(row, record.get("text")) for row, record in records]
    problems = [
        f"{path}, row {row}, column 'text': "
        + ("the text is empty" if isinstance(text, str) else f"a text, not {text!r}")
        for row, text in found
        if not isinstance(text, str) or not text.strip()
    ]
    if problems or not found:
        raise DataError(problems or [f"{path}: there are no texts"])
    return tuple(text for _, text in found)


def sha256(value: object) -> str:
    """Return the hash of what JSON can take."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _check_counts(train: Pairs, test: Pairs, recipe: Recipe) -> None:
    if len(train) < LEAST:
        raise DataError(
            [f"{train.source}: {len(train)} pairs to train on; bring {LEAST}, or more"]
        )
    _check_test(test)
    if recipe.batch > len(train):
        raise DataError(
            [
                f"{train.source}: a batch of {recipe.batch} is larger than the "
                f"{len(train)} pairs to train on; at most a quarter of them is "
                f"sensible: batch {max(2, len(train) // 4)}"
            ]
        )


def _check_test(test: Pairs) -> None:
    if len(test) < LEAST:
        raise DataError(
            [f"{test.source}: {len(test)} pairs to test on; bring {LEAST}, or more"]
        )


def _corpus(given: Sequence[str] | None, positives: Sequence[str]) -> Sequence[str]:
    return positives if given is None else given


def _columns(pairs: Pairs) -> list[Any]:
    return [pairs.anchor, pairs.positive, pairs.negative]


def _sums(test: Pairs | None, corpus: Sequence[str] | None) -> dict[str, str]:
    found = {}
    if test is not None:
        found["test"] = sha256(_columns(test))
    if corpus is not None:
        found["corpus"] = sha256(list(corpus))
    return found
