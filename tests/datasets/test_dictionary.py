"""WordNet's files, the rules that make rows of them, and getting it."""

import hashlib
import shutil
from collections import Counter
from dataclasses import replace

import dictionary_tasks
import pytest

from sbert_lab.__main__ import main
from sbert_lab.datasets import dictionary
from sbert_lab.datasets.nli import LABELS, nli_triplets
from sbert_lab.datasets.pairs import plain
from sbert_lab.models import registry

#: Words, id of the sense above, gloss; id, part and topic stand in front.
NOUNS = {
    "00000001": ("03 n entity", "", "all that there is"),
    "00000002": ("05 n animal", "00000001", 'a living thing; "it is an animal"'),
    "00000003": ("05 n dog domestic_dog hound", "00000002", 'a pet; "he saw a dog"'),
    "00000004": ("05 n cat", "00000002", 'a pet that purrs; "two cats, black and old"'),
    "00000005": ("05 n puppy", "00000003", 'a young dog; "no puppy barked"'),
}
COUNTS = {"animal": 9, "cat": 5, "dog": 7, "hound": 2, "puppy": 3}
TAGGED = "\n".join(f"{word}%1:05:00:: 1 {n}" for word, n in COUNTS.items())


def write(folder):
    """Write WordNet as it is published, of five nouns and two adjectives."""
    lines = ["  1 This is the licence."]
    for place, (told, above, gloss) in NOUNS.items():
        topic, kind, *words = told.split()
        pointers = [f"@ {above} n 0000"] if above else []
        pointers += [f"~ {p} n 0000" for p, row in NOUNS.items() if row[1] == place]
        spelled = " ".join(f"{word} 0" for word in words)
        count = f"{len(pointers):03}"
        fields = [place, topic, kind, f"{len(words):02x}", spelled, count, *pointers]
        lines.append(f"{' '.join(fields)} | {gloss}  ")
    adjectives = [
        '00000001 00 a 02 big 0 large 0 001 ! 00000002 a 0101 | great; "the big dog"',
        '00000002 00 a 01 small(a) 0 001 ! 00000001 a 0101 | little; "of small size"',
    ]
    contents = {"data.noun": lines, "data.adj": adjectives, "cntlist.rev": [TAGGED]}
    contents |= {"noun.exc": ["oxen ox"], "verb.exc": ["broke break", "broken break"]}
    folder.mkdir(parents=True)
    for name in registry.BY_NAME["wordnet"].sha256:
        text = "\n".join(contents.get(name, [])).strip("\n") + "\n"
        (folder / name).write_text(text if name in contents else "")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Let a tiny WordNet be the one on record, in one split and with no judged text."""
    write(tmp_path / "own" / "wordnet")
    files = (tmp_path / "own" / "wordnet").iterdir()
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    entry = replace(registry.BY_NAME["wordnet"], sha256=sums, system="")
    monkeypatch.setitem(registry.BY_NAME, "wordnet", entry)
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    caches = [one for one in vars(dictionary).values() if hasattr(one, "cache_clear")]
    for one in caches:
        one.cache_clear()
    yield tmp_path
    for one in caches:
        one.cache_clear()


@pytest.fixture(scope="module")
def real():
    if registry.status(registry.BY_NAME["wordnet"])[0] != "verified":
        pytest.skip("WordNet is not here: python -m sbert_lab fetch")


def test_synsets_are_read(tiny):
    found = dictionary.load()
    dog, big = found["n00000003"], found["a00000001"]
    assert dog.counts == {"dog": 8, "domestic dog": 1, "hound": 3}
    assert (dog.definition, dog.examples, dog.topic) == ("a pet", ("he saw a dog",), 5)
    assert (dog.hypernyms, dog.hyponyms) == (("n00000002",), ("n00000005",))
    assert big.antonyms == (("big", "a00000002", "small"),)
    assert found["a00000002"].counts == {"small": 0}  # stands before nouns only


def test_every_rule_by_hand(tiny, monkeypatch):
    monkeypatch.setattr(dictionary.Synset, "split", "train")
    found = {}
    for _, text, options in dictionary.variants("train"):
        told = found.setdefault(text, {})
        for relation, new in options.items():
            told |= {relation: told.get(relation, set()) | set(new)} if new else {}
    assert found == {
        "it is an animal": {
            "narrower": {f"it is a {w}" for w in ("dog", "hound", "cat")}
        },
        "he saw a dog": {
            "same": {"he saw a hound"},
            "wider": {"he saw an animal"},
            "narrower": {"he saw a puppy"},
            "apart": {"he saw a cat"},
        },
        "two cats, black and old": {
            "wider": {"two animals, black and old"},
            "apart": {"two dogs, black and old", "two hounds, black and old"},
        },
        "the big dog": {
            "same": {"the big hound"},
            "wider": {"the dog", "the big animal"},
            "narrower": {"the big puppy"},
            "apart": {"the small dog", "the big cat"},
        },
        "of small size": {"wider": {"of size"}, "apart": {"of big size"}},
    }  # and none of the puppy, whose sentence has "no"


def test_forms_and_articles(tiny):
    table = {
        ("city", "n", "s"): "cities",
        ("ox", "n", "s"): "oxen",
        ("apple tree", "n", "s"): "apple trees",
        ("stop", "v", "ed"): "stopped",
        ("look up", "v", "ing"): "looking up",
        ("carry", "v", "ed"): "carried",
        ("agree", "v", "ing"): "agreeing",
        ("make", "v", "ing"): "making",
        ("break", "v", "ed"): "broke/broken",
        ("red", "a", "s"): "",
    }
    for told, forms in table.items():
        assert "/".join(dictionary._forms(*told)) == forms
    for word, article in {"apple": "an", "unit": "a", "hour": "an", "dog": "a"}.items():
        assert dictionary._article("saw a ", word) == f"saw {article} "
        assert dictionary._article("saw an ", word) == f"saw {article} "


def test_rows_keep_to_their_split_and_come_from_the_seed(real, monkeypatch):
    every = dictionary.senses_of
    monkeypatch.setattr(dictionary, "senses_of", lambda split: every(split)[::10])
    dictionary._texts.cache_clear()
    dev, test = (dictionary_tasks.entailment(split) for split in ("dev", "test"))
    assert (
        dev
        == dictionary_tasks.entailment("dev")
        != dictionary_tasks.entailment("dev", 1)
    )
    texts = [
        {plain(t) for r in s for t in (r.premise, r.hypothesis)} for s in (dev, test)
    ]
    assert texts[0].isdisjoint(texts[1])
    assert set(Counter(row.label for row in dev)) == set(LABELS)
    assert nli_triplets(dev)
    out = frozenset([plain(dev[0].premise)])
    left = [row for row in dev if plain(row.premise) not in out]
    assert set(dictionary_tasks.entailment("dev", without=out)) <= set(left)
    scored = dictionary_tasks.graded("dev", size=50)
    assert set(scored.score) == {0, 1, 2, 3, 4, 5}
    assert scored == dictionary_tasks.graded("dev", size=50)
    assert len(dictionary.load()) == 117_659
    dictionary._texts.cache_clear()


def fake_apt(folder, monkeypatch, body):
    for name, lines in {"apt-get": body, "dpkg-deb": "cp -r $ARCHIVE usr"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_fetch(tiny, monkeypatch, capsys):
    archive = tiny / "archive" / "share"
    archive.mkdir(parents=True)
    shutil.move(tiny / "own" / "wordnet", archive / "wordnet")
    monkeypatch.setenv("ARCHIVE", str(tiny / "archive"))
    (tiny / "bin").mkdir()
    for body in ("echo no such package >&2; exit 100", "exec sleep 9", "exit 0"):
        fake_apt(tiny / "bin", monkeypatch, body)
        monkeypatch.setattr(dictionary, "SECONDS", 0.2)
        if body == "exit 0":  # and what comes is damaged
            noun = archive / "wordnet" / "data.noun"
            sound = noun.read_text()
            noun.write_text("?")
        with pytest.raises(SystemExit, match=r"By hand: .*wordnet-base"):
            main(["fetch"])
        assert not (tiny / "cache" / "data" / "wordnet").exists()
    noun.write_text(sound)
    monkeypatch.setattr(dictionary, "SECONDS", 60)
    assert main(["fetch"]) == 0
    assert "from Debian's wordnet-base" in capsys.readouterr().out
    assert len(dictionary.load()) == 7
    assert main(["fetch"]) == 0
    assert "WordNet is here" in capsys.readouterr().out
