import importlib
import inspect
import re
from pathlib import Path

import pytest

from sbert_lab.datasets.docstrings import read_library

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
    found = {each.name: each for each in read_library(tinylib)}
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
    assert docstrings["tinylib.Round.width"] == "Its width."
    assert docstrings["tinylib.plain.helper"] == "Help."
    assert docstrings["tinylib.plain.outer"] == ""


def test_kind_parameters_and_deprecation(tinylib):
    found = {each.name.removeprefix("tinylib."): each for each in read_library(tinylib)}
    given = {name: (each.kind, each.parameters) for name, each in found.items()}
    assert given["solve"] == ("function", ("a", "b", "*rest", "key", "**options"))
    assert given["Round"] == ("class", ("radius",))
    assert given["shapes.Base"] == ("class", None)
    assert given["Round.area"] == ("method", ())
    assert given["Round.unit"] == ("method", ("n",))
    assert given["Round.parse"] == ("method", ("text",))
    assert given["Round.width"] == ("property", None)
    assert given["plain.wait"] == ("function", ())
    deprecated = {name for name, each in found.items() if each.deprecated}
    assert deprecated == {"plain.old", "plain.older"}


def test_parts_and_internal_modules(tinylib):
    names = {each.name for each in read_library(tinylib, internal=["tinylib.plain"])}
    # A package offers what it imports: its name is then the one that counts.
    assert "tinylib.shapes.helper" in names
    assert not [name for name in names if name.startswith("tinylib.plain.")]
    part = {each.name for each in read_library(tinylib, parts=["internal"])}
    assert "tinylib.internal.thing.machinery" in part
    assert "tinylib.solve" in part  # files of the folder itself are always read
    assert not [name for name in part if "shapes" in name or "Round" in name]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_library(tinylib, parts=["nowhere"])
    with pytest.raises(FileNotFoundError, match="missing"):
        read_library(tinylib.parent / "missing")


def test_a_private_base_is_seen_through_one_subclass(tinylib):
    (tinylib / "kinds.py").write_text(
        "class _Any:\n    def go(self): 'Go.'\n"
        "class B(_Any): 'B.'\nclass A(_Any): 'A.'\n"
    )
    names = {each.name.removeprefix("tinylib.kinds.") for each in read_library(tinylib)}
    assert {"A", "A.go", "B"} == {name for name in names if name[0] in "AB"}


def test_few_dots_come_before_few_letters(tinylib):
    with (tinylib / "__init__.py").open("a") as file:
        file.write("from .plain import fine as as_fine_as_it_can_be\n")
    names = {each.name for each in read_library(tinylib)}
    assert "tinylib.as_fine_as_it_can_be" in names
    assert "tinylib.plain.fine" not in names


def test_a_class_may_be_made_by_new(tinylib):
    made = "class Made:\n    'Made.'\n    def __new__(cls, size): ...\n"
    (tinylib / "made.py").write_text(made)
    (found,) = [each for each in read_library(tinylib) if "Made" in each.name]
    assert found.parameters == ("size",)


@pytest.mark.parametrize("path", ["conftest.py", "testing.py", "vendor/plain.py"])
def test_what_is_not_the_librarys_own_interface_is_left_out(tinylib, path):
    (tinylib / path).parent.mkdir(exist_ok=True)
    (tinylib / path).write_text("def strange(): 'Strange.'\n")
    assert not [each for each in read_library(tinylib) if "strange" in each.name]


def test_a_computed_list_of_names_is_not_believed(tinylib):
    with (tinylib / "_core.py").open("a") as file:
        file.write("__all__ += sorted(globals())\n")
    names = {each.name for each in read_library(tinylib)}
    assert "tinylib.not_listed" in names
    assert "tinylib._hidden" not in names


def test_imports_that_run_in_circles_end(tinylib):
    (tinylib / "a.py").write_text("__all__ = ['x', 'y']\nfrom .b import *\n")
    (tinylib / "b.py").write_text("from .a import x\nfrom .a import *\n")
    (tinylib / "c").mkdir()
    (tinylib / "c" / "__init__.py").write_text("from . import *\nfrom ..a import *")
    names = {each.name for each in read_library(tinylib)}
    assert not [name for name in names if name.startswith(("tinylib.a", "tinylib.c"))]


@pytest.mark.parametrize("package", ["json", "http", "logging", "asyncio", "unittest"])
def test_the_running_library_agrees(package):
    """Each name leads to an object with this docstring and these parameters."""
    module = importlib.import_module(package)
    folder = Path(inspect.getfile(module)).parent
    found = [each for each in read_library(folder) if each.docstring]
    checked = 0
    for each in found:
        path = each.name.split(".")
        thing = module
        for depth, part in enumerate(path[1:], 2):
            if not hasattr(thing, part) and inspect.ismodule(thing):
                try:
                    importlib.import_module(".".join(path[:depth]))
                except ImportError:
                    break  # a module of another platform
            thing = getattr(thing, part, None)
        else:
            if thing is None or inspect.ismethoddescriptor(thing):
                continue  # of another platform, or replaced by one written in C
            if (getattr(thing, "__module__", "") or "").startswith("_"):
                continue
            assert inspect.getdoc(thing) == each.docstring, each.name
            if each.kind in ("function", "method"):
                given = [
                    {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(p.kind.name, "")
                    + p.name
                    for p in inspect.signature(thing).parameters.values()
                    if not p.name.startswith("_")
                ]
                bound = each.kind == "method" and given[:1] == ["self"]
                assert list(each.parameters) == given[bound:], each.name
            checked += 1
    assert checked >= 3
    assert checked > 0.7 * len(found)


def test_what_a_package_lists_is_found():
    """No function or class of ``__all__`` is missed."""
    module = importlib.import_module("asyncio")
    folder = Path(inspect.getfile(module)).parent
    names = {each.name for each in read_library(folder)}
    missed = set()
    for name in module.__all__:
        thing = getattr(module, name)
        if getattr(thing, "__module__", "").startswith("asyncio.") and (
            inspect.isfunction(thing) or inspect.isclass(thing)
        ):
            missed |= {name} - {each.split(".")[1] for each in names}
    code = "\n".join(path.read_text() for path in folder.glob("*.py"))
    assigned = {name for name in missed if re.search(rf"^{name} = ", code, re.M)}
    assert missed == assigned
    assert len(missed) < 5
