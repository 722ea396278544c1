"""The corpus: clean documents of every source, each paragraph once.

The text is the documentation, the dictionaries and the package descriptions of a
Debian release, because they are free, stable, and there wherever a mirror is. Packages
are fetched with apt and unpacked, not installed, beside each other::

    python -m tools.pretraining corpus --list | xargs apt-get download
    for deb in *.deb; do
        name=${deb%%_*}
        dpkg -x "$deb" "PACKAGES/$name"
        dpkg-deb -f "$deb" Version > "PACKAGES/$name/VERSION"
    done

The long descriptions are apt's own ``Translation-en`` index, put into the same folder
as plain text. Sources that are not there are left out.

A corpus folder holds one ``SOURCE.jsonl`` per source, a document a line, and
``sources.json``, the table of packages, licences and sizes.
"""

import csv
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sbert_lab._utils import write_bytes, write_json
from tools.pretraining.readers import READERS, SHORT_TEXTS, is_prose, tidy

log = logging.getLogger(__name__)

TABLE = "sources.json"

_NOT_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Source:
    """Where a source's files lie and how they are read: a row of sources.csv.

    Parameters
    ----------
    package
        Name of the package, which may hold ``*``; empty for files that lie beside
        the packages.
    reader
        A key of `tools.pretraining.readers.READERS`.
    patterns
        Where the files lie in the unpacked package.
    licence
        As the package's ``debian/copyright`` states it.
    weight
        The share of the source that one pass over the corpus shows.
    exclude
        Regular expression; files whose path matches are left out.
    """

    package: str
    reader: str
    patterns: tuple[str, ...]
    licence: str
    weight: float = 1.0
    exclude: str = ""


@dataclass(frozen=True)
class Document:
    """One document: an article, a chapter, a page, a dictionary entry."""

    name: str
    paragraphs: tuple[str, ...]


def load_sources() -> dict[str, Source]:
    """Read sources.csv; the order decides who keeps a paragraph that two have."""
    path = Path(__file__).with_name("sources.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["source"]: Source(
                row["package"],
                row["reader"],
                tuple(row["patterns"].split()),
                row["licence"],
                float(row["weight"]),
                row["exclude"],
            )
            for row in csv.DictReader(file)
        }


def build_corpus(
    packages: Path, out: Path, sources: Mapping[str, Source] | None = None
) -> list[dict[str, Any]]:
    """Clean every source found below `packages` and write a corpus folder.

    Parameters
    ----------
    packages
        Folder with one folder per unpacked package.
    out
        The corpus folder.
    sources
        What to look for; the default is sources.csv.

    Returns
    -------
    list of dict
        The table of sources: one row for each source that was there.
    """
    seen: set[bytes] = set()
    table = []
    for name, source in (sources or load_sources()).items():
        if not source_files(source, packages):
            log.warning("%s: no files of %s", name, source.package)
            continue
        key = _after_headword if source.reader == "wordnet" else tidy
        documents = list(deduplicate(prose_documents(source, packages), seen, key))
        lines = [json.dumps(asdict(d), ensure_ascii=False) for d in documents]
        write_bytes(out / f"{name}.jsonl", ("\n".join(lines) + "\n").encode())
        row = {
            "source": name,
            "package": source.package,
            "version": _version(packages, source.package),
            "licence": source.licence,
            "weight": source.weight,
            "documents": len(documents),
            "bytes": sum(len(p.encode()) + 1 for d in documents for p in d.paragraphs),
        }
        log.info("%s: %d documents, %d bytes", name, row["documents"], row["bytes"])
        table.append(row)
    write_json(out / TABLE, table)
    return table


def load_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a ``SOURCE.jsonl`` file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                record = json.loads(line)
                yield Document(record["name"], tuple(record["paragraphs"]))


def load_table(folder: Path) -> list[dict[str, Any]]:
    """Return the table of sources of a corpus folder, or of a prepared one."""
    table: list[dict[str, Any]] = json.loads((folder / TABLE).read_text("utf-8"))
    return table


def source_files(source: Source, root: Path) -> list[Path]:
    """Return a source's files below `root`, in a fixed order, links left out."""
    exclude = re.compile(source.exclude) if source.exclude else None
    found: set[Path] = set()
    for pattern in source.patterns:
        places = root.glob(f"{source.package}/{pattern}" if source.package else pattern)
        found.update(p for p in places if p.is_file() and not p.is_symlink())
    return sorted(
        path
        for path in found
        if exclude is None or not exclude.search(str(path.relative_to(root)))
    )


def prose_documents(source: Source, root: Path) -> Iterator[Document]:
    """Yield the documents of a source with their prose paragraphs only."""
    least = 4 if source.reader in SHORT_TEXTS else 6
    for path in source_files(source, root):
        place = path.relative_to(root).as_posix()
        for name, paragraphs in READERS[source.reader](path, place):
            kept = tuple(p for p in paragraphs if is_prose(p, least))
            if kept:
                yield Document(name, kept)


def deduplicate(
    documents: Iterable[Document], seen: set[bytes], key: Callable[[str], str] = tidy
) -> Iterator[Document]:
    """Yield the documents without the paragraphs that were there before.

    Parameters
    ----------
    documents
        In the order in which they keep what they share.
    seen
        Fingerprints of all earlier paragraphs; grows as documents are read.
    key
        The part of a paragraph that is compared.
    """
    for document in documents:
        kept = []
        for paragraph in document.paragraphs:
            mark = _fingerprint(key(paragraph))
            if mark not in seen:
                seen.add(mark)
                kept.append(paragraph)
        if kept:
            yield Document(document.name, tuple(kept))


def is_held_out(source: str, name: str, per_mille: int = 15) -> bool:
    """Return whether a document is held out, which its name alone decides, for good."""
    digest = blake2b(f"{source}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 1000 < per_mille


def _fingerprint(paragraph: str) -> bytes:
    """Hash letters and digits, blind to case, space and punctuation."""
    plain = _NOT_WORD.sub(" ", paragraph.lower()).strip()
    return blake2b(plain.encode(), digest_size=10).digest()


def _after_headword(paragraph: str) -> str:
    """Return the bare definition, so that synonyms' equal senses count once."""
    return paragraph.split(": ", 1)[-1]


def _version(root: Path, package: str) -> str:
    """Return a package's version as its folder's ``VERSION`` file states it."""
    paths = sorted(root.glob(f"{package}/VERSION")) if package else []
    return paths[0].read_text().strip() if paths else ""
