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

from sbert_lab._utils import sha256_file, write_bytes, write_json
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.sts import by_name, stsb
from sbert_lab.evaluation import figures
from sbert_lab.evaluation.error_analysis import word_overlap
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.models.probing import untrained_bert
from sbert_lab.models.sentence_encoder import SentenceEncoder
from tools.pretraining import starts
from tools.pretraining.transfer import (
    Predictions,
    encoder_of,
    measure_ladder,
    measure_retrieval,
    measure_similarity,
)

log = logging.getLogger(__name__)

#: What is measured, as the card calls it.
STSB, LADDER, UNSHARED, AFTER, AFTER_UNSHARED, TERMS = (
    "STS Benchmark",
    "ladder",
    "ladder, pairs without a shared word",
    "ladder after STS Benchmark",
    "… pairs without a shared word",
    "ICD-10-CM terms",
)
SHIPPED, STATIC, RANDOM = "shipped", "static", "random"
SECTION = "## What pre-training is worth"
RECORD, FIGURE = "transfer.json", "advantage.png"

MEASURES = {
    "similarity": measure_similarity,
    "ladder": measure_ladder,
    "retrieval": measure_retrieval,
}

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
    ladder = by_name("ladder")
    together = zip(ladder.first, ladder.second, strict=True)
    unshared = np.array([word_overlap(a, b) == 0 for a, b in together])
    found: dict[str, Interval] = {}
    for name, key, pairs, kept in (
        (STSB, "stsb", None, None),
        (LADDER, "ladder_folds", ladder, None),
        (UNSHARED, "ladder_folds", ladder, unshared),
        (AFTER, "ladder", ladder, None),
        (AFTER_UNSHARED, "ladder", ladder, unshared),
    ):
        if key in runs[0]:
            found[name] = similarity_score(
                pairs or stsb("test"),
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

    def exported(folder: Path, _: int) -> BertModel:
        return starts.pretrained(folder)

    def measured(
        kind: str, tasks: Sequence[str], maker: Callable[[int], BertModel]
    ) -> list[Predictions]:
        runs = []
        for seed in range(seeds):
            run: Predictions = {}
            for task in tasks:
                log.info("%s from %s, seed %d", task, kind, seed)
                run |= MEASURES[task](
                    partial(_start, maker, seed, weights),
                    seed,
                    out / f"{kind}-{seed}-{task}.safetensors",
                    bf16=bf16,
                )
            runs.append(run)
        return runs

    found = {
        SHIPPED: measured(
            f"shipped-{_short_hash(weights)}", [*MEASURES], partial(exported, weights)
        ),
        STATIC: measured(
            "static",
            [*MEASURES],
            lambda seed: starts.static_only(statics, shape, seed),
        ),
        RANDOM: measured(
            "random", [*MEASURES], lambda seed: untrained_bert(config, seed)
        ),
    }
    points = {
        tokens: measured(
            f"{tokens:g}M-{_short_hash(folder)}",
            ["similarity"],
            partial(exported, folder),
        )
        for tokens, folder in sorted(curve.items())
    }
    others = (STATIC, RANDOM)
    return {
        "seeds": seeds,
        "starts": {name: _plain(compare(runs)) for name, runs in found.items()},
        "advantage": {
            other: _plain(compare(found[SHIPPED], found[other])) for other in others
        },
        "tokens": tokens_seen(weights),
        "curve": [
            {
                "tokens": tokens,
                **{other: _plain(compare(runs, found[other])) for other in others},
            }
            for tokens, runs in points.items()
        ],
    }


def _start(
    maker: Callable[[int], BertModel], seed: int, tokenizer: Path
) -> SentenceEncoder:
    return encoder_of(maker(seed), tokenizer)


def _short_hash(folder: Path) -> str:
    """Return the beginning of the weights' sha256, which tells exports apart."""
    return sha256_file(folder / "model.safetensors")[:8]


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
            "STS Benchmark and ladder: regression of the cosine on its training pairs, "
            "or on three parts of the ladder's anchors in turn, judged by Spearman's "
            "correlation on the test pairs or on the fourth part. The rate on the STS "
            "Benchmark is, of four, the best one for these weights and for random ones "
            "alike, on its development pairs. ICD-10-CM: multiple "
            "negatives ranking on terms of the training categories, judged by nDCG@10 "
            "on those of the others. The last two columns are paired differences; 95 % "
            "intervals over items and seeds.",
            "",
            "| | these weights | static vectors | random | over static | over random |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "The advantage after fine-tuning on the STS Benchmark, at earlier states "
            "of the run (before its cool-down), and of these weights, the last point:",
            "",
            f"![Line charts of the advantage over the two other starts against tokens "
            f"seen, for three measures of similarity]({FIGURE})",
            "",
            "Made by `python -m tools.pretraining transfer`; the figures are in "
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
            figures.MARKERS, (STSB, AFTER, AFTER_UNSHARED), strict=False
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
