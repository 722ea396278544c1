"""Python documentation: public names, sentences, and splits without leaks."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sbert_lab.datasets import python_docs
from sbert_lab.datasets.leaks import check_no_leak
from sbert_lab.datasets.python_docs import (
    DETAIL_WORDS,
    NEAR,
    ApiEntry,
    bare,
    load,
    near_rows,
    read_library,
    retrieval_task,
    sentence_and_details,
    split_pairs,
    training_pairs,
)

FILES = {
    "__init__.py": """
        raise RuntimeError("must never run")
        from tinylib._core import solve, _hidden
        try:
            from ._fast import quick
        except ImportError:
            quick = None
    """,
    "_core.py": """
        __all__ = ["extra"]
        __all__ += ["more"] + computed
        def solve(a, /, b=1, *rest, key, _secret=0, **options):
            "Solve it."
        def extra(): "Extra."
        def more(): "More."
        def not_listed(): "Nobody asked."
        def _hidden(): "Hidden."
    """,
    "_fast.py": 'def quick(x): "Quick."',
    "shapes/__init__.py": "from .core.round import Circle",
    "shapes/core/round.py": '''
        from ..plain import Unseen
        class Circle:
            """A circle.

            Indented text.
            """
            def __init__(self, radius): pass
            def area(self): "Its area."
            @property
            def width(self): "Its width."
            @width.setter
            def width(self, value): "Set it."
            @classmethod
            def unit(cls, n): "Of radius 1."
            def _private(self): "No."
            def undocumented(self): pass
        class Unseen: "Nobody imports it in a package."
        class _Circle:
            def turn(self): "Turn it."
    ''',
    "plain.py": '''
        from typing import overload
        @overload
        def helper(a: int): ...
        def helper(a): "Help."
        @lib.deprecated("1.0")
        def old(): "Old."
        @deprecate_argument("a")
        def fine():
            """Fine.

            Parameters
            ----------
            x
                .. deprecated:: 2.0
            """
        def older():
            """Older.

            .. deprecated:: 2.0
            """
        def outer():
            "Outer. Not *inner*: OUTER!"
            def inner(): "Inner."
        if True:
            async def wait(): "Wait."
    ''',
    "tests/test_it.py": 'def test_it(): "Test."',
    "broken.py": "def (:",
}


@pytest.fixture
def tinylib(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "tinylib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(inspect.cleandoc(text) + "\n")
    return tmp_path / "tinylib"


def test_public_names_are_those_that_a_library_shows(tinylib, monkeypatch):
    found = read_library("tinylib", tinylib)
    assert [(entry.signature, entry.sentence) for entry in found] == [
        ("tinylib.extra()", "Extra"),
        ("tinylib.more()", "More"),
        ("tinylib.plain.fine()", "Fine"),
        ("tinylib.plain.helper(a)", "Help"),
        ("tinylib.plain.outer()", "Outer"),
        ("tinylib.plain.wait()", "Wait"),
        ("tinylib.quick(x)", "Quick"),
        ("tinylib.shapes.round.Circle(radius)", "A circle"),
        ("tinylib.shapes.round.Circle.area()", "Its area"),
        ("tinylib.shapes.round.Circle.unit(n)", "Of radius 1"),
        ("tinylib.shapes.round.Circle.width", "Its width"),
        ("tinylib.solve(a, b, rest, key, options)", "Solve it"),
    ]
    assert found[7].details == "Indented text."
    assert found[4].details == ""  # it says the sentence again
    monkeypatch.setitem(python_docs._PARTS, "tinylib", "shapes")
    (tinylib / "other").mkdir()
    (tinylib / "plain.py").rename(tinylib / "other" / "plain.py")
    part = {entry.name for entry in read_library("tinylib", tinylib)}
    assert part == {e.name for e in found if "plain" not in e.name}


@pytest.mark.parametrize(
    ("docstring", "sentence", "details"),
    [
        ("Find the root.", "Find the root", ""),
        ("Find the\nroot. Or not.\n\nMore.", "Find the root", "Or not. More."),
        ("find(a, b) -> int\n\nFind it. So.", "Find it", "So."),
        ("find(\n  a, b\n)\n\nFind it", "Find it", ""),
        ("Find it (here)\n\nNow (so).\n\n", "Find it (here)", "Now (so)."),
        ("Use e.g. numpy, i.e. arrays. Then.", "Use e.g. numpy, i.e. arrays", "Then."),
        ("Since version 1.2 this is so. Yes.", "Since version 1.2 this is so", "Yes."),
        ("", "", ""),
        (
            "Find it.\n\nParameters\n----------\na : float\n    The start.\n\n"
            ".. versionadded:: 1.0\n\n>>> find(1)\n\nMore.",
            "Find it",
            "a : float The start.",
        ),
        (
            "It.\n\nArgs:\n    a: One.\n\nReturns:\n  It.\n\nSee Also\nx",
            "It",
            "a: One. It.",
        ),
        ("It.\n\n:param int a: One.\n:returns: Two.", "It", "a: One. Two."),
        ("See :func:`~numpy.linalg.norm` of ``x``", "See norm of x", ""),
        ("A `title <https://a.b>`_ and `plain`_", "A title and plain", ""),
        (":class:`!Foo`, :py:meth:`a.b`", "Foo, a.b", ""),
        ("[`Bert`], [`T5`](x/t5), [text](https://a.b) [0]", "Bert, T5, text [0]", ""),
        ("*very* **strong**  a * b * c", "very strong a * b * c", ""),
    ],
)
def test_the_text_of_a_docstring(docstring, sentence, details):
    assert sentence_and_details(docstring) == (sentence, details)


# Queries


def _entries(*sentences, name="f", details="", library="numpy"):
    return [
        ApiEntry(f"lib.{name}", library, f"lib.{name}", sentence, details)
        for sentence in sentences
    ]


def _queries(entries):
    return [each.sentence for each in split_pairs("train", tuple(entries))]


FINE = "Return the root of an equation"


@pytest.mark.parametrize(
    "sentence",
    [
        "Find all roots",
        "word " * 41,
        "See the function that finds roots",
        "Return \\alpha times the root",
        "Return the %(name)s of a root",
        "Return the root in the naïve way",
        ":returns: The root of it all",
        "Parameters ---------- the root",
    ],
)
def test_what_is_no_query(sentence):
    assert _queries(_entries(FINE, sentence)) == [FINE]


def test_ambiguous_and_telling_sentences_are_no_queries():
    twice = ("Plot the lines of a tree.", "plot the lines of a TREE")
    assert _queries(_entries(FINE, *twice)) == [FINE]
    shape = [f"Store the configuration of a {x}Model" for x in ("Bert", "Gpt2", "T5")]
    assert _queries(_entries(FINE, *shape)) == [FINE]
    assert len(_queries(_entries(FINE, *shape[:2]))) == 3
    assert _queries(_entries("Compute the mean of all values", name="mean"))
    assert not _queries(_entries("Used by read_csv to open files", name="read_csv"))
    rows = "Return rows of the DataFrame as tuples"
    assert not _queries(_entries(rows, name="DataFrame.rows"))
    assert _queries(_entries(FINE, details=f"To {FINE.upper()}!")) == []


@pytest.mark.parametrize("threshold", [0.2, 0.6])
def test_near_rows_are_those_of_all_comparisons(threshold):
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"w{word}" for word in rng.zipf(1.5, rng.integers(0, 9)) % 20)
        for _ in range(300)
    ]
    left, right = texts[:150], texts[150:]
    expected = []
    for row, text in enumerate(left):
        words = set(text.split())
        shares = [
            len(words & set(each.split())) / max(1, len(words | set(each.split())))
            for each in right
        ]
        if max(shares) >= threshold:
            expected.append(row)
    assert near_rows(left, right, threshold) == expected
    assert 0 < len(expected) < 150


SAME = "Return the greatest root of this equation"
LONGER = "Return the single greatest root of this equation"  # 7 of 8 words


@pytest.mark.parametrize(
    ("sentence", "details"),
    [(LONGER, ""), (LONGER, "x y"), ("Cut all of the branches", "A, b: c d! z")],
)
def test_what_an_earlier_split_nearly_has_is_left_out(sentence, details):
    old = _entries(SAME, library="scikit-learn", details="A b. C d?")
    new = _entries(sentence, library="pillow", details=details)
    other = _entries("Plot a tree with leaves", library="networkx")
    data = (*new, *old, *other)
    assert [e.library for e in split_pairs("test", data)] == ["networkx"]
    assert [e.library for e in split_pairs("dev", data)] == ["scikit-learn"]
    far = replace(new[0], details="", sentence="Cut all of the branches")
    assert [e.library for e in split_pairs("test", (far, *old))] == ["pillow"]


def test_splits_of_real_libraries_share_nothing(tmp_path, monkeypatch):
    """One small library a side; what was read is kept for the versions at hand."""
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path))
    load.cache_clear()
    small = load(("fsspec", "pillow"))
    names = [each.name for each in small]
    assert len(set(names)) == len(names) > 500
    assert max(len(each.details.split()) for each in small) == DETAIL_WORDS
    resize = next(each for each in small if each.name == "PIL.Image.Image.resize")
    assert "resized" in resize.sentence
    assert resize.signature == (
        "PIL.Image.Image.resize(size, resample, box, reducing_gap)"
    )
    train, test = (training_pairs(split, small) for split in ("train", "test"))
    check_no_leak(train, test)
    assert not near_rows(test.anchor, train.anchor, NEAR)
    for split, library in (("train", "fsspec"), ("test", "pillow")):
        own = split_pairs(split, small)
        assert {each.library for each in own} == {library}
        assert all(f" {bare(e.sentence)} " not in f" {bare(e.document)} " for e in own)
    task = retrieval_task("test", small, 20, 100)
    assert (len(task.queries), len(task.corpus_codes)) == (20, 100)
    assert set(task.relevant) <= set(task.corpus_codes)

    monkeypatch.setattr(python_docs, "read_library", lambda name, folder: ())
    load.cache_clear()
    assert load(("fsspec", "pillow")) == small
    (kept,) = (tmp_path / "python_docs").iterdir()
    kept.write_bytes(b"[{")
    load.cache_clear()
    assert load(("fsspec", "pillow")) == ()
    monkeypatch.setattr(
        python_docs, "read_library", lambda name, folder: list(small[:2])
    )
    monkeypatch.setattr(python_docs.metadata, "version", lambda name: "99")
    load.cache_clear()
    assert load(("fsspec", "pillow")) == small[:2] * 2
    monkeypatch.undo()
    load.cache_clear()
    with pytest.raises(FileNotFoundError, match="pip install .* no-such"):
        load(("fsspec", "no-such"))
