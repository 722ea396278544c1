"""The command line: ``corpus | prepare | train | cooldown | export | transfer``."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tools.pretraining.plan import Plan
    from tools.pretraining.training import Learner

log = logging.getLogger("tools.pretraining")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except FileNotFoundError as error:  # a folder or a data set that is not here
        raise SystemExit(str(error)) from error
    return status


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
    prepare.add_argument("--tokenizer", type=Path, help="folder of one to keep")
    prepare.add_argument("--vocab-size", type=int, default=8192)
    prepare.add_argument("--vector-size", type=int, default=256)
    prepare.add_argument("--window", type=int, default=5)
    prepare.add_argument("--seed", type=int, default=0)
    prepare.set_defaults(command=_prepare)
    train = commands.add_parser("train", help="start or resume a run")
    _add_plan(train)
    train.add_argument("--init", type=Path, help="folder of weights to start from")
    train.set_defaults(command=_train)
    cooldown = commands.add_parser("cooldown", help="branch off a run, cool it down")
    cooldown.add_argument("--branch", type=Path, required=True)
    cooldown.add_argument("--tokens", type=float, default=10e6)
    cooldown.set_defaults(command=_cooldown)
    export = commands.add_parser("export", help="write a folder transformers loads")
    export.add_argument("--out", type=Path, required=True)
    export.add_argument("--float32", action="store_true")
    export.add_argument("--title", default="A small BERT")
    export.set_defaults(command=_export)
    transfer = commands.add_parser("transfer", help="fine-tune from three starts")
    transfer.add_argument("--weights", type=Path, required=True)
    transfer.add_argument("--statics", type=Path, required=True)
    transfer.add_argument("--snapshots", type=Path, help="a run's folder of them")
    transfer.add_argument("--out", type=Path, required=True, help="for predictions")
    transfer.add_argument("--seeds", type=int, default=3)
    transfer.add_argument("--bf16", action="store_true", help="products in bfloat16")
    transfer.add_argument(
        "--card", action="store_true", help="write it into the weights' model card"
    )
    transfer.set_defaults(command=_transfer)
    for command in (prepare, train, cooldown, export):
        command.add_argument("--data", type=Path, required=True)
    for command in (train, cooldown, export):
        command.add_argument("--run", type=Path, required=True)
    for command in (cooldown, export):
        command.add_argument("--checkpoint", type=Path, help="default: the latest")
    for command in (train, cooldown):
        command.add_argument("--device", help="default: the GPU if there is one")
        command.add_argument("--threads", type=int, default=0, help="0: torch decides")
    return parser


def _add_plan(train: argparse.ArgumentParser) -> None:
    train.add_argument("--max-tokens", type=float, default=150e6)
    train.add_argument("--cooldown-tokens", type=float, default=0.0)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--rows", type=int, default=48)
    train.add_argument("--length", type=int, default=64)
    train.add_argument(
        "--long-every", type=int, default=4, help="0: never rows of twice the length"
    )
    train.add_argument("--peak", type=float, default=1e-3)
    train.add_argument("--warmup", type=int, default=400)
    train.add_argument("--hold", type=int, default=8000)
    train.add_argument("--bf16", action="store_true", help="products in bfloat16")
    train.add_argument("--checkpoint-seconds", type=float, default=600.0)


def _corpus(options: argparse.Namespace) -> int:
    from tools.pretraining.corpus import build_corpus
    from tools.pretraining.sources import SOURCES

    if options.list:
        names = [source.package for source in SOURCES.values() if source.package]
        sys.stdout.write("\n".join(names) + "\n")
        return 0
    if not options.packages or not options.out:
        raise SystemExit("corpus: give --packages and --out, or --list")
    reports = build_corpus(options.packages, options.out)
    size = sum(report.bytes for report in reports) / 1e6
    log.info("%.1f MB in %d sources", size, len(reports))
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from tools.pretraining.prepare import prepare

    prepare(
        options.corpus,
        options.data,
        vocab_size=options.vocab_size,
        vector_size=options.vector_size,
        window=options.window,
        seed=options.seed,
        keep_tokenizer=options.tokenizer,
    )
    return 0


def _train(options: argparse.Namespace) -> int:
    from tools.pretraining.checkpoints import latest_checkpoint
    from tools.pretraining.plan import Plan
    from tools.pretraining.training import begin, resume

    plan = Plan(
        rows=options.rows,
        length=options.length,
        long_every=options.long_every,
        peak=options.peak,
        warmup=options.warmup,
        hold=options.hold,
        seed=options.seed,
        bf16=options.bf16,
        checkpoint_seconds=options.checkpoint_seconds,
    )
    plan = replace(
        plan,
        total=plan.steps(options.max_tokens),
        cooldown=plan.steps(options.cooldown_tokens),
    )
    device = _device(options)
    checkpoint = latest_checkpoint(options.run)
    if checkpoint is None:
        learner = begin(options.data, plan, device, options.init)
    else:
        learner = resume(checkpoint, plan, device)
    return _go(learner, options.data, options.run, plan)


def _cooldown(options: argparse.Namespace) -> int:
    from tools.pretraining.checkpoints import latest_checkpoint
    from tools.pretraining.plan import cooldown_plan, load_plan
    from tools.pretraining.training import resume

    checkpoint = latest_checkpoint(options.branch)
    if checkpoint is not None:
        plan = load_plan(options.branch)
        learner = resume(checkpoint, plan, _device(options))
    else:
        plan = load_plan(options.run)
        learner = resume(_checkpoint(options), plan, _device(options))
        plan = cooldown_plan(plan, learner.state.step, options.tokens)
    return _go(learner, options.data, options.branch, plan)


def _export(options: argparse.Namespace) -> int:
    from tools.pretraining.checkpoints import load_state, load_weights
    from tools.pretraining.export import export
    from tools.pretraining.plan import load_plan

    checkpoint = _checkpoint(options)
    export(
        load_weights(checkpoint),
        options.data,
        options.out,
        load_plan(options.run),
        load_state(checkpoint),
        half=not options.float32,
        title=options.title,
    )
    return 0


def _transfer(options: argparse.Namespace) -> int:
    from tools.pretraining import advantage

    found = options.snapshots.glob("[0-9]*M") if options.snapshots else ()
    curve = {float(folder.name.removesuffix("M")): folder for folder in found}
    curve.pop(0.0, None)  # before the first step there is nothing to weigh
    record = advantage.run(
        options.weights,
        curve,
        options.statics,
        options.out,
        seeds=options.seeds,
        bf16=options.bf16,
    )
    if options.card:
        advantage.write_card(record, options.weights)
    sys.stdout.write(advantage.describe(record) + "\n")
    return 0


def _go(learner: "Learner", data: Path, run: Path, plan: "Plan") -> int:
    """Train until the plan's end, or until a signal asks to stop."""
    from tools.pretraining.batches import load_streams
    from tools.pretraining.heldout import held_out_batches
    from tools.pretraining.training import train

    streams = load_streams(data, "train")
    held = held_out_batches(load_streams(data, "heldout"), length=plan.length)
    stop = [False]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.__setitem__(0, True))
    log.info("from step %d to %d: %s", learner.state.step, plan.total, plan)
    train(learner, streams, held, data, run, plan, stop)
    return 0


def _device(options: argparse.Namespace) -> "torch.device":
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    return torch.device(
        options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    )


def _checkpoint(options: argparse.Namespace) -> Path:
    from tools.pretraining.checkpoints import latest_checkpoint

    checkpoint: Path | None = options.checkpoint or latest_checkpoint(options.run)
    if checkpoint is None:
        raise SystemExit(f"{options.run} holds no checkpoint yet")
    return checkpoint


if __name__ == "__main__":
    sys.exit(main())
