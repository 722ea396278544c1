"""Model folders in the format of sentence-transformers: read, check, load, write.

The spelling of releases 2 to 5 and that of release 6 are read; the older one is
written, because every release loads it. No pickle is opened, no code from a folder is
run. ``sbert_lab.json`` in a folder holds the checksums of all its files.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

from sbert_lab._utils import (
    LISTING,
    new_folder,
    quiet_transformers,
    random_state_kept,
    sha256_file,
    write_json,
)

if TYPE_CHECKING:
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

_Modules = list[tuple[str, str]]  # kinds and paths
_PACKAGE = "sentence_transformers"
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "merges.txt", "*.model")
_SETTINGS = "config_sentence_transformers.json"


class CheckpointError(ValueError):
    """A model folder is incomplete, damaged, or of a kind that is not read here."""


class Dense(nn.Module):
    """A linear layer after pooling: ``y = activation(W x + b)``, ``[B, D] -> [B, D']``.

    `weights` has ``linear.weight`` ``[D', D]`` and perhaps ``linear.bias`` ``[D']``.
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
        # Pooled vectors are float32, whatever the weights were made.
        vectors = vectors.to(self.linear.weight.dtype)
        mapped: Tensor = self.activation(self.linear(vectors))
        return mapped


class Normalize(nn.Module):
    """Scale each vector to unit length; zero vectors stay zero."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``[B, D]`` to ``[B, D]``."""
        return nn.functional.normalize(vectors, dim=-1)


@dataclass(frozen=True)
class Layout:
    """What a sentence encoder's folder says, free of either spelling."""

    #: Width of the token vectors.
    dimension: int
    pooling: tuple[str, ...] = ("mean",)
    #: Whether a prompt's tokens are pooled too.
    include_prompt: bool = True
    head: tuple[Dense | Literal["normalize"], ...] = ()
    #: Tokens; None is what the model bears.
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    #: Its name.
    default_prompt: str | None = None
    similarity: Literal["cosine", "dot", "euclidean", "manhattan"] = "cosine"
    truncate_dim: int | None = None
    #: The transformer's folder inside the model's.
    transformer: str = ""


def read(folder: str | Path) -> Layout:
    """Read and check a sentence encoder's folder; the transformer is not loaded."""
    folder = Path(folder)
    modules, settings, length = _read_common(folder)
    kinds = [kind for kind, _ in modules]
    _check(
        kinds[:2] in (["Transformer"], ["Transformer", "Pooling"])
        and {"Dense", "Normalize"}.issuperset(kinds[2:]),
        f"{folder}: {' '.join(kinds)} is not read; Dense and Normalize may follow one "
        "Transformer and one Pooling",
    )
    pooling: dict[str, Any] = {"pooling_mode": "mean"}
    if len(modules) > 1:
        pooling = _json(folder / modules[1][1] / "config.json")
    else:
        log.warning("%s names no pooling: read with mean pooling", folder)
    modes = pooling.get("pooling_mode") or [
        name for flag, name in POOLING_FLAGS.items() if pooling.get(flag)
    ]
    return Layout(
        dimension=_config(folder / modules[0][1])[1],
        pooling=(modes,) if isinstance(modes, str) else tuple(modes),
        include_prompt=bool(pooling.get("include_prompt", True)),
        head=tuple(
            "normalize" if kind == "Normalize" else _dense(folder / path)
            for kind, path in modules[2:]
        ),
        max_seq_length=length.get("max_seq_length"),
        do_lower_case=bool(length.get("do_lower_case", False)),
        prompts=dict(settings.get("prompts") or {}),
        default_prompt=settings.get("default_prompt_name"),
        similarity=settings.get("similarity_fn_name") or "cosine",
        truncate_dim=settings.get("truncate_dim"),
        transformer=modules[0][1],
    )


def load_transformer(folder: Path) -> "Parts":
    """Load a transformer in float32, and its tokenizer; only a pooler may be absent."""
    from transformers import (
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        AutoModel,
        AutoModelForTextEncoding,
    )

    # Of T5 and its like the encoder alone; it is the same model for all others.
    encodes = _config(folder)[0] in MODEL_FOR_TEXT_ENCODING_MAPPING
    auto = AutoModelForTextEncoding if encodes else AutoModel
    parts, absent = _load(folder, auto, lambda _, name: name.startswith("pooler."))
    if absent:
        parts[0].pooler = None  # else random, and saved as if learnt
    return parts


def load_cross(folder: Path, head_seed: int | None) -> tuple["Parts", str, int | None]:
    """Load a cross-encoder, or draw a head: its parts, activation, length limit."""
    from transformers import AutoModelForSequenceClassification

    modules, settings, length = _read_common(folder)
    whole = settings.get("model_type") == "CrossEncoder"
    default = settings.get("default_prompt_name")
    _check(
        not whole or not (modules[1:] or default or length.get("processing_kwargs")),
        f"{folder} has more modules, a default prompt or processing_kwargs, not read",
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

    def of_head(model: "PreTrainedModel", name: str) -> bool:
        inner = name.startswith(f"{model.base_model_prefix}.")
        return not has_head and ("pooler." in name or not inner)

    parts, drawn = _load(
        inside,
        AutoModelForSequenceClassification,
        of_head,
        head_seed or 0,
        **({} if has_head else {"num_labels": 1}),
    )
    _check(
        not drawn or head_seed is not None,
        f"{folder} has no head that gives a score; to train one, say head_seed=0",
    )
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
            kind = "Dense" if isinstance(part, Dense) else "Normalize"
            modules.append((path := f"{number}_{kind}", kind))
            (target / path).mkdir()
            if isinstance(part, Dense):
                files[f"{path}/config.json"] = {
                    "in_features": part.linear.in_features,
                    "out_features": part.linear.out_features,
                    "bias": part.linear.bias is not None,
                    "activation_function": spelled(part.activation),
                }
                save_model(part, str(target / path / "model.safetensors"))
        files["modules.json"] = [
            {
                "idx": i,
                "name": str(i),
                "path": path,
                "type": f"{_PACKAGE}.models.{kind}",
            }
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


def spelled(activation: nn.Module) -> str:
    """Return how a folder spells an activation."""
    return f"{type(activation).__module__}.{type(activation).__name__}"


@contextmanager
def explained(
    path: Path,
    problem: str = "is missing, damaged or not what it should be; copy it again",
) -> Iterator[None]:
    """Turn what a missing or damaged file makes a library raise into our error."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"{path} {problem} ({type(error).__name__}: {error})"
        ) from error


def load_tokenizer(folder: Path) -> Any:  # noqa: ANN401  (transformers has no types)
    """Load a folder's tokenizer; no code of the folder is run."""
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    safe = {"local_files_only": True, "trust_remote_code": False}
    problem = (
        "has no tokenizer that is read here; copy tokenizer.json of this model, or "
    )
    with explained(folder, f"{problem}pip install sentencepiece"), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        backend = tokenizer.backend_tokenizer
    # A BERT's tokenizer is saved without it, others with it.
    lower = "Lowercase()" in repr(backend.normalizer)
    if _length(folder).get("do_lower_case") and not lower:
        before = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    return tokenizer


def check_files(folder: Path) -> None:
    """Refuse a folder in which a file is not the one that was saved."""
    sums = _json(folder / LISTING, optional=True).get("sha256", {})
    _check(isinstance(sums, dict), f"{folder / LISTING} is damaged; copy it again")
    for name, expected in sums.items():
        file = folder / name
        _check(
            file.is_file() and sha256_file(file) == expected,
            f"{file} is missing or not the file that was saved (its sha256 differs); "
            f"copy it again or, if you changed it on purpose, delete {LISTING}",
        )


def _read_common(folder: Path) -> tuple[_Modules, dict[str, Any], dict[str, Any]]:
    """Check files; return modules, settings, and where the transformer cuts texts."""
    _check(folder.is_dir(), f"{folder} is not a folder; give that of a saved model")
    check_files(folder)
    modules = _modules(folder)
    inside = folder / modules[0][1]
    adapter = _json(inside / "adapter_config.json", optional=True)
    _check(
        not adapter,
        f"{inside} holds an adapter, such as LoRA; merge it into its base model "
        f"({adapter.get('base_model_name_or_path')}) with peft (merge_and_unload), and "
        "save model and tokenizer in a new folder",
    )
    own = folder / "model"  # of what `adapt` writes
    _check(
        any(inside.glob("*.safetensors")) or not own.is_dir(),
        f"{inside} holds no model; did you mean {own}?",
    )
    _check(
        any(inside.glob("*.safetensors"))
        and any(any(inside.glob(name)) for name in _TOKENIZERS),
        f"{inside} needs model.safetensors and tokenizer.json; copy both from the same "
        "model. A pickle (*.bin) can run code and is not read",
    )
    settings, length = _json(folder / _SETTINGS, optional=True), _length(inside)
    whole = settings.get("model_type") == "CrossEncoder"
    task = "sequence-classification" if whole else "feature-extraction"
    _check(
        length.get("transformer_task", task) == task,
        f"{inside}: the task must be {task!r}, not {length}",
    )
    return modules, settings, length


def _length(transformer: Path) -> dict[str, Any]:
    """Return how a transformer's folder says that texts are cut."""
    # Once the file's name told the architecture: sentence_roberta_config.json.
    files = sorted(transformer.glob("sentence_*_config.json"))
    return _json(files[-1]) if files else {}


def _check(sound: object, problem: str) -> None:
    if not sound:
        raise CheckpointError(problem)


def _json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if it may be missing and is."""
    if optional and not path.is_file():
        return {}
    with explained(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _config(transformer: Path) -> tuple[type[Any], int]:
    """Return the class of a transformer's settings, and the width of its vectors."""
    from transformers import AutoConfig

    problem = (
        "holds no config.json, or of a model that is not of texts alone, or that "
        "transformers itself lacks; copy it again or choose another"
    )
    with explained(transformer, problem), quiet_transformers():
        # Families have names of their own for what these settings give one name.
        config = AutoConfig.from_pretrained(
            transformer, local_files_only=True, trust_remote_code=False
        )
        return type(config), int(config.hidden_size)


def _modules(folder: Path) -> _Modules:
    listing = folder / "modules.json"
    if not listing.is_file():
        return [("Transformer", "")]  # a plain transformers folder
    with explained(listing):
        modules = json.loads(listing.read_text(encoding="utf-8"))
        named = [(module["type"], module.get("path", "")) for module in modules]
    for name, path in named:
        outside = Path(path).is_absolute() or ".." in Path(path).parts
        _check(
            name.split(".")[0] == _PACKAGE and not outside,
            f"{folder}: module {name} in {path!r} is not read here; no code from a "
            "model folder is run, nothing outside it is opened",
        )
    kinds = [name.split(".")[-1] for name, _ in named]
    _check(
        kinds[:1] == ["Transformer"],
        f"{folder}: modules.json must start with a Transformer, not {kinds[:1]}",
    )
    return list(zip(kinds, (path for _, path in named), strict=True))


def _dense(folder: Path) -> Dense:
    config = _json(folder / "config.json")
    path = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = _activation(folder, path)
    _check(not config.get("use_residual"), f"{folder}: a residual is not read here")
    file = folder / "model.safetensors"
    _check(
        file.is_file() or not (folder / "pytorch_model.bin").is_file(),
        f"{folder} has pytorch_model.bin alone, a pickle, which can run code and is "
        "not read; load and save the model with a new sentence-transformers",
    )
    with explained(file):
        weights = load_file(file)
        layer = Dense({name: w.float() for name, w in weights.items()}, activation)
    found = {n: getattr(layer.linear, n) for n in ("in_features", "out_features")}
    _check(
        found.items() <= config.items()
        and all(w.is_floating_point() for w in weights.values()),
        f"{file} holds {found}, or no reals, unlike config.json; copy both from the "
        "same model",
    )
    return layer


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
    seed: int = 0,
    **options: int,
) -> tuple[tuple[Any, Any], list[str]]:
    """Load model and tokenizer; return them, and the weights drawn from `seed`."""
    tokenizer = load_tokenizer(folder)
    with explained(folder), quiet_transformers(), random_state_kept():
        torch.manual_seed(seed)
        model, report = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    absent = [name for name in sorted(report["missing_keys"]) if may_lack(model, name)]
    missing = sorted(report["missing_keys"].difference(absent))
    _check(
        not missing,
        f"{folder}: the weights do not belong to this config.json: {len(missing)} "
        f"tensors missing, first {missing[:1]}; copy both from the same model",
    )
    if hasattr(model.config, "auto_map"):
        log.warning("%s has code of its own; no code from a folder is run", folder)
    _try(model, tokenizer, folder)
    return (model, tokenizer), absent


def _try(model: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ANN401
    """Refuse a model that reads no padded texts; tell of one that padding changes."""
    kind = type(model).__name__
    problem = f"holds a {kind}, which cannot read padded texts; mend or choose another"
    with explained(folder, problem), torch.no_grad(), random_state_kept():
        tokens = tokenizer("a")
        ids = torch.tensor([tokens["input_ids"]] * 2)
        padded = nn.functional.pad(ids, (0, 1), value=pad_id(model, tokenizer))
        mask = nn.functional.pad(torch.ones_like(ids), (0, 1))
        alone = model(input_ids=ids, attention_mask=mask[:, :-1])[0]
        among = model(input_ids=padded, attention_mask=mask)[0][:, : alone.shape[1]]
        if alone.ndim == 3 and alone.shape[2] != model.config.hidden_size:
            raise ValueError(f"vectors of {alone.shape[2]}, which is not hidden_size")
        if any(tokens.get("token_type_ids", ())):
            raise ValueError("an XLNet's tokenizer, which types the tokens of one text")
    if not torch.allclose(alone, among, rtol=1e-3, atol=1e-3, equal_nan=True):
        log.warning(
            "padding changes what a %s computes: token_budget=1 reads texts alone", kind
        )


def pad_id(model: Any, tokenizer: Any) -> int:  # noqa: ANN401
    """Return the id that a model takes for padding; some look for it among the ids."""
    known = getattr(model.config, "vocab_size", None) or len(tokenizer)
    ids = (getattr(model.config, "pad_token_id", None), tokenizer.pad_token_id)
    return next((i for i in ids if i is not None and 0 <= i < known), 0)


@contextmanager
def _new(folder: Path, parts: "Parts", max_seq_length: int | None) -> Iterator[Path]:
    """Yield a new folder with transformer and tokenizer."""
    with new_folder(folder) as target:
        with quiet_transformers():
            parts[0].save_pretrained(target)
            parts[1].save_pretrained(target)
        config = _json(target / "tokenizer_config.json")
        config["model_max_length"] = max_seq_length
        write_json(target / "tokenizer_config.json", config)
        yield target
