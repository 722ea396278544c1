"""WordNet 3.0 as training material: pairs of texts, and sentences with a word changed.

A synset is one sense: its words (lemmas), a definition, and often sentences that use
one of the words. All that is drawn comes from a seed, and every row belongs to the
split of its sense.

Source: Miller 1995; Princeton University, WordNet 3.0 licence. `fetch` gets it.
"""

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args
from zlib import crc32

import numpy as np

from sbert_lab._utils import new_folder, no_collections
from sbert_lab.datasets.leaks import judged_texts
from sbert_lab.datasets.pairs import Pairs, plain
from sbert_lab.models.registry import BY_NAME, cache_home, resolve, status, verify

SECONDS = 120  #: how long a step of `fetch` may take
KINDS = ("definition", "example", "substitution")  #: of pairs, see `ranking_pairs`

Texts = frozenset[str] | None

_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_POINTERS = {"@": "hypernyms", "~": "hyponyms", "&": "similar"}
_QUOTED = re.compile(r'"([^"]+)"?')


@dataclass(frozen=True, slots=True)
class Synset:
    """One sense; `hypernyms` (wider), `hyponyms` and `similar` adjectives are ids."""

    id: str  #: part of speech and place in WordNet's file, as in ``"n00001740"``
    topic: int  #: the number of its lexicographer's file, such as 5 for animals
    #: How common each of its words is; 0 where this is not the word's first meaning.
    counts: dict[str, int]
    sure: frozenset[str]  #: words that mean this in nine texts of ten
    definition: str
    examples: tuple[str, ...]
    hypernyms: tuple[str, ...]
    hyponyms: tuple[str, ...]
    similar: tuple[str, ...]
    antonyms: tuple[tuple[str, str, str], ...]  #: own lemma, opposite id and lemma
    frames: frozenset[str]  #: the kinds of sentence in which a verb stands

    @property
    def lemmas(self) -> tuple[str, ...]:
        """Its words, as they are spelled in a text."""
        return tuple(self.counts)

    @property
    def split(self) -> str:
        """``"train"``, or ``"dev"`` or ``"test"`` for a twentieth each, by the id."""
        return {0: "dev", 1: "test"}.get(crc32(self.id.encode()) % 20, "train")


_Raw = dict[str, tuple[list[str], str]]


@cache
def load() -> dict[str, Synset]:
    """Read every synset, by its id; FileNotFoundError says how to get WordNet."""
    folder = resolve("wordnet", allow_hub=False)
    raw: _Raw = {}
    senses: dict[str, str] = defaultdict(str)  # of a word: a letter each
    with no_collections():
        for part in _FILES.values():
            for line in (folder / f"data.{part}").read_text("utf-8").split("\n"):
                if line and line[0] != " ":  # the licence's lines are indented
                    told, _, gloss = line.partition("|")
                    fields = told.split()
                    kind = fields[2].replace("s", "a")
                    raw[kind + fields[0]] = fields, gloss
                    for word in _words(fields):
                        senses[word.lower()] += kind
        tagged = _tagged(folder / "cntlist.rev")
        return {name: _synset(name, raw, senses, *tagged) for name in raw}


def _words(fields: Sequence[str]) -> list[str]:
    """Return a line's words as in a text; ``(p)`` after one tells where it stands."""
    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    return [word.partition("(")[0].replace("_", " ") for word in words]


_Tagged = dict[str, tuple[int, int]]


def _tagged(path: Path) -> tuple[_Tagged, dict[str, int]]:
    """Return each tagged sense's number and count, and how often a word is tagged."""
    found: _Tagged = {}
    times: dict[str, int] = defaultdict(int)
    for line in path.read_text(encoding="utf-8").splitlines():
        key, which, count = line.split()
        short = key.rsplit(":", 2)[0]  # of two senses that share it the later counts
        found[short] = max((int(which), int(count)), found.get(short, (0, 0)))
        times[key.partition("%")[0].replace("_", " ")] += int(count)
    return found, times


def _synset(
    name: str,
    raw: _Raw,
    senses: dict[str, str],
    tagged: _Tagged,
    times: dict[str, int],
) -> Synset:
    fields, gloss = raw[name]
    words, at = _words(fields), 5 + 2 * int(fields[3], 16)
    end = at + 4 * int(fields[at - 1])
    related: dict[str, list[str]] = {symbol: [] for symbol in _POINTERS}
    antonyms = []
    for start in range(at, end, 4):
        symbol, place, kind, which = fields[start : start + 4]
        if symbol in related:
            related[symbol].append(kind + place)
        elif symbol == "!":
            theirs = _words(raw[kind + place][0])[int(which[2:], 16) - 1]
            antonyms.append((words[int(which[:2], 16) - 1], kind + place, theirs))
    counts: dict[str, int] = {}
    sure = set()
    kind = f"%{'nvars'.index(fields[2]) + 1}:{fields[1]}:"
    for word, spelled, lex_id in zip(words, fields[4::2], fields[5::2], strict=False):
        lemma = word.lower()
        key = f"{lemma.replace(' ', '_')}{kind}{int(lex_id, 16):02}"
        number, often = tagged.get(key, (0, 0))
        first = number == 1 or senses[lemma].count(name[0]) == 1
        counts.setdefault(word, 1 + often if first and "(" not in spelled else 0)
        if len(senses[lemma]) == 1 or (first and often > 0.9 * times[lemma] > 2):
            sure.add(word)
    examples = [text.strip(" ;,") for text in _QUOTED.findall(gloss)]
    wider, narrower, similar = map(tuple, related.values())
    return Synset(
        name,
        int(fields[1]),
        counts,
        frozenset(sure),
        gloss.partition('"')[0].strip(" ;:,"),
        tuple(text for text in examples if " " in text),
        wider,
        narrower,
        similar,
        tuple(antonyms),
        frozenset(fields[end + 2 :: 3]) if name[0] == "v" else frozenset(),
    )


def ranking_pairs(
    split: str = "train",
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    without: Texts = None,
) -> Pairs:
    """Return pairs of texts that mean alike, in random order, no pair twice.

    - definition: a definition, and all words of its sense
    - example: a sentence, and the definition of the word that it shows
    - substitution: a sentence, and the same with that word's synonym in its place

    Two texts stand together once; a pair of equal texts is left out, as is one with a
    text of `without`, by default `leaks.judged_texts`, or of a split after its own.
    """
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, str], None] = {}
    for sense in senses_of(split):
        if "definition" in kinds:
            found[sense.definition, ", ".join(sense.lemmas)] = None
        if "example" in kinds:
            found |= {(text, sense.definition): None for text in sense.examples}
        for text in sense.examples if "substitution" in kinds else ():
            place = _shown(text, sense)
            words = [w for w in rng.permutation(sense.lemmas).tolist() if w.islower()]
            changed = (_put(text, place, word) for word in words if place)
            if new := next(filter(None, changed), None):
                found[text, new] = None
    out = left_out(split, without)
    rows = [row for row in found if out.isdisjoint(map(plain, row))]
    rows = [row for row in rows if plain(row[0]) != plain(row[1])]
    order = rng.permutation(len(rows))
    anchor, positive = zip(*(rows[row] for row in order), strict=True)
    return Pairs(anchor, positive, source=Path("WordNet"))


def senses_of(split: str) -> list[Synset]:
    """Return the senses of ``"train"``, ``"dev"`` or ``"test"``."""
    found = [sense for sense in load().values() if sense.split == split]
    if not found:
        raise ValueError(f"split={split!r}: 'train', 'dev' or 'test'")
    return found


def left_out(split: str, without: Texts) -> frozenset[str]:
    """Return texts that a split must not have: judged ones, and those of others."""
    before = {"train": ("dev", "test"), "dev": ("test",)}.get(split, ())
    out = judged_texts() if without is None else without
    return out.union(*map(_texts, before))


@cache
def _texts(split: str) -> frozenset[str]:
    """Return all texts that can be drawn in a split, whatever the seed."""
    found = {
        text
        for sense in senses_of(split)
        for text in (sense.definition, *sense.examples)
    }
    for *_, options in variants(split):
        found.update(*options.values())
    return frozenset(map(plain, found))


#: What a changed word is to the one it replaces.
Relation = Literal["same", "near", "wider", "narrower", "other", "apart"]
Options = dict[Relation, dict[str, int]]  #: by relation: texts or words, how common

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
    "put take thing unit use cause group work way state event come become someone "
    "somebody".split()
)
#: What may stand after a noun that is not the first half of a compound.
_AFTER = re.compile(
    r"(\W*$|[.,;:!]| (of|in|on|at|to|for|with|from|by|and|or|but|is|are|was|were"
    r"|has|had|have|will|would|can|could|that|which|who|when|while|into|over|under|through|after"
    r"|before|about|as|the|his|her|their|a|an)\b)"
)
_PARTICLE = re.compile(r" (up|out|off|down|away|back|over|along|around|about|apart)\b")
_MODIFIED = re.compile(
    r"(?<![\w'-])(a|an|the|his|her|my|our|their|its|of|in|with) $|^$", re.I
)
_AMOUNT = re.compile(r"number|quantity|amount|ordinal|being one more")
_WORD = re.compile(r"(?<![\w'-])[a-z]+(?![\w'-])")


def variants(split: str) -> Iterator[tuple[Synset, str, Options]]:
    """Yield sense, sentence and what the sentence becomes, for each place in it.

    The word is the one that a sentence shows, in the sense it shows, or a noun that
    nearly always means one thing. Left out are sentences with a word that turns round
    what follows from them (*not*, *every*, *if*, questions), words said of everything
    (*thing*, *do*), and replacements that are rare or of more than one word, or whose
    first meaning is another. A verb stands for another only where it fits all its kinds
    of sentence.
    """
    for sense in senses_of(split):
        for text in sense.examples:
            if not _TURNS.search(text):
                for place in _places(text, sense):
                    yield sense, text, _options(text, place)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a text has a word: which form of which lemma, and in what sense."""

    start: int
    end: int
    lemma: str
    form: str
    sense: Synset


def _options(text: str, place: _Place) -> Options:
    """Return what a text becomes with another word, and how common that word is."""
    found: Options = {name: {} for name in get_args(Relation)}
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
                found["narrower"][new] = sense.counts[word]
    return found


def _related(text: str, place: _Place) -> Options:
    """Return the words that may stand in a place, with how common each is."""
    known, sense = load(), place.sense
    found: Options = {name: {} for name in get_args(Relation)}

    def add(relation: Relation, *more: Synset) -> None:
        for other in more:
            if sense.frames <= other.frames:
                for word, count in other.counts.items():
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
                    found["other"][word] = other.counts[word]
    else:
        above = [known[name] for name in sense.hypernyms]
        above = [s for s in above if s.topic == sense.topic and s.hypernyms]
        add("wider", *above)
        add("narrower", *(known[name] for name in sense.hyponyms))
        if sense.topic in _EXCLUSIVE:
            sisters = [known[name] for s in above for name in s.hyponyms]
            mine = set(sense.lemmas)
            add("apart", *(s for s in sisters if mine.isdisjoint(s.lemmas)))
    for lemma, name, opposite in sense.antonyms:
        if lemma == place.lemma:
            found["apart"][opposite] = max(3, known[name].counts[opposite])
    return found


@cache
def _seen() -> dict[str, dict[str, Synset]]:
    """Return the adjectives that stand before a noun somewhere in WordNet."""
    adjectives = {
        word: sense
        for sense in load().values()
        if sense.id[0] == "a"
        for word, count in sense.counts.items()
        if count > 5 and word in sense.sure and not _AMOUNT.search(sense.definition)
    }
    found: dict[str, dict[str, Synset]] = defaultdict(dict)
    for sense in load().values():
        for text in (*sense.examples, sense.definition):
            words = _WORD.findall(text)
            for first, second in pairwise(words):
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
        part = place.sense.id[0]
        compound = part == "n" and not _AFTER.match(text, place.end)
        phrase = part == "v" and _PARTICLE.match(text, place.end)
        if not compound and not phrase and place.lemma not in _EMPTY:
            yield place


@cache
def _sure_nouns() -> dict[str, tuple[str, str, Synset]]:
    return {
        word: (lemma, form, sense)
        for sense in load().values()
        for lemma in (sense.sure if sense.id[0] == "n" else ())
        if re.fullmatch("[a-z]+[a-rt-z]", lemma)
        for form in ("", "s")
        for word in _forms(lemma, "n", form)
    }


def _put(text: str, place: _Place, word: str) -> str | None:
    """Put a word in a place of a text, in the form that stands there."""
    part, lemma = place.sense.id[0], place.lemma
    # Of verbs such as "put" it is not to be seen whether the past is meant.
    past = () if place.form else _forms(lemma, part, "ed")
    forms = _forms(word, part, place.form)
    if len(forms) != 1 or _alike(word, lemma) or lemma in past:
        return None
    (new,) = forms
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


@cache
def _forms(lemma: str, part: str, form: str) -> tuple[str, ...]:
    """Return what a form may be: broke and broken are both ``"ed"`` of break.

    `form` is "" for the word itself, ``"s"`` (plural, or third person), ``"ed"`` or
    ``"ing"`` of a verb.
    """
    if not form:
        return (lemma,)
    if part not in "nv" or (part == "n" and form != "s"):
        return ()
    # Of "look up" the first word changes, of "apple tree" the last.
    head, gap, rest = lemma.partition(" ") if part == "v" else lemma.rpartition(" ")
    word = head if part == "v" else rest
    if not word.isalpha():
        return ()
    forms = _irregular(part)[word, form] or [_regular(word, form)]
    if part == "n" and forms[0].endswith("mans"):  # fishermen, but humans
        return ()
    return tuple(w + gap + rest if part == "v" else head + gap + w for w in forms)


@cache
def _irregular(part: str) -> dict[tuple[str, str], list[str]]:
    """Return the forms that no rule gives, by word and form."""
    file = resolve("wordnet", allow_hub=False) / f"{_FILES[part]}.exc"
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        word, *bases = line.split()
        form = "ing" if word.endswith("ing") else "s" if word[-1] == "s" else "ed"
        for base in bases:
            found[base, "s" if part == "n" else form].append(word)
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


def fetch() -> str:
    """Put WordNet into the cache, and tell where it is: Debian's package, unpacked.

    That takes no root. FileNotFoundError says how to get it by hand.
    """
    entry = BY_NAME["wordnet"]
    state, folder, _ = status(entry)
    if state == "verified":
        return f"WordNet is here: {folder}"
    target = cache_home() / "data" / entry.name
    with TemporaryDirectory() as place:
        try:
            for command in ("apt-get download wordnet-base", "dpkg-deb -x {} ."):
                debs = [path.name for path in Path(place).glob("*.deb")]
                words = [word.replace("{}", "".join(debs)) for word in command.split()]
                subprocess.run(
                    words, cwd=place, timeout=SECONDS, check=True, capture_output=True
                )
            with new_folder(target, "unpacked.json") as new:
                for file in entry.sha256:
                    shutil.copyfile(Path(place, "usr/share/wordnet", file), new / file)
                verify(entry, new)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = (getattr(error, "stderr", b"") or b"").decode(errors="replace")
            told = (why.strip() or str(error)).splitlines()[-1]
            raise FileNotFoundError(
                f"WordNet could not be fetched ({told}). By hand: install Debian's "
                "wordnet-base, or put the files of its usr/share/wordnet into "
                "$SBERT_LAB_DATA_HOME/wordnet"
            ) from error
    load.cache_clear()
    return f"WordNet, from Debian's wordnet-base: {target}"
