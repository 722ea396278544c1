"""What every folder of the package uses: atomic files, progress, seeds and paths.

A process can be killed between any two instructions. Files are written beside their
target and swapped in one step, so that a reader finds the old content or the new.
"""

import ctypes
import errno
import gc
import hashlib
import json
import logging
import math
import os
import platform
import random
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

log = logging.getLogger(__name__)

#: float32 ``[n, d]``, one row a text.
Vectors = NDArray[np.float32]

#: How two vectors are compared; larger is nearer in both.
Metric = Literal["cosine", "dot"]
METRICS: tuple[Metric, ...] = ("cosine", "dot")

#: The file in which a model's folder says what was written into it.
LISTING = "sbert_lab.json"

# OpenMP's threads (PyTorch's, FAISS's) do not follow a process that forks, and a child
# that waits for them would never end.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # fcntl.h

#: Environment variable: where records go instead of build/results.
RESULTS = "SBERT_LAB_RESULTS"


def whole_number(value: Any, name: str, least: int = 1, most: float = math.inf) -> int:  # noqa: ANN401
    """Return an argument that must be a whole number from `least` to `most`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        told = f"{least} to {most}" if most < math.inf else f"{least} or more"
        raise ValueError(f"{name}={value!r}: a whole number, {told}")
    return int(value)


def sha256_file(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically: the old file or the new one, never half."""
    path = Path(os.path.realpath(path))  # a link stays, and what it names is written
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with _explained(path, beside):
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                shutil.copymode(path, beside)
            beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink()


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  (whatever json takes)
    """Write a value as indented JSON, atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


@contextmanager
def new_folder(target: Path, listing: str = LISTING) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` when the block ends well.

    If the block raises, or the process dies inside it, `target` stays as it was. Every
    folder of a kind has its `listing`, in which the checksums of all other files are
    put under ``sha256``. What the one in `target` lists, and is unchanged, is ours and
    is replaced; all else is kept, and is never in the place of a new file.
    """
    target = Path(os.path.realpath(target.expanduser()))
    beside = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        with _explained(target, beside):
            _check_place(target)
            beside.mkdir(parents=True)
            yield beside
            _list_files(beside, listing)
            if target.exists():
                _keep_others(target, beside, _listed(target, listing))
            _swap(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _explained(target: Path, beside: Path) -> Iterator[None]:
    """Turn what a disk makes of writing `beside` into a line with path and cure."""
    try:
        yield
    except Exception as error:
        # FAISS, safetensors and tokenizers raise errors of their own.
        full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        said = (code for code in full if os.strerror(code) in str(error))
        found = getattr(error, "errno", None) or next(said, None)
        if found in (None, errno.ENOENT):
            raise
        free = shutil.disk_usage(next(filter(os.path.isdir, target.parents))).free
        inside = [Path(at, name) for at, _, names in os.walk(beside) for name in names]
        written = filter(os.path.isfile, [beside, *inside])
        needed = sum(map(os.path.getsize, written))
        raise OSError(
            found,
            f"{target} is not saved, and what was there is unchanged: "
            f"{os.strerror(found)}; it needs more than {needed:,} bytes, {free:,} are "
            "free: give another place, or make room",
        ) from error


def _check_place(target: Path) -> None:
    """Refuse what a new folder cannot take the place of."""
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; give the path of a folder")
    here = os.path.ismount(target) or Path.cwd().is_relative_to(target)
    if target.exists() and (here or not os.access(target, os.W_OK)):
        raise PermissionError(
            f"{target} cannot be replaced: it is read-only, a mounted disk, or holds "
            "the current folder; give another folder, which may lie in it"
        )


def _list_files(folder: Path, listing: str) -> None:
    """Bring a folder's files to the disk, and their checksums into its listing."""
    about = folder / listing
    told = json.loads(about.read_text("utf-8")) if about.exists() else {"format": 1}
    sums = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file != about:
            sums[file.relative_to(folder).as_posix()] = sha256_file(file)
            with file.open("r+b" if os.name == "nt" else "rb") as handle:
                os.fsync(handle.fileno())
    write_json(about, told | {"sha256": sums})


def _listed(folder: Path, listing: str) -> set[Path]:
    """Return the files of the last save: those that its listing has, unchanged."""
    try:
        sums = dict(json.loads((folder / listing).read_text("utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    named = ((folder / name, wanted) for name, wanted in sums.items())
    found = {p for p, wanted in named if p.is_file() and sha256_file(p) == wanted}
    return found | {folder / listing} if found else set()


def _keep_others(old: Path, new: Path, ours: set[Path]) -> None:
    """Link all of a folder but `ours` into a new one, if no name is taken there."""
    written = set(os.listdir(new))
    try:
        shutil.copytree(
            old,
            new,
            symlinks=True,
            ignore=lambda where, names: [n for n in names if Path(where, n) in ours],
            copy_function=os.link,
            dirs_exist_ok=True,
        )
    except shutil.Error as error:
        path, _, why = error.args[0][0]
        raise FileExistsError(
            f"{path} is not of an earlier save, or was changed since, and cannot be "
            f"kept ({why.split(':')[0]}): move it away, or give another folder"
        ) from error
    for path in ours:  # its folder may be empty now
        with suppress(OSError):
            os.removedirs(new / path.parent.relative_to(old))
    if more := sorted(set(os.listdir(new)) - written):
        message = "%s keeps %s; what was made of an earlier save there is out of date"
        log.warning(message, old, more)


def _swap(new: Path, target: Path) -> None:
    """Give `new` the name `target`; what stood there afterwards stands at `new`."""
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        # For an instant the name is free, and the previous folder stands beside it.
        aside = new.with_name(f"{new.name}.previous")
        target.rename(aside)
        new.rename(target)
        aside.rename(new)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one system call; False where the system or the disk cannot."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "renameat2"):
        return False
    names = _AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b)
    return bool(libc.renameat2(*names, _RENAME_EXCHANGE) == 0)


def project_root() -> Path:
    """Return the project's folder: the nearest one above that holds ``notebooks``."""
    package, here = Path(__file__).resolve().parents[1], Path.cwd()
    for folder in (package, here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return here


def results_folder(profile: str) -> Path:
    """Return where a run's record goes: ``$SBERT_LAB_RESULTS``, or under build/."""
    base = os.environ.get(RESULTS)
    return (Path(base) if base else project_root() / "build" / "results") / profile


def committed_results(profile: str) -> Path:
    """Return the folder of the committed records; only ``--update`` writes there."""
    return project_root() / "data" / "results" / profile


Advance = Callable[[int], object]


@contextmanager
def progress(
    total: int, what: str, *, show: bool | None = None, minimum: int = 2_000
) -> Iterator[Advance]:
    """Show a bar on standard error; yields a function that moves it.

    With `show` None it appears for `minimum` items or more, and only on a terminal, so
    that logs and executed notebooks stay clean.
    """
    if show is None:
        show = total >= minimum and sys.stderr.isatty()
    if not show:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=what, unit_scale=True) as bar:
        yield bar.update


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep that library's reports and bars off the screen; restore them afterwards."""
    from transformers.utils import logging as noise

    level, bar = noise.get_verbosity(), noise.is_progress_bar_enabled()
    noise.set_verbosity(logging.CRITICAL)
    noise.disable_progress_bar()
    try:
        yield
    finally:
        noise.set_verbosity(level)
        if bar:
            noise.enable_progress_bar()


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave every global generator as it was, whatever is drawn or seeded inside."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def no_collections() -> Iterator[None]:
    """Read a large file without collecting garbage, which walks all that is read."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def limit_memory() -> None:
    """Keep a process small and quick in which many models are trained.

    oneDNN keeps a program for each shape it meets, a gigabyte where lengths vary; 64
    are enough. Garbage collection passes over what is loaded by now, mostly libraries.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    gc.collect()
    gc.freeze()


def machine() -> str:
    """Return what a reader of a time must know of where it was measured, in words."""
    file = Path("/proc/cpuinfo")
    told = file.read_text() if file.is_file() else ""
    name = re.search(r"model name\s*: (.*)", told)
    parts = [name[1] if name else platform.machine()]
    vectors = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_tile": "AMX"}
    parts += [word for flag, word in vectors.items() if f" {flag} " in told]
    parts.append(f"{torch.get_num_threads()} threads")
    parts += [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return ", ".join(parts)
