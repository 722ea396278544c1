"""``python -m sbert_lab compare``: which of two models is better on your queries."""

import argparse
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sbert_lab.datasets import pairs
from sbert_lab.evaluation import statistics, tasks
from sbert_lab.models.embedding_cache import EmbeddingCache
from sbert_lab.selection.candidates import Candidate, candidate
from sbert_lab.selection.command import positive


@dataclass(frozen=True)
class Comparison:
    """Two models on the same queries, by nDCG@10; differences are first less second."""

    scores: dict[str, statistics.Interval]  #: by name, the first model first
    difference: statistics.Interval
    p: float
    won: int  #: queries on which the first is better
    lost: int
    margin: float  #: a difference that does not matter
    shown: float  #: one that so many queries find, at power 0.8; 0 without spread
    needed: float  #: queries that would find the margin

    @property
    def verdict(self) -> str:
        """Which is better: the whole interval of the difference is on its side of 0."""
        low, high = (round(x, 12) for x in (self.difference.low, self.difference.high))
        if self.won == self.lost == 0:
            return "the same on every query: one model, or queries that are too easy"
        if low > 0 or high < 0:
            little = max(-low, high) < self.margin
            told = f", by less than {self.margin:g}" if little else ""
            return f"{list(self.scores)[high < 0]} is better on your queries{told}"
        if max(-low, high) < self.margin:
            return f"as good as each other: they differ by less than {self.margin:g}"
        return f"not decided: {self.difference.n:,} queries are too few to tell"

    def __str__(self) -> str:
        """Show the scores, the difference, the verdict, and what so many show."""
        wide, n = max(map(len, self.scores)), self.difference.n
        lines = [f"  {name:{wide}}  nDCG@10 {one}" for name, one in self.scores.items()]
        won, lost = self.won, self.lost
        told = f"won {won:,}, lost {lost:,}, tied {n - won - lost:,}"
        lines += [f"difference {self.difference.signed()}, p = {self.p:.2g}; {told}"]
        lines += [f"Verdict: {self.verdict}."]
        told = f"{n:,} queries show differences of {self.shown:.3f} and more"
        if self.needed > n:
            told += f"; {self.margin:g} would take about {self.needed:,.0f}"
        return "\n".join([*lines, f"{told}."] if self.shown else lines)


def compare_on_pairs(
    first: Candidate, second: Candidate, search: pairs.PairSearch, margin: float = 0.01
) -> Comparison:
    """Measure two candidates on one search; fewer than `LEAST` groups are refused."""
    from sbert_lab.selection.measure import on_pairs

    group, count = search.group, len(search.queries)
    if (groups := len(set(group.tolist()))) < pairs.LEAST:
        told = f"{count} queries in {groups} groups that share no text are too few"
        raise ValueError(f"{told}: add other answers, for {pairs.LEAST} groups or more")
    models = [one.load(search.corpus) for one in (first, second)]
    a, b = (on_pairs(model, search, EmbeddingCache()) for model in models)
    gaps, shown, needed = (a.items - b.items).round(12), 0.0, 0.0
    with suppress(ValueError):  # every query, or group, has the same difference
        shown = statistics.minimum_detectable_difference(gaps, groups=group)
        needed = statistics.items_needed(gaps, margin, groups=group) * count / groups
    scores = {first.name: tasks.interval(a), second.name: tasks.interval(b)}
    gap, p = tasks.interval(a, b), tasks.p_value(a, b)
    won, lost = int((gaps > 0).sum()), int((gaps < 0).sum())
    return Comparison(scores, gap, p, won, lost, margin, shown, needed)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `compare`."""
    add = parser.add_argument
    add("models", nargs=2, metavar="MODEL", help="a name, a folder, a hub repository")
    add("--pairs", type=Path, required=True, help="your CSV, TSV, JSONL or Parquet")
    add("--anchor", help="its column of queries, if not 'anchor'")
    add("--positive", help="its column of answers, if not 'positive'")
    add("--corpus", type=Path, help="more to search in: answers alone are found easily")
    add("--text", default="text", help="its column; the default is 'text'")
    add("--margin", type=positive, default=0.01, help="less is as good; default 0.01")


def compare(options: argparse.Namespace) -> str:
    """Do what the options say, and return what to print."""
    if options.margin >= 1:
        raise ValueError(f"--margin {options.margin:g}: less than 1, such as 0.01")
    first, second = map(candidate, options.models)
    if first.name == second.name:
        raise ValueError(f"{first.name} twice: name two different models")
    named = {r: n for r in pairs.ROLES[:2] if (n := getattr(options, r))}
    own = pairs.read_pairs(options.pairs, named or None)
    more = pairs.read_texts(options.corpus, options.text) if options.corpus else {}
    # Of equal scores the first row is found first: no answer is to gain by that.
    corpus = [*more.values(), *own.positive, *(own.negative or ())]
    search = pairs.retrieval_from_pairs(own, corpus)
    head = f"{len(search.queries):,} queries, {len(search.corpus):,} documents searched"
    found = compare_on_pairs(first, second, search, options.margin)
    return f"{options.pairs.name}: {head}\n{found}"
