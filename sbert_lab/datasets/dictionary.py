"""WordNet 3.0 as training material: pairs, entailment and graded similarity.

A synset is one sense: its words (lemmas), a definition, and often sentences that use
one of the words. The rules that turn synsets into rows stand with each function. All
that is drawn comes from a seed, and every row belongs to the split of its sense.

Source: Miller 1995; Princeton University, WordNet 3.0 licence. `fetch` gets it.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np

from sbert_lab.datasets.nli import LABELS, Inference, Label
from sbert_lab.datasets.pairs import Pairs, plain
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.models.registry import resolve

log = logging.getLogger(__name__)

KINDS = ("definition", "example", "substitution")  #: of pairs, see `ranking_pairs`

_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_POINTERS = {"@": "hypernyms", "~": "hyponyms"}
_QUOTED = re.compile(r'"([^"]+)"?')


@dataclass(frozen=True)
class Synset:
    """One sense; `hypernyms` (wider) and `hyponyms` (narrower) are ids.

    `antonyms` are (own lemma, opposite lemma).
    """

    id: str  #: part of speech and place in WordNet's file, as in ``"n00001740"``
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    hypernyms: tuple[str, ...]
    hyponyms: tuple[str, ...]
    antonyms: tuple[tuple[str, str], ...]

    @property
    def split(self) -> str:
        """``"train"``, or ``"dev"`` or ``"test"`` for a twentieth each, by the id."""
        return {0: "dev", 1: "test"}.get(crc32(self.id.encode()) % 20, "train")


@cache
def load() -> dict[str, Synset]:
    """Read every synset, by its id; FileNotFoundError says how to get WordNet."""
    folder = resolve("wordnet", allow_hub=False)
    raw = {
        name: row
        for part in _FILES.values()
        for name, row in _rows(folder / f"data.{part}")
    }
    return {name: _synset(name, row, raw) for name, row in raw.items()}


def _rows(path: Path) -> Iterator[tuple[str, tuple[list[str], str]]]:
    """Yield id, fields and gloss of each line; the licence's lines are indented."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if not line.startswith(" "):
                told, _, gloss = line.partition("|")
                fields = told.split()
                kind = fields[2].replace("s", "a")
                yield kind + fields[0], (fields, gloss.strip())


def _words(fields: Sequence[str]) -> list[str]:
    """Return the words of a line, spelled as in text: ``(p)`` tells where one stands."""
    count = int(fields[3], 16)
    return [
        word.partition("(")[0].replace("_", " ")
        for word in fields[4 : 4 + 2 * count : 2]
    ]


def _synset(
    name: str, row: tuple[list[str], str], raw: dict[str, tuple[list[str], str]]
) -> Synset:
    fields, gloss = row
    words, at = _words(fields), 5 + 2 * int(fields[3], 16)
    related: dict[str, list[str]] = {"hypernyms": [], "hyponyms": []}
    antonyms = []
    for start in range(at, at + 4 * int(fields[at - 1]), 4):
        symbol, place, kind, which = fields[start : start + 4]
        other = kind + place
        if symbol in _POINTERS:
            related[_POINTERS[symbol]].append(other)
        elif symbol == "!":
            theirs = _words(raw[other][0])
            antonyms.append(
                (words[int(which[:2], 16) - 1], theirs[int(which[2:], 16) - 1])
            )
    definition = gloss.partition('"')[0].strip(" ;:,")
    examples = tuple(text.strip(" ;,") for text in _QUOTED.findall(gloss))
    return Synset(
        name,
        tuple(dict.fromkeys(words)),
        definition,
        tuple(text for text in examples if " " in text),
        tuple(related["hypernyms"]),
        tuple(related["hyponyms"]),
        tuple(antonyms),
    )


def ranking_pairs(
    split: str = "train", kinds: Sequence[str] = KINDS, seed: int = 0
) -> Pairs:
    """Return pairs of texts that mean alike, in random order, no pair twice.

    - definition: a definition, and all words of its sense
    - example: a sentence, and the definition of the word that it shows
    - substitution: a sentence, and the same with that word's synonym in its place

    Two texts stand together once; a pair of equal texts is left out.
    """
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, str], None] = {}
    for sense in _of(split):
        if "definition" in kinds:
            found[sense.definition, ", ".join(sense.lemmas)] = None
        if "example" in kinds:
            found |= {(text, sense.definition): None for text in sense.examples}
        if "substitution" in kinds:
            for text in sense.examples:
                if changed := _with_any(text, sense, sense.lemmas, rng):
                    found[text, changed] = None
    rows = [row for row in found if plain(row[0]) != plain(row[1])]
    order = rng.permutation(len(rows))
    anchor, positive = zip(*(rows[row] for row in order), strict=True)
    return Pairs(anchor, positive, source=Path("WordNet"))


def _of(split: str) -> list[Synset]:
    found = [sense for sense in load().values() if sense.split == split]
    if not found:
        raise ValueError(f"split={split!r}: 'train', 'dev' or 'test'")
    return found


def _with_any(
    text: str, sense: Synset, words: Iterable[str], rng: np.random.Generator
) -> str | None:
    """Put one of `words`, drawn, in the place of the word that a sentence shows."""
    place = _shown(text, sense)
    if place is None:
        return None
    start, end, lemma, form = place
    choice = [w for w in dict.fromkeys(words) if w.islower() and not _alike(w, lemma)]
    for row in rng.permutation(len(choice)):
        new = inflected(choice[row], sense.id[0], form)
        if new is not None:
            before = _article(text[:start], new)
            return before + (new.capitalize() if text[start].isupper() else new) + text[end:]
    return None


def _alike(a: str, b: str) -> bool:
    """Tell spellings of one word: colour and color, co-operate and cooperate."""
    a, b = (re.sub(r"[^a-z]", "", w.lower()) for w in (a, b))
    return a == b or (a[:4] == b[:4] and a[-2:] == b[-2:])


def _article(before: str, new: str) -> str:
    """Make the article before a new word fit it: *a dog*, *an animal*."""
    return re.sub(r"\b([Aa])n? $", r"\1n " if new[0] in "aeiou" else r"\1 ", before)


def _shown(text: str, sense: Synset) -> tuple[int, int, str, str] | None:
    """Return where a sentence has a word of its sense: start, end, lemma, form."""
    lower = text.lower()
    for lemma in sense.lemmas:
        for form in ("", "s", "ed", "ing"):
            word = inflected(lemma, sense.id[0], form)
            if word is None:
                continue
            at = re.search(rf"(?<![\w'-]){re.escape(word.lower())}(?![\w'-])", lower)
            if at:
                return *at.span(), lemma, form
    return None


_VOWEL = "aeiou"
#: Verbs whose past is not -ed; those whose forms are meant are left as they stand.
_SHORT = re.compile(rf"^[^aeiou]*[aeiou][^aeiouwxy]$")


@cache
def _irregular(part: str) -> frozenset[str]:
    """Return the words of a part of speech that have a form of their own."""
    file = resolve("wordnet", allow_hub=False) / f"{_FILES[part]}.exc"
    rows = (row.split() for row in file.read_text(encoding="utf-8").splitlines())
    return frozenset(base for row in rows for base in row[1:])


def inflected(lemma: str, part: str, form: str) -> str | None:
    """Return the form of a word, or None where no rule of English gives it.

    `form` is "" for the word itself, ``"s"`` (plural, or third person), ``"ed"`` or
    ``"ing"`` of a verb.
    """
    if not form:
        return lemma
    if part not in "nv" or (part == "n" and form != "s"):
        return None
    head, gap, rest = lemma.partition(" ") if part == "v" else ("", "", "")
    word = head if part == "v" else lemma.rpartition(" ")[2]
    before = lemma[: len(lemma) - len(word)] if part == "n" else ""
    if not word.isalpha() or (
        form != "ing" and word in _irregular(part) and not (part == "v" and form == "s")
    ):
        return None
    if form == "s":
        if re.search(r"[^aeiou]y$", word):
            new = word[:-1] + "ies"
        else:
            new = word + ("es" if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", word) else "s")
    else:
        stem = word
        if form == "ed" and re.search(r"[^aeiou]y$", word):
            stem = word[:-1] + "i"
        elif _SHORT.search(word):
            stem = word + word[-1]
        elif word.endswith("e") and (
            form == "ed" or not re.search(r"(ee|ye|oe)$", word)
        ):
            stem = word[:-1]
        new = stem + form
    return before + new + (gap + rest if part == "v" else "")
