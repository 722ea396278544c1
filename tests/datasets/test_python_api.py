import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sbert_lab.datasets import python_api
from sbert_lab.datasets.docstring_text import (
    bare,
    first_sentence,
    near_rows,
    spaced,
    unmarked,
)
from sbert_lab.datasets.docstrings import Documented
from sbert_lab.datasets.pairs import check_no_leak, find_leaks
from sbert_lab.datasets.python_api import (
    DETAIL_WORDS,
    ApiEntry,
    edition,
    entries_of,
    entry,
    leaks,
    load,
    retrieval_corpus,
    retrieval_pairs,
    retrieval_task,
    split_pairs,
    training_pairs,
)
from sbert_lab.datasets.python_libraries import LIBRARIES, Library, installed, versions
from sbert_lab.evaluation.contamination import contamination
from sbert_lab.training.data import TrainingData

LIB = Library("lib", "lib", "train", "MIT")
BY_NAME = {each.distribution: each for each in LIBRARIES}
FEW = (
    BY_NAME["fsspec"],
    replace(BY_NAME["scikit-learn"], parts=("neighbors",)),
    BY_NAME["pillow"],
)
ABSENT = Library("no-such-distribution", "nowhere", "test", "MIT")


@pytest.fixture(scope="module")
def small():
    """Three small libraries instead of all, one a side."""
    return tuple(each for library in FEW for each in entries_of(library))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path))
    load.cache_clear()
    yield tmp_path / "python_api"
    load.cache_clear()


def documented(docstring, name="lib.mod.find", parameters=("a", "b")):
    return Documented(name, "function", parameters, docstring, False)


@pytest.mark.parametrize(
    ("docstring", "sentence", "rest"),
    [
        ("Find the root.", "Find the root", ""),
        ("Find the root", "Find the root", ""),
        ("Find the\nroot. Or not.\n\nMore.", "Find the root", "Or not.\n\nMore."),
        ("find(a, b) -> int\n\nFind it. So.", "Find it", "So.\n\n"),
        ("Use e.g. numpy, i.e. arrays. Then.", "Use e.g. numpy, i.e. arrays", "Then."),
        ("Since version 1.2 this is so. Yes.", "Since version 1.2 this is so", "Yes."),
        ("Is it? Yes.", "Is it", "Yes."),
        ("Values are:\n\n1. one", "Values are", "1. one"),
        ("Parameters\n----------\na\n    The a.", "", None),
        (":returns: The root.", "", None),
        (":class:`Root` of it.", "Root of it", ""),
        ("", "", ""),
    ],
)
def test_first_sentence(docstring, sentence, rest):
    found = first_sentence(docstring)
    assert found[0] == sentence
    if rest is not None:
        assert found[1].strip() == rest.strip()


def test_marks_are_taken_away():
    assert unmarked(":func:`~numpy.linalg.norm` of ``x``") == "norm of x"
    assert unmarked("a `title <https://a.b>`_ and `plain`_") == "a title and plain"
    assert unmarked(":class:`!Foo`, :py:meth:`a.b`") == "Foo, a.b"
    assert unmarked("[`BertModel`] and [text](https://a.b)") == "BertModel and text"
    assert unmarked("*very* **strong**  a * b * c") == "very strong a * b * c"


def test_a_document_holds_signature_and_what_follows_the_sentence():
    made = entry(
        documented(
            """Find the root. Twice.

            Parameters
            ----------
            a : float
                The start.

            .. versionadded:: 1.0

            >>> find(1, 2)

            See Also
            --------
            lose
            """.replace("            ", "")
        ),
        LIB,
    )
    assert made.sentence == "Find the root"
    assert made.signature == "lib.mod.find(a, b)"
    assert made.document == "lib.mod.find(a, b)\nTwice. a: float The start."
    assert entry(documented("", parameters=None), LIB) is None
    assert entry(documented("Its width.", parameters=None), LIB).document == (
        "lib.mod.find"
    )


def test_fields_lose_their_marks():
    given = (
        "Find it.\n\n:param int a: The start.\n:param b: The end.\n:returns: A root."
    )
    made = entry(documented(given), LIB)
    assert made.details == "a: The start. b: The end. A root."


def test_a_document_never_holds_the_query():
    again = "Find the root.\n\nTo *find* the ROOT: find the root!"
    assert entry(documented(again), LIB).details == ""
    # Behind the cut it does no harm.
    late = entry(documented(f"Find the root.\n\n{'word ' * 50} find the root."), LIB)
    assert late.details == " ".join(["word"] * DETAIL_WORDS)
    named = replace(late, name="x", signature="root.of.all.roots()", sentence="")
    named = replace(named, sentence="Root of all roots")
    assert retrieval_pairs([replace(named, signature="x")])
    assert not retrieval_pairs([named])


def _entries(*sentences, names=None, details="", side="train", library="lib"):
    names = names or [f"{library}.f{'x' * row}" for row in range(len(sentences))]
    return [
        ApiEntry(name, library, side, name, sentence, details)
        for name, sentence in zip(names, sentences, strict=True)
    ]


FINE = "Return the root of an equation"


@pytest.mark.parametrize(
    "sentence",
    [
        "Find all roots",
        "word " * 41,
        "See the function that finds roots",
        "Alias of the function that finds roots",
        "Return \\alpha times the root",
        "Return the %(name)s of a root",
        "Return the root in the naïve way",
    ],
)
def test_what_is_no_query(sentence):
    assert [q for q, _ in retrieval_pairs(_entries(FINE, sentence))] == [FINE]


def test_the_shortest_and_the_longest_query():
    short, long = "Find all the roots", " ".join(["word"] * 40)
    assert [q for q, _ in retrieval_pairs(_entries(short, long))] == [short, long]


def test_ambiguous_sentences_are_no_queries():
    twice = ("Plot the lines of a tree.", "plot the lines of a TREE")
    assert [q for q, _ in retrieval_pairs(_entries(FINE, *twice))] == [FINE]
    shape = [f"Store the configuration of a {x}Model" for x in ("Bert", "Gpt2", "T5")]
    assert [q for q, _ in retrieval_pairs(_entries(FINE, *shape))] == [FINE]
    assert len(retrieval_pairs(_entries(FINE, *shape[:2]))) == 3


def test_a_name_that_is_code_gives_itself_away():
    made = _entries(
        "Used by read_csv to open files",
        "Compute the mean of all values",
        "Return rows of the DataFrame as tuples",
        names=["lib.read_csv", "lib.mean", "lib.DataFrame.rows"],
    )
    assert [e.name for _, e in retrieval_pairs(made)] == ["lib.mean"]


def test_names_are_spaced():
    assert spaced("lib.read_csv(a, by__row)") == "lib.read csv(a, by row)"
    assert spaced("DataFrame HTTPServer log1p ABC x") == (
        "Data Frame HTTP Server log1p ABC x"
    )


def test_near_rows_by_hand():
    texts = ["One, two; THREE four", "five", "", "one two three four five six"]
    assert near_rows(texts, ["one two three"], 0.75) == [0]
    assert near_rows(texts, ["one two three"], 0.76) == []
    assert near_rows(texts, ["one two three", "FIVE five", ""], 0.5) == [0, 1, 3]
    ten = " ".join("abcdefghij")
    assert near_rows([ten], ["a b c d e f g"], 0.7) == [0]
    assert near_rows([ten], ["a b c d e f"], 0.6) == [0]
    # 0.28 · 25 is above 7 for a computer, if by little.
    many = " ".join("abcdefghijklmnopqrstuvwxy")
    assert near_rows([many], ["a b c d e f g"], 0.28) == [0]
    assert near_rows([many], ["a b c d e f"], 0.28) == []
    for threshold in (0, 1.1):
        with pytest.raises(ValueError, match="up to 1"):
            near_rows(texts, texts, threshold)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.6, 0.75, 1])
def test_near_rows_are_those_of_all_comparisons(threshold):
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"w{word}" for word in rng.zipf(1.5, rng.integers(0, 9)) % 20)
        for _ in range(300)
    ]
    left, right = texts[:150], texts[150:]
    expected = []
    for row, text in enumerate(left):
        words = set(text.split())
        shares = [
            len(words & set(each.split())) / max(1, len(words | set(each.split())))
            for each in right
        ]
        if max(shares) >= threshold:
            expected.append(row)
    assert near_rows(left, right, threshold) == expected
    assert 0 < len(expected) < 150


def test_leaks_are_found():
    def pair(query, library, details="", name="x.y"):
        return query, ApiEntry(name, library, "train", name, query, details)

    train = [pair("Find the root", "a", "of an equation"), pair("Draw a line", "b")]
    clean = [pair("Sort the rows", "c", "of a table"), pair("Cut a branch", "c")]
    assert not any(leaks(train, clean).values())
    assert leaks(train, [pair("New words", "b")])["library"] == ["b"]
    assert leaks(train, [pair("DRAW a line!", "c")])["query"] == ["DRAW a line!"]
    near = leaks(train, [pair("Draw a straight line", "c", "for an equation")])
    assert (near["query"], near["document"]) == ([], [])
    assert near["near query"] == ["Draw a straight line"]
    assert near["near document"] == []  # two words of four
    copied = leaks(train, [pair("New words", "c", "Of an *equation*")])
    assert copied["document"] == copied["near document"] == ["Of an *equation*"]
    own = pair("Sort the rows", "c", "We sort the rows.")
    assert leaks(train, [own])["own document"] == ["Sort the rows"]
    assert leaks([own], clean)["own document"] == ["Sort the rows"]


def test_small_libraries(small):
    names = [each.name for each in small]
    assert len(set(names)) == len(names) > 500
    for library in FEW:
        own = [each for each in small if each.library == library.distribution]
        assert [each.name for each in own] == sorted(each.name for each in own)
        assert {each.side for each in own} == {library.side}
    assert all(bare(each.sentence) and each.name in each.document for each in small)
    assert max(len(each.details.split()) for each in small) == DETAIL_WORDS
    resize = next(each for each in small if each.name == "PIL.Image.Image.resize")
    assert "resized" in resize.sentence
    assert resize.signature == (
        "PIL.Image.Image.resize(size, resample, box, reducing_gap)"
    )
    assert resize.details.startswith("size: ")


def test_sides_of_small_libraries(small):
    sides = {side: split_pairs(side, small) for side in ("train", "dev", "test")}
    for library in FEW:
        assert {e.library for _, e in sides[library.side]} == {library.distribution}
        assert {e.library for e in retrieval_corpus(library.side, small)} == {
            library.distribution
        }
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not any(leaks(sides[first], sides[second]).values())
    for wrong in (split_pairs, retrieval_corpus, retrieval_task, training_pairs):
        with pytest.raises(ValueError, match="'train', 'dev', 'test'"):
            wrong("validation", data=small)


SAME = "Return the greatest root of this equation"
LONGER = "Return the single greatest root of this equation"  # 7 of 8 words


@pytest.mark.parametrize(("first", "second"), [("train", "dev"), ("dev", "test")])
@pytest.mark.parametrize(
    ("sentence", "details"),
    [(LONGER, ""), (LONGER, "x y"), ("Cut all of the branches", "A, b: c d! z")],
)
def test_what_an_earlier_side_nearly_has_is_left_out(first, second, sentence, details):
    old = _entries(SAME, side=first, library="a", details="A b. C d?")
    new = _entries(sentence, side=second, library="b", details=details)
    other = _entries("Plot a tree with leaves", side=second, library="c")
    data = [*new, *old, *other]
    assert [e.library for _, e in split_pairs(second, data)] == ["c"]
    assert [e.library for _, e in split_pairs(first, data)] == ["a"]
    assert {e.library for e in retrieval_corpus(second, data)} == {"b", "c"}
    far = [replace(new[0], details="", sentence="Cut all of the branches")]
    assert [e.library for _, e in split_pairs(second, [*far, *old])] == ["b"]


def test_a_sentence_that_is_no_query_counts_as_seen():
    old = _entries("See " + SAME, side="train", library="a")
    new = _entries(SAME, side="test", library="b")
    assert not split_pairs("train", [*old, *new])
    assert not split_pairs("test", [*old, *new])


def test_training_pairs(small):
    pairs = training_pairs(data=small)
    assert list(zip(pairs.anchor, pairs.positive, strict=True)) == [
        (query, each.document) for query, each in split_pairs("train", small)
    ]
    data = TrainingData.from_pairs(pairs)
    assert len(data) == len(pairs) > 100
    assert data.row_texts()[0] == [pairs.anchor[0], pairs.positive[0]]
    check_no_leak(pairs, training_pairs("test", small))


def test_a_task_is_drawn_from_the_whole(small):
    whole = retrieval_task("test", data=small)
    assert len(whole.queries) == len(whole.relevant) == len(split_pairs("test", small))
    assert set(whole.relevant) <= set(whole.corpus_codes)
    assert len(whole.corpus_codes) == len(retrieval_corpus("test", small))
    assert len(whole.corpus_codes) > len(whole.queries)  # some are never asked for
    task = retrieval_task("test", queries=20, documents=100, seed=7, data=small)
    assert task == retrieval_task("test", 20, 100, 7, small)
    other = retrieval_task("test", 20, 100, 8, small)
    assert task.queries != other.queries
    extra = [set(each.corpus_codes) - set(each.relevant) for each in (task, other)]
    assert extra[0] != extra[1]
    assert (len(task.queries), len(task.corpus_codes)) == (20, 100)
    assert set(task.relevant) <= set(task.corpus_codes)
    known = dict(zip(whole.queries, whole.relevant, strict=True))
    assert [known[query] for query in task.queries] == list(task.relevant)
    texts = dict(zip(whole.corpus_codes, whole.corpus_texts, strict=True))
    assert tuple(texts[code] for code in task.corpus_codes) == task.corpus_texts
    assert retrieval_task("test", 10**6, 10**6, data=small) == whole
    fewest = retrieval_task("test", 20, 0, data=small)
    assert set(fewest.corpus_codes) == set(fewest.relevant)


def test_libraries_that_are_missing_are_left_out():
    some = (ABSENT, *FEW)
    assert installed(some) == FEW
    assert [name for name, _ in versions(some)] == [
        "python",
        *(each.distribution for each in FEW),
    ]
    with pytest.raises(FileNotFoundError, match="1 of 3 libraries for test"):
        installed((*some, replace(ABSENT, distribution="nor-this")))
    with pytest.raises(FileNotFoundError, match=r"pip install .*no-such-distribution$"):
        load((ABSENT,))
    with pytest.raises(FileNotFoundError, match=r"pip install .*no-such-distribution$"):
        entries_of(ABSENT)
    # Registered, but its files lie elsewhere.
    moved = replace(BY_NAME["pillow"], package="nowhere")
    assert installed((moved, BY_NAME["pillow"])) == (BY_NAME["pillow"],)


def test_kept_entries_are_those_that_were_read(small, cache, monkeypatch):
    some = (BY_NAME["pillow"], ABSENT)
    pillow = tuple(each for each in small if each.library == "pillow")
    assert load(some) == pillow  # read again: order and content are fixed
    (kept,) = cache.iterdir()
    known = edition(some)
    assert [name for name, _ in known.versions] == ["python", "pillow"]
    assert known.missing == ("no-such-distribution",)
    stored = json.loads(kept.read_bytes())
    assert stored["sha256"] == known.sha256
    calls = Counter()
    monkeypatch.setattr(
        python_api, "entries_of", lambda library: (calls.update([library]), pillow)[1]
    )
    load.cache_clear()
    assert load(some) == pillow
    assert not calls
    fewer = {**stored, "entries": stored["entries"][1:]}
    damaged = [b"[{", b"3", b"{}", b"[]", json.dumps(fewer).encode()]
    for number, content in enumerate(damaged, 1):
        kept.write_bytes(content)
        load.cache_clear()
        assert load(some) == pillow
        assert calls.total() == number
    assert json.loads(kept.read_bytes()) == stored


def test_another_version_is_another_file(small, cache, monkeypatch):
    some = (BY_NAME["pillow"],)
    monkeypatch.setattr(python_api, "entries_of", lambda library: small[:9])
    load(some)
    monkeypatch.setattr(
        python_api, "versions", lambda libraries: (("python", "9"), ("pillow", "99"))
    )
    load.cache_clear()
    load(some)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.slow
def test_no_library_and_no_text_is_on_two_sides():
    """All libraries: reading them takes half a minute, the first time."""
    sides = {side: split_pairs(side) for side in ("train", "dev", "test")}
    found = [{e.library for _, e in pairs} for pairs in sides.values()]
    assert set().union(*found) == {each.distribution for each in installed()}
    columns = {side: training_pairs(side) for side in sides}
    queries = [(query,) for query in columns["test"].anchor]
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not any(leaks(sides[first], sides[second]).values())
        check_no_leak(columns[first], columns[second])
    for pairs in (columns["train"], columns["dev"]):
        assert not find_leaks(TrainingData.from_pairs(pairs).row_texts(), queries)
        texts = list(zip(pairs.anchor, pairs.positive, strict=True))
        measured = contamination(texts, queries, run=5)
        assert not measured.texts
        assert measured.near_share < 0.001
    task = retrieval_task("test")
    texts = dict(zip(task.corpus_codes, task.corpus_texts, strict=True))
    assert len(texts) == len(task.corpus_codes)
    for query, answer in zip(task.queries, task.relevant, strict=True):
        assert f" {bare(query)} " not in f" {bare(texts[answer])} "
