"""The public names of a library and their documentation, read without running it.

The files are parsed, never imported: no code of the library runs, and a library that
needs a display or a graphics card is read as any other. What is public follows from
the files too: the names in ``__all__``, or those without an underscore, under every
module without one. A function that several modules offer is listed once, under its
shortest name: ``scipy.optimize.minimize``, not ``scipy.optimize._minimize.minimize``.

Not seen: names that are assigned (``loads = decoder.loads``), and what a library makes
while it is imported, such as the functions of numpy and torch that are written in C.
"""

import ast
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

log = logging.getLogger(__name__)

Kind = Literal["function", "class", "method", "property"]

#: Folders that hold no interface of the library's own.
_SKIPPED = frozenset(
    "test tests testing conftest _vendor vendor vendored externals extern third_party "
    "examples benchmarks".split()
)

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Documented:
    """One public function, class, method or property.

    Parameters
    ----------
    name
        Dotted, as a user writes it: ``"pandas.DataFrame.groupby"``.
    kind
        What it is.
    parameters
        Names, in order, with the stars of ``*args`` and ``**kwargs``; without `self`.
        None for a property, and for a class without a constructor of its own.
    docstring
        Without the indentation of the code; may be empty.
    deprecated
        Whether a decorator or the docstring says so.
    """

    name: str
    kind: Kind
    parameters: tuple[str, ...] | None
    docstring: str
    deprecated: bool


@dataclass(frozen=True)
class _Definition:
    kind: Kind
    parameters: tuple[str, ...] | None
    docstring: str
    deprecated: bool
    bases: tuple[str, ...] = ()
    members: Mapping[str, "_Definition"] | None = None


@dataclass(frozen=True)
class _Module:
    """What a file binds: definitions, ``from`` imports, and its ``__all__``."""

    name: str
    is_package: bool
    definitions: Mapping[str, _Definition]
    imports: Mapping[str, tuple[str, str]]
    stars: tuple[str, ...]
    listed: frozenset[str] | None


_Modules = Mapping[str, _Module]
_Origin = tuple[str, str]  # the module and the name of a definition


def read_library(
    folder: Path, parts: Sequence[str] = (), internal: Sequence[str] = ()
) -> tuple[Documented, ...]:
    """Return what a library offers, in the order of the names.

    Parameters
    ----------
    folder
        Of the package; its name is the package's name.
    parts
        Subfolders to read, beside the files that lie in `folder` itself; empty reads
        everything.
    internal
        Modules whose names count only where another module offers them too, such as
        ``"pandas.core"``.

    Raises
    ------
    FileNotFoundError
        `folder`, or one of `parts`, is missing.
    """
    modules = _modules(folder, parts)
    names = _public_names(modules, internal)
    found: list[Documented] = []
    taken: set[tuple[str, str, str]] = set()
    for origin, name in sorted(names.items(), key=lambda item: _place(item[1])):
        definition = modules[origin[0]].definitions[origin[1]]
        found.append(_documented(name, definition))
        # A private base is seen through its public subclass, the first by name.
        for owner in _line(modules, origin, names):
            members = modules[owner[0]].definitions[owner[1]].members or {}
            for member, each in members.items():
                if not member.startswith("_") and (*owner, member) not in taken:
                    taken.add((*owner, member))
                    found.append(_documented(f"{name}.{member}", each))
    unique = {each.name: each for each in reversed(found)}  # the class's own first
    return tuple(unique[name] for name in sorted(unique))


def _documented(name: str, definition: _Definition) -> Documented:
    return Documented(
        name,
        definition.kind,
        definition.parameters,
        definition.docstring,
        definition.deprecated,
    )


def _place(name: str) -> tuple[int, int, str]:
    return name.count("."), len(name), name


def _line(
    modules: _Modules, origin: _Origin, public: Mapping[_Origin, str]
) -> list[_Origin]:
    """Return a class and the bases that have no public name of their own."""
    line = [origin]
    for module, name in line:
        for base in modules[module].definitions[name].bases:
            found = _origin(modules, module, base)
            if found and found not in public and found not in line:
                line.append(found)
    return line


def _public_names(modules: _Modules, internal: Sequence[str]) -> dict[_Origin, str]:
    """Return the shortest public name of each definition that has one."""
    best: dict[_Origin, str] = {}
    for module in modules.values():
        path = module.name.split(".")
        if any(part.startswith("_") for part in path) or any(
            module.name == each or module.name.startswith(f"{each}.")
            for each in internal
        ):
            continue
        for name in _exported(modules, module.name):
            origin = _origin(modules, module.name, name)
            if origin is not None:
                full = f"{module.name}.{name}"
                best[origin] = min(best.get(origin, full), full, key=_place)
    return best


def _exported(
    modules: _Modules, module: str, seen: frozenset[str] = frozenset()
) -> set[str]:
    """Return the public names that a module offers.

    What a plain module imports is for its own use; what a package imports it offers.
    """
    here = modules.get(module)
    if here is None or module in seen:
        return set()
    if here.listed is not None:
        return {name for name in here.listed if not name.startswith("_")}
    names = set(here.definitions)
    if here.is_package:
        names |= set(here.imports)
        for star in here.stars:
            names |= _exported(modules, star, seen | {module})
    return {name for name in names if not name.startswith("_")}


def _origin(
    modules: _Modules, module: str, name: str, seen: frozenset[_Origin] = frozenset()
) -> _Origin | None:
    """Follow imports to the definition of a name; None if it is of another library."""
    here = modules.get(module)
    if here is None or (module, name) in seen:
        return None
    if name in here.definitions:
        return module, name
    seen = seen | {(module, name)}
    if name in here.imports:
        found = _origin(modules, *here.imports[name], seen)
        if found is not None:
            return found
    for star in here.stars:
        found = _origin(modules, star, name, seen)
        if found is not None:
            return found
    return None


def _modules(folder: Path, parts: Sequence[str]) -> dict[str, _Module]:
    folder = folder.resolve()
    for wanted in (folder, *(folder / part for part in parts)):
        if not wanted.is_dir():
            raise FileNotFoundError(f"{wanted} is no folder of a package")
    paths = (
        [*folder.glob("*.py"), *(p for x in parts for p in (folder / x).rglob("*.py"))]
        if parts
        else list(folder.rglob("*.py"))
    )
    modules = {}
    for path in sorted(paths):
        inside = path.relative_to(folder)
        if _SKIPPED.isdisjoint((*inside.parts[:-1], inside.stem)):
            name = ".".join((folder.name, *inside.with_suffix("").parts))
            module = _parsed(path, name.removesuffix(".__init__"))
            if module is not None:
                modules[module.name] = module
    return modules


def _parsed(path: Path, name: str) -> _Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's escape sequences
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            log.info("%s is not Python of this version: left out", path)
            return None
    is_package = path.name == "__init__.py"
    definitions: dict[str, _Definition] = {}
    imports: dict[str, tuple[str, str]] = {}
    stars: list[str] = []
    for node in _statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            source = _source(name, is_package, node)
            for alias in node.names:
                if alias.name == "*":
                    stars.append(source)
                else:
                    imports.setdefault(alias.asname or alias.name, (source, alias.name))
    _define(tree.body, definitions)
    return _Module(
        name, is_package, definitions, imports, tuple(stars), _listed(tree.body)
    )


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, also those under ``if``, ``try`` and ``with``."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for block in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, block, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)


def _source(name: str, is_package: bool, node: ast.ImportFrom) -> str:
    """Return the full name of the module that an import is from."""
    if not node.level:
        return node.module or ""
    path = name.split(".")
    above = path[: len(path) - node.level + is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def _listed(body: Sequence[ast.stmt]) -> frozenset[str] | None:
    """Return ``__all__``; None if there is none, or it must be computed."""
    names: list[str] | None = None
    for node in _statements(body):
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            if any(_is_all(target) for target in node.targets):
                value, names = node.value, []
        elif isinstance(node, ast.AnnAssign) and _is_all(node.target):
            value, names = node.value, []
        elif isinstance(node, ast.AugAssign) and _is_all(node.target):
            value = node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if isinstance(call.func, ast.Attribute) and _is_all(call.func.value):
                value = call.args[0] if call.func.attr == "extend" else call
        if value is None:
            continue
        try:
            names = [*(names or []), *(str(each) for each in ast.literal_eval(value))]
        except (ValueError, TypeError):
            return None
    return None if names is None else frozenset(names)


def _is_all(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "__all__"


def _define(
    body: Sequence[ast.stmt], into: dict[str, _Definition], in_class: bool = False
) -> None:
    """Enter the functions and classes of a block.

    Of several with one name (overloads, getter and setter) the first that says what it
    does stays.
    """
    for node in _statements(body):
        if not isinstance(node, _Function | ast.ClassDef):
            continue
        known = into.get(node.name)
        if known is not None and known.docstring:
            continue
        if isinstance(node, ast.ClassDef):
            if not in_class:
                into[node.name] = _class(node)
        else:
            into[node.name] = _function(node, in_class)


def _class(node: ast.ClassDef) -> _Definition:
    members: dict[str, _Definition] = {}
    _define(node.body, members, in_class=True)
    made = members.get("__init__") or members.get("__new__")
    docstring = ast.get_docstring(node) or ""
    return _Definition(
        kind="class",
        parameters=made.parameters if made else None,
        docstring=docstring,
        deprecated=_deprecated(node, docstring),
        bases=tuple(base.id for base in node.bases if isinstance(base, ast.Name)),
        members=members,
    )


def _function(node: _Function, in_class: bool) -> _Definition:
    decorators = {_last_name(each) for each in node.decorator_list}
    docstring = ast.get_docstring(node) or ""
    is_property = in_class and any("property" in name for name in decorators)
    return _Definition(
        kind="property" if is_property else "method" if in_class else "function",
        parameters=None
        if is_property
        else _parameters(node.args, in_class and "staticmethod" not in decorators),
        docstring=docstring,
        deprecated=_deprecated(node, docstring),
    )


def _parameters(given: ast.arguments, bound: bool) -> tuple[str, ...]:
    named = [each.arg for each in (*given.posonlyargs, *given.args)][bound:]
    if given.vararg:
        named.append(f"*{given.vararg.arg}")
    named += [each.arg for each in given.kwonlyargs]
    if given.kwarg:
        named.append(f"**{given.kwarg.arg}")
    return tuple(name for name in named if not name.lstrip("*").startswith("_"))


def _deprecated(node: _Function | ast.ClassDef, docstring: str) -> bool:
    return any(
        _last_name(each) in ("deprecated", "deprecate") for each in node.decorator_list
    ) or any(line.startswith(".. deprecated::") for line in docstring.splitlines())


def _last_name(node: ast.expr) -> str:
    """Return ``"c"`` of a decorator ``@a.b.c(...)``."""
    while isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
