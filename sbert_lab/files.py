"""Files that are whole or absent: atomic writes and checksums.

A process can be killed between any two instructions. Everything here writes beside
the target first and then swaps in one step, so that a reader finds the old content
or the new, never half.
"""

import ctypes
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # fcntl.h


def sha256_file(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically: the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  (whatever json takes)
    """Write a value as indented JSON, atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


@contextmanager
def new_folder(target: Path, marker: str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` when the block ends well.

    If the block raises, or the process dies inside it, `target` stays as it was.

    Parameters
    ----------
    target
        Where the folder shall stand. A previous one of its kind is replaced whole.
    marker
        A file that every folder of this kind holds. A folder that holds other files
        and not this one is somebody's, and is refused.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; give the path of a folder")
    if target.is_dir() and not (target / marker).exists():
        others = sorted(path.name for path in target.iterdir())
        if others:
            raise FileExistsError(
                f"{target} holds other files ({', '.join(others[:3])} …), which saving "
                "would remove; give a new folder, or an empty one"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    beside.mkdir()
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                _flush(file)
        _swap(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _flush(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _swap(new: Path, target: Path) -> None:
    """Give `new` the name `target`; what stood there afterwards stands at `new`."""
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        # No atomic exchange here: for an instant the name is free, and the previous
        # folder stands complete beside it under a name that says so.
        aside = target.with_name(f"{target.name}.previous")
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
        new.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one system call; False where the platform has none."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = os.fsencode(a), os.fsencode(b)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):  # an old kernel, or a file system without
        return False
    raise OSError(code, os.strerror(code), str(b))
