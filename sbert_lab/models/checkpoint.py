"""The folder in which a sentence encoder lives: read, write, validate.

The format is that of sentence-transformers. Two spellings of it are in use: the
legacy one (releases 2 to 5) and the one of release 6. Both are read here; the legacy
one is written, because every release and the common inference servers load it.

A folder holds::

    modules.json                        the pipeline: Transformer, Pooling, Dense …
    config.json, model.safetensors      the transformer and its weights
    tokenizer.json, …                   the tokenizer
    sentence_bert_config.json           where texts are cut
    1_Pooling/config.json               how token vectors become one
    2_Dense/                            optional linear layers
    3_Normalize/                        optional unit length
    config_sentence_transformers.json   prompts and similarity
    sbert_lab.json                      checksums, only in folders written here
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sbert_lab._utils import new_folder, quiet_transformers, sha256_file, write_json
from sbert_lab.models.pooling import POOLING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]

#: Activations that a Dense module may name; anything else is refused, not imported.
ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    f"torch.nn.modules.{module}.{cls.__name__}": cls
    for module, cls in [
        ("linear", torch.nn.Identity),
        ("activation", torch.nn.Tanh),
        ("activation", torch.nn.ReLU),
        ("activation", torch.nn.GELU),
        ("activation", torch.nn.SiLU),
        ("activation", torch.nn.Sigmoid),
    ]
}

#: Legacy flags of a Pooling module, in the order in which their vectors are joined.
LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

_OWN = "sbert_lab.json"
_LENGTH_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlnet")
)


class CheckpointError(ValueError):
    """A model folder is incomplete, damaged, or of a kind that is not read here."""


@dataclass(frozen=True)
class DenseSpec:
    """A linear layer after pooling: ``y = activation(W x + b)``, and its weights."""

    in_features: int
    out_features: int
    activation: str
    weights: dict[str, Tensor] = field(repr=False)


@dataclass(frozen=True)
class Layout:
    """What a model folder says, free of either spelling.

    Parameters
    ----------
    transformer
        Folder of the transformer and its tokenizer, relative to the model folder.
    dimension, pooling, include_prompt
        Width of the token vectors, pooling modes in order, and whether a prompt's
        tokens are pooled too.
    head
        What follows pooling: `DenseSpec` objects and the string ``"normalize"``.
    max_seq_length
        Longest text in tokens, special tokens included; None leaves it to the
        tokenizer and the model.
    do_lower_case
        Lower-case the text before tokenising.
    prompts, default_prompt
        Named prefixes, and the one to use when none is named.
    similarity
        The measure that the model was trained for.
    truncate_dim
        Keep only so many leading dimensions, or None for all.
    """

    dimension: int
    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    head: tuple["DenseSpec | Literal['normalize']", ...] = ()
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: Similarity = "cosine"
    truncate_dim: int | None = None
    transformer: str = ""


def read(folder: Path) -> Layout:
    """Read a model folder in either spelling.

    A folder without ``modules.json`` (a plain transformers checkpoint) is read as
    mean pooling over its last layer, with a warning.

    Raises
    ------
    CheckpointError
        With every problem found, each saying what to do.
    """
    problems: list[str] = []
    layout = _read(Path(folder), problems)
    if problems or layout is None:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise CheckpointError(f"{folder} cannot be loaded:\n{listed}")
    return layout


def validate(folder: str | Path) -> list[str]:
    """Explain what is wrong with a model folder, one sentence a problem; [] if sound.

    Reads every file, the weights' header included; loads no model.
    """
    problems: list[str] = []
    _read(Path(folder), problems)
    return problems


def write(
    folder: Path,
    layout: Layout,
    transformer: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
) -> None:
    """Write a model folder in the legacy spelling, atomically.

    A folder that stands there is replaced as a whole; if writing fails or the process
    dies, it stays as it was.
    """
    with new_folder(folder, marker="config.json") as target:
        with quiet_transformers():
            transformer.save_pretrained(target)
            tokenizer.save_pretrained(target)
        if layout.max_seq_length is not None:
            config_path = target / "tokenizer_config.json"
            config = json.loads(config_path.read_text())
            config["model_max_length"] = layout.max_seq_length
            write_json(config_path, config)
        write_json(
            target / "sentence_bert_config.json",
            {
                "max_seq_length": layout.max_seq_length,
                "do_lower_case": layout.do_lower_case,
            },
        )
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        flags = {key: mode in layout.pooling for key, mode in LEGACY_POOLING.items()}
        (target / "1_Pooling").mkdir()
        write_json(
            target / "1_Pooling" / "config.json",
            {"word_embedding_dimension": layout.dimension}
            | flags
            | {"include_prompt": layout.include_prompt},
        )
        for number, part in enumerate(layout.head, start=2):
            kind = "Normalize" if part == "normalize" else "Dense"
            inside = target / f"{number}_{kind}"
            inside.mkdir()
            modules.append((inside.name, kind))
            if isinstance(part, DenseSpec):
                _write_dense(inside, part)
        write_json(
            target / "modules.json",
            [
                {
                    "idx": index,
                    "name": str(index),
                    "path": path,
                    "type": f"sentence_transformers.models.{kind}",
                }
                for index, (path, kind) in enumerate(modules)
            ],
        )
        settings: dict[str, Any] = {
            "__version__": {},
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""} | layout.prompts,
            "default_prompt_name": layout.default_prompt,
            "similarity_fn_name": layout.similarity,
        }
        if layout.truncate_dim is not None:
            settings["truncate_dim"] = layout.truncate_dim
        write_json(target / "config_sentence_transformers.json", settings)
        write_sums(target)


def _write_dense(folder: Path, part: DenseSpec) -> None:
    write_json(
        folder / "config.json",
        {
            "in_features": part.in_features,
            "out_features": part.out_features,
            "bias": "linear.bias" in part.weights,
            "activation_function": part.activation,
        },
    )
    save_file(part.weights, folder / "model.safetensors")


def _read(folder: Path, problems: list[str]) -> Layout | None:
    """Read a folder, adding what is wrong to `problems`."""
    if not folder.is_dir():
        problems.append(f"{folder} is not a folder; give the path of a saved model")
        return None
    if not any(folder.iterdir()):
        problems.append("the folder is empty; save or copy the model again")
        return None
    check_sums(folder, problems)
    modules = _modules(folder, problems)
    if modules is None:
        return None
    where = folder / modules[0][1]
    config = _json(where / "config.json", problems, needed="the transformer's shape")
    _check_weights(where, problems)
    if not any((where / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        problems.append(
            "there is no tokenizer (tokenizer.json or vocab.txt); copy it from the "
            "model that the weights come from"
        )
    length = _length(where, problems)
    dimension, modes, include_prompt = _pooling(folder, modules, config, problems)
    head = _head(folder, modules, dimension * len(modes), problems)
    settings_path = folder / "config_sentence_transformers.json"
    settings = _json(settings_path, problems) if settings_path.is_file() else {}
    return Layout(
        dimension=dimension,
        pooling=modes,
        include_prompt=include_prompt,
        head=head,
        max_seq_length=length.get("max_seq_length"),
        do_lower_case=bool(length.get("do_lower_case", False)),
        prompts=dict(settings.get("prompts") or {}),
        default_prompt=settings.get("default_prompt_name"),
        similarity=settings.get("similarity_fn_name") or "cosine",
        truncate_dim=settings.get("truncate_dim"),
        transformer=modules[0][1],
    )


def _json(path: Path, problems: list[str], *, needed: str = "") -> dict[str, Any]:
    name = path.name if path.parent.name == "" else f"{path.parent.name}/{path.name}"
    if not path.is_file():
        problems.append(f"{name} is missing: it holds {needed}; copy it again")
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        problems.append(f"{name} is not valid JSON ({error}); copy it again")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{name} must hold a JSON object; copy it again")
        return {}
    return value


def _modules(folder: Path, problems: list[str]) -> list[tuple[str, str]] | None:
    """Return the pipeline as (kind, path), transformer first; None if unreadable."""
    path = folder / "modules.json"
    if not path.is_file():
        log.warning(
            "%s has no modules.json: read as a plain transformer with mean pooling",
            folder,
        )
        return [("Transformer", "")]
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        modules = [(str(m["type"]), str(m.get("path", ""))) for m in listed]
    except (ValueError, TypeError, KeyError) as error:
        problems.append(f"modules.json is damaged ({error!r}); copy it again")
        return None
    known = {"Transformer", "Pooling", "Dense", "Normalize"}
    pipeline: list[tuple[str, str]] = []
    for type_name, path_name in modules:
        kind = type_name.rsplit(".", 1)[-1]
        if not type_name.startswith("sentence_transformers.") or kind not in known:
            problems.append(
                f"module {type_name} is not read here (only {', '.join(sorted(known))}"
                " of sentence_transformers); no code from a model folder is run"
            )
            continue
        if path_name.startswith("/") or ".." in Path(path_name).parts:
            problems.append(f"module path {path_name!r} points outside the folder")
            continue
        pipeline.append((kind, path_name))
    if not pipeline or pipeline[0][0] != "Transformer":
        problems.append("modules.json must start with a Transformer")
        return None
    return pipeline


def write_sums(folder: Path) -> None:
    """Record the checksum of every file of a folder, for `check_sums`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    sums = {p.relative_to(folder).as_posix(): sha256_file(p) for p in files}
    write_json(folder / _OWN, {"format": 1, "sha256": sums})


def check_sums(folder: Path, problems: list[str]) -> None:
    """Compare a folder written here with the checksums recorded when it was saved."""
    if not (folder / _OWN).is_file():
        return
    for name, expected in _json(folder / _OWN, problems).get("sha256", {}).items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing; copy the folder again")
        elif sha256_file(path) != expected:
            problems.append(
                f"{name} is not the file that was saved (its sha256 differs): it is "
                f"damaged or swapped; copy it again, or, if you changed it on "
                f"purpose, delete {_OWN}"
            )


def _check_weights(folder: Path, problems: list[str]) -> None:
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        pickles = sorted(p.name for p in folder.glob("*.bin"))
        problems.append(
            f"the weights are a pickle ({', '.join(pickles)}), which can run code; "
            "load them where you trust them and save as safetensors"
            if pickles
            else "model.safetensors is missing; copy the weights again"
        )
    for name in names:
        try:
            with safe_open(folder / name, framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            problems.append(f"{name} is damaged or cut short ({error}); copy it again")


def _length(folder: Path, problems: list[str]) -> dict[str, Any]:
    for name in _LENGTH_FILES:
        if (folder / name).is_file():
            config = _json(folder / name, problems)
            task = config.get("transformer_task", "feature-extraction")
            if task != "feature-extraction":
                problems.append(f"transformer_task {task!r} is not read here")
            length = config.get("max_seq_length")
            if length is not None and (not isinstance(length, int) or length < 3):
                problems.append(f"{name}: max_seq_length {length!r} must be 3 or more")
            return config
    return {}


def _pooling(
    folder: Path,
    modules: list[tuple[str, str]],
    config: dict[str, Any],
    problems: list[str],
) -> tuple[int, tuple[str, ...], bool]:
    hidden = config.get("hidden_size", config.get("dim", config.get("d_model", 0)))
    found = [path for kind, path in modules if kind == "Pooling"]
    if not found:
        if len(modules) > 1:
            problems.append("modules.json has no Pooling module; add one")
        return int(hidden), ("mean",), True
    if len(found) > 1 or modules[1][0] != "Pooling":
        problems.append("one Pooling module must follow the Transformer")
    settings = _json(folder / found[0] / "config.json", problems, needed="the pooling")
    width = settings.get(
        "embedding_dimension", settings.get("word_embedding_dimension")
    )
    if settings and hidden and width != hidden:
        problems.append(
            f"pooling expects vectors of width {width}, the transformer gives {hidden}:"
            " the folder mixes two models; copy it again"
        )
    if "pooling_mode" in settings:
        mode = settings["pooling_mode"]
        modes = (mode,) if isinstance(mode, str) else tuple(mode)
    else:
        modes = tuple(m for key, m in LEGACY_POOLING.items() if settings.get(key))
    unknown = [mode for mode in modes if mode not in POOLING]
    if unknown:
        problems.append(f"pooling modes {unknown} are unknown; use {list(POOLING)}")
    return int(hidden), modes or ("mean",), bool(settings.get("include_prompt", True))


def _head(
    folder: Path, modules: list[tuple[str, str]], width: int, problems: list[str]
) -> tuple[DenseSpec | Literal["normalize"], ...]:
    head: list[DenseSpec | Literal["normalize"]] = []
    for kind, path in modules:
        if kind == "Normalize":
            head.append("normalize")
        elif kind == "Dense":
            dense = _dense(folder / path, width, problems)
            if dense is not None:
                head.append(dense)
                width = dense.out_features
    return tuple(head)


def _dense(folder: Path, width: int, problems: list[str]) -> DenseSpec | None:
    name = folder.name
    config = _json(folder / "config.json", problems, needed="the layer's shape")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in ACTIVATIONS:
        problems.append(
            f"{name}: activation {activation!r} is not one of {[*ACTIVATIONS]}"
        )
    if config.get("use_residual"):
        problems.append(f"{name}: a residual Dense layer is not read here")
    if not (folder / "model.safetensors").is_file():
        problems.append(f"{name}/model.safetensors is missing; copy it again")
        return None
    try:
        weights = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        problems.append(f"{name}/model.safetensors is damaged ({error}); copy it again")
        return None
    shape = (config.get("out_features"), config.get("in_features"))
    if "linear.weight" not in weights or tuple(weights["linear.weight"].shape) != shape:
        problems.append(f"{name}: the weights do not have the shape {shape} of config")
        return None
    if shape[1] != width:
        problems.append(f"{name} takes vectors of width {shape[1]}, gets {width}")
        return None
    floats = {key: value.float() for key, value in weights.items()}
    return DenseSpec(int(shape[1] or 0), int(shape[0] or 0), activation, floats)
