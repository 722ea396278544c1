"""WordNet 3.0 as training material: pairs, entailment and graded similarity.

A synset is one sense: its words (lemmas), a definition, and often sentences that use
one of the words. The rules that turn synsets into rows stand with each function. All
that is drawn comes from a seed, and every row belongs to the split of its sense.

Source: Miller 1995; Princeton University, WordNet 3.0 licence. `fetch` gets it.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, compress, islice, pairwise, product, zip_longest
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np

from sbert_lab._utils import no_collections
from sbert_lab.datasets.leaks import judged_texts
from sbert_lab.datasets.nli import LABELS, Inference, Label
from sbert_lab.datasets.pairs import Pairs, plain
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.models.registry import resolve

log = logging.getLogger(__name__)

KINDS = ("definition", "example", "substitution")  #: of pairs, see `ranking_pairs`

_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_POINTERS = {"@": "hypernyms", "~": "hyponyms", "&": "similar"}
_QUOTED = re.compile(r'"([^"]+)"?')

#: What a changed word is to the one it replaces, and the label that this gives to
#: (sentence, changed sentence) and to (changed sentence, sentence).
Relation = Literal["same", "near", "wider", "narrower", "other", "apart"]
_RULES: dict[Relation, tuple[Label | None, Label | None]] = {
    "near": ("entailment", None),
    "same": ("entailment", "entailment"),
    "wider": ("entailment", "neutral"),
    "narrower": ("neutral", "entailment"),
    "other": ("neutral", "neutral"),
    "apart": ("contradiction", "contradiction"),
}


@dataclass(frozen=True, slots=True)
class Synset:
    """One sense; `hypernyms` (wider), `hyponyms` and `similar` adjectives are ids.

    `antonyms` are (own lemma, opposite id, opposite lemma). `counts` tell for each
    lemma how common it is, 0 where WordNet has another sense of it before this one.
    """

    id: str  #: part of speech and place in WordNet's file, as in ``"n00001740"``
    topic: int  #: the number of its lexicographer's file, such as 5 for animals
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    hypernyms: tuple[str, ...]
    hyponyms: tuple[str, ...]
    similar: tuple[str, ...]
    antonyms: tuple[tuple[str, str, str], ...]
    frames: frozenset[str]  #: the kinds of sentence in which a verb stands
    counts: tuple[int, ...]
    sure: frozenset[str]  #: lemmas that nearly always mean this, in any text

    @property
    def split(self) -> str:
        """``"train"``, or ``"dev"`` or ``"test"`` for a twentieth each, by the id."""
        return {0: "dev", 1: "test"}.get(crc32(self.id.encode()) % 20, "train")


_Raw = dict[str, tuple[list[str], str]]


@cache
def load() -> dict[str, Synset]:
    """Read every synset, by its id; FileNotFoundError says how to get WordNet."""
    folder = resolve("wordnet", allow_hub=False)
    with no_collections():
        raw: _Raw = {}
        senses: dict[str, list[str]] = defaultdict(list)  # of a word
        for part in _FILES.values():
            for name, row in _rows(folder / f"data.{part}"):
                raw[name] = row
                for word in row[0][4 : 4 + 2 * int(row[0][3], 16) : 2]:
                    senses[word.partition("(")[0].lower()].append(name)
        told = _tagged(folder / "cntlist.rev")
        return {name: _synset(name, raw, senses, *told) for name in raw}


def _rows(path: Path) -> Iterator[tuple[str, tuple[list[str], str]]]:
    """Yield id, fields and gloss of each line; the licence's lines are indented."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if not line.startswith(" "):
                told, _, gloss = line.partition("|")
                fields = told.split()
                kind = fields[2].replace("s", "a")
                yield kind + fields[0], (fields, gloss.strip())


#: Each tagged sense: its number, and how often it is meant in the tagged texts.
_Tagged = dict[str, tuple[int, int]]


def _tagged(path: Path) -> tuple[_Tagged, dict[str, int]]:
    """Return what is told of each tagged sense, and how often each word is tagged."""
    found: _Tagged = {}
    times: dict[str, int] = defaultdict(int)
    for line in path.read_text(encoding="utf-8").splitlines():
        key, which, count = line.split()
        short = key.rsplit(":", 2)[0]  # of two senses that share it the later counts
        found[short] = max((int(which), int(count)), found.get(short, (0, 0)))
        times[key.partition("%")[0]] += int(count)
    return found, times


def _words(fields: Sequence[str]) -> list[str]:
    """Return the words of a line, spelled as in text: ``(p)`` tells where one stands."""
    count = int(fields[3], 16)
    return [
        word.partition("(")[0].replace("_", " ")
        for word in fields[4 : 4 + 2 * count : 2]
    ]


def _synset(
    name: str,
    raw: _Raw,
    senses: dict[str, list[str]],
    tagged: _Tagged,
    times: dict[str, int],
) -> Synset:
    fields, gloss = raw[name]
    words, at = _words(fields), 5 + 2 * int(fields[3], 16)
    related: dict[str, list[str]] = {kind: [] for kind in _POINTERS.values()}
    antonyms = []
    end = at + 4 * int(fields[at - 1])
    for start in range(at, end, 4):
        symbol, place, kind, which = fields[start : start + 4]
        other = kind + place
        if symbol in _POINTERS:
            related[_POINTERS[symbol]].append(other)
        elif symbol == "!":
            theirs = _words(raw[other][0])[int(which[2:], 16) - 1]
            antonyms.append((words[int(which[:2], 16) - 1], other, theirs))
    counts: dict[str, int] = {}
    sure = set()
    for spelled, lex_id, word in zip(fields[4::2], fields[5::2], words, strict=False):
        lemma = spelled.partition("(")[0].lower()
        key = f"{lemma}%{'nvars'.index(fields[2]) + 1}:{fields[1]}:{int(lex_id, 16):02}"
        which, often = tagged.get(key, (0, 0))
        only = sum(other[0] == name[0] for other in senses[lemma]) == 1
        usual = (which == 1 or only) and "(" not in spelled
        counts.setdefault(word, 1 + often if usual else 0)
        if len(senses[lemma]) == 1 or (usual and often > 0.9 * times[lemma] > 2):
            sure.add(word)
    examples = (text.strip(" ;,") for text in _QUOTED.findall(gloss))
    return Synset(
        name,
        int(fields[1]),
        tuple(counts),
        gloss.partition('"')[0].strip(" ;:,"),
        tuple(text for text in examples if " " in text),
        *map(tuple, related.values()),
        tuple(antonyms),
        frozenset(fields[end + 2 :: 3]) if name[0] == "v" else frozenset(),
        tuple(counts.values()),
        frozenset(sure),
    )


def ranking_pairs(
    split: str = "train",
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    without: frozenset[str] | None = None,
) -> Pairs:
    """Return pairs of texts that mean alike, in random order, no pair twice.

    - definition: a definition, and all words of its sense
    - example: a sentence, and the definition of the word that it shows
    - substitution: a sentence, and the same with that word's synonym in its place

    Two texts stand together once; a pair of equal texts is left out, as is one with a
    text of `without` or of another split, see `entailment`.
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
                place = _shown(text, sense)
                words = [sense.lemmas[i] for i in rng.permutation(len(sense.lemmas))]
                changed = (_put(text, place, w) for w in words if place and w.islower())
                if new := next(filter(None, changed), None):
                    found[text, new] = None
    out = (judged_texts() if without is None else without) | _of_earlier(split)
    rows = []
    for row in found:
        first, second = map(plain, row)
        if first != second and first not in out and second not in out:
            rows.append(row)
    order = rng.permutation(len(rows))
    anchor, positive = zip(*(rows[row] for row in order), strict=True)
    return Pairs(anchor, positive, source=Path("WordNet"))


def _of(split: str) -> list[Synset]:
    found = [sense for sense in load().values() if sense.split == split]
    if not found:
        raise ValueError(f"split={split!r}: 'train', 'dev' or 'test'")
    return found


# ------------------------------------------------------------------ entailment

#: Words after which a wider word says more than a narrower one, or nothing sure.
_TURNS = re.compile(
    r"\b(no|not|never|without|few|fewer|little|nobody|nothing|none|nor|neither|cannot"
    r"|hardly|scarcely|barely|rarely|seldom|every\w*|all|any\w*|each|if|unless|whether"
    r"|than|most|more|only|less|least|too|both|as|like|call\w*|first|last|another|other"
    r"|refus\w+|den(y|ied|ies)|lack\w*|avoid\w*|prevent\w*|forb\w+|doubt\w*|fail\w*)\b"
    r"|n't|\?|\w(est|less)\b",
    re.IGNORECASE,
)
#: Kinds of things (numbers of WordNet's files) of which one is not also another.
_EXCLUSIVE = {5, 6, 8, 13, 17, 20, 27, 34, 38}
#: True of nearly everything: nothing is said with them.
_EMPTY = set(
    "act action activity be change do get give go have make move part people person "
    "put take thing unit use cause group work way state event come become someone somebody".split()
)
#: What may stand after a noun that is not the first half of a compound.
_AFTER = re.compile(
    r"(\W*$|[.,;:!]| (of|in|on|at|to|for|with|from|by|and|or|but|is|are|was|were|has|had"
    r"|have|will|would|can|could|that|which|who|when|while|into|over|under|through|after"
    r"|before|about|as|the|his|her|their|a|an)\b)"
)
_PARTICLE = re.compile(r" (up|out|off|down|away|back|over|along|around|about|apart)\b")
_MODIFIED = re.compile(
    r"(?<![\w'-])(a|an|the|his|her|my|our|their|its|of|in|with) $|^$", re.I
)
_AMOUNT = re.compile(r"number|quantity|amount|ordinal|being one more")
_WORD = re.compile(r"(?<![\w'-])[a-z]+(?![\w'-])")


_Graded = tuple[str, str, str]  # two texts and the id of the sense

#: What `graded` says of a changed sentence.
_GRADES: dict[Relation, int] = {
    "same": 5,
    "near": 4,
    "wider": 4,
    "narrower": 3,
    "apart": 2,
}


def graded(
    split: str = "train",
    seed: int = 0,
    without: frozenset[str] | None = None,
    size: int = 10_000,
) -> ScoredPairs:
    """Return pairs scored from 0 to 5, as many of each score, up to `size`.

    - 5: a sentence, and the same with a synonym; a definition, and its words
    - 4: the same with the word of the sense above (hypernym, central adjective)
    - 3: the same with a word of a sense below; a sentence, and its word's definition
    - 2: the same with the opposite or another thing of its kind, as in `entailment`;
      two sentences that show one sense
    - 1: texts of two senses of one topic, a file of WordNet's such as *noun.food*
    - 0: texts of two topics

    Texts of 1 and 0 are in equal parts two sentences, a definition and the words of
    another sense, and a sentence and the definition of another. `split`, `without` and
    which texts are left out are those of `entailment`; a group is a sense.
    """
    rng = np.random.default_rng(seed)
    senses = _of(split)
    shown = [(sense, text) for sense in senses for text in sense.examples]
    # Of each grade some kinds, of which as many are drawn as there may be.
    kinds: dict[int, list[list[_Graded]]] = {n: [[], [], []] for n in range(6)}
    for sense, text, options in _variants(split):
        for relation, grade in _GRADES.items():
            if texts := list(options[relation]):
                new = texts[rng.integers(len(texts))]
                kinds[grade][0].append((text, new, sense.id))
    for sense in senses:
        kinds[5][1].append((sense.definition, ", ".join(sense.lemmas), sense.id))
        for text, more in pairwise(sense.examples):
            kinds[2][1].append((text, more, sense.id))
    kinds[3][1] = [(text, sense.definition, sense.id) for sense, text in shown]
    topics: dict[int, list[tuple[Synset, str]]] = defaultdict(list)
    for sense, text in shown:
        topics[sense.topic].append((sense, text))
    for grade, kind in product((0, 1), range(3)):
        while len(kinds[grade][kind]) < min(size, len(shown)):
            sense, text = shown[rng.integers(len(shown))]
            pool = topics[sense.topic] if grade else shown
            other, partner = pool[rng.integers(len(pool))]
            if other is sense or (other.topic == sense.topic) != grade:
                continue
            first = sense.definition if kind == 1 else text
            second = (partner, ", ".join(other.lemmas), other.definition)[kind]
            kinds[grade][kind].append((first, second, sense.id))
    found: dict[tuple[str, str], tuple[int, str]] = {}
    number = min(size, *(sum(map(len, pools)) for pools in kinds.values()))
    for grade, pools in kinds.items():
        mixed = [[pool[row] for row in rng.permutation(len(pool))] for pool in pools]
        drawn = chain.from_iterable(zip_longest(*mixed))
        for first, second, group in islice(filter(None, drawn), number):
            two = (first, second) if rng.random() < 0.5 else (second, first)
            if two[::-1] not in found and plain(first) != plain(second):
                found.setdefault(two, (grade, group))
    order = rng.permutation(len(found))
    items = list(found.items())
    rows = [items[row] for row in order]
    pairs = ScoredPairs(
        *zip(*(two for two, _ in rows), strict=True),
        *zip(*(told for _, told in rows), strict=True),
    )
    out = (judged_texts() if without is None else without) | _of_earlier(split)
    texts = zip(pairs.first, pairs.second, strict=True)
    return pairs.only([out.isdisjoint(map(plain, two)) for two in texts])


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a text has a word: which form of which lemma, and in what sense."""

    start: int
    end: int
    lemma: str
    form: str
    sense: Synset


def entailment(
    split: str = "train", seed: int = 0, without: frozenset[str] | None = None
) -> tuple[Inference, ...]:
    """Return sentences of WordNet and the same with one word changed, labelled.

    The word is the one that a sentence shows, in the sense it shows, or a noun that
    nearly always means one thing. With a sentence as the premise and the changed one
    as the hypothesis (or, in brackets, the other way round):

    - a word of the same sense: entailment (entailment)
    - of the sense above (hypernym), or without an adjective: entailment (neutral)
    - of a sense below (hyponym), or with an adjective more: neutral (entailment)
    - of the central adjective of its kind, *huge* and *large*: entailment (not used)
    - another adjective that stands before the same noun elsewhere: neutral (neutral)
    - its antonym, or that of its central adjective: contradiction (contradiction)
    - another thing of its kind, only of animals, plants, food, objects, substances,
      parts of the body, movements and eating: contradiction (contradiction)

    Left out are sentences with a word that turns this round (*not*, *every*, *if*,
    questions), words said of everything (*thing*, *do*), and replacements that are
    rare or of more than one word, or whose first meaning is another. A verb stands for
    another only where it fits all its kinds of sentence.

    First come premises (and hypotheses) with a row of each label, whose words are as
    common as may be; then the others, so that each commonness has as many rows of each
    label. Rows stand in the split of their sense; of a text that stands in two, the
    rows of train are dropped, as are those with a text in `without`, by default
    `leaks.judged_texts`.
    """
    rng = np.random.default_rng(seed)
    groups: list[list[Inference]] = []
    rest: dict[tuple[int, str, int], dict[Label, list[Inference]]] = defaultdict(
        lambda: {name: [] for name in LABELS}
    )
    labels: dict[tuple[str, str], list[Label]] = defaultdict(list)
    for sense, text, options in _variants(split):
        for way in (0, 1):
            chosen, left = _matched(options, way, rng)
            rows = {
                row: Inference(
                    sense.id, "wordnet", *((text, row[1])[:: 1 - 2 * way]), row[0]
                )
                for row in (*chosen, *left)
            }
            for one in rows.values():
                labels[plain(one.premise), plain(one.hypothesis)].append(one.label)
            for at in range(0, len(chosen), len(LABELS)):
                groups.append([rows[row] for row in chosen[at : at + len(LABELS)]])
            for row in left:
                stratum = way, sense.id[0], row[2].bit_length()
                rest[stratum][row[0]].append(rows[row])

    first = _of_earlier(split)

    def alone(row: Inference) -> bool:
        two = plain(row.premise), plain(row.hypothesis)
        return len(labels[two]) == 1 and first.isdisjoint(two)

    found = [row for group in groups if all(map(alone, group)) for row in group]
    for by_label in rest.values():
        some = [list(filter(alone, rows)) for rows in by_label.values()]
        for rows in some:
            order = rng.permutation(len(rows))[: min(map(len, some))]
            found += [rows[row] for row in order]
    found = [found[row] for row in rng.permutation(len(found))]
    out = judged_texts() if without is None else without
    kept = [out.isdisjoint((plain(r.premise), plain(r.hypothesis))) for r in found]
    return tuple(compress(found, kept))


@cache
def _of_earlier(split: str) -> frozenset[str]:
    """Return the texts that are left out of a split, for one before it has them."""
    first = {"train": ("dev", "test"), "dev": ("test",)}.get(split, ())
    return frozenset().union(*map(_texts, first))


@cache
def _texts(split: str) -> frozenset[str]:
    """Return all that can be drawn in a split, whatever the seed."""
    found = {sense.definition for sense in _of(split)}
    found |= {text for sense in _of(split) for text in sense.examples}
    for _, _, options in _variants(split):
        found = found.union(*options.values())
    return frozenset(map(plain, found))


def _variants(
    split: str,
) -> Iterator[tuple[Synset, str, dict[Relation, dict[str, int]]]]:
    """Yield sense, sentence and what the sentence becomes, for each place in it."""
    for sense in _of(split):
        for text in sense.examples:
            if not _TURNS.search(text):
                for place in _places(text, sense):
                    yield sense, text, _options(text, place)


Option = tuple[Label, str, int]


def _matched(
    options: dict[Relation, dict[str, int]], way: int, rng: np.random.Generator
) -> tuple[list[Option], list[Option]]:
    """Return options of all three labels, of like commonness, and one of each left."""
    found: dict[Label, list[tuple[str, int]]] = {name: [] for name in LABELS}
    for relation, texts in options.items():
        if label := _RULES[relation][way]:
            found[label] += texts.items()
    chosen: list[Option] = []
    for _ in range(ROUNDS):
        rare = min(LABELS, key=lambda name: len(found[name]))
        if not found[rare]:
            break
        target = np.log(found[rare][rng.integers(len(found[rare]))][1])
        for label, texts in found.items():
            gap = [abs(np.log(n) - target) + rng.random() / 2 for _, n in texts]
            chosen.append((label, *texts.pop(int(np.argmin(gap)))))
    left = (
        []
        if chosen
        else [
            (label, *texts[rng.integers(len(texts))])
            for label, texts in found.items()
            if texts
        ]
    )
    return chosen, left


ROUNDS = 2


def _options(text: str, place: _Place) -> dict[Relation, dict[str, int]]:
    """Return what a text becomes with another word, and how common that word is."""
    found: dict[Relation, dict[str, int]] = {name: {} for name in _RULES}
    for relation, words in _related(text, place).items():
        for word, count in words.items():
            least = 3 if relation == "apart" else 2
            if count < least or not re.fullmatch("[a-z]+", word) or word in _EMPTY:
                continue
            new = _put(text, place, word)
            if new and not _TURNS.search(new):
                found[relation].setdefault(new, count)
    before, after = text[: place.start], text[place.end :]
    if _MODIFIED.search(before):
        if place.sense.id[0] == "a" and re.match(r" [a-z]+\b(?! [a-z]+ing)", after):
            new = _article(before, after[1]) + after[1:]
            found["wider"][new] = 20
        elif place.sense.id[0] == "n":
            for word, sense in _seen().get(place.lemma, {}).items():
                new = _article(before, word) + word + " " + text[place.start :]
                found["narrower"][new] = _count(sense, word)
    return found


def _count(sense: Synset, word: str) -> int:
    return dict(zip(sense.lemmas, sense.counts, strict=True)).get(word, 0)


def _related(text: str, place: _Place) -> dict[Relation, dict[str, int]]:
    """Return the words that may stand in a place, with how common each is."""
    known, sense = load(), place.sense
    found: dict[Relation, dict[str, int]] = {name: {} for name in _RULES}

    def add(relation: Relation, *more: Synset) -> None:
        for other in more:
            if sense.frames <= other.frames:
                for word, count in zip(other.lemmas, other.counts, strict=True):
                    found[relation].setdefault(word, count)

    add("same", sense)
    if sense.id[0] == "a":
        near = [known[name] for name in sense.similar]
        heads = [sense] if sense.antonyms else near
        against = [known[a[1]] for head in heads for a in head.antonyms]
        if not sense.antonyms:
            add("near", *near)
            add("apart", *against)
        follows = re.match(r" ([a-z]+)", text[place.end :])
        if follows and _MODIFIED.search(text[: place.start]):
            cluster = {s.id for s in [*heads, *against]}
            for word, other in _seen().get(follows[1], {}).items():
                if not cluster & {other.id, *other.similar}:
                    found["other"][word] = _count(other, word)
    else:
        above = [known[name] for name in sense.hypernyms]
        above = [s for s in above if s.topic == sense.topic and s.hypernyms]
        add("wider", *above)
        add("narrower", *(known[name] for name in sense.hyponyms))
        if sense.topic in _EXCLUSIVE:
            sisters = [known[name] for s in above for name in s.hyponyms]
            mine = set(sense.lemmas)
            add(
                "apart",
                *(s for s in sisters if s is not sense and not mine & set(s.lemmas)),
            )
    for lemma, name, opposite in sense.antonyms:
        if lemma == place.lemma:
            found["apart"][opposite] = max(3, _count(known[name], opposite))
    return found


@cache
def _seen() -> dict[str, dict[str, Synset]]:
    """Return the adjectives that stand before a noun somewhere in WordNet."""
    adjectives = {
        word: sense
        for sense in load().values()
        if sense.id[0] == "a"
        for word, count in zip(sense.lemmas, sense.counts, strict=True)
        if count > 5 and word in sense.sure and not _AMOUNT.search(sense.definition)
    }
    found: dict[str, dict[str, Synset]] = defaultdict(dict)
    for sense in load().values():
        for text in (*sense.examples, sense.definition):
            words = _WORD.findall(text)
            for first, second in zip(words, words[1:], strict=False):
                if first in adjectives:
                    found[second][first] = adjectives[first]
    return found


def _places(text: str, sense: Synset) -> Iterator[_Place]:
    """Yield the places of a text whose word may change: the shown word, sure nouns."""
    found = {}
    if shown := _shown(text, sense):
        found[shown.start] = shown
    for match in _WORD.finditer(text):
        if match[0] in _sure_nouns():
            lemma, form, meant = _sure_nouns()[match[0]]
            found.setdefault(match.start(), _Place(*match.span(), lemma, form, meant))
    for place in found.values():
        if place.lemma in _EMPTY:
            continue
        if place.sense.id[0] == "n" and not _AFTER.match(text, place.end):
            continue
        if place.sense.id[0] == "v" and _PARTICLE.match(text, place.end):
            continue
        yield place


@cache
def _sure_nouns() -> dict[str, tuple[str, str, Synset]]:
    found = {}
    for sense in load().values():
        if sense.id[0] == "n":
            for lemma in sense.sure:
                if lemma.islower() and lemma.isalpha() and lemma[-1] != "s":
                    for form in ("", "s"):
                        for word in _forms(lemma, "n", form):
                            found[word] = lemma, form, sense
    return found


def _put(text: str, place: _Place, word: str) -> str | None:
    """Put a word in a place of a text, in the form that stands there."""
    new = inflected(word, place.sense.id[0], place.form)
    if new is None or _alike(word, place.lemma):
        return None
    if text[place.start].isupper():
        new = new.capitalize()
    return _article(text[: place.start], new) + new + text[place.end :]


def _alike(a: str, b: str) -> bool:
    """Tell spellings of one word: colour and color, co-operate and cooperate."""
    a, b = (re.sub(r"[^a-z]", "", w.lower()) for w in (a, b))
    return a == b or (a[:4] == b[:4] and a[-2:] == b[-2:])


def _article(before: str, new: str) -> str:
    """Make the article before a new word fit it: *a dog*, *an animal*, *an hour*."""
    vowel = re.match(r"(?!uni|us[eu]|eu|one|ura)[aeiou]|hour|honest|heir|honou?r", new)
    return re.sub(r"\b([Aa])n? $", r"\1n " if vowel else r"\1 ", before)


def _shown(text: str, sense: Synset) -> _Place | None:
    """Return where a sentence has a word of its sense, if it has it once."""
    lower = text.lower()
    for lemma in sense.lemmas:
        for form in ("", "s", "ed", "ing"):
            for word in _forms(lemma, sense.id[0], form):
                if word.lower() in lower:
                    sought = rf"(?<![\w'-]){re.escape(word.lower())}(?![\w'-])"
                    at = [match.span() for match in re.finditer(sought, lower)]
                    if len(at) == 1:
                        return _Place(*at[0], lemma, form, sense)
    return None


def inflected(lemma: str, part: str, form: str) -> str | None:
    """Return the form of a word, or None where it is not sure which it is.

    `form` is "" for the word itself, ``"s"`` (plural, or third person), ``"ed"`` or
    ``"ing"`` of a verb.
    """
    forms = _forms(lemma, part, form)
    return forms[0] if len(forms) == 1 else None


@cache
def _forms(lemma: str, part: str, form: str) -> tuple[str, ...]:
    """Return what a form may be: broke and broken are both ``"ed"`` of break."""
    if not form:
        return (lemma,)
    if part not in "nv" or (part == "n" and form != "s"):
        return ()
    # Of "look up" the first word changes, of "apple tree" the last.
    head, gap, rest = lemma.partition(" ") if part == "v" else lemma.rpartition(" ")
    word = head if part == "v" else rest
    if not word.isalpha():
        return ()
    own = [w for w in _irregular(part).get(word, ()) if _ending(w, part) == form]
    forms = own or [_regular(word, form)]
    return tuple(w + gap + rest if part == "v" else head + gap + w for w in forms)


def _ending(word: str, part: str) -> str:
    if part == "n":
        return "s"
    return "ing" if word.endswith("ing") else "s" if word.endswith("s") else "ed"


@cache
def _irregular(part: str) -> dict[str, list[str]]:
    """Return the forms of the words of a part of speech that no rule gives."""
    file = resolve("wordnet", allow_hub=False) / f"{_FILES[part]}.exc"
    found: dict[str, list[str]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        form, *bases = line.split()
        for base in bases:
            found[base].append(form)
    return found


def _regular(word: str, form: str) -> str:
    if form == "s":
        if re.search(r"[^aeiou]y$", word):
            return word[:-1] + "ies"
        return word + ("es" if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", word) else "s")
    if form == "ed" and re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ied"
    if re.search(r"^[^aeiou]*[aeiou][^aeiouwxy]$", word):  # stop, stopped
        return word + word[-1] + form
    if word.endswith("e") and (form == "ed" or not re.search(r"(ee|ye|oe)$", word)):
        return word[:-1] + form
    return word + form
