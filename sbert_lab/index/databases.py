"""Vectors in a database that others reach: Qdrant, or PostgreSQL with pgvector.

Asked as a `VectorIndex` is: ids, a metric, scores that are similarities, and a model's
hash that is checked when it is opened. Beside each vector lies a payload, a dict that
JSON can hold, and ``where={"chapter": ["I", "IX"], "year": 2024}`` searches where each
field is the value, or one of the list. They need ``sbert-lab[database]``.
"""

import json
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from sbert_lab._utils import Metric, Vectors, progress, whole_number
from sbert_lab.index.vector_index import Hits, checked_ids, id_list, prepared

Ids = ArrayLike | Collection[Any]
Payload = Sequence[Mapping[str, Any]] | None  # one a vector
Where = Mapping[str, Any] | None
Found = list[list[tuple[Any, float]]]  # ids and scores for each query, nearest first

_ID = "_id"  # where Qdrant's payloads have our id


@dataclass
class VectorDatabase(ABC):
    """Vectors under a name; a kind of database is the methods that are abstract here.

    It is made if it is not there; `id_type`, `M` and `ef_construction` count then. One
    thread uses it, and `close` lets go of it.
    """

    name: str
    dimension: int
    _: KW_ONLY
    metric: Metric = "cosine"
    model_hash: str = ""
    id_type: Literal["int", "str"] = "int"
    M: int = 32
    ef_construction: int = 200
    ef_search: int = 64
    client: Any = field(default=None, init=False, repr=False)  # the library's own

    def __post_init__(self) -> None:
        """Open or make it, and refuse one that was made for other vectors."""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,47}", self.name):
            raise ValueError(f"name={self.name!r}: at most 48 letters, digits and _")
        if self.metric not in get_args(Metric):
            raise ValueError(f"metric={self.metric!r}: one of {get_args(Metric)}")
        try:
            told = self._open()
            told = told if isinstance(told, dict) else {}
            for key in ("model_hash", "dimension", "metric"):
                theirs, ours = told.get(key), getattr(self, key)
                unknown = key == "model_hash" and "" in (theirs, ours)
                if theirs != ours and not unknown:
                    raise ValueError(
                        f"{self.name} was made with {key}={theirs!r}, not {ours!r}: "
                        "encode with the model that it was made for, or give another "
                        "name (None: not made by sbert_lab, or Qdrant is before 1.16)"
                    )
            self.model_hash, self.id_type = told["model_hash"], told["id_type"]
        except BaseException:
            self.close()
            raise

    def upsert(self, vectors: Vectors, ids: Ids, payload: Payload = None) -> None:
        """Store vectors ``[n, d]`` under n ids, in the place of what has them."""
        rows = prepared(vectors, self.dimension, self.metric)
        keys = self._keys(checked_ids(ids, len(rows)))
        self._write(rows, keys, _checked_payload(payload, len(keys)))

    def search(self, queries: Vectors, k: int = 10, *, where: Where = None) -> Hits:
        """Return the k nearest for queries ``[q, d]``, equal scores in any order.

        Fewer come back if there are fewer, or fewer that `where` lets pass.
        """
        rows = prepared(np.atleast_2d(queries), self.dimension, self.metric)
        found = self._nearest(rows, whole_number(k, "k"), _checked_where(where))
        width = max(map(len, found), default=0)
        nothing, kind = (-1, np.int64) if self.id_type == "int" else ("", np.str_)
        full = [row + [(nothing, -np.inf)] * (width - len(row)) for row in found]
        ids: Any = np.array([[key for key, _ in row] for row in full], kind)
        scores = np.array([[score for _, score in row] for row in full], np.float32)
        shape = len(rows), width
        return Hits(ids.reshape(shape), scores.reshape(shape))

    def payloads(self, ids: Ids) -> dict[Any, dict[str, Any]]:
        """Return what lies beside those of these ids that are stored."""
        return self._read(self._keys(ids))

    def create_index(self) -> None:  # noqa: B027
        """Build what makes a search fast, if the database does not by itself."""

    def close(self) -> None:
        """Let go of the database."""
        if self.client is not None:
            self.client.close()

    @property
    def _about(self) -> dict[str, Any]:
        """What is kept with the vectors from when they get a place."""
        kept = ("dimension", "metric", "model_hash", "id_type")
        return {key: getattr(self, key) for key in kept}

    def _keys(self, ids: Ids) -> list[Any]:
        keys = id_list(ids)
        if keys and type(keys[0]).__name__ != self.id_type:
            was = f"{self.name} was made with id_type={self.id_type!r}"
            raise ValueError(f"{was}, which {keys[0]!r} is not: give another name")
        return keys

    @abstractmethod
    def _open(self) -> Any:  # noqa: ANN401
        """Connect, make it if it is not there, and return `_about` as it is kept."""

    @abstractmethod
    def _write(self, rows: Vectors, keys: list[Any], payload: Sequence[Any]) -> None:
        """Store rows in the place of those with the same keys."""

    @abstractmethod
    def _nearest(self, rows: Vectors, k: int, where: dict[str, list[Any]]) -> Found:
        """Search where each field has one of its values."""

    @abstractmethod
    def _read(self, keys: list[Any]) -> dict[Any, dict[str, Any]]:
        """Return the payloads of the keys that are there."""

    @abstractmethod
    def count(self) -> int:
        """Count the vectors."""


@dataclass
class QdrantCollection(VectorDatabase):
    """A collection of Qdrant's, in the folder `path` or on the server at `url`.

    In a folder there is no server: one process opens it at a time, and each search
    compares with all, in Python: 98,505 vectors of 384 numbers take tenths of a second,
    seconds behind a filter, and most of a minute to open. A server walks an HNSW graph;
    what is filtered by often wants ``client.create_payload_index`` there.
    """

    path: str | Path | None = None
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)

    def _open(self) -> Any:  # noqa: ANN401
        at = {"path": self.path, "url": self.url, "api_key": self.api_key}
        self.client = _library("qdrant_client").QdrantClient(**at)
        if not self.client.collection_exists(self.name):
            size = {"size": self.dimension, "distance": self.metric.title()}
            self.client.create_collection(
                self.name,
                _library("qdrant_client.models").VectorParams(**size),
                hnsw_config={"m": self.M, "ef_construct": self.ef_construction},
                metadata=self._about,
            )
        # In a folder each point is a commit that waits for the disk. With a log none
        # does: a killed process loses nothing, a power cut the last points at most.
        with suppress(AttributeError):  # none of this is public
            base = self.client._client.collections[self.name].storage.storage
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")
        return self.client.get_collection(self.name).config.metadata

    def _write(self, rows: Vectors, keys: list[Any], payload: Sequence[Any]) -> None:
        pairs = zip(keys, payload, strict=True)
        self.client.upload_collection(
            self.name,
            rows,
            payload=[{**beside, _ID: key} for key, beside in pairs],
            ids=[_point(key) for key in keys],
            batch_size=1_000,
            wait=True,
        )

    def _nearest(self, rows: Vectors, k: int, where: dict[str, list[Any]]) -> Found:
        models, how = _library("qdrant_client.models"), {}
        if where:
            wanted = [
                {"should": [{"key": key, "match": {"value": v}} for v in values]}
                for key, values in where.items()
            ]
            how["query_filter"] = models.Filter(must=wanted)
        if self.path is None:  # where there is no graph it warns of this
            effort = max(self.ef_search, k)
            how["search_params"] = models.SearchParams(hnsw_ef=effort)
        found = []
        for row in rows:
            answer = self.client.query_points(self.name, row, limit=k, **how)
            found.append([(p.payload[_ID], p.score) for p in answer.points])
        return found

    def _read(self, keys: list[Any]) -> dict[Any, dict[str, Any]]:
        points = self.client.retrieve(self.name, [_point(key) for key in keys])
        return {point.payload.pop(_ID): point.payload for point in points}

    def count(self) -> int:
        """Count the vectors."""
        return int(self.client.count(self.name).count)


@dataclass
class PostgresTable(VectorDatabase):
    """A table with the columns ``id``, ``vector`` and ``payload``, where `url` leads.

    That is ``postgresql://user@host/database``, with pgvector 0.8 or later. An upsert
    is one transaction: others see all of it or nothing, and wait for none. A search
    before `create_index` compares with all. Vectors for cosine are stored scaled, so
    the operator is ``<#>`` in your own SQL too.
    """

    url: str = field(default="", repr=False)  # with a password, perhaps

    def _run(self, query: str, *values: Any, **constants: Any) -> Any:  # noqa: ANN401
        """Run a statement with values, and with constants where SQL takes no values."""
        sql = _library("psycopg.sql")
        parts = {name: sql.Literal(value) for name, value in constants.items()}
        parts["table"] = sql.Identifier(self.name)
        parts["index"] = sql.Identifier(f"{self.name}_hnsw")
        parts["key"] = sql.SQL("bigint" if self.id_type == "int" else "text")
        made = sql.SQL(query).format(**parts)
        # Planned anew each time: the best plan depends on the values.
        return self.client.execute(made, values or None, prepare=False)

    def _open(self) -> Any:  # noqa: ANN401
        adapters = _library("pgvector.psycopg")
        self.client = _library("psycopg").connect(self.url, autocommit=True)
        with self.client.transaction():
            self._run("SELECT pg_advisory_xact_lock(hashtext('sbert_lab'))")
            self._run("CREATE EXTENSION IF NOT EXISTS vector")
            there = "SELECT to_regclass(quote_ident(%s))"
            if not self._run(there, self.name).fetchone()[0]:
                columns = (
                    "CREATE TABLE {table} (id {key} PRIMARY KEY, "
                    "vector vector({d}) NOT NULL, payload jsonb NOT NULL)"
                )
                self._run(columns, d=self.dimension)
                self._run("CREATE INDEX ON {table} USING gin (payload jsonb_path_ops)")
                about = json.dumps(self._about)
                self._run("COMMENT ON TABLE {table} IS {about}", about=about)
            query = "SELECT obj_description(quote_ident(%s)::regclass, 'pg_class')"
            (comment,) = self._run(query, self.name).fetchone()
        adapters.register_vector(self.client)
        with suppress(TypeError, ValueError):  # no comment, or somebody's words
            return json.loads(comment)

    def _write(self, rows: Vectors, keys: list[Any], payload: Sequence[Any]) -> None:
        as_json = _library("psycopg.types.json").Jsonb
        kind = "int8" if self.id_type == "int" else "text"
        with self.client.transaction(), self.client.cursor() as cursor:
            self._run("CREATE TEMP TABLE incoming (LIKE {table}) ON COMMIT DROP")
            with cursor.copy("COPY incoming FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types([kind, "vector", "jsonb"])
                for key, row, beside in zip(keys, rows, payload, strict=True):
                    copy.write_row((key, row, as_json(beside)))
            # In order of id: of two writers neither waits for the other for ever.
            self._run(
                "INSERT INTO {table} SELECT * FROM incoming ORDER BY id "
                "ON CONFLICT (id) DO UPDATE "
                "SET vector = EXCLUDED.vector, payload = EXCLUDED.payload"
            )

    def _nearest(self, rows: Vectors, k: int, where: dict[str, list[Any]]) -> Found:
        query = "SELECT id, -(vector <#> %s) FROM {table} WHERE true"
        query += " AND payload @> ANY (%s::text[]::jsonb[])" * len(where)
        query += " ORDER BY vector <#> %s LIMIT {k}"
        wanted = [[json.dumps({key: v}) for v in vs] for key, vs in where.items()]
        effort, found = min(max(self.ef_search, k), 1_000), []  # pgvector's most
        with self.client.transaction():
            self._run("SET LOCAL hnsw.ef_search = {effort}", effort=effort)
            self._run("SET LOCAL hnsw.iterative_scan = strict_order")
            for row in rows:
                hits = self._run(query, row, *wanted, row, k=k).fetchall()
                if len(hits) < k:  # the graph gave up, or there are no more
                    with self.client.transaction(force_rollback=True):
                        self._run("SET LOCAL enable_indexscan = off")
                        hits = self._run(query, row, *wanted, row, k=k).fetchall()
                found.append(hits)
        return found

    def _read(self, keys: list[Any]) -> dict[Any, dict[str, Any]]:
        query = "SELECT id, payload FROM {table} WHERE id = ANY (%s::{key}[])"
        return dict(self._run(query, keys).fetchall())

    def create_index(self) -> None:
        """Build the HNSW graph if there is none: faster after an upload than before.

        Others can read meanwhile, not write. A graph of more than a GB, 2.2 kB a vector
        of 384 numbers, takes much longer.
        """
        with self.client.transaction():
            self._run("SET LOCAL maintenance_work_mem = '1GB'")
            self._run(
                "CREATE INDEX IF NOT EXISTS {index} ON {table} USING hnsw "
                "(vector vector_ip_ops) WITH (m = {M}, ef_construction = {effort})",
                M=self.M,
                effort=self.ef_construction,
            )
        self._run("ANALYZE {table}")

    def count(self) -> int:
        """Count the vectors."""
        return int(self._run("SELECT count(*) FROM {table}").fetchone()[0])


def upload(
    database: VectorDatabase,
    vectors: Vectors,
    ids: Ids,
    payload: Payload = None,
    *,
    batch_size: int = 1_000,
) -> int:
    """Store what is not stored yet, batch by batch, build the index, return how many.

    Killed and run again, it goes on where it was. An id that is there is left alone,
    whatever its vector: `upsert` replaces.
    """
    keys, stored = checked_ids(ids, len(vectors)).tolist(), 0
    beside = _checked_payload(payload, len(keys))
    size = whole_number(batch_size, "batch_size")
    with progress(len(keys), database.name) as advance:
        for start in range(0, len(keys), size):
            part = range(start, min(start + size, len(keys)))
            there = database.payloads([keys[row] for row in part])
            new = [row for row in part if keys[row] not in there]
            chosen = [keys[row] for row in new], [beside[row] for row in new]
            database.upsert(vectors[new], *chosen)
            stored += len(new)
            advance(len(part))
    database.create_index()
    return stored


def _library(name: str) -> Any:  # noqa: ANN401
    try:
        return import_module(name)
    except ImportError as error:
        cure = "pip install 'sbert-lab[database]'"
        raise ImportError(f"{name} is missing ({error}): {cure}") from error


def _point(key: Any) -> int | str:  # noqa: ANN401
    """Return the id of a point: Qdrant takes whole numbers from 0, and UUIDs."""
    if isinstance(key, int) and key >= 0:
        return key
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(key)))


def _checked_payload(payload: Payload, count: int) -> list[Mapping[str, Any]]:
    """Return a dict for each vector, all of which JSON can hold."""
    listed = [{}] * count if payload is None else list(payload)
    if len(listed) != count:
        raise ValueError(f"{count} vectors need {count} payloads, not {len(listed)}")
    for row, one in enumerate(listed):
        if not isinstance(one, Mapping) or _ID in one:
            raise ValueError(f"payload {row}: a dict without {_ID!r}, not {one!r:.80}")
    json.dumps(listed, allow_nan=False)  # which says what it cannot hold
    return listed


def _checked_where(where: Where) -> dict[str, list[Any]]:
    given = (where or {}).items()
    found = {key: v if isinstance(v, list) else [v] for key, v in given}
    for key, values in found.items():
        right = values and all(isinstance(value, str | int) for value in values)
        if not right or not key.isidentifier():
            raise ValueError(
                f"where={where!r}: a field named like a variable needs a string, a "
                "whole number or a truth value, or a list of them"
            )
    return found
