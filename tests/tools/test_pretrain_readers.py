"""Each reader on a page of its format, and the filter that tells prose."""

import gzip
import struct
import zlib

from tools.pretraining.paragraphs import is_prose, tidy
from tools.pretraining.readers import (
    READERS,
    SHORT_TEXTS,
    clean_definition,
    clean_description,
    clean_fortunes,
    clean_html,
    clean_man,
    clean_pod,
    clean_wml,
    clean_wordnet,
    read_dictd,
    read_sword,
    read_text,
)
from tools.pretraining.sources import SOURCES


def test_html_keeps_prose_and_drops_code_and_scripts():
    page = (
        "<html><head><title>t</title></head><body><nav>Home</nav>"
        "<h1>A heading&nbsp;here</h1>"
        "<p>It\u2019s <b>bold</b> &amp; plain.<a class='x'> more</a></p>"
        "<pre>x = 1</pre><script>var a;</script><ul><li>One <em>item</em></ul>"
        "</body></html>"
    )
    assert clean_html(page) == [
        "A heading here",
        "It's bold & plain. more",
        "One item",
    ]


def test_dictd_entries_are_read_by_their_index(tmp_path):
    first = (
        "Bone \\Bone\\, n. [OE. bon.]\n"
        "   The hard {tissue} of\n   animals. [1913 Webster]\n"
    )
    second = "Door\n   A way into a room.\n"
    (tmp_path / "d.dict.dz").write_bytes(gzip.compress((first + second).encode()))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    def number(value):
        return (number(value // 64) if value >= 64 else "") + letters[value % 64]

    rows = [
        ("00info", 0, 1),
        ("bone", 0, len(first)),
        ("door", len(first), len(second)),
    ]
    lines = [f"{word}\t{number(start)}\t{number(size)}" for word, start, size in rows]
    (tmp_path / "d.index").write_text("\n".join(lines) + "\n")
    entries = list(read_dictd(tmp_path / "d.index"))
    assert entries == [("bone", first), ("door", second)]
    assert clean_definition(first) == ["Bone , n. The hard tissue of animals."]
    documents = list(READERS["dictd"](tmp_path / "d.index", "d.index"))
    assert documents[1] == ("d.index#door", ["Door A way into a room."])


def test_wordnet_gives_one_paragraph_a_sense_with_synonyms():
    entry = (
        'dog\n    n 1: a domestic animal; "the dog barked" [syn: {dog},\n'
        "         {hound}]\n"
        "    2: a dull person\n    v 1: go after with the intent to catch\n"
    )
    assert clean_wordnet("dog", entry) == [
        'dog: a domestic animal; "the dog barked" (synonyms: dog, hound)',
        "dog: a dull person",
        "dog: go after with the intent to catch",
    ]


def test_man_page_keeps_running_text():
    page = (
        '.\\" comment\n.TH x 1\n.SH NAME\nx \\- do it\n.PP\nThe call\n.BR foo (3)\n'
        "returns \\fIzero\\fP.\n"
        ".nf\nint code;\n.fi\n.PP\nNext one.\n"
    )
    assert clean_man(page) == [
        "x - do it",
        "The call foo(3) returns zero.",
        "Next one.",
    ]


def test_pod_drops_commands_and_verbatim_paragraphs():
    text = "Use C<< a > b >> or L<this page|perlre>, I<not> E<lt>."
    page = f"=head1 NAME\n\n{text}\n\n  code();\n\n=cut\n"
    assert clean_pod(page) == ["Use a > b or this page, not <."]


def test_fortunes_are_split_at_percent_lines():
    assert clean_fortunes("One\n\tline.\n%\nTwo.\n%\n") == ["One line.", "Two."]


def test_package_description(tmp_path):
    head = "Package: x\nDescription-md5: 0\nDescription-en: short words\n"
    stanza = head + " First long\n line.\n .\n Second.\n"
    paragraphs = ["short words", "First long line.", "Second."]
    assert clean_description(stanza) == paragraphs
    (tmp_path / "index").write_text(stanza)
    assert list(READERS["deb822"](tmp_path / "index", "index")) == [("x", paragraphs)]


def test_sword_blocks(tmp_path):
    text = b"<title>T</title>In the <w>beginning</w>.<note>n</note><lb/>Then more."
    block = zlib.compress(text)
    (tmp_path / "ot.bzz").write_bytes(block)
    (tmp_path / "ot.bzs").write_bytes(struct.pack("<III", 0, len(block), 1))
    assert list(read_sword(tmp_path / "ot.bzz")) == [
        ("0", ["In the beginning.", "Then more."])
    ]


def test_scenario_strings():
    text = 'message= _ "He said ""go"" to <i>me</i>."\nid=x\nstory=_"Another\n\nline"'
    assert clean_wml(text) == ['He said "go" to me.', "Another", "line"]


def test_text_may_be_gzipped_or_latin_1(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("é".encode()))
    (tmp_path / "b.txt").write_bytes("é".encode("latin-1"))
    assert read_text(tmp_path / "a.txt.gz") == read_text(tmp_path / "b.txt") == "é"


def test_typography_becomes_plain():
    assert tidy("\u201cIt\u2019s\u00a0a\n \ufb01x\u201d\u2014no") == '"It\'s a fix"-no'


def test_prose_filter_refuses_code_tables_and_medical_code_lists():
    assert is_prose("This is an ordinary sentence about a garden.")
    assert not is_prose("int x = foo(a[3], &b) ? c->d : *e++;")
    assert not is_prose("12.5 13.5 14.5 0x33 0x44 aa bb 77 88 99 100")
    assert not is_prose("The ICD-10-CM code of this disease is not for training.")


def test_every_source_names_a_known_reader():
    assert {source.reader for source in SOURCES.values()} <= set(READERS)
    assert set(READERS) >= SHORT_TEXTS
    assert all(s.licence and 0 < s.weight <= 1 for s in SOURCES.values())
