"""Which learning rate suits a start? Fine-tune on the STS Benchmark, look at dev.

    python benchmarks/finetuning_rates.py [--rates 3e-5 1e-4 3e-4 1e-3]

A comparison of starts at one learning rate may favour one of them. So the rate of
`python -m tools.pretraining transfer` is chosen here: on the development pairs, for
the shipped weights and for random ones. Needs the STS Benchmark (SBERT_LAB_DATA_HOME,
see README). Writes data/results/finetuning_rates.json.
"""

import argparse
import dataclasses
import logging
from pathlib import Path

import numpy as np
from transformers import AutoConfig

from sbert_lab._utils import project_root, write_json
from sbert_lab.datasets.similarity import stsb
from sbert_lab.evaluation.metrics import pairwise_cosine, spearman
from sbert_lab.models.layers import untrained_bert
from sbert_lab.models.registry import resolve
from sbert_lab.training.settings import has_fast_bfloat16
from tools.pretraining import starts
from tools.pretraining.transfer import SIMILARITY, encoder_of, finetuned_for_similarity


def main() -> None:
    """Fine-tune each start at each rate, print the scores and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[3e-5, 1e-4, 3e-4, 1e-3]
    )
    parser.add_argument("--epochs", type=int, default=SIMILARITY.epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        type=Path,
        default=project_root() / "data" / "results" / "finetuning_rates.json",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    folder = resolve("bert-mini")
    config = AutoConfig.from_pretrained(folder)
    makers = {
        "shipped": lambda: starts.pretrained(folder),
        "random": lambda: untrained_bert(config, options.seed),
    }
    dev = stsb("dev")
    found: dict[str, dict[str, float]] = {name: {} for name in makers}
    for rate in options.rates:
        recipe = dataclasses.replace(SIMILARITY, peak=rate, epochs=options.epochs)
        for name, make in makers.items():
            encoder = finetuned_for_similarity(
                encoder_of(make(), folder),
                options.seed,
                bf16=has_fast_bfloat16(),
                recipe=recipe,
            )
            first, second = encoder.encode(dev.first), encoder.encode(dev.second)
            cosines = pairwise_cosine(first, second)
            found[name][f"{rate:g}"] = spearman(cosines, np.array(dev.score))
            print(f"{name:8} {rate:<8g} {found[name][f'{rate:g}']:.4f}", flush=True)
    write_json(
        options.out,
        {
            "dev": f"STS Benchmark dev, {len(dev):,} pairs, Spearman",
            "epochs": options.epochs,
            "seed": options.seed,
            "by start and rate": found,
        },
    )


if __name__ == "__main__":
    main()
