"""Time `encode` against sentence-transformers, side by side, and against the machine.

    python benchmarks/encode.py [--texts 2000] [--repeats 5]

Both encode the same texts with the same weights in float32, taking turns. The peer runs
at each of several batch sizes and its best one counts. The floor is what the machine's
own matrix product would need for the multiplications alone.
"""

import argparse
import json
import logging
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from experiments.timing import side_by_side
from sbert_lab import SentenceEncoder
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.sts import stsb
from sbert_lab.models.registry import resolve

BATCH_SIZES = (8, 16, 32, 64, 128)
MODEL = "all-MiniLM-L6-v2"


def main() -> None:
    """Print one table a collection of texts, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=Path("build/benchmarks/encode.json")
    )
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    from sentence_transformers import SentenceTransformer

    ours = SentenceEncoder.from_pretrained(MODEL, device="cpu")
    peer = SentenceTransformer(str(resolve(MODEL)), device="cpu")
    rate = sgemm_rate()
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch ", end="")
    print(f"{torch.__version__}, sgemm {rate / 1e9:.0f} GFLOP/s")
    results = {
        name: compare(name, texts[: options.texts], ours, peer, options.repeats, rate)
        for name, texts in collections().items()
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")


def collections() -> dict[str, Sequence[str]]:
    """Return the texts to encode: medical descriptions and, if here, STS sentences."""
    found: dict[str, Sequence[str]] = {
        "ICD-10-CM descriptions": [c.description for c in icd10cm.sample(20_000, 2)]
    }
    try:
        pairs = stsb("test")
        found["STS Benchmark sentences"] = [*pairs.first, *pairs.second]
    except FileNotFoundError as error:
        print(f"without STS Benchmark: {error}")
    return found


def compare(
    name: str,
    texts: Sequence[str],
    ours: SentenceEncoder,
    peer: object,
    repeats: int,
    rate: float,
) -> dict[str, float]:
    """Time both over the same texts and print the ratio."""
    texts = list(texts)
    tokens = np.array([len(ids) for ids in peer.tokenizer(texts)["input_ids"]])
    gap = np.abs(ours.encode(texts) - peer.encode(texts)).max()
    ways = {"sbert_lab": lambda: ours.encode(texts)}
    for size in BATCH_SIZES:
        ways[f"sentence-transformers, batch {size}"] = lambda size=size: peer.encode(
            texts, batch_size=size, show_progress_bar=False
        )
    times = side_by_side(ways, repeats)
    middle = {way: float(np.median(seconds)) for way, seconds in times.items()}
    best = min((k for k in times if k != "sbert_lab"), key=lambda k: middle[k])
    ratio = middle[best] / middle["sbert_lab"]
    floor = len(texts) / (flops(ours, tokens) / rate)
    unique = len(set(texts))
    print(
        f"\n{name}: {len(texts)} texts, {unique} different, {tokens.mean():.1f} tokens"
    )
    for way, seconds in times.items():
        slow, usual, fast = len(texts) / np.quantile(seconds, [1, 0.5, 0])
        print(f"  {way:36} {usual:7.0f} texts/s (median; {slow:.0f} to {fast:.0f})")
    print(f"  {'floor: the multiplications alone':36} {floor:7.0f}")
    print(f"  {ratio:.2f} times {best}; largest difference {gap:.1e}")
    return {
        "ratio": ratio,
        "sbert_lab": len(texts) / middle["sbert_lab"],
        "peer": len(texts) / middle[best],
        "floor": floor,
        "largest_difference": float(gap),
    }


def sgemm_rate() -> float:
    """Return the float32 matrix product's rate in FLOP/s, at the model's shapes."""
    a, b = torch.randn(2048, 384), torch.randn(384, 1536)
    spent = side_by_side({"sgemm": lambda: [a @ b for _ in range(20)]}, 9)["sgemm"]
    return 20 * 2 * 2048 * 384 * 1536 / float(np.median(spent))


def flops(encoder: SentenceEncoder, tokens: np.ndarray) -> float:
    """Count the multiplications and additions of the transformer for these lengths."""
    config = encoder.transformer.config
    width, inner = config.hidden_size, config.intermediate_size
    linear = 2 * (4 * width**2 + 2 * width * inner) * tokens.sum()
    attention = 4 * width * (tokens.astype(float) ** 2).sum()
    return float(config.num_hidden_layers * (linear + attention))


if __name__ == "__main__":
    main()
