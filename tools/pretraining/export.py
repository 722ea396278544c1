"""Export: the folder that ``transformers`` loads, with a model card."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig

from sbert_lab._utils import new_folder, write_bytes
from tools.pretraining.corpus import load_table
from tools.pretraining.prepare import TOKENIZER_FILES
from tools.pretraining.train import MEASURES, OBJECTIVES


def export(data: Path, run: Path, folder: Path, title: str = "A small BERT") -> None:
    """Write weights in float16, configuration, tokenizer and model card.

    The configuration has the usual dropout, for fine-tuning.

    Parameters
    ----------
    data, run
        The prepared folder, and the run that was trained on it.
    folder
        Where; a previous export there is replaced whole.
    title
        Heading of the card.
    """
    made_as = BertConfig.from_pretrained(run).architectures
    kind = next(kind for kind, _ in OBJECTIVES.values() if kind.__name__ in made_as)
    model = kind.from_pretrained(run, dtype=torch.float16)
    model.config.hidden_dropout_prob = 0.1
    model.config.attention_probs_dropout_prob = 0.1
    card = model_card(title, model.config, model.num_parameters(), run, data)
    with new_folder(folder, "export.json") as new:
        model.save_pretrained(new)
        for name in TOKENIZER_FILES:
            write_bytes(new / name, (data / name).read_bytes())
        write_bytes(new / "README.md", card.encode())


def model_card(
    title: str, config: BertConfig, parameters: int, run: Path, data: Path
) -> str:
    """Return the model card: architecture, training, measure, corpus."""
    state = json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))
    measures = [entry for entry in state["log_history"] if "eval_loss" in entry]
    pairs = "BertForPreTraining" in (config.architectures or [])
    lines = [
        f"# {title}",
        "",
        f"BERT with {config.num_hidden_layers} layers, hidden size "
        f"{config.hidden_size}, {config.num_attention_heads} heads, "
        f"{config.vocab_size} uncased WordPieces and "
        f"{config.max_position_embeddings} positions: {parameters / 1e6:.2f} M "
        "parameters, stored as float16. Trained with masked-language modelling (15 % "
        f"of the tokens, 80/10/10){' and next-sentence prediction' * pairs}.",
        "",
        f"- {state['global_step']} steps of {state['train_batch_size']} rows",
        *[
            f"- held-out {name.replace('_', ' ')}: {entry[f'eval_{name}']:.3f}"
            for entry in measures[-1:]
            for name in ("loss", *MEASURES[: 1 + pairs])
        ],
        "",
        "Never trained for similarity. To train on from these weights:",
        "",
        "```",
        "python -m tools.pretraining corpus --list    # packages to fetch and unpack",
        "python -m tools.pretraining corpus --packages PACKAGES --out CORPUS",
        "python -m tools.pretraining prepare --corpus CORPUS --data DATA "
        "--tokenizer THIS_FOLDER",
        "python -m tools.pretraining train --data DATA --run RUN --init THIS_FOLDER",
        "```",
        "",
        "## Corpus",
        "",
        "Clean English paragraphs, each kept once. A source's weight is the share of "
        "it that one pass over the corpus shows.",
        "",
        *_corpus(load_table(data)),
        "",
    ]
    return "\n".join(lines)


def _corpus(table: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {row['source']} | {row['package'] or 'Translation-en index'} "
        f"| {row['version']} | {row['licence']} | {row['weight']} "
        f"| {row['documents']} | {row['bytes'] / 1e6:.2f} | {row['tokens']} |"
        for row in table
    ]
    return [
        "| source | package | version | licence | weight | documents | MB "
        "| train tokens |",
        "|---|---|---|---|---:|---:|---:|---:|",
        *rows,
    ]
