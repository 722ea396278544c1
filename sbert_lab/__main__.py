"""The command line: ``python -m sbert_lab``, and one of these.

``search | select | compare | adapt | embed | index | benchmark | fetch | doctor``
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    What is wrong with a file, an argument or a disk is told in a line, as is ^C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a console of another alphabet
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        try:
            options = _parser(given[0]).parse_args(given)
            return int(options.command(options) or 0)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader had seen enough: `… doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        return 130
    except (OSError, ValueError, ArithmeticError, ModuleNotFoundError) as error:
        from sbert_lab.models.registry import cache_home

        inside = str(cache_home()) in str(error)
        cure = "; SBERT_LAB_CACHE names another folder" if inside else ""
        raise SystemExit(f"{error}{cure}") from error


def _parser(asked: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sbert_lab", description=__doc__)
    commands = parser.add_subparsers(required=True)

    search = commands.add_parser("search", help="search a table's texts by meaning")
    search.add_argument("question", help="in words of your own")
    search.add_argument("--csv", type=Path, help="CSV, TSV, JSONL, Parquet or .txt")
    search.add_argument("--text", help="its column, if not 'text'")
    search.add_argument("--model", default="all-MiniLM-L6-v2", help="which encoder")
    search.add_argument("--k", type=int, default=5, help="how many answers; default 5")
    search.set_defaults(command=_search)

    for name, (run, module, about) in _COMMANDS.items():
        command = commands.add_parser(name, help=about)
        command.set_defaults(command=run)
        if name == asked:  # imports take seconds
            import_module(f"sbert_lab.{module}").add_options(command)

    benchmark = commands.add_parser(
        "benchmark", help="measure a model in six tasks on ICD-10-CM, with no network"
    )
    benchmark.add_argument("model", help="a name, a folder, or a hub repository")
    benchmark.add_argument(
        "--published",
        action="store_true",
        help="instead: STS Benchmark, SICK-R and Banking77 beside the published scores",
    )
    benchmark.set_defaults(command=_benchmark)

    fetch = commands.add_parser("fetch", help="get WordNet, on which one can train")
    fetch.set_defaults(command=_fetch)

    doctor = commands.add_parser("doctor", help="what is here, and how to get the rest")
    doctor.set_defaults(command=_doctor)
    return parser


def _search(options: argparse.Namespace) -> int:
    """Print the texts of a file, or entries of ICD-10-CM, nearest to a question."""
    told = "reading texts and model: some ten seconds; new texts are then encoded"
    print(f"{told}, a hundred or more a second, and kept", file=sys.stderr)
    from sbert_lab.datasets import icd10cm
    from sbert_lab.datasets.pairs import read_texts
    from sbert_lab.index.nearest import nearest
    from sbert_lab.models.embedding_cache import EmbeddingCache
    from sbert_lab.models.sentence_encoder import SentenceEncoder

    if options.csv:
        rows = read_texts(options.csv, options.text or "text")
        texts, names = list(rows.values()), [f"row {row}" for row in rows]
    elif options.text:
        raise ValueError(f"--text {options.text} is a column: name its file by --csv")
    else:
        codes = icd10cm.retrieval_corpus()
        texts, names = [c.description for c in codes], [c.code for c in codes]
    encoder = SentenceEncoder.from_pretrained(options.model)
    found = nearest(encoder, texts, options.question, options.k, EmbeddingCache())
    for row, passage, score in found:
        print(f"{score:.3f}  {names[row]:8}  {' '.join(passage.split())[:200]}")
    return 0


def _select(options: argparse.Namespace) -> int:
    """Print the candidates and a choice among them. 1 if none keeps the constraints."""
    from sbert_lab.selection.command import select

    logging.getLogger("sbert_lab.selection").setLevel(logging.INFO)
    text, status = select(options)
    print(text)
    return status


def _compare(options: argparse.Namespace) -> None:
    """Print which of two models is better, and how sure that is."""
    from sbert_lab.selection.compare import compare

    print(compare(options))


def _adapt(options: argparse.Namespace) -> int:
    """Adapt a model, or go on where a stopped run left off; print what it brought."""
    from sbert_lab.adaptation.command import adapt

    logging.getLogger("sbert_lab.adaptation").setLevel(logging.INFO)  # its stages
    print(adapt(options))
    return 0


def _embed(options: argparse.Namespace) -> int:
    """Encode a corpus, or the rest of it; print how much, how fast, and what is bad."""
    from sbert_lab.index.embed import REJECTS, embed

    given = {name: value for name, value in vars(options).items() if name != "command"}
    done = embed(**given)
    new = done.vectors - done.kept
    rate = f"{new:,} now, {new / max(done.seconds, 1e-9):,.0f} a second"
    print(f"{done.vectors:,} vectors in {options.out}, {rate}")
    if done.cut:
        print(f"{done.cut:,} texts are longer than the model reads, and were cut")
    for reason, rows in done.rejects.most_common():
        print(f"{rows:,} rows left out: {reason}")
    if done.rejects:
        print(f"which ones: {options.out}/{REJECTS}")
    return 0


def _index(options: argparse.Namespace) -> int:
    """Build an index, and print how much of exact search it finds."""
    from sbert_lab.index.build import build

    built = build(options.vectors, options.out, options.kind)
    found = "" if built.recall is None else f", recall@10 {built.recall:.3f}"
    print(f"{built.vectors:,} vectors, {options.kind}{found}: {options.out}")
    return 0


def _benchmark(options: argparse.Namespace) -> int:
    """Print a model's score in each task, and where the record is."""
    from sbert_lab.evaluation.benchmark import run_benchmark
    from sbert_lab.evaluation.mteb import TaskScore

    def show(one: TaskScore) -> None:
        line = f"{one.task:34} {one.metric:16} {one.score:.4f}  {one.seconds:.0f} s"
        print(line, flush=True)

    if options.published:
        return _published(options)
    scores, path = run_benchmark(options.model, show)
    print(f"{'mean':51} {sum(one.score for one in scores) / len(scores):.4f}")
    print(path)
    return 0


def _published(options: argparse.Namespace) -> int:
    """Print ours beside theirs. 1 if a score differs, 2 if one is not measured."""
    from sbert_lab.evaluation.benchmark import TOLERANCE, reproduce

    print(f"{'model':20} {'task':24} published      here  difference")
    missing = differ = 0
    for line in reproduce(options.model):
        theirs = "        -" if line.theirs is None else f"{line.theirs:9.6f}"
        print(f"{line.model:20} {line.task:24} {theirs} ", end="")
        if line.ours is None:
            missing += 1
            print(f"not measured: {line.reason}", flush=True)
            continue
        differ += not line.agrees
        verdict = "" if line.agrees else f"  DIFFERS by more than {TOLERANCE}"
        gap = line.ours - (line.theirs or 0)
        print(f"{line.ours:9.6f}  {gap:+.6f}{verdict}", flush=True)
    return 1 if differ else 2 if missing else 0


def _fetch(_: argparse.Namespace) -> int:
    """Print which way worked; what to do by hand is an error."""
    from sbert_lab.datasets.dictionary import fetch

    print(fetch())
    return 0


def _doctor(_: argparse.Namespace) -> int:
    """Print each entry: sound or not, where, and what to type. 1 if one is damaged."""
    import platform
    from importlib import metadata

    import torch

    from sbert_lab.models.registry import ENTRIES, cache_home, data_home, status

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"Python {platform.python_version()}, PyTorch {torch.__version__}, {cuda}")
    for package in ("transformers", "faiss-cpu", "sentence-transformers"):
        print(f"{package} {metadata.version(package)}")
    print(f"cache: {cache_home()}")
    print(f"your data: {data_home() or '$SBERT_LAB_DATA_HOME is not set'}\n")
    damaged = 0
    for entry in ENTRIES:
        state, folder, remedy = status(entry)
        damaged += state == "mismatch"
        if state == "verified" and not entry.sha256:
            state = "present"
        print(f"{state:9} {entry.name}: {entry.about} ({entry.licence})")
        if folder is not None:
            print(f"          {folder}")
        if remedy:
            print(f"          to get it: {remedy}")
    return 1 if damaged else 0


#: Commands whose options are made where their values are used.
_COMMANDS = {
    "select": (_select, "selection.command", "which model to use, and what it costs"),
    "compare": (_compare, "selection.compare", "which of two models is better"),
    "adapt": (_adapt, "adaptation.recipe", "make a model better for your own pairs"),
    "embed": (_embed, "index.embed", "vectors of a corpus, here or on a cluster"),
    "index": (_index, "index.build", "make those vectors an index"),
}

if __name__ == "__main__":
    sys.exit(main())
