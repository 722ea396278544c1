"""Export: the folder that ``transformers`` loads, with a model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from transformers import BertForMaskedLM

from sbert_lab._utils import new_folder, write_bytes, write_json
from tools.pretraining.checkpoints import State
from tools.pretraining.corpus import load_table
from tools.pretraining.plan import Plan
from tools.pretraining.vocabulary import TOKENIZER_FILES

_STATICS = "static_vectors.safetensors"


def export(
    model: BertForMaskedLM,
    data: Path,
    folder: Path,
    plan: Plan,
    state: State,
    half: bool = True,
    title: str = "A small BERT",
) -> None:
    """Write weights, configuration, tokenizer and model card.

    The configuration has the usual dropout, for fine-tuning.

    Parameters
    ----------
    model
        What to write.
    data
        The prepared folder it was trained on.
    folder
        Where; a previous export there is replaced whole.
    plan, state
        How it was trained, and how far: for the card.
    half
        Whether weights are kept in float16; they are loaded as float32 either way.
    title
        Heading of the card.
    """
    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: parameter.detach().cpu().to(dtype).contiguous()
        for name, parameter in model.named_parameters()
    }
    config = model.config.to_dict() | {
        "architectures": ["BertForMaskedLM"],
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "dtype": "float32",
    }
    card = model_card(title, load_table(data), model, plan, state, half)
    with new_folder(folder, "config.json") as new:
        content = save(tensors, metadata={"format": "pt"})
        write_bytes(new / "model.safetensors", content)
        write_json(new / "config.json", dict(sorted(config.items())))
        _copy_tokenizer(data, new)
        write_bytes(new / "README.md", card.encode())


def export_static(data: Path, folder: Path) -> None:
    """Write the static vectors with the tokenizer they belong to."""
    with new_folder(folder, _STATICS) as new:
        write_bytes(new / _STATICS, (data / _STATICS).read_bytes())
        _copy_tokenizer(data, new)


def _copy_tokenizer(data: Path, folder: Path) -> None:
    for name in TOKENIZER_FILES:
        write_bytes(folder / name, (data / name).read_bytes())


def model_card(
    title: str,
    table: Sequence[Mapping[str, Any]],
    model: BertForMaskedLM,
    plan: Plan,
    state: State,
    half: bool,
) -> str:
    """Return the model card: architecture, training, measures, corpus."""
    lines = [
        f"# {title}",
        "",
        _architecture(model, half),
        "",
        *_training(plan, state),
        *_measures(state),
        "",
        "Never trained for similarity, nor to tell whether two sentences follow each "
        "other; there is no pooler. To train on from these weights:",
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
        *_corpus(table),
        "",
    ]
    return "\n".join(lines)


def _architecture(model: BertForMaskedLM, half: bool) -> str:
    config = model.config
    size = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"BERT with {config.num_hidden_layers} layers, hidden size "
        f"{config.hidden_size}, {config.num_attention_heads} heads, "
        f"{config.vocab_size} uncased WordPieces and "
        f"{config.max_position_embeddings} positions: {size / 1e6:.2f} M parameters, "
        f"stored as {'float16' if half else 'float32'}. Trained from scratch with "
        "masked-language modelling (15 % of the tokens, 80/10/10) on text from Debian "
        "packages."
    )


def _training(plan: Plan, state: State) -> list[str]:
    return [
        f"- tokens seen: {state.tokens / 1e6:.1f} M in {state.step} steps of "
        f"{plan.rows} x {plan.length}, every {plan.long_every}th one "
        f"{plan.rows // 2} x {2 * plan.length}",
        f"- AdamW, peak learning rate {plan.peak:g}, {plan.warmup} steps of warm-up, "
        f"inverse square root after step {plan.hold}, linear cool-down over the last "
        f"{plan.cooldown} of {plan.total} planned steps",
    ]


def _measures(state: State) -> list[str]:
    if not state.history:
        return []
    last = state.history[-1]
    return [
        f"- held-out loss: {last['loss']:.3f} "
        f"(unigram guess {last['unigram_loss']:.3f})",
        f"- held-out masked-token accuracy: {last['accuracy']:.3f} "
        f"(unigram guess {last['unigram_accuracy']:.3f}), over {int(last['masked'])} "
        "masked tokens of documents that were not trained on",
    ]


def _corpus(table: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {row['source']} | {row['package'] or 'Translation-en index'} "
        f"| {row['version']} | {row['licence']} | {row['weight']} "
        f"| {row['documents']} | {row['bytes'] / 1e6:.2f} | {row['tokens']} |"
        for row in table
    ]
    documents, size, tokens = (
        sum(row[key] for row in table) for key in ("documents", "bytes", "tokens")
    )
    return [
        "| source | package | version | licence | weight | documents | MB "
        "| train tokens |",
        "|---|---|---|---|---:|---:|---:|---:|",
        *rows,
        f"| all | | | | | {documents} | {size / 1e6:.2f} | {tokens} |",
    ]
