"""``python -m sbert_lab adapt``: a better model from a file, and a short table."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sbert_lab._utils import limit_memory
from sbert_lab.adaptation.adapt import adapt as adapt_to_pairs
from sbert_lab.adaptation.adapt import adapt_texts
from sbert_lab.adaptation.data import read_texts, sha256
from sbert_lab.adaptation.outcome import Comparison, Outcome
from sbert_lab.adaptation.recipe import Recipe
from sbert_lab.models.checkpoint import CheckpointError
from sbert_lab.models.registry import ChecksumError, cache_home, resolve
from sbert_lab.selection.command import named_pairs

#: Options to what `Recipe` calls them.
_RECIPE = {
    "epochs": "epochs",
    "batch_size": "batch",
    "rate": "rate",
    "negatives": "negatives",
    "margin": "relative_margin",
    "keep": "keep",
    "seed": "seed",
}

#: And what messages call them, by what `Recipe` does.
_SPELT = {called: f"--{option.replace('_', '-')}" for option, called in _RECIPE.items()}


def adapt(options: argparse.Namespace) -> str:
    """Do what the options say, and return what to print.

    Raises
    ------
    SystemExit
        With a message that names the file, the option or the model to change.
    """
    limit_memory()
    try:
        with alone(options.out):
            outcome = _outcome(options)
    except (
        OSError,
        ValueError,
        CheckpointError,
        ChecksumError,
        ModuleNotFoundError,
        FloatingPointError,
    ) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from here") from None
    return "\n".join(as_table(outcome, options.out))


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep a second command of this user out of a folder; a killed one lets go of it.

    The lock lies with the cache, for the folder is to hold what was asked for alone.

    Raises
    ------
    FileExistsError
        Another command is filling the folder.
    """
    name = sha256(str(out.expanduser().resolve()))[:16]
    path = cache_home() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(timeout=0)
    except Timeout:
        raise FileExistsError(
            f"{out} is being filled by another run; wait for its end, or give another "
            "folder"
        ) from None
    with lock:
        yield


def as_table(outcome: Outcome, out: Path) -> list[str]:
    """Return before, after and difference as lines of text, and where the model is."""
    cells = [("", "before", "after", "difference, 95 % interval", "items")]
    for found in (*outcome.domain, *outcome.general):
        cells.append(_row(found))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    seconds = outcome.seconds
    stages = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    model = out / "model"
    return [
        *(line.rstrip() for line in table if len(cells) > 1),
        "",
        f"{sum(seconds.values()):.0f} s: {stages}",
        f"model: {model}",
        f"report: {out / 'report.html'}",
        "",
        "from sentence_transformers import SentenceTransformer",
        f"model = SentenceTransformer({str(model)!r})",
        'vectors = model.encode(["a text", "another one"])',
    ]


def _row(found: Comparison) -> tuple[str, str, str, str, str]:
    return (
        f"{found.name}, {found.metric}",
        f"{found.before.mean:.3f}",
        f"{found.after.mean:.3f}",
        found.difference.signed(),
        f"{found.items:,}",
    )


def _outcome(options: argparse.Namespace) -> Outcome:
    if (options.pairs is None) == (options.texts is None):
        raise ValueError("--pairs FILE, or --texts FILE if there are no pairs")
    if options.pairs is None:
        return _from_texts(options)
    for name in ("method", "judge"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is for --texts; --pairs need none")
    recipe = _recipe(options)
    pairs = named_pairs(options.pairs, options)
    return adapt_to_pairs(
        options.base,
        pairs,
        options.out,
        recipe=recipe,
        **_test(options),
    )


def _from_texts(options: argparse.Namespace) -> Outcome:
    if options.method is None:
        raise ValueError("--texts needs --method simcse, tsdae or pseudo-labels")
    for name in ("negatives", "margin"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is for --pairs")
    if options.test is None and (options.anchor or options.positive):
        raise ValueError("--anchor and --positive name columns of --pairs or --test")
    if (options.judge is not None) != (options.method == "pseudo-labels"):
        raise ValueError(
            "--method pseudo-labels and --judge MODEL go together: what the judge "
            "knows is what is learnt"
        )
    texts = read_texts(options.texts)
    more: dict[str, Any] = {} if options.keep is None else {"keep": options.keep}
    if options.judge is not None:
        more["judge"] = _judge(options.judge)
    return adapt_texts(
        options.base,
        texts,
        options.out,
        method=options.method,
        epochs=options.epochs,
        batch=options.batch_size,
        rate=options.rate,
        seed=options.seed,
        source=options.texts.name,
        **_test(options),
        **more,
    )


def _test(options: argparse.Namespace) -> dict[str, Any]:
    """Return the test and the corpus, as `adapt` takes them."""
    test = options.test
    return {
        "test": None if test is None else named_pairs(test, options),
        "corpus": None if options.corpus is None else read_texts(options.corpus),
    }


def _recipe(options: argparse.Namespace) -> Recipe:
    given = {
        field: value
        for name, field in _RECIPE.items()
        if (value := getattr(options, name)) is not None
    }
    try:
        return replace(Recipe(), **given)
    except ValueError as error:
        field, _, rest = str(error).partition("=")
        raise ValueError(f"{_SPELT.get(field, field)} {rest}") from error


def _judge(name: str) -> Any:  # noqa: ANN401  (a cross-encoder, or a function)
    """Load a cross-encoder, or take an encoder's similarity for a judgement."""
    import json

    from sbert_lab.adaptation.pseudo_labels import similarity_judge
    from sbert_lab.models.cross_encoder import CrossEncoder
    from sbert_lab.models.sentence_encoder import SentenceEncoder

    folder = resolve(name)
    modules = folder / "modules.json"
    parts: Sequence[Any] = json.loads(modules.read_text()) if modules.is_file() else ()
    if any(str(part.get("type", "")).endswith("Pooling") for part in parts):
        return similarity_judge(SentenceEncoder.from_pretrained(folder))
    config = folder / "config.json"
    kinds = (
        json.loads(config.read_text()).get("architectures") if config.is_file() else ()
    )
    if not any("SequenceClassification" in kind for kind in kinds or ()):
        raise ValueError(
            f"--judge {name}: neither a cross-encoder nor a sentence encoder; both "
            "must have been trained"
        )
    return CrossEncoder.from_pretrained(folder)
