"""The shape of the package: what imports what, and what importing it costs."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sbert_lab"

#: Each layer may import the ones before it, never a later one.
LAYERS = (
    "files paths memory progress random_state batching packed fingerprint catalogue "
    "pooling checkpoint transformer head cache growing exact fitted quantization "
    "reduction compressed interface stores tuning static lexical_encoders encoder "
    "onnx_graph "
    "onnx_models distillation averaging layers reranking cross_folder cross_encoder "
    "search fusion chunks passages losses sampling datasets "
    "evaluation mining training lab selection adaptation pretrain __main__"
).split()


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "sbert_lab"
        ):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    return found


def test_imports_run_one_way():
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        here = layer(path)
        if here == "__init__":
            continue
        for name in imports(path):
            seen += 1
            assert LAYERS.index(name) <= LAYERS.index(here), f"{path} imports {name}"
    assert seen > 30


def test_no_layer_is_forgotten():
    assert {layer(p) for p in PACKAGE.rglob("*.py")} - {"__init__"} == set(LAYERS)


def test_files_stay_short():
    long = {
        path.name: count
        for path in PACKAGE.rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 510
    }
    assert not long


@pytest.mark.slow
def test_import_adds_little_to_torch():
    """At most 0.3 s over ``import torch``, median of five alternating runs."""
    times: dict[str, list[float]] = {"import torch": [], "import torch, sbert_lab": []}
    for _ in range(5):
        for code, seconds in times.items():
            script = (
                f"import time; start = time.perf_counter(); {code};"
                "print(time.perf_counter() - start)"
            )
            done = subprocess.run(
                [sys.executable, "-c", script],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds.append(float(done.stdout))
    base, with_us = map(statistics.median, times.values())
    assert with_us - base <= 0.3


def test_import_does_not_load_heavy_libraries():
    heavy = ["transformers", "faiss", "mteb", "sklearn", "matplotlib", "pandas"]
    code = (
        "import sys, sbert_lab; from sbert_lab import SentenceEncoder, VectorIndex;"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_global_random_state_is_touched():
    """Loading, encoding and searching leave every global generator as it was."""

    import numpy as np
    from conftest import states, tiny_encoder

    from sbert_lab import VectorIndex

    before = states()
    vectors = tiny_encoder().encode(["the cat", "a dog", "a bird"] * 100)
    rng = np.random.default_rng(0)
    vectors = vectors + rng.normal(size=vectors.shape).astype(np.float32)
    VectorIndex.build(vectors, kind="ivfpq", lists=4).search(vectors[:3])
    assert states() == before
