"""A corpus in Parquet becomes vectors in Parquet: in this process, or on a Ray cluster.

It is cut into blocks of rows, each a file of the output, written atomically: a kill
loses the blocks in work, and the next run encodes what is not there.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout

from sbert_lab import _utils
from sbert_lab.models.sentence_encoder import SentenceEncoder, metric_of

#: Readers of a folder of Parquet leave out what begins with an underscore or a dot.
LISTING, REJECTS = "_embed.json", "_rejects"

#: Bytes of a text, in UTF-8; a longer one is a file that went astray.
LONGEST = 1_000_000

_TOLD = b"sbert_lab"  # in a file's metadata: counts, and under which settings


class Block(NamedTuple):
    """Rows of a file, encoded together; those `repeated` have the id of another one."""

    name: str
    file: str
    first: int
    rows: int
    repeated: list[int]


class Summary(NamedTuple):
    """What a folder of vectors holds, `kept` of them from earlier runs."""

    vectors: int
    kept: int
    rejects: Counter[str]  #: rows by reason
    cut: int  #: texts longer than the model reads
    seconds: float  #: that this run took to encode


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``python -m sbert_lab embed``."""
    add = parser.add_argument
    add("--corpus", required=True, help="a Parquet file, or a folder of them")
    add("--out", required=True, help="a new folder, or that of a stopped run")
    add("--text", default="text", help="the column that is encoded")
    add("--id", default="id", help="the column of ids: integers or strings")
    add("--model", default="all-MiniLM-L6-v2", help="a name, a folder, or owner/name")
    add("--rows", type=int, default=5_000, help="of one file of --out; default 5000")
    add("--ray", metavar="ADDRESS", help="on Ray: the address of a cluster, or auto")
    add("--actors", type=int, help="of Ray: one for each GPU, or else for each core")


def embed(
    corpus: str | Path,
    out: str | Path,
    *,
    text: str = "text",
    id: str = "id",
    model: str = "all-MiniLM-L6-v2",
    rows: int = 5_000,
    ray: str | None = None,
    actors: int | None = None,
) -> Summary:
    """Encode the `text` column of a Parquet file, or a folder of them, as documents.

    Each file of `out` has the columns ``id`` and ``vector``, float32, of up to `rows`
    rows in the order of the corpus. Rows without a usable text or id are left out and
    stand in `REJECTS`, with file, row (counted from 1), id and reason; of rows of one
    id the first counts. The encoder sorts the texts of a block by length.

    `ray` is the address of a cluster whose machines see the same files, or ``"auto"``:
    one that runs here, or else a new one. Each of the `actors` loads the model once.
    The folder of a stopped run is completed; that of another corpus, model or setting
    is an error. All ids are held in memory here, some 100 bytes each.
    """
    out = Path(out).expanduser().resolve()
    if actors is not None and not ray:
        raise ValueError("actors are processes of Ray: say --ray auto, too")
    files = _files(Path(corpus).expanduser().resolve(), text, id)
    encoder = SentenceEncoder.from_pretrained(model, device="cpu" if ray else None)
    here = Path(model).expanduser()
    model = str(here.resolve()) if here.is_dir() else model
    settings = {
        "fingerprint": encoder.fingerprint(),
        "prompt": encoder.prompt_for("document"),
        "dimension": encoder.dimension,
        "metric": metric_of(encoder),
        "text": text,
        "id": id,
        "rows": _utils.whole_number(rows, "rows"),
        "files": [_described(path) for path in files],
    }
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            _check_place(out, settings, {"model": model, "corpus": str(corpus)})
            worker = Worker(out, model, settings, None if ray else encoder)
            found = [
                (block, worker.counts(block)) for block in _blocks(files, id, rows)
            ]
            todo = [block for block, told in found if not told]
            made: Generator[Any] = (worker(block) for block in todo)
            if ray and todo:
                made = _on_ray(worker, todo, ray, actors)
            tells = old = [told for _, told in found if told]
            total, began = sum(block.rows for block in todo), time.monotonic()
            with closing(made), _utils.progress(total, "texts") as advance:
                for told in made:
                    if "error" in told:
                        raise ValueError(f"{told['error']}; the rest is kept in {out}")
                    tells = [*tells, told]
                    advance(told["vectors"] + sum(told["rejects"].values()))
    except Timeout as error:
        raise BlockingIOError(f"another run writes {out}: wait for its end") from error
    return Summary(
        vectors=sum(told["vectors"] for told in tells),
        kept=sum(told["vectors"] for told in old),
        rejects=sum((Counter(told["rejects"]) for told in tells), Counter()),
        cut=sum(told["cut"] for told in tells),
        seconds=time.monotonic() - began,
    )


class Worker:
    """Turns a block into a file of `out`, unless it is there."""

    def __init__(
        self,
        out: Path,
        model: str,
        settings: dict[str, Any],
        encoder: SentenceEncoder | None = None,
        threads: int = 0,
    ) -> None:
        self.out, self.model, self.settings = out, model, settings
        self.encoder = encoder  # or else the first block loads it
        self._digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        self._held: tuple[Any, Any] = (None, None)  # the row group read last
        if threads:
            torch.set_num_threads(threads)
            os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizer's

    def counts(self, block: Block) -> dict[str, Any] | None:
        """Return what a block's file tells of itself; None if there is no sound one."""
        try:
            about = pq.read_metadata(self.out / block.name).metadata
            told: dict[str, Any] = json.loads(about[_TOLD])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return told if told["settings"] == self._digest else None

    def __call__(self, block: Block) -> dict[str, Any]:
        """Encode a block; returns its counts, or an ``error`` that ends the run."""
        try:
            return self.counts(block) or self._encode(block)
        except (OSError, ValueError) as error:
            return {"error": f"{block.file}, from row {block.first + 1}: {error}"}

    def _encode(self, block: Block) -> dict[str, Any]:
        """Encode what can be; write the rejects and, last, the vectors."""
        if self.encoder is None:
            self.encoder = SentenceEncoder.from_pretrained(self.model)
            if self.encoder.fingerprint() != self.settings["fingerprint"]:
                raise ValueError("the model on this machine is another: copy it anew")
        ids, texts = map(_plain, self._read(block))
        kept, rejects = {}, []
        pairs = zip(ids.to_pylist(), texts.to_pylist(), strict=True)
        for row, (key, text) in enumerate(pairs):
            key, problem = _checked(key, "id")
            text, wrong = _checked(text, "text")
            repeated = "id is repeated" * (row in block.repeated)
            if reason := problem or repeated or wrong:
                at = {"file": block.file, "row": block.first + row + 1}
                shown = None if key is None else str(key)
                rejects.append(at | {"id": shown, "reason": reason})
            else:
                kept[key] = text
        usable = list(kept.values())
        vectors = self.encoder.encode_document(usable, show_progress=False)
        told = {
            "settings": self._digest,
            "vectors": len(kept),
            "rejects": Counter(row["reason"] for row in rejects),
            "cut": self.encoder.last_truncated,
        }
        if rejects:
            _write(self.out / REJECTS / block.name, pa.Table.from_pylist(rejects))
        kind = ids.type if pa.types.is_integer(ids.type) else pa.string()
        flat, width = pa.array(vectors.ravel()), self.encoder.dimension
        rows = pa.FixedSizeListArray.from_arrays(flat, width)
        table = pa.table({"id": pa.array(list(kept), kind), "vector": rows})
        about = {_TOLD: json.dumps(told)}
        _write(self.out / block.name, table.replace_schema_metadata(about))
        return told

    def _read(self, block: Block) -> Any:  # noqa: ANN401  (pyarrow has no types)
        """Return ids and texts, out of the row groups in which they lie."""
        names = [self.settings["id"], self.settings["text"]]
        parts, start, end = [], 0, block.first + block.rows
        with pq.ParquetFile(block.file) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                first, last = max(start, block.first), min(start + size, end)
                if first < last:
                    if self._held[0] != (block.file, group):
                        content = file.read_row_group(group, columns=names)
                        self._held = (block.file, group), content
                    parts.append(self._held[1].slice(first - start, last - first))
                start += size
        return pa.concat_tables(parts).select(names).columns


class _Actor(Worker):
    """A `Worker` for Ray Data, which passes tables: blocks and counts are JSON."""

    def __call__(self, batch: Any) -> dict[str, Any]:  # noqa: ANN401
        block = Block(*json.loads(batch["item"][0]))
        try:
            told = super().__call__(block)
        except Exception as error:  # Ray would try for ever
            told = {"error": f"{block.file}: {type(error).__name__}: {error}"}
        return {"told": [json.dumps(told)]}


def _on_ray(
    worker: Worker, todo: list[Block], address: str, actors: int | None
) -> Generator[dict[str, Any]]:
    """Yield what is told of each block, in the order in which actors end them."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        cure = "pip install 'sbert-lab[scale]', or leave --ray out"
        raise ModuleNotFoundError(f"{error}: {cure}") from error

    begun = not ray.is_initialized()
    if begun:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(None if address == "auto" else address, **quiet)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        has = ray.cluster_resources()
        cores, chips = has.get("CPU", 1.0), has.get("GPU", 0.0)
        count = _utils.whole_number(actors or int(chips or cores), "actors")
        threads = max(1, int(cores / count))
        made = ray.data.from_items(
            [json.dumps(block) for block in todo],
            override_num_blocks=len(todo),  # each is tried again alone
        ).map_batches(
            _Actor,
            fn_constructor_args=(worker.out, worker.model, worker.settings),
            fn_constructor_kwargs={"threads": threads},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(todo))),
            num_cpus=min(threads, cores / count),
            num_gpus=min(1.0, chips / count),
        )  # an actor that dies is replaced, and its block encoded by the next
        for row in made.iter_rows():
            yield json.loads(row["told"])
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()[-1]
        told = f"Ray gave up ({said}); run the command again"
        raise ChildProcessError(told) from error
    finally:
        if begun:
            ray.shutdown()


def _check_place(out: Path, settings: dict[str, Any], about: dict[str, str]) -> None:
    """Write the listing of a new folder; refuse one that is not of these settings."""
    listing = out / LISTING
    if listing.is_file():
        had = json.loads(listing.read_text("utf-8"))
        if unlike := [name for name in settings if had.get(name) != settings[name]]:
            raise ValueError(
                f"{out} is of another {', '.join(unlike)}: give another folder, or "
                f"what its {LISTING} says, such as --model {had.get('model')}"
            )
    elif others := set(os.listdir(out)) - {".lock"}:
        raise FileExistsError(f"{out} holds {min(others)}: give a new folder")
    _utils.write_json(listing, settings | about)
    for torn in (*out.glob(".*.parquet.*"), *out.glob(f"{REJECTS}/.*.parquet.*")):
        torn.unlink(missing_ok=True)  # of a process that was killed as it wrote


def _files(corpus: Path, text: str, id: str) -> list[Path]:
    """Return a corpus's files in order, or say what is wrong with their columns."""
    files = [corpus] if corpus.is_file() else sorted(corpus.glob("[!._]*.parquet"))
    if not files:
        raise FileNotFoundError(f"{corpus}: no Parquet file, and no folder of them")
    texts, whole = [], set()
    for path in files:
        try:
            schema = pq.read_schema(path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is no Parquet, or damaged: {error}") from error
        names = [field.name for field in schema if _is_text(field.type)]
        if not {text, id} <= set(schema.names):
            has = ", ".join(schema.names)
            raise ValueError(f"{path} has the columns {has}: name two, --text and --id")
        kind = schema.field(id).type
        whole.add(pa.types.is_integer(kind))
        if len(whole) == 2 or not (pa.types.is_integer(kind) or _is_text(kind)):
            raise ValueError(f"{path}: {id} is {kind}: make all integers, or strings")
        texts += [path] if text in names else []
    if not texts:  # in some of many files it is a matter of their rows
        told = f"{path}: {text} is {schema.field(text).type}, no text: --text names one"
        raise ValueError(f"{told}, of {', '.join(names) or 'another corpus'}")
    return files


def _blocks(files: list[Path], id: str, size: int) -> Iterator[Block]:
    """Yield the blocks of a corpus; an id counts where it stands first."""
    columns = [_plain(pq.ParquetFile(file).read([id])[id]) for file in files]
    ids = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
    table = pa.table({"id": ids, "row": np.arange(len(ids))})
    firsts = table.group_by("id").aggregate([("row", "min")])["row_min"]
    repeated = np.array(ids.is_valid())
    repeated[firsts.to_numpy()] = False
    begin = 0
    for number, (file, column) in enumerate(zip(files, columns, strict=True)):
        for first in range(0, len(column), size):
            rows = min(size, len(column) - first)
            again = np.flatnonzero(repeated[begin + first :][:rows]).tolist()
            yield Block(
                f"{number:05}-{first:012}.parquet", str(file), first, rows, again
            )
        begin += len(column)


def _described(path: Path) -> list[str | int]:
    """Return what must be the same of a file in the next run: all but its folder."""
    return [path.name, pq.read_metadata(path).num_rows, _utils.sha256_file(path)]


def _is_text(kind: Any) -> bool:  # noqa: ANN401
    """Whether a column holds texts, or bytes that may be some."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    words = r"(large_|fixed_size_)?(string|binary)(_view)?(\[\d+\])?"
    return re.fullmatch(words, str(kind)) is not None


def _plain(column: Any) -> Any:  # noqa: ANN401
    """Return texts as bytes, which may be no UTF-8, and integers as of 64 bits."""
    if _is_text(column.type):
        return column.cast(pa.large_binary())
    return column.cast(pa.int64()) if pa.types.is_integer(column.type) else column


def _checked(value: Any, what: str) -> tuple[Any, str]:  # noqa: ANN401
    """Return an id or a text, and what is wrong with it."""
    if value is None:
        return None, f"{what} is null"
    if isinstance(value, bytes):
        if len(value) > LONGEST:
            return None, f"{what} is longer than {LONGEST:,} bytes"
        value, given = value.decode(errors="replace"), value
        if value.encode() != given:
            return value, f"{what} is no UTF-8"
    elif what == "text":
        return None, "text is no string"
    if what == "id" and (value == -1 or str(value).endswith("\0")):
        return value, "id is -1, or ends in NUL"
    return value, "" if str(value).strip() else f"{what} is empty"


def _write(path: Path, table: Any) -> None:  # noqa: ANN401
    """Write a table atomically; compression makes vectors no smaller."""
    memory, plain = BytesIO(), {"compression": "none", "use_dictionary": False}
    pq.write_table(table, memory, write_page_checksum=True, **plain)
    _utils.write_bytes(path, memory.getvalue())
