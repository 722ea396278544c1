"""The libraries whose docstrings are searched, their sides, and what is installed."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

Side = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class Library:
    """A library that is read where it is installed.

    Parameters
    ----------
    distribution, package
        Its name on PyPI, and what is imported.
    side
        ``"train"``, ``"dev"`` (to make choices on) or ``"test"``.
    licence
        Of the texts, as SPDX names it where it does.
    parts
        Subfolders that are read; empty reads all.
    internal
        Modules without underscore that are not meant for users.
    """

    distribution: str
    package: str
    side: Side
    licence: str
    parts: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()


_NUMPY = ("numpy.distutils", "numpy.f2py")
_TORCH = tuple(
    "amp autograd cuda distributions fft func jit linalg nn optim profiler signal "
    "sparse special utils/data".split()
)
_SYMPY = tuple(
    "calculus combinatorics core discrete functions geometry matrices ntheory sets "
    "simplify solvers stats vector".split()
)
_TRANSFORMERS = ("data", "generation", "pipelines", "utils")

#: Libraries on one subject stand on one side: pandas and polars describe the same
#: operations in much the same words. Three are read in part, for they are large.
LIBRARIES = (
    Library("numpy", "numpy", "train", "BSD-3-Clause", (), _NUMPY),
    Library("scipy", "scipy", "train", "BSD-3-Clause"),
    Library("pandas", "pandas", "train", "BSD-3-Clause", (), ("pandas.core",)),
    Library("polars", "polars", "train", "MIT"),
    Library("torch", "torch", "train", "BSD-3-Clause", _TORCH),
    Library("transformers", "transformers", "train", "Apache-2.0", _TRANSFORMERS),
    Library("sympy", "sympy", "train", "BSD-3-Clause", _SYMPY),
    Library("huggingface_hub", "huggingface_hub", "train", "Apache-2.0"),
    Library("tornado", "tornado", "train", "Apache-2.0"),
    Library("fsspec", "fsspec", "train", "BSD-3-Clause"),
    Library("scikit-learn", "sklearn", "dev", "BSD-3-Clause"),
    Library("networkx", "networkx", "test", "BSD-3-Clause"),
    Library("matplotlib", "matplotlib", "test", "PSF-based"),
    Library("pillow", "PIL", "test", "MIT-CMU"),
)


def folder_of(library: Library) -> Path | None:
    """Return where a library's files lie, or None if it is not installed."""
    try:
        found = metadata.distribution(library.distribution)
    except metadata.PackageNotFoundError:
        return None
    folder = Path(str(found.locate_file(library.package)))
    return folder if folder.is_dir() else None


def installed(libraries: Sequence[Library] = LIBRARIES) -> tuple[Library, ...]:
    """Return those libraries that are installed.

    Raises
    ------
    FileNotFoundError
        Of some side, less than half of the libraries are; says what to type.
    """
    found = tuple(each for each in libraries if folder_of(each) is not None)
    missing = [each for each in libraries if each not in found]
    for side in sorted({each.side for each in missing}):
        here, gone = (sum(e.side == side for e in part) for part in (found, missing))
        if here < gone:
            names = " ".join(each.distribution for each in missing)
            raise FileNotFoundError(
                f"{here} of {here + gone} libraries for {side} installed, which is too "
                f"few; type: pip install -c constraints.txt {names}"
            )
    return found


def versions(libraries: Sequence[Library] = LIBRARIES) -> tuple[tuple[str, str], ...]:
    """Return name and version of Python, and of the libraries that are installed."""
    return (
        ("python", platform.python_version()),
        *(
            (each.distribution, metadata.version(each.distribution))
            for each in installed(libraries)
        ),
    )
