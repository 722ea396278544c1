import json
from collections import Counter
from dataclasses import replace

import pytest

from sbert_lab.datasets import python_api
from sbert_lab.datasets.docstring_text import first_sentence, unmarked
from sbert_lab.datasets.docstrings import Documented
from sbert_lab.datasets.python_api import (
    LIBRARIES,
    ApiEntry,
    entry,
    leaks,
)
from sbert_lab.evaluation.contamination import contamination


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three small libraries instead of all, read anew."""
    kept = ("fsspec", "scikit-learn", "pillow")
    few = tuple(each for each in LIBRARIES if each.distribution in kept)
    few = tuple(
        replace(each, parts=("neighbors",)) if each.package == "sklearn" else each
        for each in few
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(python_api, "LIBRARIES", few)
        patch.setenv("SBERT_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        python_api.load.cache_clear()
        yield python_api
    python_api.load.cache_clear()


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
        "lib",
    )
    assert made.sentence == "Find the root"
    assert made.signature == "lib.mod.find(a, b)"
    assert made.document == "lib.mod.find(a, b)\nTwice. a: float The start."
    assert entry(documented("", parameters=None), "lib") is None
    assert entry(documented("Its width.", parameters=None), "lib").document == (
        "lib.mod.find"
    )


def test_fields_lose_their_marks():
    given = (
        "Find it.\n\n:param int a: The start.\n:param b: The end.\n:returns: A root."
    )
    made = entry(documented(given), "lib")
    assert made.details == "a: The start. b: The end. A root."


def test_a_document_never_holds_the_query():
    made = entry(
        documented("Find the root.\n\nTo *find* the ROOT: find the root!"), "l"
    )
    assert made.details == ""
    late = "word " * python_api.DETAIL_WORDS
    made = entry(documented(f"Find the root.\n\n{late} find the root."), "l")
    assert "root" not in made.document.lower()
    long = entry(documented("Find the root.\n\n" + "many words " * 99), "l")
    assert len(long.details.split()) == python_api.DETAIL_WORDS


def _entries(*sentences, names=None):
    names = names or [f"lib.f{'x' * row}" for row in range(len(sentences))]
    return [
        ApiEntry(name, "lib", "function", name, sentence, "")
        for name, sentence in zip(names, sentences, strict=True)
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Find roots",
        "word " * 41,
        "See the function that finds roots",
        "Alias of the function that finds roots",
        "Return \\alpha times the root",
        "Return the %(name)s of a root",
        "Return the root in the naïve way",
    ],
)
def test_what_is_no_query(sentence):
    fine = "Return the root of an equation"
    assert [q for q, _ in python_api._pairs(_entries(fine, sentence))] == [fine]


def test_ambiguous_sentences_are_no_queries():
    fine = "Return the root of an equation"
    twice = ("Plot the lines of a tree.", "plot the lines of a TREE")
    assert [q for q, _ in python_api._pairs(_entries(fine, *twice))] == [fine]
    shape = [f"Store the configuration of a {x}Model" for x in ("Bert", "Gpt2", "T5")]
    assert [q for q, _ in python_api._pairs(_entries(fine, *shape))] == [fine]
    assert len(python_api._pairs(_entries(fine, *shape[:2]))) == 3


def test_a_name_that_is_code_gives_itself_away():
    made = _entries(
        "Used by read_csv to open files",
        "Compute the mean of all values",
        "Return rows of the DataFrame as tuples",
        names=["lib.read_csv", "lib.mean", "lib.DataFrame.rows"],
    )
    assert [e.name for _, e in python_api._pairs(made)] == ["lib.mean"]


def test_leaks_are_found():
    def pair(query, library, details="", name="x.y"):
        return query, ApiEntry(name, library, "function", name, query, details)

    train = [pair("Find the root", "a", "of an equation"), pair("Draw a line", "b")]
    clean = [pair("Sort the rows", "c", "of a table"), pair("Cut a branch", "c")]
    assert not any(leaks(train, clean).values())
    assert leaks(train, [pair("New words", "b")])["library"] == ["b"]
    assert leaks(train, [pair("DRAW a line!", "c")])["query"] == ["draw a line"]
    copied = leaks(train, [pair("New words", "c", "Of an *equation*")])
    assert copied["document"] == ["of an equation"]
    own = pair("Sort the rows", "c", "We sort the rows.")
    assert leaks(train, [own])["own document"] == ["Sort the rows"]
    assert leaks([own], clean)["own document"] == ["Sort the rows"]


def test_small_libraries(small):
    entries = small.load()
    names = [each.name for each in entries]
    assert len(set(names)) == len(names) > 500
    order = [each.distribution for each in small.LIBRARIES]
    assert [each.library for each in entries] == sorted(
        (each.library for each in entries), key=order.index
    )
    assert all(each.sentence and each.name in each.document for each in entries)
    assert Counter(each.library for each in entries).keys() == set(order)
    resize = next(each for each in entries if each.name == "PIL.Image.Image.resize")
    assert "resized" in resize.sentence
    assert resize.signature == (
        "PIL.Image.Image.resize(size, resample, box, reducing_gap)"
    )
    assert resize.details.startswith("size: ")


def test_sides_of_small_libraries(small):
    train, dev, test = map(small.split_pairs, ("train", "dev", "test"))
    assert {e.library for _, e in train} == {"fsspec", "scikit-learn"}
    assert {e.library for _, e in dev} == {"scikit-learn"}
    assert {e.library for _, e in test} == {"pillow"}
    assert set(dev) < set(train)
    assert not any(leaks(train, test).values())
    with pytest.raises(ValueError, match="'train', 'test'"):
        small.split_pairs("validation")
    with pytest.raises(ValueError, match="the libraries are fsspec"):
        small.side_of("sbert-lab")


def test_details_that_train_has_are_left_out_of_test(small, monkeypatch):
    whole = small.split_pairs("test")
    query, copied = next(pair for pair in whole if pair[1].details)
    seen = replace(small.load()[0], details=copied.details.upper())
    more = (seen, *small.load())
    monkeypatch.setattr(small, "load", lambda: more)
    assert (query, copied) in whole
    assert (query, copied) not in small.split_pairs("test")


def test_a_task_is_drawn_from_the_whole(small):
    whole = small.retrieval_task("test")
    assert len(whole.queries) == len(whole.relevant) == len(small.split_pairs("test"))
    assert set(whole.relevant) <= set(whole.corpus_codes)
    assert len(whole.corpus_codes) == len(small.retrieval_corpus("test"))
    assert len(whole.corpus_codes) > len(whole.queries)  # some are never asked for
    task = small.retrieval_task("test", queries=20, entries=100, seed=7)
    assert task == small.retrieval_task("test", 20, 100, 7)
    assert task != small.retrieval_task("test", 20, 100, 8)
    assert (len(task.queries), len(task.corpus_codes)) == (20, 100)
    assert set(task.relevant) <= set(task.corpus_codes)
    known = dict(zip(whole.queries, whole.relevant, strict=True))
    assert [known[query] for query in task.queries] == list(task.relevant)
    texts = dict(zip(whole.corpus_codes, whole.corpus_texts, strict=True))
    assert tuple(texts[code] for code in task.corpus_codes) == task.corpus_texts
    assert small.retrieval_task("test", 10**6, 10**6) == whole
    fewest = small.retrieval_task("test", 20, 0)
    assert set(fewest.corpus_codes) == set(fewest.relevant)


def test_kept_entries_are_those_that_were_read(small, tmp_path):
    """Reads pillow alone, for speed."""
    (pillow,) = (each for each in small.LIBRARIES if each.distribution == "pillow")
    first = tuple(each for each in small.load() if each.library == "pillow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small, "LIBRARIES", (pillow,))
        patch.setenv("SBERT_LAB_CACHE", str(tmp_path))
        _check_kept(small, tmp_path, first)
    small.load.cache_clear()


def _check_kept(small, tmp_path, first):
    small.load.cache_clear()
    assert small.load() == first  # read again: order and content are fixed
    (kept,) = (tmp_path / "python_api").iterdir()
    small.load.cache_clear()
    edition = small.edition()
    assert [name for name, _ in edition.versions] == ["pillow"]
    small.load.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small, "entries_of", lambda library: pytest.fail("read again"))
        assert small.load() == first
        assert small.edition() == edition
    for damaged in (b"[{", b'[{"name": "x"}]', b"3"):
        kept.write_bytes(damaged)
        small.load.cache_clear()
        assert small.load() == first
    assert json.loads(kept.read_bytes())[0]["name"] == first[0].name


@pytest.mark.slow
def test_no_library_and_no_text_is_on_both_sides():
    """All libraries: reading them takes some 15 seconds, the first time."""
    train, test = map(python_api.split_pairs, ("train", "test"))
    libraries = [{e.library for _, e in side} for side in (train, test)]
    assert libraries[0] | libraries[1] == {each.distribution for each in LIBRARIES}
    assert not any(leaks(train, test).values())
    measured = contamination([(query,) for query, _ in train], [(q,) for q, _ in test])
    assert not measured.texts
    assert measured.near_share < 0.03  # "… of the given axes", "… of the array"
    task = python_api.retrieval_task("test")
    assert set(task.relevant) <= set(task.corpus_codes)
    assert len(set(task.corpus_codes)) == len(task.corpus_codes)
    for query, answer in zip(task.queries, task.relevant, strict=True):
        text = task.corpus_texts[task.corpus_codes.index(answer)]
        assert query.casefold() not in text.casefold()
