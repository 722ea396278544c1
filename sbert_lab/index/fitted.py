"""What is learnt from vectors once, and then applied to every vector after.

A range, a threshold or a codebook belongs to the vectors that were stored with it:
queries, and documents that come later, must meet the same one. So each is an object
that is fitted, saved and loaded, and that refuses vectors of another width.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sbert_lab._utils import Vectors, write_bytes
from sbert_lab.index.exact import checked

_HEADER = "sbert_lab"  # the key in the file's metadata


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """Base of the quantisers and reducers: one file, whole or refused.

    Fields that are arrays become the tensors of a safetensors file; fields that are
    numbers go into its header with the kind, the dimension and a checksum.
    """

    kind: ClassVar[str]

    @property
    def dimension(self) -> int:
        """Width of the vectors that it was fitted on."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write to one safetensors file, atomically."""
        tensors, settings = self._state()
        about = {
            "format": 1,
            "kind": self.kind,
            "dimension": self.dimension,
            "settings": settings,
        }
        about["sha256"] = _digest(about, tensors)
        content = save(tensors, {_HEADER: json.dumps(about)})
        write_bytes(Path(path), content)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            Nothing there.
        ValueError
            A damaged file, another kind, or a newer format.
        """
        about, tensors = read_fitted(path)
        if about["kind"] != cls.kind:
            raise ValueError(
                f"{path} holds kind {about['kind']!r}, not {cls.kind!r}; load it with "
                "the class that saved it"
            )
        try:
            return cls(**tensors, **about["settings"])
        except (TypeError, ValueError) as error:
            raise _damaged(path, error) from error

    def _state(self) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
        """Return the arrays and the plain numbers among the fields."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        arrays = {
            name: np.ascontiguousarray(value)
            for name, value in named.items()
            if isinstance(value, np.ndarray)
        }
        numbers = {n: v for n, v in named.items() if isinstance(v, int | float)}
        return arrays, numbers

    def _vectors(self, vectors: Vectors) -> Vectors:
        """Return float32 ``[n, dimension]``, or say what is wrong."""
        rows = checked(vectors, "vectors")
        if rows.shape[1] != self.dimension:
            raise ValueError(
                f"fitted on {self.dimension} dimensions, these vectors have "
                f"{rows.shape[1]}; encode both with the same model and truncate_dim, "
                "or fit again"
            )
        return rows


def read_fitted(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the header and the tensors of a file that `Fitted.save` wrote, verified.

    Raises
    ------
    FileNotFoundError, ValueError
        As `Fitted.load`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; fit and save it first")
    try:
        with safe_open(path, "numpy") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        newer = about["format"] != 1
        expected = about.pop("sha256")
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise _damaged(path, error) from error
    if newer:
        raise ValueError(
            f"{path} has format {about['format']}, this version reads 1; update "
            "sbert-lab, or fit again"
        )
    if _digest(about, tensors) != expected:
        raise _damaged(path, "the sha256 differs")
    return about, tensors


def fitting_rows(vectors: Vectors, least: int, purpose: str) -> Vectors:
    """Return vectors to fit on, float32 ``[n, d]`` with n ≥ `least`, or say why not."""
    rows = checked(vectors, "vectors")
    if len(rows) < least or not rows.shape[1]:
        raise ValueError(
            f"vectors of shape {list(rows.shape)} are too few: {purpose} needs at "
            f"least {least}; fit on more of the corpus"
        )
    return rows


def _digest(about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 of the header and all tensors, in order of name."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _damaged(path: str | Path, why: object) -> ValueError:
    return ValueError(f"{path} is damaged ({why}); copy it again, or fit again")
