"""Python documentation: public names, sentences, and splits without leaks."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sbert_lab.datasets import python_docs
from sbert_lab.datasets.pairs import check_no_leak
from sbert_lab.datasets.python_docs import (
    DETAIL_WORDS,
    LIBRARIES,
    NEAR,
    ApiEntry,
    Library,
    bare,
    body,
    entries_of,
    first_sentence,
    installed,
    load,
    near_rows,
    read_library,
    retrieval_task,
    split_pairs,
    training_pairs,
    unmarked,
)

BY_NAME = {each.distribution: each for each in LIBRARIES}
FEW = (
    BY_NAME["fsspec"],
    replace(BY_NAME["scikit-learn"], parts=("neighbors",)),
    BY_NAME["pillow"],
)
ABSENT = Library("no-such-distribution", "nowhere", "test")


@pytest.fixture(scope="module")
def small():
    """Three small libraries instead of all, one a side."""
    return tuple(each for library in FEW for each in entries_of(library))


# What a library offers

FILES = {
    "__init__.py": """
        raise RuntimeError("must never run")
        from tinylib._core import solve, _hidden
        from ._core import *
        from .shapes import Circle as Round
        try:
            from ._fast import quick
        except ImportError:
            quick = None
        from math import sin
    """,
    "_core.py": """
        __all__ = ["solve"]
        __all__ += ["extra"]
        __all__.extend(["more"])
        def solve(a, /, b=1, *rest, key, _secret=0, **options):
            "Solve it."
        def extra(): "Extra."
        def more(): "More."
        def not_listed(): "Nobody asked."
        def _hidden(): "Hidden."
    """,
    "_fast.py": 'def quick(x): "Quick."',
    "shapes/__init__.py": """
        from .round import Circle, Base
        from .. import _core
        from ..plain import helper
    """,
    "shapes/round.py": '''
        from ..plain import helper as borrowed
        from ._bases import _Shape, Base
        class Circle(_Shape, Base):
            """A circle.

            Indented text.
            """
            def __init__(self, radius): pass
            def area(self): "Own area."
            @property
            def width(self): "Its width."
            @width.setter
            def width(self, value): "Set it."
            @classmethod
            def unit(cls, n): "Of radius 1."
            @staticmethod
            def parse(text): "From text."
            def _private(self): "No."
    ''',
    "shapes/_bases.py": """
        class _Shape(_Deeper):
            def area(self): "Inherited area."
            def move(self, by): "Move it."
        class _Deeper:
            def turn(self): "Turn it."
        class Base:
            def common(self): "Common."
    """,
    "plain.py": '''
        from typing import overload
        @overload
        def helper(a: int): ...
        @overload
        def helper(a: str): ...
        def helper(a): "Help."
        @lib.deprecated("1.0")
        def old(): "Old."
        def older():
            """Older.

            .. deprecated:: 2.0
            """
        def fine():
            """Fine.

            Parameters
            ----------
            x
                .. deprecated:: 2.0
            """
        def outer():
            def inner(): "Inner."
        if True:
            async def wait(): "Wait."
    ''',
    "internal/thing.py": 'def machinery(): "Machinery."',
    "tests/test_it.py": 'def test_it(): "Test."',
    "broken.py": "def (:",
    "_private/deep.py": 'def deep(): "Deep."',
}


@pytest.fixture
def tinylib(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "tinylib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(inspect.cleandoc(text) + "\n")
    return tmp_path / "tinylib"


def test_public_names_are_found_once_under_the_shortest_name(tinylib):
    found = dict(read_library(tinylib))
    assert list(found) == sorted(found)
    assert set(found) == {
        "tinylib.solve",
        "tinylib.extra",
        "tinylib.more",
        "tinylib.quick",
        "tinylib.Round",
        "tinylib.Round.area",
        "tinylib.Round.width",
        "tinylib.Round.unit",
        "tinylib.Round.parse",
        "tinylib.Round.move",
        "tinylib.Round.turn",
        "tinylib.shapes.Base",
        "tinylib.shapes.Base.common",
        "tinylib.plain.helper",
        "tinylib.plain.old",
        "tinylib.plain.older",
        "tinylib.plain.fine",
        "tinylib.plain.outer",
        "tinylib.plain.wait",
        "tinylib.internal.thing.machinery",
    }
    docstrings = {name: each.docstring for name, each in found.items()}
    assert docstrings["tinylib.Round"] == "A circle.\n\nIndented text."
    assert docstrings["tinylib.Round.area"] == "Own area."
    assert docstrings["tinylib.plain.helper"] == "Help."
    assert docstrings["tinylib.plain.outer"] == ""
    given = {name: each.parameters for name, each in found.items()}
    assert given["tinylib.solve"] == ("a", "b", "*rest", "key", "**options")
    assert given["tinylib.Round"] == ("radius",)
    assert given["tinylib.shapes.Base"] is given["tinylib.Round.width"] is None
    assert given["tinylib.Round.area"] == given["tinylib.plain.wait"] == ()
    assert given["tinylib.Round.unit"] == ("n",)
    assert given["tinylib.Round.parse"] == ("text",)
    deprecated = {name for name, each in found.items() if each.deprecated}
    assert deprecated == {"tinylib.plain.old", "tinylib.plain.older"}


def test_parts_and_internal_modules(tinylib):
    names = {name for name, _ in read_library(tinylib, internal=["tinylib.plain"])}
    # A package offers what it imports: its name is then the one that counts.
    assert "tinylib.shapes.helper" in names
    assert not [name for name in names if name.startswith("tinylib.plain.")]
    part = {name for name, _ in read_library(tinylib, parts=["internal"])}
    assert "tinylib.internal.thing.machinery" in part
    assert "tinylib.solve" in part  # files of the folder itself are always read
    assert not [name for name in part if "shapes" in name or "Round" in name]


def test_few_dots_come_first_and_computed_lists_are_not_believed(tinylib):
    with (tinylib / "__init__.py").open("a") as file:
        file.write("from .plain import fine as as_fine_as_it_can_be\n")
    with (tinylib / "_core.py").open("a") as file:
        file.write("__all__ += sorted(globals())\n")
    (tinylib / "kinds.py").write_text(
        "class _Any:\n    def go(self): 'Go.'\n    def __new__(cls, size): ...\n"
        "class B(_Any): 'B.'\nclass A(_Any): 'A.'\n"
    )
    names = {name for name, _ in read_library(tinylib)}
    assert "tinylib.as_fine_as_it_can_be" in names
    assert "tinylib.plain.fine" not in names
    assert "tinylib.not_listed" in names
    assert "tinylib._hidden" not in names
    # A private base is seen through one subclass.
    kinds = {name for name in names if name.startswith("tinylib.kinds")}
    assert kinds == {f"tinylib.kinds.{name}" for name in ("A", "A.go", "B")}


def test_imports_that_run_in_circles_end(tinylib):
    (tinylib / "a.py").write_text("__all__ = ['x', 'y']\nfrom .b import *\n")
    (tinylib / "b.py").write_text("from .a import x\nfrom .a import *\n")
    (tinylib / "c").mkdir()
    (tinylib / "c" / "__init__.py").write_text("from . import *\nfrom ..a import *")
    names = {name for name, _ in read_library(tinylib)}
    assert not [name for name in names if name.startswith(("tinylib.a", "tinylib.c"))]


# The text of a docstring


@pytest.mark.parametrize(
    ("docstring", "sentence", "rest"),
    [
        ("Find the root.", "Find the root", ""),
        ("Find the\nroot. Or not.\n\nMore.", "Find the root", "Or not.\n\nMore."),
        ("find(a, b) -> int\n\nFind it. So.", "Find it", "So.\n\n"),
        ("Use e.g. numpy, i.e. arrays. Then.", "Use e.g. numpy, i.e. arrays", "Then."),
        ("Since version 1.2 this is so. Yes.", "Since version 1.2 this is so", "Yes."),
        ("Is it? Yes.", "Is it", "Yes."),
        ("Values are:\n\n1. one", "Values are", "1. one"),
        ("Parameters\n----------\na\n    The a.", "", None),
        (":returns: The root.", "", None),
        (":class:`Root` of it.", "Root of it", ""),
        ("", "", ""),
    ],
)
def test_first_sentence(docstring, sentence, rest):
    found = first_sentence(docstring)
    assert found[0] == sentence
    if rest is not None:
        assert found[1].strip() == rest.strip()


def test_marks_are_taken_away():
    assert unmarked(":func:`~numpy.linalg.norm` of ``x``") == "norm of x"
    assert unmarked("a `title <https://a.b>`_ and `plain`_") == "a title and plain"
    assert unmarked(":class:`!Foo`, :py:meth:`a.b`") == "Foo, a.b"
    assert unmarked("[`BertModel`] and [text](https://a.b)") == "BertModel and text"
    assert unmarked("*very* **strong**  a * b * c") == "very strong a * b * c"


def test_an_entry_holds_signature_and_what_follows_the_sentence(tmp_path, monkeypatch):
    (tmp_path / "lib.py").write_text('''
def find(a, b):
    """Find the root. Twice.

    Parameters
    ----------
    a : float
        The start.

    .. versionadded:: 1.0

    >>> find(1, 2)

    See Also
    --------
    lose
    """

def lose(a): ""

def again(): "Find the root.\\n\\nTo *find* the ROOT: find the root!"
''')
    monkeypatch.setattr(python_docs, "_folder_of", lambda library: tmp_path)
    again, find = entries_of(ABSENT)
    name = f"{tmp_path.name}.lib.find"
    assert (find.name, find.sentence) == (name, "Find the root")
    assert find.document == f"{name}(a, b)\nTwice. a: float The start."
    assert again.details == ""  # a document never holds the query
    fields = ":param int a: The start.\n:param b: The end.\n:returns: A root."
    assert body(fields) == "a: The start. b: The end. A root."


# Queries


def _entries(*sentences, names=None, details="", side="train", library="lib"):
    names = names or [f"{library}.f{'x' * row}" for row in range(len(sentences))]
    return [
        ApiEntry(name, library, side, name, sentence, details)
        for name, sentence in zip(names, sentences, strict=True)
    ]


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
    ],
)
def test_what_is_no_query(sentence):
    assert [q for q, _ in split_pairs("train", _entries(FINE, sentence))] == [FINE]


def test_ambiguous_and_telling_sentences_are_no_queries():
    twice = ("Plot the lines of a tree.", "plot the lines of a TREE")
    assert [q for q, _ in split_pairs("train", _entries(FINE, *twice))] == [FINE]
    shape = [f"Store the configuration of a {x}Model" for x in ("Bert", "Gpt2", "T5")]
    assert [q for q, _ in split_pairs("train", _entries(FINE, *shape))] == [FINE]
    assert len(split_pairs("train", _entries(FINE, *shape[:2]))) == 3
    made = _entries(
        "Used by read_csv to open files",
        "Compute the mean of all values",
        "Return rows of the DataFrame as tuples",
        names=["lib.read_csv", "lib.mean", "lib.DataFrame.rows"],
    )
    assert [e.name for _, e in split_pairs("train", made)] == ["lib.mean"]


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
def test_what_an_earlier_side_nearly_has_is_left_out(sentence, details):
    first, second = "dev", "test"
    old = _entries(SAME, side=first, library="a", details="A b. C d?")
    new = _entries(sentence, side=second, library="b", details=details)
    other = _entries("Plot a tree with leaves", side=second, library="c")
    data = [*new, *old, *other]
    assert [e.library for _, e in split_pairs(second, data)] == ["c"]
    assert [e.library for _, e in split_pairs(first, data)] == ["a"]
    far = [replace(new[0], details="", sentence="Cut all of the branches")]
    assert [e.library for _, e in split_pairs(second, [*far, *old])] == ["b"]


# Splits of real libraries


def test_sides_of_small_libraries_share_nothing(small):
    names = [each.name for each in small]
    assert len(set(names)) == len(names) > 500
    assert max(len(each.details.split()) for each in small) == DETAIL_WORDS
    resize = next(each for each in small if each.name == "PIL.Image.Image.resize")
    assert "resized" in resize.sentence
    assert resize.signature == (
        "PIL.Image.Image.resize(size, resample, box, reducing_gap)"
    )
    pairs = {side: training_pairs(side, small) for side in ("train", "dev", "test")}
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        check_no_leak(pairs[first], pairs[second])
        assert not near_rows(pairs[second].anchor, pairs[first].anchor, NEAR)
    sides = {side: split_pairs(side, small) for side in pairs}
    for library in FEW:
        own = sides[library.side]
        assert {e.library for _, e in own} == {library.distribution}
        assert pairs[library.side].positive == tuple(e.document for _, e in own)
        assert all(f" {bare(q)} " not in f" {bare(e.document)} " for q, e in own)
    task = retrieval_task("test", 20, 100, 7, small)
    assert (len(task.queries), len(task.corpus_codes)) == (20, 100)
    assert set(task.relevant) <= set(task.corpus_codes)
    assert installed((ABSENT, *FEW)) == FEW
    with pytest.raises(FileNotFoundError, match="too few libraries.* nor-this"):
        installed((ABSENT, *FEW, replace(ABSENT, distribution="nor-this")))


def test_entries_are_kept_for_the_versions_at_hand(small, tmp_path, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path))
    pillow = tuple(each for each in small if each.library == "pillow")
    read = []

    def entries(library):
        read.append(library)
        return pillow

    monkeypatch.setattr(python_docs, "entries_of", entries)
    some = (BY_NAME["pillow"], ABSENT)
    for _ in range(2):
        load.cache_clear()
        assert load(some) == pillow
    assert len(read) == 1
    (kept,) = (tmp_path / "python_docs").iterdir()
    kept.write_bytes(b"[{")
    load.cache_clear()
    assert load(some) == pillow
    monkeypatch.setattr(python_docs.metadata, "version", lambda name: "99")
    load.cache_clear()
    assert load(some) == pillow
    load.cache_clear()
    assert len(read) == 3
