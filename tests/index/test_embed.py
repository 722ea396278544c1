"""A corpus becomes vectors: the same ones everywhere, once each, whatever is killed."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import WORDS, tiny_encoder
from filelock import FileLock

from sbert_lab import SentenceEncoder, VectorIndex
from sbert_lab.__main__ import main
from sbert_lab.index import embed as module
from sbert_lab.index.build import build
from sbert_lab.index.embed import embed

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(module.__file__).parents[2]
PROMPTS = {"document": "passage : "}
rng = np.random.default_rng(0)
TEXTS = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(1_000)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_encoder(prompts=PROMPTS, max_seq_length=16).save(folder)
    return folder


@pytest.fixture(scope="module")
def truth(model) -> np.ndarray:
    return SentenceEncoder.from_pretrained(model).encode_document(TEXTS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two files, whose row groups no block fits."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, rows in (("a", range(610)), ("b", range(610, 1_000))):
        columns = {"id": [f"d{row}" for row in rows], "text": [TEXTS[r] for r in rows]}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=70)
    return folder


def written(out: Path) -> tuple[list, np.ndarray]:
    """Read a folder as any reader of Parquet does, which leaves out what has a _."""
    table = pq.read_table(out)
    return table["id"].to_pylist(), np.stack(table["vector"].to_numpy())


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    found = {file.name: file.stat() for file in out.glob("[!._]*.parquet")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def check(out: Path, truth: np.ndarray) -> None:
    ids, vectors = written(out)
    assert ids == [f"d{row}" for row in range(1_000)]
    np.testing.assert_allclose(vectors, truth, atol=1e-6)


def test_vectors_are_those_of_the_encoder(corpus, model, truth, tmp_path):
    done = embed(corpus, tmp_path / "out", model=model, rows=100)
    assert (done.vectors, done.kept, done.rejects) == (1_000, 0, {})
    assert done.cut == sum(len(text.split()) + 4 > 16 for text in TEXTS) > 0
    check(tmp_path / "out", truth)
    sizes = [
        pq.read_metadata(p).num_rows for p in sorted((tmp_path / "out").glob("0*"))
    ]
    assert sizes == [100] * 6 + [10] + [100] * 3 + [90]


def test_a_killed_run_goes_on_where_it_was(corpus, model, truth, tmp_path):
    out = tmp_path / "out"
    given = ["--corpus", corpus, "--out", out, "--model", model, "--rows", "8"]
    command = [sys.executable, "-m", "sbert_lab", "embed", *map(str, given)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})
    while run.poll() is None and len(stamps(out)) < 3:
        time.sleep(0.01)
    run.kill()
    assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    before = stamps(out)
    torn = out / ".00000-000000000000.parquet.0123abcd"
    torn.write_bytes(b"PAR1")
    halved = out / min(before)
    halved.write_bytes(halved.read_bytes()[:-20])
    done = embed(corpus, out, model=model, rows=8)
    after = stamps(out)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {halved.name}
    assert done.kept == 8 * (len(before) - 1)
    assert not torn.exists()
    check(out, truth)


@pytest.fixture(scope="module")
def cluster():
    """One cluster of two cores, here."""
    ray = pytest.importorskip("ray", reason="pip install 'sbert-lab[scale]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"log_to_driver": False, "include_dashboard": False}
        ray.init("local", num_cpus=2, logging_level="ERROR", **quiet)
        yield
        ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_ray_gives_the_same_though_an_actor_is_killed(corpus, model, truth, tmp_path):
    out, killed = tmp_path / "out", []

    def kill():
        """Kill the first actor as soon as two blocks are there."""
        while len(stamps(out)) < 2:
            time.sleep(0.01)
        killed.append(stamps(out))
        for process in psutil.Process().children(recursive=True):
            if " ".join(process.cmdline()).startswith("ray::MapWorker"):
                process.kill()
                killed.append(process.pid)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    done = embed(corpus, out, model=model, rows=10, ray="auto", actors=2)
    thread.join()
    assert len(killed) == 2
    assert (done.vectors, done.kept) == (1_000, 0)
    check(out, truth)
    after = stamps(out)
    assert all(after[name] == stamp for name, stamp in killed[0].items())
    assert embed(corpus, out, model=model, rows=10, ray="auto").kept == 1_000


def test_what_is_no_text_is_listed_with_its_reason(model, tmp_path, capsys):
    """Twenty bad rows, one at a time among good ones; strings that are no UTF-8 too."""
    whole, texts = list(range(100, 160)), [b"the cat sat"] * 60
    reasons = {}
    spoilt = {
        "text is null": None,
        "text is no UTF-8": b"caf\xe9",
        "text is longer than 1,000,000 bytes": b"a " * 500_001,
        "text is empty": b" \n",
    }
    for at, (reason, text) in enumerate([*spoilt.items()] * 3):
        texts[3 * at], reasons[3 * at + 1] = text, reason
    ids = [*whole]
    for row, key, reason in ((40, None, "id is null"), (44, 101, "id is repeated")):
        ids[row], reasons[row + 1] = key, reason
    ids[48], reasons[49] = -1, "id is -1, or ends in NUL"
    flat = pa.array(texts, pa.binary())
    strings = pa.Array.from_buffers(pa.string(), 60, flat.buffers())
    folder = tmp_path / "corpus"
    folder.mkdir()
    pq.write_table(pa.table({"id": ids, "text": strings}), folder / "a.parquet")
    numbers = {"id": range(1, 6), "text": range(5)}  # as pandas writes "1984", …
    pq.write_table(pa.table(numbers), folder / "b.parquet")
    out = tmp_path / "out"
    given = ["--corpus", folder, "--out", out, "--model", model, "--rows", 16]
    assert main(["embed", *map(str, given)]) == 0
    told = capsys.readouterr().out
    assert "45 vectors" in told
    assert "3 rows left out: text is longer than" in told
    assert "5 rows left out: text is no string" in told
    table = pq.read_table(out / "_rejects").to_pylist()
    assert len(table) == 20
    first = {r["row"]: r["reason"] for r in table if r["file"].endswith("a.parquet")}
    assert first == reasons
    assert sorted(written(out)[0] + [int(r["id"]) for r in table if r["id"]]) == sorted(
        [key for key in ids if key is not None] + [1, 2, 3, 4, 5]
    )


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), "dictionary"])
def test_every_spelling_of_a_string_is_one(kind, model, truth, tmp_path):
    plain = pa.array(TEXTS[:30])
    text = plain.dictionary_encode() if kind == "dictionary" else plain.cast(kind)
    pq.write_table(pa.table({"id": range(30), "text": text}), tmp_path / "c.parquet")
    embed(tmp_path / "c.parquet", tmp_path / "out", model=model)
    np.testing.assert_allclose(written(tmp_path / "out")[1], truth[:30], atol=1e-6)


def test_what_cannot_be_is_refused_with_the_cure(corpus, model, tmp_path):
    out, other, moved = tmp_path / "out", tmp_path / "other", tmp_path / "moved"
    tiny_encoder(1).save(other)
    embed(corpus / "b.parquet", out, model=model)
    moved.mkdir()
    (moved / "b.parquet").write_bytes((corpus / "b.parquet").read_bytes())
    assert embed(moved / "b.parquet", out, model=model).kept == 390
    changed = pq.read_table(moved / "b.parquet").slice(1)
    pq.write_table(changed, moved / "b.parquet")
    columns = {"id": [0.5], "n": [1], "words": [["a"]], "text": ["a"]}
    pq.write_table(pa.table(columns), tmp_path / "odd.parquet")
    odd = {"corpus": tmp_path / "odd.parquet", "out": tmp_path / "new"}
    usual = {"corpus": corpus / "b.parquet", "out": out}
    for given, told in (
        (
            usual | {"model": other},
            "is of another fingerprint, .*: give another folder",
        ),
        (usual | {"rows": 7}, "is of another rows: give another folder"),
        (usual | {"corpus": moved}, "is of another files"),
        (usual | {"out": corpus}, "holds a.parquet: give a new folder"),
        (usual | {"corpus": tmp_path / "none"}, "no Parquet file, and no folder"),
        (usual | {"actors": 2}, "say --ray auto"),
        (odd, "id is double: make all integers"),
        (odd | {"text": "body"}, "has the columns id, n, words, text: name two"),
        (odd | {"id": "n", "text": "words"}, r"words is list.*names one, of text"),
    ):
        with pytest.raises((ValueError, OSError), match=told):
            embed(**{"model": model} | given)
    with FileLock(out / ".lock"), pytest.raises(OSError, match="wait for its end"):
        embed(corpus / "b.parquet", out, model=model)


def test_an_index_of_them_finds_its_own(corpus, model, truth, tmp_path, capsys):
    out, index = tmp_path / "out", tmp_path / "index"
    embed(corpus, out, model=model, rows=100)
    given = ["--vectors", out, "--out", index, "--kind", "hnsw"]
    assert main(["index", *map(str, given)]) == 0
    recall = re.search(
        r"1,000 vectors, hnsw, recall@10 (\S+):", capsys.readouterr().out
    )
    assert float(recall[1]) > 0.95
    encoder = SentenceEncoder.from_pretrained(model)
    loaded = VectorIndex.load(index, model_hash=encoder.fingerprint())
    ids = loaded.search(truth[::50], 1).ids[:, 0]
    assert [TEXTS[int(i[1:])] for i in ids] == TEXTS[::50]  # some texts stand twice
    file = out / "00001-000000000100.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged: delete it, and run embed again"):
        build(out, index, "flat")
    file.unlink()
    with pytest.raises(ValueError, match="has 10 of 11 files: run embed again"):
        build(out, index, "flat")
    embed(corpus, out, model=model, rows=100)
    assert build(out, index, "flat") == (1_000, None)


def test_the_plan_on_paper_is_what_its_snippet_prints():
    text = (ROOT / "benchmarks" / "scale.md").read_text("utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(snippet, names)
    assert "-|\n" + said.getvalue() in text
    some = np.random.default_rng(0).normal(size=(2_000, names["d"])).astype(np.float32)
    hnsw = VectorIndex.build(some, kind="hnsw", M=names["M"], ef_construction=40)
    assert hnsw.nbytes() / 2_000 == pytest.approx(4 * 384 + 2 * 32 * 4 + 16, rel=0.01)
    ivfpq = VectorIndex.build(some, kind="ivfpq", nlist=8, m=names["m"])
    learnt = 4 * names["d"] * (8 + 256)
    assert ivfpq.nbytes() - learnt == pytest.approx(2_000 * (48 + 8), rel=0.02)
