"""A ``.npy`` file that grows: vectors of a stream of unknown length, on disk."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


def write_vectors(
    path: Path, blocks: Iterable[NDArray[np.float32]], width: int
) -> np.memmap[Any, np.dtype[np.float32]]:
    """Write blocks ``[m, width]`` one below the other, and map the file into memory.

    Neither the blocks together nor the file need to fit in memory. The file appears
    under its name when it is complete; an error on the way leaves the old one.

    Returns
    -------
    numpy.memmap
        float32 ``[n, width]``, read-only.
    """
    if path.suffix != ".npy":
        raise ValueError(f"{path}: give a name that ends in .npy")
    part = path.with_name(f".{path.name}.part")
    rows = 0
    try:
        with part.open("wb") as file:
            _header(file, 0, width)
            for block in blocks:
                file.write(np.ascontiguousarray(block, "<f4").tobytes())
                rows += len(block)
            file.seek(0)
            _header(file, rows, width)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return npy.open_memmap(path, mode="r")


def _header(file: BinaryIO, rows: int, width: int) -> None:
    """Write a header; numpy leaves room in it for the row count to grow."""
    npy.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    )
