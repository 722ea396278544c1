"""Model folders in the format of sentence-transformers: read, check, load, write.

The spelling of releases 2 to 5 and that of release 6 are read; the older one is
written, because every release loads it. No pickle is opened, no code from a folder is
run. A sentence encoder's folder is that of its transformer and tokenizer, with
``modules.json`` (the pipeline) and a folder or file of settings for each module; a
cross-encoder's ``config.json`` names its activation. ``sbert_lab.json``: checksums.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
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

    Parts = tuple[PreTrainedModel, PreTrainedTokenizerBase]

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


class CheckpointError(ValueError):
    """A model folder is incomplete, damaged, or of a kind that is not read here."""


class Dense(nn.Module):
    """A linear layer after pooling: ``y = activation(W x + b)``, ``[B, D] -> [B, D']``.

    ``weights`` has ``linear.weight`` ``[D', D]`` and perhaps ``linear.bias`` ``[D']``;
    ``activation`` is a name of `ACTIVATIONS`.
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

    ``dimension`` is the width of the token vectors, ``head`` what follows pooling,
    ``max_seq_length`` the longest text in tokens (None: what the model bears),
    ``include_prompt`` whether a prompt's tokens are pooled too, ``default_prompt`` the
    name of a prompt, ``transformer`` the transformer's folder inside the model folder.
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
    """Read and check a sentence encoder's folder; the transformer is not loaded.

    A plain transformers folder is read with mean pooling, and a warning.
    """
    folder = Path(folder)
    modules, settings, length = _read_common(folder, "feature-extraction")
    if not (folder / "modules.json").is_file():
        log.warning("%s has no modules.json: read with mean pooling", folder)
    kinds = [kind for kind, _ in modules]
    config = _json(folder / modules[0][1] / "config.json")
    width = int(config.get("hidden_size", config.get("dim", config.get("d_model", 0))))
    modes: tuple[str, ...] = ("mean",)
    include_prompt = True
    if len(modules) > 1:
        _check(
            kinds[1] == "Pooling" and {"Dense", "Normalize"}.issuperset(kinds[2:]),
            f"{folder}: {' '.join(kinds)} is not read; one Pooling must follow one "
            "Transformer, then Dense and Normalize",
        )
        pooling = _json(folder / modules[1][1] / "config.json")
        flags = [name for flag, name in POOLING_FLAGS.items() if pooling.get(flag)]
        named = pooling.get("pooling_mode") or flags
        modes = (named,) if isinstance(named, str) else tuple(named)
        include_prompt = bool(pooling.get("include_prompt", True))
    _check(
        modes and POOLING.keys() >= set(modes),
        f"{folder}: pooling modes {modes} are not among {', '.join(POOLING)}",
    )
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


def load_transformer(folder: Path) -> "Parts":
    """Load a transformer in float32, and its tokenizer.

    Every weight must be there; only an unused pooler may be absent, and is left out.
    """
    from transformers import AutoModel

    parts, absent = _load(folder, AutoModel, lambda _, name: name.startswith("pooler."))
    if absent:
        parts[0].pooler = None  # else random, and saved as if learnt
    return parts


def load_cross(folder: Path, head_seed: int | None) -> tuple["Parts", str, int | None]:
    """Load a cross-encoder: transformer and tokenizer, activation, length limit.

    Of a sentence encoder, or a plain one, the transformer is taken and a head drawn
    with `head_seed` as BERT's layers begin.
    """
    from transformers import AutoModelForSequenceClassification

    settings = _json(folder / _SETTINGS, optional=True)
    whole = settings.get("model_type") == "CrossEncoder"
    task = "sequence-classification" if whole else "feature-extraction"
    modules, _, length = _read_common(folder, task)
    prompts = settings.get("prompts") or {}
    default = prompts.get(settings.get("default_prompt_name"))
    _check(
        not whole
        or (len(modules) == 1 and not default and not length.get("processing_kwargs")),
        f"{folder} has more than one Transformer, a default prompt or "
        "processing_kwargs, which are not read here; save it without them",
    )
    inside = folder / modules[0][1]
    config = _json(inside / "config.json")
    activation = _activation(
        folder,
        settings.get("activation_fn")
        or (config.get("sentence_transformers") or {}).get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or "torch.nn.Sigmoid",
    )
    kinds = config.get("architectures") or ()
    has_head = any(kind.endswith("ForSequenceClassification") for kind in kinds)
    one_score = {} if has_head else {"num_labels": 1}

    def of_head(model: "PreTrainedModel", name: str) -> bool:
        inner = name.startswith(f"{model.base_model_prefix}.")
        return not has_head and ("pooler." in name or not inner)

    parts, head = _load(
        inside, AutoModelForSequenceClassification, of_head, **one_score
    )
    _check(
        not head or head_seed is not None,
        f"{folder} has no head that gives a score ({', '.join(head)} missing). To "
        "train one, say head_seed=0 or another number",
    )
    _draw(parts[0], head, head_seed or 0)
    if length.get("do_lower_case"):
        lower_case(parts[1].backend_tokenizer)  # so that it is saved with it
    return parts, activation, length.get("max_seq_length")


def write(folder: Path, layout: Layout, parts: "Parts") -> None:
    """Write a sentence encoder's folder in the older spelling, atomically."""
    with _new(folder, parts, layout.max_seq_length) as target:
        files: dict[str, object] = {
            "sentence_bert_config.json": {
                "max_seq_length": layout.max_seq_length,
                "do_lower_case": layout.do_lower_case,
            },
            "1_Pooling/config.json": {
                "word_embedding_dimension": layout.dimension,
                **{key: mode in layout.pooling for key, mode in POOLING_FLAGS.items()},
                "include_prompt": layout.include_prompt,
            },
            _SETTINGS: {
                "__version__": {},
                "model_type": "SentenceTransformer",
                "prompts": {"query": "", "document": ""} | layout.prompts,
                "default_prompt_name": layout.default_prompt,
                "similarity_fn_name": layout.similarity,
                "truncate_dim": layout.truncate_dim,
            },
        }
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        for number, part in enumerate(layout.head, start=2):
            kind = "Normalize" if part == "normalize" else "Dense"
            modules.append((f"{number}_{kind}", kind))
            (target / modules[-1][0]).mkdir()
            if isinstance(part, Dense):
                files[f"{number}_Dense/config.json"] = {
                    "in_features": part.linear.in_features,
                    "out_features": part.linear.out_features,
                    "bias": part.linear.bias is not None,
                    "activation_function": spelled(part.activation),
                }
                state = part.state_dict()
                weights = {k: v.detach().cpu().contiguous() for k, v in state.items()}
                save_file(weights, target / modules[-1][0] / "model.safetensors")
        package = "sentence_transformers.models"
        files["modules.json"] = [
            {"idx": i, "name": str(i), "path": path, "type": f"{package}.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ]
        for name, content in files.items():
            write_json(target / name, content)


def write_cross(
    folder: Path, parts: "Parts", activation: str, max_seq_length: int
) -> None:
    """Write a cross-encoder's folder that every release loads, atomically."""
    with _new(folder, parts, max_seq_length) as target:
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


def spelled(activation: nn.Module) -> str:
    """Return how a folder spells an activation."""
    return f"{type(activation).__module__}.{type(activation).__name__}"


def _read_common(
    folder: Path, task: str
) -> tuple[list[tuple[str, str]], dict[str, Any], dict[str, Any]]:
    """Check files; return modules, settings, and where the transformer cuts texts."""
    _check(folder.is_dir(), f"{folder} is not a folder; give that of a saved model")
    sums = _json(folder / _SUMS, optional=True).get("sha256", {})
    for name, expected in sums.items():
        file = folder / name
        _check(
            file.is_file() and sha256_file(file) == expected,
            f"{file} is missing or not the file that was saved (its sha256 differs); "
            f"copy it again or, if you changed it on purpose, delete {_SUMS}",
        )
    modules = _modules(folder)
    inside = folder / modules[0][1]
    _check(
        any(inside.glob("*.safetensors")),
        f"{inside} has no model.safetensors; copy it again. A pickle (*.bin) can run "
        "code and is not read: load it where you trust it, save as safetensors",
    )
    _check(
        any((inside / name).is_file() for name in ("tokenizer.json", "vocab.txt")),
        f"{inside} has no tokenizer; copy tokenizer.json from the same model",
    )
    length: dict[str, Any] = {}
    # Once the file's name told the architecture: sentence_roberta_config.json.
    for path in sorted(inside.glob("sentence_*_config.json")):
        length = _json(path)
    cut = length.get("max_seq_length")
    _check(
        length.get("transformer_task", task) == task and (cut is None or cut >= 3),
        f"{inside}: the task must be {task!r}, max_seq_length 3 or more, not {length}",
    )
    return modules, _json(folder / _SETTINGS, optional=True), length


def _check(sound: object, problem: str) -> None:
    if not sound:
        raise CheckpointError(problem)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged file makes a library raise into our error."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"{path} is missing, damaged or not what it should be; copy it again "
            f"({type(error).__name__}: {error})"
        ) from error


def _json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if it may be missing and is."""
    if optional and not path.is_file():
        return {}
    with _explained(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return the pipeline as (kind, path), the transformer first."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return [("Transformer", "")]  # a plain transformers folder
    with _explained(listing):
        modules = json.loads(listing.read_text(encoding="utf-8"))
        named = [(module["type"], module.get("path", "")) for module in modules]
    pipeline = []
    for name, path in named:
        package, kind = name.split(".")[0], name.split(".")[-1]
        known = kind in {"Transformer", "Pooling", "Dense", "Normalize"}
        outside = path.startswith("/") or ".." in Path(path).parts
        _check(
            package == "sentence_transformers" and known and not outside,
            f"{folder}: module {name} in {path!r} is not read here; no code from a "
            "model folder is run, nothing outside it is opened",
        )
        pipeline.append((kind, path))
    _check(
        pipeline and pipeline[0][0] == "Transformer",
        f"{folder}: modules.json must start with a Transformer",
    )
    return pipeline


def _dense(folder: Path, width: int) -> Dense:
    config = _json(folder / "config.json")
    path = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = _activation(folder, path)
    with _explained(folder / "model.safetensors"):
        weights = load_file(folder / "model.safetensors")
        shape = tuple(weights["linear.weight"].shape)
    _check(
        shape == (config.get("out_features"), width) and not config.get("use_residual"),
        f"{folder}: a layer from {width} dimensions without residual is read here, "
        f"not {config} with weights of shape {shape}",
    )
    return Dense({name: w.float() for name, w in weights.items()}, activation)


def _activation(folder: Path, path: object) -> str:
    """Return the short name of an activation that a folder spells as a path."""
    name = str(path).rsplit(".", 1)[-1].lower()
    _check(
        str(path).startswith("torch.nn.") and name in ACTIVATIONS,
        f"{folder}: activation {path!r} is not one of torch.nn's "
        f"{', '.join(ACTIVATIONS)}; no code from a model folder is run",
    )
    return name


def _load(
    folder: Path,
    auto: Any,  # noqa: ANN401
    may_lack: Callable[[Any, str], bool],
    **options: int,
) -> tuple[tuple[Any, Any], list[str]]:
    """Load model and tokenizer; return them, and the absent weights that may be so."""
    from transformers import AutoTokenizer

    safe = {"local_files_only": True, "trust_remote_code": False}
    with _explained(folder), quiet_transformers(), random_state_kept():
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        model, report = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **safe,
            **options,
        )
    absent = [name for name in sorted(report["missing_keys"]) if may_lack(model, name)]
    missing = sorted(set(report["missing_keys"]).difference(absent))
    wrong = sorted(str(key[0]) for key in report["mismatched_keys"])
    _check(
        not missing and not wrong,
        f"{folder}: the weights do not belong to this config.json: {len(missing)} "
        f"tensors missing, {len(wrong)} of another shape, first "
        f"{[*missing, *wrong, ''][0]}; copy both from the same model",
    )
    return (model, tokenizer), absent


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
def _new(folder: Path, parts: "Parts", max_seq_length: int | None) -> Iterator[Path]:
    """Yield a new folder with transformer and tokenizer; seal it with checksums."""
    with new_folder(folder, marker="config.json") as target:
        with quiet_transformers():
            parts[0].save_pretrained(target)
            parts[1].save_pretrained(target)
        config = _json(target / "tokenizer_config.json")
        config["model_max_length"] = max_seq_length
        write_json(target / "tokenizer_config.json", config)
        yield target
        files = sorted(path for path in target.rglob("*") if path.is_file())
        sums = {p.relative_to(target).as_posix(): sha256_file(p) for p in files}
        write_json(target / _SUMS, {"format": 1, "sha256": sums})
