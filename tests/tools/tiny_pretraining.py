"""A corpus of made-up sentences, small enough to pre-train on in a test."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tools.pretraining.corpus import build_corpus
from tools.pretraining.model import Shape, make_model
from tools.pretraining.plan import Plan
from tools.pretraining.prepare import prepare
from tools.pretraining.sources import Source
from tools.pretraining.training import Learner, State, make_optimizer

SHAPE = Shape(layers=2, hidden=32, heads=2, intermediate=64, positions=32)
PLAN = Plan(
    rows=8,
    length=16,
    warmup=5,
    hold=10,
    total=8,
    log_every=2,
    evaluate_every=4,
    snapshots=(),
)
NOUNS = "river stone garden winter letter window horse kitchen".split()
VERBS = "holds covers follows reaches leaves crosses".split()


def sentence(random: np.random.Generator) -> str:
    first, second = random.choice(NOUNS, 2)
    verb = random.choice(VERBS)
    return f"The old {first} {verb} the quiet {second} near the {second} door."


def prepared(root: Path) -> Path:
    """Return a prepared folder of two sources; the corpus folder is beside it."""
    random = np.random.default_rng(0)
    for package in ("alpha-doc", "beta-doc"):
        folder = root / "packages" / package
        folder.mkdir(parents=True)
        for page in range(150):
            parts = (f"{sentence(random)} {sentence(random)}" for _ in range(3))
            (folder / f"page{page:03d}.txt").write_text("\n\n".join(parts))
    sources = {
        "alpha": Source("alpha-doc", "text", ("*.txt",), "made up"),
        "beta": Source("beta-doc", "text", ("*.txt",), "made up", weight=0.5),
    }
    reports = build_corpus(root / "packages", root / "corpus", sources)
    assert [report.source for report in reports] == ["alpha", "beta"]
    prepare(root / "corpus", root / "data", 200, 16, window=3, seed=0)
    return root / "data"


def statics(data: Path):
    return load_file(data / "static_vectors.safetensors")


def fresh(data: Path) -> Learner:
    model = make_model(SHAPE, statics(data), seed=0)
    return Learner(model, make_optimizer(model, 0.01), State())
