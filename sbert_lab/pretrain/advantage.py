"""Advantage: how much better a start is than one that lacks what it knows.

The predictions of `transfer` are compared item by item, over all seeds, and written
down where a reader of the weights will look: in the model card, with a figure.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig, BertModel

from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.similarity import by_name, stsb
from sbert_lab.evaluation.lexical import word_overlap
from sbert_lab.evaluation.protocols import similarity_score
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.files import write_bytes, write_json
from sbert_lab.lab import figures
from sbert_lab.pretrain import starts
from sbert_lab.pretrain.transfer import (
    Predictions,
    encoder_of,
    measure_retrieval,
    measure_similarity,
)

log = logging.getLogger(__name__)

#: What is measured, as the card calls it.
STSB, LADDER, UNSHARED, TERMS = (
    "STS Benchmark test",
    "ladder",
    "ladder, no shared word",
    "ICD-10-CM terms",
)
SHIPPED, STATIC, RANDOM = "shipped", "static", "random"
SECTION = "## What pre-training is worth"
RECORD, FIGURE = "transfer.json", "advantage.png"

Runs = Sequence[Predictions]


def compare(runs: Runs, baseline: Runs | None = None) -> dict[str, Interval]:
    """Return each measure of a start, or its difference from another start's.

    Spearman's correlation of the cosines with the gold scores, and nDCG@10.

    Parameters
    ----------
    runs
        Predictions, one for each seed.
    baseline
        Another start's, seed by seed; the intervals are then of paired differences.
    """
    found: dict[str, Interval] = {}
    if "stsb" in runs[0]:
        ladder = by_name("ladder")
        together = zip(ladder.first, ladder.second, strict=True)
        unshared = np.array([word_overlap(a, b) == 0 for a, b in together])
        for name, key, pairs, kept in (
            (STSB, "stsb", stsb("test"), None),
            (LADDER, "ladder", ladder, None),
            (UNSHARED, "ladder", ladder, unshared),
        ):
            found[name] = similarity_score(
                pairs,
                _rows(runs, key),
                baseline=None if baseline is None else _rows(baseline, key),
                kept=kept,
            )
    if "icd10cm" in runs[0]:
        values = _rows(runs, "icd10cm")
        if baseline is not None:
            values = values - _rows(baseline, "icd10cm")
        category = [code.category for _, code in icd10cm.split_pairs("test")]
        found[TERMS] = bootstrap_mean(values, groups=category)
    return found


def _rows(runs: Runs, key: str) -> NDArray[np.float64]:
    return np.stack([run[key] for run in runs]).astype(np.float64)


def run(
    weights: Path,
    curve: Mapping[float, Path],
    statics: Path,
    out: Path,
    *,
    seeds: int = 3,
    bf16: bool = False,
) -> dict[str, Any]:
    """Fine-tune every start with every seed, and compare them.

    Parameters
    ----------
    weights
        Exported weights: the start in question.
    curve
        Earlier exports of the same run, by millions of tokens seen. They are measured
        for similarity only, which takes a third of the time.
    statics
        Folder of the static vectors.
    out
        Folder for the predictions. What is there is not trained again.
    seeds
        How many.
    bf16
        Whether matrix products are in bfloat16 while training.

    Returns
    -------
    dict
        What `card` reads: intervals of each start, of the shipped weights' advantage
        over the two others, and of the curve's.
    """
    config = AutoConfig.from_pretrained(weights)
    shape = starts.shape_of(config)

    def shipped(folder: Path, _: int) -> BertModel:
        return starts.pretrained(folder)

    makers: dict[str, Callable[[int], BertModel]] = {
        SHIPPED: partial(shipped, weights),
        STATIC: lambda seed: starts.static_only(statics, shape, seed),
        RANDOM: lambda seed: starts.untrained(config, seed),
    }
    found: dict[str, list[Predictions]] = {}
    for name, maker in makers.items():
        found[name] = [
            _similarity(name, maker, seed, weights, out, bf16)
            | _retrieval(name, maker, seed, weights, out, bf16)
            for seed in range(seeds)
        ]
    points = {}
    for tokens, folder in sorted(curve.items()):
        maker = partial(shipped, folder)
        name = f"{tokens:g}M"
        points[tokens] = [
            _similarity(name, maker, seed, weights, out, bf16) for seed in range(seeds)
        ]
    return {
        "seeds": seeds,
        "starts": {name: _plain(compare(runs)) for name, runs in found.items()},
        "advantage": {
            other: _plain(compare(found[SHIPPED], found[other]))
            for other in (STATIC, RANDOM)
        },
        "tokens": tokens_seen(weights),
        "curve": [
            {
                "tokens": tokens,
                **{
                    other: _plain(compare(runs, found[other]))
                    for other in (STATIC, RANDOM)
                },
            }
            for tokens, runs in points.items()
        ],
    }


def _similarity(
    name: str,
    maker: Callable[[int], BertModel],
    seed: int,
    tokenizer: Path,
    out: Path,
    bf16: bool,
) -> Predictions:
    log.info("similarity from %s, seed %d", name, seed)
    file = out / f"{name}-{seed}-similarity.safetensors"
    return measure_similarity(
        lambda: encoder_of(maker(seed), tokenizer), seed, file, bf16=bf16
    )


def _retrieval(
    name: str,
    maker: Callable[[int], BertModel],
    seed: int,
    tokenizer: Path,
    out: Path,
    bf16: bool,
) -> Predictions:
    log.info("retrieval from %s, seed %d", name, seed)
    file = out / f"{name}-{seed}-retrieval.safetensors"
    return measure_retrieval(
        lambda: encoder_of(maker(seed), tokenizer), seed, file, bf16=bf16
    )


def tokens_seen(folder: Path) -> float:
    """Return the millions of tokens that a model card states."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = re.search(r"tokens seen: ([\d.]+) M", text)
    if found is None:
        raise ValueError(f"{folder / 'README.md'} states no tokens seen")
    return float(found.group(1))


def _plain(intervals: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in intervals.items()}


def write_card(record: Mapping[str, Any], folder: Path) -> None:
    """Write the record and its figure beside the weights, and its section of the card.

    A section that is there is replaced.
    """
    write_json(folder / RECORD, record)
    write_bytes(folder / FIGURE, _figure(record))
    path = folder / "README.md"
    card = path.read_text(encoding="utf-8")
    section = f"{SECTION}\n\n{describe(record)}\n"
    pattern = re.compile(rf"^{re.escape(SECTION)}\n.*?(?=^## |\Z)", re.M | re.S)
    if pattern.search(card):
        card = pattern.sub(lambda _: section + "\n", card)
    elif "## Corpus\n" in card:
        card = card.replace("## Corpus\n", f"{section}\n## Corpus\n", 1)
    else:
        card = f"{card.rstrip()}\n\n{section}"
    write_bytes(path, card.encode())


def describe(record: Mapping[str, Any]) -> str:
    """Return the section of the card, in Markdown."""
    measures = list(record["starts"][SHIPPED])
    rows = [
        f"| {name} | "
        + " | ".join(
            _cell(record["starts"][s][name]) for s in (SHIPPED, STATIC, RANDOM)
        )
        + " | "
        + " | ".join(
            _cell(record["advantage"][o][name], True) for o in (STATIC, RANDOM)
        )
        + " |"
        for name in measures
    ]
    return "\n".join(
        [
            f"The same fine-tuning from three starts, {record['seeds']} seeds each: "
            "these weights, the static vectors they began with, and random weights. "
            "Similarity: cosine regression on the STS Benchmark's training pairs, "
            "judged by Spearman's correlation. Retrieval: multiple negatives ranking "
            "on ICD-10-CM terms, judged by nDCG@10. The last two columns are paired "
            "differences; 95 % intervals over items and seeds.",
            "",
            "| | these weights | static vectors | random | over static | over random |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "The advantage in similarity at earlier states of the run (before its "
            "cool-down), and of these weights, the last point:",
            "",
            f"![Line charts of the advantage over the two other starts against tokens "
            f"seen, for three measures of similarity]({FIGURE})",
            "",
            "Made by `python -m sbert_lab.pretrain transfer`; the figures are in "
            f"[{RECORD}]({RECORD}).",
        ]
    )


def _cell(values: Mapping[str, float], signed: bool = False) -> str:
    interval = Interval(**values)  # type: ignore[arg-type]
    return interval.signed() if signed else str(interval)


def _figure(record: Mapping[str, Any]) -> bytes:
    """Draw the advantage against the tokens seen, as PNG."""
    last = {"tokens": record["tokens"], **record["advantage"]}
    points = [*record["curve"], last]
    fig, axes = figures.new_figure(2, width=10.0, height=4.2)
    for ax, other in zip(axes, (STATIC, RANDOM), strict=True):
        for marker, name in zip(
            figures.MARKERS, (STSB, LADDER, UNSHARED), strict=False
        ):
            values = [point[other][name] for point in points]
            mean = [v["mean"] for v in values]
            spread = [
                [v["mean"] - v["low"] for v in values],
                [v["high"] - v["mean"] for v in values],
            ]
            x = [point["tokens"] for point in points]
            ax.errorbar(x, mean, spread, marker=marker, capsize=3, label=name)
        ax.axhline(0, color="grey", linestyle="--")
        figures.log_x(ax)
        ax.set_xlabel("million tokens seen (log scale)")
        ax.set_title(f"over the {other} start")
    axes[0].set_ylabel("advantage, Spearman")
    axes[0].legend(fontsize=10)
    return figures.png(fig)
