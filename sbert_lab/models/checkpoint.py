"""Model folders in the format of sentence-transformers: read, check, load, write.

Two spellings of it are in use, that of releases 2 to 5 and that of release 6. Both
are read; the older one is written, because every release and the common inference
servers load it. No pickle is opened, no code from a folder is run.

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

A cross-encoder is written as a plain transformers folder; its ``config.json`` names
the function that follows the score.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sbert_lab._utils import (
    new_folder,
    quiet_transformers,
    random_state_kept,
    sha256_file,
    write_json,
)
from sbert_lab.models.pooling import POOLING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: Activations that a folder may name; anything else is refused, not imported.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    cls.__name__.lower(): cls
    for cls in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}

#: Flags of a Pooling module in the older spelling, in the order of its vectors.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

_SUMS = "sbert_lab.json"
_SETTINGS = "config_sentence_transformers.json"
_LENGTH = "sentence_bert_config.json"

#: No network, and no code from the folder.
_LOCALLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

#: And no pickle; weights that are missing or of another shape are reported.
_STRICTLY: dict[str, Any] = _LOCALLY | {
    "dtype": torch.float32,
    "use_safetensors": True,
    "output_loading_info": True,
    "ignore_mismatched_sizes": True,
}


class CheckpointError(ValueError):
    """A model folder is incomplete, damaged, or of a kind that is not read here."""


class Dense(nn.Module):
    """A linear layer after pooling: ``y = activation(W x + b)``, ``[B, D] -> [B, D']``.

    Parameters
    ----------
    weights
        ``linear.weight`` ``[D', D]`` and, if there is a bias, ``linear.bias`` ``[D']``.
    activation
        A name of `ACTIVATIONS`.
    """

    def __init__(self, weights: Mapping[str, Tensor], activation: str) -> None:
        super().__init__()
        out_features, in_features = weights["linear.weight"].shape
        bias = "linear.bias" in weights
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.load_state_dict(dict(weights))
        self.activation = ACTIVATIONS[activation]()

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``[B, D]`` to ``[B, D']``."""
        mapped: Tensor = self.activation(self.linear(vectors))
        return mapped


class Normalize(nn.Module):
    """Scale each vector to unit length; zero vectors stay zero."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``[B, D]`` to ``[B, D]``."""
        return nn.functional.normalize(vectors, dim=-1)


@dataclass(frozen=True)
class Layout:
    """What a sentence encoder's folder says, free of either spelling.

    Parameters
    ----------
    dimension, pooling, include_prompt
        Width of the token vectors, pooling modes in order, and whether a prompt's
        tokens are pooled too.
    head
        What follows pooling: `Dense` layers and the string ``"normalize"``.
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
    transformer
        Folder of the transformer and its tokenizer, relative to the model folder.
    """

    dimension: int
    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    head: tuple[Dense | Literal["normalize"], ...] = ()
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: Literal["cosine", "dot", "euclidean", "manhattan"] = "cosine"
    truncate_dim: int | None = None
    transformer: str = ""


def read(folder: str | Path) -> Layout:
    """Read and check a sentence encoder's folder, in either spelling.

    A plain transformers folder, without ``modules.json``, is read as mean pooling over
    its last layer, with a warning. The transformer's weights are not loaded.

    Raises
    ------
    CheckpointError
        Files missing or damaged, or something that is not read here.
    """
    folder = Path(folder)
    _check_sums(folder)
    modules = _modules(folder)
    kinds = [kind for kind, _ in modules]
    inside = folder / modules[0][1]
    config = _json(inside / "config.json")
    _check_files(inside)
    length = _length(inside, "feature-extraction")
    settings = _json(folder / _SETTINGS, optional=True)
    width = int(config.get("hidden_size", config.get("dim", config.get("d_model", 0))))
    modes: tuple[str, ...] = ("mean",)
    include_prompt = True
    if len(modules) > 1:
        if kinds[1] != "Pooling" or not {"Dense", "Normalize"}.issuperset(kinds[2:]):
            raise CheckpointError(
                f"{folder}: {' '.join(kinds)} is not read; one Pooling must follow one "
                "Transformer, then Dense and Normalize"
            )
        modes, include_prompt = _pooling(folder / modules[1][1], width)
    head: list[Dense | Literal["normalize"]] = []
    reached = width * len(modes)
    for kind, path in modules[2:]:
        if kind == "Normalize":
            head.append("normalize")
        else:
            dense = _dense(folder / path, reached)
            head.append(dense)
            reached = dense.linear.out_features
    return Layout(
        dimension=width,
        pooling=modes,
        include_prompt=include_prompt,
        head=tuple(head),
        max_seq_length=length.get("max_seq_length"),
        do_lower_case=bool(length.get("do_lower_case", False)),
        prompts=dict(settings.get("prompts") or {}),
        default_prompt=settings.get("default_prompt_name"),
        similarity=settings.get("similarity_fn_name") or "cosine",
        truncate_dim=settings.get("truncate_dim"),
        transformer=modules[0][1],
    )


def load_transformer(
    folder: Path,
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Load a transformer in float32 and its tokenizer from a folder.

    Half-precision weights are widened. Every weight that the model needs must be there
    with the right shape; only an unused pooler may be absent, and is then left out.

    Raises
    ------
    CheckpointError
        Damaged files, or weights that are another model's.
    """
    from transformers import AutoModel

    model, tokenizer, report = _load(folder, AutoModel)
    missing = {key for key in report["missing_keys"] if not key.startswith("pooler.")}
    _check_complete(folder, missing, report)
    if missing != set(report["missing_keys"]):
        model.pooler = None  # else it would be random numbers, and saved as if learnt
    return model, tokenizer


def load_cross(
    folder: Path, head_seed: int | None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", str, int | None]:
    """Load a cross-encoder: transformer, tokenizer, activation, length limit.

    A plain transformers folder, which releases up to 5 wrote, or that of release 6,
    whose ``modules.json`` names one Transformer. Of a plain encoder, or a sentence
    encoder, the transformer is taken, and a head drawn from a normal distribution with
    `head_seed`, as BERT's layers begin.

    Raises
    ------
    CheckpointError
        Damaged files, weights of another model, several scores a pair, or no head and
        no seed.
    """
    from transformers import AutoModelForSequenceClassification

    _check_sums(folder)
    settings = _json(folder / _SETTINGS, optional=True)
    length: dict[str, Any] = {}
    inside = folder
    if (folder / "modules.json").is_file():
        modules = _modules(folder)
        inside = folder / modules[0][1]
        whole = settings.get("model_type") == "CrossEncoder"
        if whole and len(modules) > 1:
            raise CheckpointError(f"{folder}: only one Transformer is read, {modules}")
        length = _length(
            inside, "sequence-classification" if whole else "feature-extraction"
        )
        prompts = settings.get("prompts") or {}
        prompt = prompts.get(settings.get("default_prompt_name")) if whole else None
        if prompt or length.get("processing_kwargs"):
            raise CheckpointError(
                f"{folder} asks for a default prompt or processing_kwargs, which a "
                "cross-encoder here does not apply; save the model without them"
            )
    config = _json(inside / "config.json")
    _check_files(inside)
    path = (
        settings.get("activation_fn")
        or (config.get("sentence_transformers") or {}).get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or "torch.nn.Sigmoid"
    )
    activation = _activation(folder, path)
    kinds = config.get("architectures") or ()
    has_head = any(kind.endswith("ForSequenceClassification") for kind in kinds)
    one_score = {} if has_head else {"num_labels": 1}
    model, tokenizer, report = _load(
        inside, AutoModelForSequenceClassification, **one_score
    )
    base = f"{model.base_model_prefix}."
    missing = set(report["missing_keys"])
    head = {n for n in missing if "pooler." in n or not n.startswith(base)}
    if has_head:
        head = set()
    _check_complete(inside, missing - head, report)
    if head and head_seed is None:
        raise CheckpointError(
            f"{folder} has no head that gives a score ({', '.join(sorted(head))} "
            "missing). To train one, say head_seed=0 or another number"
        )
    if head and head_seed is not None:
        _draw(model, sorted(head), head_seed)
    if length.get("do_lower_case"):
        lower_case(tokenizer.backend_tokenizer)  # so that it is saved with it
    return model, tokenizer, activation, length.get("max_seq_length")


def write(
    folder: Path,
    layout: Layout,
    transformer: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
) -> None:
    """Write a sentence encoder's folder in the older spelling, atomically.

    A model folder that stands there is replaced as a whole; if writing fails or the
    process dies, it stays as it was.
    """
    with _new(folder, transformer, tokenizer, layout.max_seq_length) as target:
        length = {
            "max_seq_length": layout.max_seq_length,
            "do_lower_case": layout.do_lower_case,
        }
        write_json(target / _LENGTH, length)
        flags = {key: mode in layout.pooling for key, mode in POOLING_FLAGS.items()}
        pooling = {
            "word_embedding_dimension": layout.dimension,
            **flags,
            "include_prompt": layout.include_prompt,
        }
        write_json(target / "1_Pooling" / "config.json", pooling)
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        for number, part in enumerate(layout.head, start=2):
            kind = "Normalize" if part == "normalize" else "Dense"
            inside = target / f"{number}_{kind}"
            inside.mkdir()
            modules.append((inside.name, kind))
            if isinstance(part, Dense):
                _write_dense(inside, part)
        listed = [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, (path, kind) in enumerate(modules)
        ]
        write_json(target / "modules.json", listed)
        settings: dict[str, Any] = {
            "__version__": {},
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""} | layout.prompts,
            "default_prompt_name": layout.default_prompt,
            "similarity_fn_name": layout.similarity,
        }
        if layout.truncate_dim is not None:
            settings["truncate_dim"] = layout.truncate_dim
        write_json(target / _SETTINGS, settings)


def write_cross(
    folder: Path,
    transformer: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    activation: str,
    max_seq_length: int,
) -> None:
    """Write a cross-encoder's folder that every release loads, atomically."""
    with _new(folder, transformer, tokenizer, max_seq_length) as target:
        path = spelled(ACTIVATIONS[activation]())
        config = _json(target / "config.json")
        config["sentence_transformers"] = {"activation_fn": path}
        config["sbert_ce_default_activation_function"] = path  # before release 4
        write_json(target / "config.json", config)


def lower_case(tokenizer: "Tokenizer") -> None:
    """Make a tokenizer lower-case its texts before all else."""
    from tokenizers import normalizers

    before = tokenizer.normalizer
    lower = [normalizers.Lowercase(), *([] if before is None else [before])]
    tokenizer.normalizer = normalizers.Sequence(lower)


def _json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if it may be missing and is."""
    if optional and not path.is_file():
        return {}
    value = _parsed(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object; copy it again")
    return value


def _parsed(path: Path) -> object:
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; copy it again") from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not valid JSON ({error}); copy it again"
        ) from error
    return value


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return the pipeline as (kind, path), the transformer first."""
    if not (folder / "modules.json").is_file():
        log.warning(
            "%s has no modules.json: read as a plain transformer with mean pooling",
            folder,
        )
        return [("Transformer", "")]
    listed: Any = _parsed(folder / "modules.json")
    pipeline = []
    try:
        for module in listed:
            name, path = str(module["type"]), str(module.get("path", ""))
            package, kind = name.split(".")[0], name.split(".")[-1]
            known = kind in {"Transformer", "Pooling", "Dense", "Normalize"}
            if package != "sentence_transformers" or not known:
                raise CheckpointError(
                    f"{folder}: module {name} is not read here; no code from a model "
                    "folder is run"
                )
            if path.startswith("/") or ".." in Path(path).parts:
                raise CheckpointError(f"{folder}: module path {path!r} points outside")
            pipeline.append((kind, path))
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: modules.json is damaged ({error!r}); copy it again"
        ) from error
    if not pipeline or pipeline[0][0] != "Transformer":
        raise CheckpointError(f"{folder}: modules.json must start with a Transformer")
    return pipeline


def _check_sums(folder: Path) -> None:
    """Compare a folder written here with the checksums of when it was saved."""
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder; give the path of a saved model"
        )
    sums = _json(folder / _SUMS, optional=True).get("sha256", {})
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; copy the folder again")
        if sha256_file(path) != expected:
            raise CheckpointError(
                f"{path} is not the file that was saved (its sha256 differs); copy it "
                f"again or, if you changed it on purpose, delete {_SUMS}"
            )


def _check_files(folder: Path) -> None:
    """Refuse a transformer without safetensors, or without a tokenizer."""
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has no model.safetensors; copy it again. A pickle (*.bin) can "
            "run code and is not read: load it where you trust it, save as safetensors"
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise CheckpointError(
            f"{folder} has no tokenizer (tokenizer.json or vocab.txt); copy it from "
            "the model that the weights come from"
        )


def _length(folder: Path, task: str) -> dict[str, Any]:
    """Return where texts are cut; the file's name once told the architecture."""
    for path in sorted(folder.glob("sentence_*_config.json")):
        config = _json(path)
        if config.get("transformer_task", task) != task:
            raise CheckpointError(
                f"{folder}: the task {config['transformer_task']!r} is not read here, "
                f"{task} is"
            )
        length = config.get("max_seq_length")
        if length is not None and (not isinstance(length, int) or length < 3):
            raise CheckpointError(f"{path}: max_seq_length {length!r}, 3 or more")
        return config
    return {}


def _pooling(folder: Path, width: int) -> tuple[tuple[str, ...], bool]:
    """Return modes, and whether a prompt is pooled too."""
    settings = _json(folder / "config.json")
    own = settings.get("embedding_dimension", settings.get("word_embedding_dimension"))
    if own != width:
        raise CheckpointError(
            f"{folder} expects vectors of width {own}, the transformer gives {width}: "
            "the folder mixes two models; copy it again"
        )
    if "pooling_mode" in settings:
        mode = settings["pooling_mode"]
        modes = (mode,) if isinstance(mode, str) else tuple(mode)
    else:
        modes = tuple(m for key, m in POOLING_FLAGS.items() if settings.get(key))
    unknown = [mode for mode in modes if mode not in POOLING]
    if unknown:
        raise CheckpointError(
            f"{folder}: pooling modes {unknown} are not among {', '.join(POOLING)}"
        )
    return modes or ("mean",), bool(settings.get("include_prompt", True))


def _dense(folder: Path, width: int) -> Dense:
    config = _json(folder / "config.json")
    if config.get("use_residual"):
        raise CheckpointError(f"{folder}: a residual Dense layer is not read here")
    path = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = _activation(folder, path)
    try:
        weights = load_file(folder / "model.safetensors")
    except Exception as error:  # safetensors raises its own, and those of the system
        raise CheckpointError(
            f"{folder}/model.safetensors is missing or damaged ({error}); copy it again"
        ) from error
    shape = (config.get("out_features"), width)
    if "linear.weight" not in weights or tuple(weights["linear.weight"].shape) != shape:
        raise CheckpointError(f"{folder}: the weights do not have the shape {shape}")
    floats = {name: weight.float() for name, weight in weights.items()}
    return Dense(floats, activation)


def _write_dense(folder: Path, part: Dense) -> None:
    config = {
        "in_features": part.linear.in_features,
        "out_features": part.linear.out_features,
        "bias": part.linear.bias is not None,
        "activation_function": spelled(part.activation),
    }
    write_json(folder / "config.json", config)
    weights = {k: v.detach().cpu().contiguous() for k, v in part.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def _activation(folder: Path, path: object) -> str:
    """Return the short name of an activation that a folder spells as a path."""
    name = str(path).rsplit(".", 1)[-1].lower()
    if not str(path).startswith("torch.nn.") or name not in ACTIVATIONS:
        raise CheckpointError(
            f"{folder}: activation {path!r} is not one of torch.nn's "
            f"{', '.join(ACTIVATIONS)}; no code from a model folder is run"
        )
    return name


def spelled(activation: nn.Module) -> str:
    """Return how a folder spells an activation."""
    return f"{type(activation).__module__}.{type(activation).__name__}"


def _load(
    folder: Path,
    auto: Any,  # noqa: ANN401
    **options: int,
) -> tuple[Any, Any, dict[str, Any]]:
    """Load model and tokenizer, and the library's report of what did not fit."""
    from transformers import AutoTokenizer

    try:
        with quiet_transformers(), random_state_kept():
            tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCALLY)
            model, report = auto.from_pretrained(folder, **_STRICTLY, **options)
    except Exception as error:  # the library raises many kinds for a damaged file
        raise CheckpointError(
            f"{folder} cannot be loaded: {type(error).__name__}: {error}. If the files "
            "look right, copy them again"
        ) from error
    return model, tokenizer, report


def _check_complete(folder: Path, missing: set[str], report: dict[str, Any]) -> None:
    wrong = sorted(str(key[0]) for key in report["mismatched_keys"])
    if missing or wrong:
        raise CheckpointError(
            f"{folder}: the weights do not belong to this config.json: "
            f"{len(missing)} tensors missing, {len(wrong)} of another shape, first "
            f"{[*sorted(missing), *wrong][0]}; copy both from the same model"
        )


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


@contextmanager
def _new(
    folder: Path,
    transformer: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    max_seq_length: int | None,
) -> Iterator[Path]:
    """Yield a new folder with transformer and tokenizer; seal it with checksums."""
    with new_folder(folder, marker="config.json") as target:
        with quiet_transformers():
            transformer.save_pretrained(target)
            tokenizer.save_pretrained(target)
        if max_seq_length is not None:
            config = _json(target / "tokenizer_config.json")
            config["model_max_length"] = max_seq_length
            write_json(target / "tokenizer_config.json", config)
        yield target
        files = sorted(path for path in target.rglob("*") if path.is_file())
        sums = {p.relative_to(target).as_posix(): sha256_file(p) for p in files}
        write_json(target / _SUMS, {"format": 1, "sha256": sums})
