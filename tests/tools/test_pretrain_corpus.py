"""De-duplication, the split, and the way from unpacked packages to documents."""

import gzip

import pytest

from tools.pretraining.corpus import (
    Document,
    build_corpus,
    deduplicate,
    is_held_out,
    load_documents,
    load_table,
)
from tools.pretraining.sources import Source


def test_duplicates_go_whatever_their_case_and_spacing():
    documents = [
        Document("a", ("One thing, said.", "Two things.")),
        Document("b", ("one  THING said", "Three things.")),
        Document("c", ("two things",)),
    ]
    kept = list(deduplicate(documents, set()))
    assert kept == [documents[0], Document("b", ("Three things.",))]


def test_split_is_by_document_and_by_name_alone():
    names = [f"doc{i}" for i in range(20000)]
    held = {name for name in names if is_held_out("s", name)}
    assert 0.01 < len(held) / len(names) < 0.02
    assert held == {name for name in reversed(names) if is_held_out("s", name)}


def test_the_split_never_changes():
    """What was held out of finished weights must stay held out."""
    held = [i for i in range(400) if is_held_out("wordnet", f"doc{i}")]
    assert held == [107, 246, 397]


def test_unpacked_package_to_documents(tmp_path):
    page = tmp_path / "pkg" / "doc" / "page.html.gz"
    page.parent.mkdir(parents=True)
    text = b"<p>A page with enough plain words in it.</p><p>Short.</p>"
    page.write_bytes(gzip.compress(text))
    (tmp_path / "pkg" / "VERSION").write_text("1.2-3\n")
    sources = {
        "pages": Source("pkg", "html", ("doc/*.gz",), "free"),
        "absent": Source("absent", "html", ("*",), "free"),
    }
    (report,) = build_corpus(tmp_path, tmp_path / "out", sources)
    found = report.version, report.documents, report.paragraphs
    assert found == ("1.2-3", 1, 1)
    assert list(load_documents(tmp_path / "out" / "pages.jsonl")) == [
        Document("pkg/doc/page.html.gz", ("A page with enough plain words in it.",))
    ]


@pytest.mark.parametrize(("reader", "documents"), [("wordnet", 1), ("dictd", 2)])
def test_equal_senses_of_synonyms_count_once(tmp_path, reader, documents):
    folder = tmp_path / "pkg"
    folder.mkdir()
    entries = [f"{w}\n    n 1: a large pale bird of the sea\n" for w in ("auk", "mew")]
    (folder / "w.dict").write_text("".join(entries))
    size = len(entries[0])
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    (folder / "w.index").write_text(
        f"auk\tA\t{digits[size]}\nmew\t{digits[size]}\t{digits[size]}\n"
    )
    source = Source("pkg", reader, ("*.index",), "free")
    (report,) = build_corpus(tmp_path, tmp_path / "out", {"w": source})
    assert report.documents == documents


def test_the_table_lists_what_was_found(tmp_path):
    help_text = tmp_path / "packages/angband-data/usr/share/angband/help/x.txt"
    help_text.parent.mkdir(parents=True)
    help_text.write_text("The old river crosses the quiet garden.\n")
    build_corpus(tmp_path / "packages", tmp_path / "corpus")
    (row,) = load_table(tmp_path / "corpus")
    assert (row["source"], row["documents"], row["bytes"]) == ("angband", 1, 40)
