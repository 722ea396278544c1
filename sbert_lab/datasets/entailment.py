"""Entailment read off ICD-10-CM: what follows from an entry, and what it rules out.

============== ==================================================================
label          rule
============== ==================================================================
entailment     a code, and a heading above it in its category
contradiction  a code, and the opposite of itself or of a heading above it: the
               sibling that differs in *right* and *left*, or in *with* and *without*
contradiction  a code, and what its Excludes1 note names ("cannot occur together")
neutral        a code, and what its Excludes2 note names ("not included here")
neutral        a code, and a heading of another category of its block
============== ==================================================================

A hypothesis with *right* or *without* in it must not give its label away, so all labels
get as many hypotheses with such a word, and as many without. What a bag of words still
knows of the label from the hypothesis alone: half are right, where chance is a third.
"""

import re
from collections import defaultdict

import numpy as np

from sbert_lab.datasets.icd10cm import Code, ancestors, load, split_of
from sbert_lab.datasets.nli import LABELS, Inference, Label

_CODE_IN_NOTE = re.compile(r"\s*\([^()]*\b[A-Z]\d[0-9A-Z][^()]*\)\s*$")
_OPPOSITES = (("right", "left"), ("with", "without"))
_MARK = re.compile(r"\b(right|left|with|without)\b", re.IGNORECASE)


def icd10cm_entailment(
    split: str = "train", per_label: int | None = None, seed: int = 0
) -> tuple[Inference, ...]:
    """Return labelled pairs, as many of each label, in random order.

    Premise, hypothesis and every code in between are of categories of one split;
    notes, which name codes of any category, only count where all of these are of it
    too. A pair of texts that the rules would give two labels is left out.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``.
    per_label
        Pairs of each label; None takes as many as the rarest label has.
    seed
        Of the draw and of the order.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}: 'train' or 'test'")
    rng = np.random.default_rng(seed)
    found = _labelled(split, rng)
    strata: dict[tuple[Label, bool], list[tuple[str, str]]] = defaultdict(list)
    for texts, (_, labels) in found.items():
        if len(labels) == 1:
            label = next(iter(labels))
            strata[label, bool(_MARK.search(texts[1]))].append(texts)
    sizes = [min(len(strata[lab, mark]) for lab in LABELS) for mark in (False, True)]
    count = sum(sizes) if per_label is None else per_label
    if count > sum(sizes):
        raise ValueError(f"per_label={count}: there are {sum(sizes)} of each label")
    plain = round(count * sizes[0] / sum(sizes))
    chosen = [
        (strata[label, mark][row], label)
        for label in LABELS
        for mark, size in ((False, plain), (True, count - plain))
        for row in rng.choice(len(strata[label, mark]), size, replace=False)
    ]
    pairs = []
    for row in rng.permutation(len(chosen)):
        (premise, hypothesis), label = chosen[row]
        code, _ = found[premise, hypothesis]
        pairs.append(Inference(code.code, code.chapter, premise, hypothesis, label))
    return tuple(pairs)


_Found = dict[tuple[str, str], tuple[Code, set[Label]]]


def _labelled(split: str, rng: np.random.Generator) -> _Found:
    """Return pairs of texts with the labels that the rules give them."""
    codes = [c for c in load() if c.category and split_of(c.category) == split]
    opposite = _opposites(codes)
    nearby: dict[tuple[str, bool], list[Code]] = defaultdict(list)
    for code in codes:
        if len(code.code) <= 7:  # longer ones say which encounter it is
            nearby[_block(code), bool(_MARK.search(code.description))].append(code)
    found: _Found = {}

    def add(code: Code, hypothesis: str, label: Label) -> None:
        if code.description.lower() != hypothesis.lower():
            key = (code.description, hypothesis)
            found.setdefault(key, (code, set()))[1].add(label)

    for code in codes:
        line = [code, *(a for a in ancestors(code) if a.category)]
        for above in line[1:]:
            add(code, above.description, "entailment")
        for entry in line:
            if entry.code in opposite:
                add(code, opposite[entry.code].description, "contradiction")
        block = _block(code)
        for mark in (False, True):
            pool = nearby[block, mark]
            other = pool[rng.integers(len(pool))] if pool else code
            if other.category != code.category:
                add(code, other.description, "neutral")
        for label, note in _notes(code, split):
            add(code, note, label)
    return found


def _opposites(codes: list[Code]) -> dict[str, Code]:
    """Return the sibling that differs from a code in one pair of opposite words."""
    result: dict[str, Code] = {}
    for one, other in _OPPOSITES:
        alike: dict[tuple[str, str], list[Code]] = defaultdict(list)
        pattern = re.compile(rf"\b({one}|{other})\b", re.IGNORECASE)
        for code in codes:
            text, count = pattern.subn("…", code.description.lower())
            if count:
                alike[code.parent, text].append(code)
        for siblings in alike.values():
            if len(siblings) == 2:
                a, b = siblings
                result.setdefault(a.code, b)
                result.setdefault(b.code, a)
    return result


def _notes(code: Code, split: str) -> list[tuple[Label, str]]:
    """Return what a code's notes name, where all codes they name are of the split."""
    import simple_icd_10_cm as icd

    kinds: tuple[tuple[Label, list[str]], ...] = (
        ("contradiction", icd.get_excludes1(code.code)),
        ("neutral", icd.get_excludes2(code.code)),
    )
    return [
        (label, _CODE_IN_NOTE.sub("", note))
        for label, notes in kinds
        for note in notes
        if (named := re.findall(r"\b[A-Z]\d[0-9A-Z]", note))
        and all(split_of(category) == split for category in named)
    ]


def _block(code: Code) -> str:
    return next(c.code for c in ancestors(code) if c.kind == "block")
