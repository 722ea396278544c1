"""Vectors in Parquet, as `embed` writes them, become an index or a database."""

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sbert_lab._utils import Vectors
from sbert_lab.index.embed import LISTING
from sbert_lab.index.vector_index import Kind, VectorIndex

QUERIES = 1_000  # stored vectors with which recall is measured


class Built(NamedTuple):
    """How many vectors an index got, and its recall@10 if it is approximate."""

    vectors: int
    recall: float | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``python -m sbert_lab index``."""
    add = parser.add_argument
    add("--vectors", required=True, help="a folder that embed wrote")
    add("--kind", required=True, choices=[*get_args(Kind), "qdrant"])
    add("--out", required=True, help="a folder; that of an index is replaced")


def build(
    vectors: str | Path, out: str | Path, kind: Kind | Literal["qdrant"]
) -> Built:
    """Build an index of a folder of vectors and save it, or fill one of Qdrant's.

    Its hash is the fingerprint of the encoder, to be given with queries. All vectors
    are held in memory, 4 bytes a dimension, beside the index.
    """
    about, rows, ids = read_vectors(vectors)
    told: Any = {"metric": about["metric"], "model_hash": about["fingerprint"]}
    if kind == "qdrant":
        databases: Any = import_module("sbert_lab.index.databases")
        told["id_type"] = "str" if isinstance(ids[0], str) else "int"
        database = databases.QdrantCollection(
            "vectors", rows.shape[1], path=str(out), **told
        )
        try:
            databases.upload(database, rows, ids)
        finally:
            database.close()
        return Built(len(rows))
    index = VectorIndex.build(rows, ids, kind, **told)
    index.save(out)
    if kind == "flat":
        return Built(len(rows))
    some = np.random.default_rng(0).permutation(len(rows))[:QUERIES]
    recall = index.recall_against_exact(rows[some], 10, vectors=rows)
    return Built(len(rows), float(recall.mean()))


def read_vectors(folder: str | Path) -> tuple[dict[str, Any], Vectors, list[Any]]:
    """Return what `embed` was told, vectors ``[n, d]`` and n ids, in corpus order."""
    folder = Path(folder).expanduser()
    if not (folder / LISTING).is_file():
        raise FileNotFoundError(f"{folder} has no {LISTING}: give a folder of embed's")
    about = json.loads((folder / LISTING).read_text("utf-8"))
    files = sorted(folder.glob("[!._]*.parquet"))
    wanted = sum(-(-rows // about["rows"]) for _, rows, _ in about["files"])
    if len(files) != wanted:
        told = f"{folder} has {len(files)} of {wanted} files"
        raise ValueError(f"{told}: run embed again, which makes those that are missing")
    count = sum(pq.read_metadata(file).num_rows for file in files)
    if not count:
        raise ValueError(f"{folder} has no vectors: see its rejects")
    vectors: Vectors = np.empty((count, about["dimension"]), np.float32)
    ids: list[Any] = []
    for file in files:
        try:
            table = pq.read_table(file, page_checksum_verification=True)
        except (OSError, pa.ArrowInvalid) as error:
            told = f"{file} is damaged: delete it, and run embed again"
            raise ValueError(f"{told} ({error})") from error
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        vectors[len(ids) : len(ids) + table.num_rows] = flat.reshape(
            -1, vectors.shape[1]
        )
        ids += table["id"].to_pylist()
    return about, vectors, ids
