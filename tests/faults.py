"""Injected faults, and what must hold after each: nothing lost, nothing silently wrong.

A thousand: ``python tests/faults.py --faults 1000 --seed 0``; one, by its own seed:
``python tests/faults.py --only damage --seed 17``. Each runs in a forked child, so that
what it breaks stays there, and a crash or a hang is seen. It ends *refused*, by an
error that names the cure, or *unharmed*, with the results that there are without it.
All else is a failure, and the exit status 1.
"""

import argparse
import gc
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter, namedtuple
from contextlib import suppress
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from conftest import WORDS, tiny_encoder
from tiny_cross_encoder import tiny_cross_encoder

from sbert_lab import EmbeddingCache, VectorIndex, _utils, exact_search
from sbert_lab.evaluation import metrics
from sbert_lab.index.passages import Passages
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.models.lexical import Bm25
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import fit

SECONDS = 120.0  # that a fault may take
NOBODY = 65534  # a user who owns no file
PACKAGE = Path(_utils.__file__).parent
INDEXES = ("flat", "hnsw", "ivfpq", "int8", "binary+int8")
TEXTS = ["the cat sat", "a dog ran over the hill", "brown fox", "lazy bird", "two mats"]


class Refused(str):
    """The message of an error that names its cure."""


def attempt(call):
    """Return what a call returns, or `Refused` where an error names the cure."""
    try:
        return call()
    except (ValueError, TypeError, OSError, KeyError) as error:
        # A ``raise`` of the package does, or the system where it names the file.
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = PACKAGE in Path(last.filename).parents and last.line.startswith("raise ")
        if ours or getattr(error, "filename", None):
            return Refused(error)
        raise


def same(a, b):
    """Return whether two results are the same, numbers to 1e-5."""
    if isinstance(a, Refused) or isinstance(b, Refused):
        return type(a) is type(b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind == "f" and a.shape == b.shape:
        return np.allclose(a, b, rtol=1e-5, atol=1e-5)
    return np.array_equal(a, b)


def judge(got, *right):
    """Return how a fault ended: it was refused, or the result is one of these."""
    if isinstance(got, Refused):
        return "refused"
    assert any(same(got, one) for one in right), f"silently another: {got!r:.300}"
    return "unharmed"


def child(work):
    """Return what `work` says in a forked child, or how the child died."""
    ours, theirs = multiprocessing.Pipe(duplex=False)

    def run():
        try:
            theirs.send(work())
        except BaseException as error:  # a library's panic too
            last = traceback.extract_tb(error.__traceback__)[-1]
            theirs.send(f"FAILED in {last.filename}, {last.lineno}: {error!r:.400}")

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    theirs.close()
    said = "FAILED and said nothing"
    with suppress(EOFError):
        said = ours.recv() if ours.poll(SECONDS) else said
    process.join(1)
    process.kill()
    process.join()
    return f"FAILED with status {process.exitcode}" if process.exitcode else said


def one_of(rng, options):
    return options[int(rng.integers(len(options)))]


# What is kept on disk.


def train(epochs, folder):
    """Train a tiny encoder, or go on from where an earlier training stopped."""
    encoder = tiny_encoder()
    data = TrainingData({"anchor": TEXTS[:4], "positive": TEXTS[1:]})
    how = {"batch_size": 2, "lr_scheduler_type": "constant", "warmup_steps": 0}
    how |= {"folder": folder, "epochs": epochs}
    fit(encoder, data, MultipleNegativesRankingLoss(), **how)
    return encoder.encode(TEXTS)


#: An old thing and a new one, how they are saved, and what a folder of them says.
Kept = namedtuple("Kept", "old new save read")


def record(number, folder):
    _utils.write_json(folder / "r.json", [number] * 500)


def everything_kept():
    """Return all that the package writes, by name."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 300, 8)).astype(np.float32)
    many = [" ".join(words) for words in rng.choice(WORDS, (60, 6))]
    encoders = [tiny_encoder(seed, head=("normalize",)) for seed in (0, 1)]
    crosses = [tiny_cross_encoder(seed) for seed in (0, 1)]
    memories = [Passages(encoders[0], hybrid=True) for _ in range(2)]
    for number, memory in enumerate(memories):
        memory.add_all({text: text for text in many[number : number + 9]})

    def cached(texts, folder):
        cache = EmbeddingCache(folder)
        return encoders[0].encode(texts, cache=cache), cache.misses

    def asked(folder):
        found = Passages.load(folder, encoders[0])
        return [hit.text for hit in found.search(TEXTS[0], k=9)]

    def searched(folder):
        return [*vars(VectorIndex.load(folder).search(rows[0, :3], 5)).values()]

    def models(made, ask):
        kind = type(made[0])
        return Kept(*made, kind.save, lambda f: ask(kind.from_pretrained(f)))

    kept = {
        "training": Kept(1, 2, train, partial(train, 3)),
        "record": Kept(1, 2, record, lambda folder: (folder / "r.json").read_text()),
        "encoder": models(encoders, lambda m: m.encode(TEXTS)),
        "cross": models(crosses, lambda m: m.predict(TEXTS, TEXTS[::-1])),
        "passages": Kept(*memories, Passages.save, asked),
        "cache": Kept(many[:30], many, cached, partial(cached, many[:30])),
    }
    for kind in INDEXES:
        made = [VectorIndex.build(part, kind=kind) for part in rows]
        kept[kind] = Kept(*made, VectorIndex.save, searched)
    return kept


class Lab:
    """What is made once: everything kept, in folders, and what they say when read."""

    def __init__(self, home):
        home.chmod(0o755)  # NOBODY looks into it
        self.home, self.work, self.kept = home, home / "work", everything_kept()
        self._says = {}
        gc.collect()
        gc.freeze()  # a child that collects garbage would copy it all

    def says(self, name):
        """Return what folders say of the old thing, the new one, and nothing."""
        if name not in self._says:
            kept, self._says[name] = self.kept[name], {}
            kept.save(kept.old, self.home / name / "old")
            kept.save(kept.new, self.copy(name, "old"))
            shutil.copytree(self.work / "model", self.home / name / "new")
            for of in ("old", "new", "nothing"):
                read = partial(kept.read, self.copy(name, of))
                self._says[name][of] = attempt(read)
        return self._says[name]

    def copy(self, name, of):
        """Return a folder of what was saved, alone in the one where work is done."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        if of != "nothing":
            shutil.copytree(self.home / name / of, self.work / "model")
        return self.work / "model"


def strike(way, at, place):
    """Let this process die while it writes, or its writing fail."""
    left = iter(range(at))

    def kill(event, _):
        names = ("open", "os.", "shutil.", "sqlite3.", "ctypes.dlsym")
        if event.startswith(names) and next(left, None) is None:
            signal.raise_signal(signal.SIGKILL)

    if way == "killed":
        sys.addaudithook(kill)
    elif way == "no right":
        place.chmod(0o555)
        if os.geteuid() == 0:  # whom no mode stops
            os.seteuid(NOBODY)
    else:  # as if the disk were full
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * at, 64 * at))
        if way == "killed in a write":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def save(lab, rng):
    """A save is killed before a file operation or in a write, or its disk fails."""
    ways = ("killed", "killed in a write", "disk full", "no right")
    name, way = one_of(rng, [*lab.kept]), one_of(rng, ways)
    of, at = one_of(rng, ("old", "old", "nothing")), int(2 ** rng.uniform(0, 8))
    kept, says = lab.kept[name], lab.says(name)

    def trial():
        folder = lab.copy(name, of)
        places = [lab.work / "model.previous", lab.work / ".model"]
        if of == "old":
            places += [folder, folder / "onnx"]
        for place in places:
            place.mkdir(exist_ok=True)
            (place / "thesis.txt").write_text("years of work")
        before = {*lab.work.iterdir(), folder}

        def struck():
            strike(way, at, lab.work)
            got = attempt(lambda: kept.save(kept.new, folder))
            return "refused" if isinstance(got, Refused) else "done"

        ended = child(struck)
        lab.work.chmod(0o755)
        if not ("killed" in way and "status -" in ended):
            assert ended in ("refused", "done"), ended
            assert before == {*lab.work.iterdir(), folder}, "something is left beside"
        right = [says["new"]] if ended == "done" else [says[of]]
        if "FAILED" in ended or name == "cache":  # a cache that cannot be kept is none
            right = [says[of], says["new"]]
        got = attempt(lambda: kept.read(folder))
        assert any(same(got, one) for one in right), f"{ended}, then {got!r:.200}"
        if not isinstance(attempt(lambda: kept.save(kept.new, folder)), Refused):
            judge(kept.read(folder), says["new"])
        lost = [place for place in places if not (place / "thesis.txt").is_file()]
        assert not lost, f"lost what others had in {lost}"
        return "refused" if ended == "refused" else "unharmed"

    return f"{name} over {of}, {way} at {at}", trial


def damage(lab, rng):
    """A file of a folder is flipped, cut, gone, or that of another folder."""
    name = one_of(rng, [name for name in lab.kept if name != "record"])
    home, says = lab.home / name / "old", lab.says(name)
    files = sorted(path for path in home.rglob("*") if path.is_file())
    file = one_of(rng, files)
    part, old = file.relative_to(home), file.read_bytes()
    twin, at = lab.home / name / "new" / part, int(rng.integers(len(old) or 1))
    changes = {
        "flipped": old[:at] + bytes(b ^ 4 for b in old[at:][:1]) + old[at + 1 :],
        "cut": old[:at],
        "emptied": b"",
        "longer": old + old[:at],
        "gone": None,
        "another's": twin.read_bytes() if twin.is_file() else old,
    }
    way = one_of(rng, [*changes])

    def trial():
        path = lab.copy(name, "old") / part
        path.unlink() if way == "gone" else path.write_bytes(changes[way])
        got = attempt(lambda: lab.kept[name].read(lab.work / "model"))
        assert not isinstance(got, Refused) or "model" in got, f"no path in: {got}"
        return judge(got, says["old"], says["nothing"])

    return f"{name}, {part} {way} at {at}", trial


# Arguments that are odd, through the doors that take them.

NAN, INF = float("nan"), float("inf")
NO_TEXTS = (None, NAN, 3, b"cat", ["cat"], pd.NA, ("cat", "dog"), Path("cat"))
ODD_TEXTS = (
    "", " \t\n", "\0", "the\0cat", "cat\0", "\ud800 cat", "cat \udfff", "x" * 999_999,
    "cat " * 99_999, "שָׁלוֹם חתול", "قِطّة على", "👩‍👩‍👧‍👦🐈", "e" + "\u0301" * 99,
    "\u0301", "ｆｕｌｌ　ｗｉｄｔｈ", "แมวนั่ง", "猫坐在", "बिल्ली",
    "\u202ecat", "\ufeffcat", "a\u2028b\x85c\r", "\x1b[31mcat", "C", "[SEP]",
)  # fmt: skip
NO_IDS = (-1, "", 2**63, 2**64, True, 1.5, NAN, None, b"x", "a\0", [1], {1}, (1,))


def within(usual, at, odd):
    return [*usual[:at], odd, *usual[at + 1 :]]


def text_doors(lab):
    """Return what takes five texts and answers with five rows, by name."""
    encoder, cross = (lab.kept[name].old for name in ("encoder", "cross"))
    cache = EmbeddingCache(lab.work)
    return {
        "encode": encoder.encode,
        "cached": lambda texts: encoder.encode(texts, cache=cache),
        "bm25": Bm25(TEXTS).scores,
        "cross, first": lambda texts: cross.predict(texts, TEXTS),
        "cross, second": lambda texts: cross.predict(TEXTS, texts),
        "training": lambda texts: TrainingData({"text": texts}).row_texts(),
    }


def text(lab, rng):
    """One text of five is odd: the others count as usual, it counts as elsewhere."""
    name, door = one_of(rng, [*text_doors(lab).items()])
    at, odd = int(rng.integers(5)), one_of(rng, ODD_TEXTS)

    def trial():
        got = attempt(lambda: door(within(TEXTS, at, odd)))
        if isinstance(got, Refused):
            return "refused"
        elsewhere = door(within(TEXTS[::-1], at, odd))[at]
        return judge(got, within(door(TEXTS), at, elsewhere))

    return f"{name}: {odd!r:.40} at {at}", trial


def wrong(lab, rng):
    """An argument is of no use, and is refused; nothing has changed."""
    index, at = lab.kept[one_of(rng, INDEXES)].old, int(rng.integers(5))
    rows = rng.normal(size=(5, 8)).astype(np.float32)
    bad, masked = rows.copy(), np.ma.masked_array(rows, rows == rows[at, at])
    bad[at, at] = one_of(rng, (NAN, INF))
    vectors = (bad, masked, rows.astype(str), rows + 1j, rows[None], rows > 0, None)
    texts = [set(TEXTS), pd.DataFrame({"cat": TEXTS}), [TEXTS], b"abcde", None, 5]
    texts += [within(TEXTS, at, odd) for odd in NO_TEXTS]
    ids = [within(range(900, 905), at, odd) for odd in NO_IDS]
    grades = [[{3: 1}] * at + [odd] for odd in (None, "3", 3, {3: NAN}, {3: "1"})]
    cases = {
        **{name: (door, texts) for name, door in text_doors(lab).items()},
        "search": (lambda odd: index.search(odd, 3), vectors),
        "exact_search": (lambda odd: exact_search(odd, rows, 3), vectors),
        "corpus": (lambda odd: exact_search(rows, odd, 3), vectors),
        "add": (lambda odd: index.add(rows, odd), ids),
        "ndcg": (lambda odd: metrics.ndcg_at_k([[3, 1]] * len(odd), odd), grades),
    }
    name, (door, odd_ones) = one_of(rng, [*cases.items()])
    odd = one_of(rng, odd_ones)

    def trial():
        before = index.search(rows, 9)
        got = attempt(lambda: door(odd))
        assert isinstance(got, Refused), f"taken: {got!r:.200}"
        assert same(before.ids, index.search(rows, 9).ids), "half of it is in"
        return "refused"

    return f"{name}: {odd!r:.90}", trial


# Running them.

#: By name. Each draws a fault, and returns what it is in words and what tries it.
FAULTS = {kind.__name__: kind for kind in (save, damage, text, wrong)}


def inject(lab, kind, seed):
    """Run one fault; return what it is, and how it ended."""
    rng = np.random.default_rng([crc32(kind.encode()), seed])
    what, trial = FAULTS[kind](lab, rng)
    lab.copy("", "nothing")

    def work():
        logging.disable()
        return trial()

    return what, child(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FAULTS)
    options = parser.parse_args()
    logging.disable()
    kinds = [options.only] if options.only else list(FAULTS)
    counts = {kind: Counter() for kind in kinds}
    with tempfile.TemporaryDirectory() as home:
        lab = Lab(Path(home))
        for number in range(options.faults):
            kind = kinds[number % len(kinds)]
            seed = options.seed + number // len(kinds)
            what, ended = inject(lab, kind, seed)
            counts[kind][ended.partition(" ")[0]] += 1
            if "FAILED" in ended:
                sys.stderr.write(f"--only {kind} --seed {seed}: {what}: {ended}\n")
    for kind, ended in counts.items():
        row = [f"{ended[name]:6} {name}" for name in ("refused", "unharmed", "FAILED")]
        sys.stdout.write(f"{kind:10} {ended.total():6} injected{''.join(row)}\n")
    return int(any(ended["FAILED"] for ended in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
