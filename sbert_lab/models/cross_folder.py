"""The folder in which a cross-encoder lives: read, load, write.

Three kinds are read. A plain transformers folder with a head of one score, which
sentence-transformers' CrossEncoder wrote up to release 5. The folder of release 6,
whose ``modules.json`` names one Transformer. And any encoder to begin a training from,
plain or a sentence encoder, whose head is then drawn from a seed.

The first kind is written, because every release loads it::

    config.json             the transformer, and which function follows the score
    model.safetensors       its weights, those of the head among them
    tokenizer.json, …       the tokenizer, and where pairs are cut
    sbert_lab.json          checksums, only in folders written here
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sbert_lab._utils import (
    new_folder,
    quiet_transformers,
    random_state_kept,
    write_json,
)
from sbert_lab.models import checkpoint
from sbert_lab.models.checkpoint import ACTIVATIONS, CheckpointError
from sbert_lab.models.transformer import (
    LOCALLY,
    STRICTLY,
    cannot_be_loaded,
    fast_tokenizer,
    refuse_others,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Functions that may follow the score, by a short name, and how a folder spells them.
SPELLING = {cls.__name__.lower(): path for path, cls in ACTIVATIONS.items()}

_TASK = "sequence-classification"


@dataclass(frozen=True)
class CrossLayout:
    """What a folder says beside the weights.

    Parameters
    ----------
    activation
        What follows the score: a name of `SPELLING`.
    max_seq_length
        Longest pair in tokens, special tokens included; None leaves it to the tokenizer
        and the model.
    do_lower_case
        Lower-case the texts before tokenising.
    transformer
        Folder of the transformer and its tokenizer, relative to the model folder.
    """

    activation: str = "sigmoid"
    max_seq_length: int | None = None
    do_lower_case: bool = False
    transformer: str = ""


def read(folder: Path) -> CrossLayout:
    """Read and check what a folder says; the weights are not loaded.

    Raises
    ------
    CheckpointError
        Files missing or damaged, or something that is not read here.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder; give the path of a saved model"
        )
    damaged: list[str] = []
    checkpoint.check_sums(folder, damaged)
    if damaged:
        raise CheckpointError(f"{folder}: {damaged[0]}")
    settings = _json(folder / "config_sentence_transformers.json")
    pipeline = (folder / "modules.json").is_file()
    if pipeline and settings.get("model_type") != "CrossEncoder":
        # A sentence encoder: what follows its transformer is left behind.
        found = checkpoint.read(folder)
        return CrossLayout(
            max_seq_length=found.max_seq_length,
            do_lower_case=found.do_lower_case,
            transformer=found.transformer,
        )
    inside = _only_module(folder) if pipeline else ""
    reading = _json(folder / inside / "sentence_bert_config.json") if pipeline else {}
    if pipeline and reading.get("transformer_task") != _TASK:
        raise CheckpointError(
            f"{folder}: the task {reading.get('transformer_task')!r} is not read here; "
            f"a cross-encoder of {_TASK} is"
        )
    if reading.get("processing_kwargs"):
        raise CheckpointError(
            f"{folder}: processing_kwargs {reading['processing_kwargs']} are not read "
            "here; save the model without them"
        )
    prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"))
    if prompt:
        raise CheckpointError(
            f"{folder} puts {prompt!r} in front of its texts, which is not done here; "
            "take default_prompt_name out of config_sentence_transformers.json"
        )
    config = _json(folder / inside / "config.json", needed=True)
    if not any((folder / inside).glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has no model.safetensors; copy it again. A pickle (*.bin) can "
            "run code and is not read: load it where you trust it, save as safetensors"
        )
    path = (
        settings.get("activation_fn")
        or (config.get("sentence_transformers") or {}).get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or SPELLING["sigmoid"]
    )
    return CrossLayout(
        activation=_activation(folder, str(path)),
        max_seq_length=reading.get("max_seq_length"),
        do_lower_case=bool(reading.get("do_lower_case", False)),
        transformer=inside,
    )


def load(
    folder: Path, layout: CrossLayout, head_seed: int | None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a transformer with a head of one score, in float32, and its tokenizer.

    Safetensors only, no code from the folder, no network.

    Parameters
    ----------
    folder, layout
        The model folder, and what `read` found there.
    head_seed
        Where there is no head: draw one from a normal distribution, as BERT's layers
        begin, with this seed.

    Raises
    ------
    CheckpointError
        Damaged files, weights of another model, several scores a pair, or no head and
        no seed.
    """
    from transformers import (
        AutoConfig,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    folder = folder / layout.transformer
    try:
        with quiet_transformers(), random_state_kept():
            tokenizer = AutoTokenizer.from_pretrained(folder, **LOCALLY)
            config = AutoConfig.from_pretrained(folder, **LOCALLY)
            kinds = config.architectures or ()
            scores = any(kind.endswith("ForSequenceClassification") for kind in kinds)
            if not scores:
                config.num_labels = 1
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder, config=config, **STRICTLY
            )
    except Exception as error:  # the library raises many kinds for a damaged file
        raise cannot_be_loaded(folder, error) from error
    if config.num_labels != 1:
        raise CheckpointError(
            f"{folder} gives {config.num_labels} scores a pair, as a classifier does; "
            "a cross-encoder here gives one"
        )
    base = f"{model.base_model_prefix}."
    missing = sorted(report["missing_keys"])
    head = [
        name
        for name in missing
        if not scores and not (name.startswith(base) and "pooler." not in name)
    ]
    lost = [name for name in missing if name not in head]
    refuse_others(folder, lost, report["mismatched_keys"])
    if head and head_seed is None:
        raise CheckpointError(
            f"{folder} has no head that gives a score ({', '.join(head)} missing). To "
            "train one, say head_seed=0 or another number: it then begins at random"
        )
    if head and head_seed is not None:
        _draw(model, head, head_seed)
    if layout.do_lower_case and tokenizer.is_fast:
        # Into the tokenizer itself, so that it is saved with it.
        lowered = fast_tokenizer(tokenizer, tokenizer.model_max_length, True)
        tokenizer.backend_tokenizer.normalizer = lowered.normalizer
    return model, tokenizer


def write(
    folder: Path,
    layout: CrossLayout,
    transformer: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
) -> None:
    """Write a folder that every sentence-transformers release loads, atomically.

    A model folder that stands there is replaced as a whole.
    """
    with new_folder(folder, marker="config.json") as target:
        with quiet_transformers():
            transformer.save_pretrained(target)
            tokenizer.save_pretrained(target)
        path = SPELLING[layout.activation]
        config = _json(target / "config.json")
        config["sentence_transformers"] = {"activation_fn": path}
        config["sbert_ce_default_activation_function"] = path  # before release 4
        write_json(target / "config.json", config)
        cut = _json(target / "tokenizer_config.json")
        cut["model_max_length"] = layout.max_seq_length
        write_json(target / "tokenizer_config.json", cut)
        checkpoint.write_sums(target)


def _draw(model: "PreTrainedModel", names: list[str], seed: int) -> None:
    """Fill weights in place: matrices at random, norms with 1, biases with 0."""
    generator = torch.Generator().manual_seed(seed)
    deviation = getattr(model.config, "initializer_range", 0.02)
    with torch.no_grad():
        for name in names:
            weight = model.get_parameter(name)
            if weight.ndim > 1:
                weight.normal_(0.0, deviation, generator=generator)
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)


def _activation(folder: Path, path: str) -> str:
    short = path.rsplit(".", 1)[-1].lower()
    if not path.startswith("torch.nn.") or short not in SPELLING:
        raise CheckpointError(
            f"{folder}: activation {path!r} is not one of {[*SPELLING.values()]}; no "
            "code from a model folder is run"
        )
    return short


def _only_module(folder: Path) -> str:
    """Return the path of the Transformer, which must be the only module."""
    listed: Any = _parsed(folder / "modules.json")
    try:
        kinds = [str(module["type"]) for module in listed]
        paths = [str(module.get("path", "")) for module in listed]
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: modules.json is damaged ({error!r}); copy it again"
        ) from error
    known = "sentence_transformers."
    one = len(kinds) == 1 and kinds[0].startswith(known)
    if not one or not kinds[0].endswith(".Transformer"):
        raise CheckpointError(
            f"{folder}: modules {kinds} are not read here, only one Transformer of "
            "sentence_transformers; no code from a model folder is run"
        )
    if paths[0].startswith("/") or ".." in Path(paths[0]).parts:
        raise CheckpointError(f"{folder}: module path {paths[0]!r} points outside")
    return paths[0]


def _json(path: Path, *, needed: bool = False) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is no file."""
    if not path.is_file() and not needed:
        return {}
    value = _parsed(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object; copy it again")
    return value


def _parsed(path: Path) -> object:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; copy it again")
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not valid JSON ({error}); copy it again"
        ) from error
    return value
