r"""Readers: clean paragraphs out of the formats that packages keep prose in.

* ``html``: manuals and books, without scripts, code blocks and navigation;
* ``dictd``: dictionaries (``.dict.dz`` and ``.index``), one document an entry;
* ``wordnet``: the same container, one paragraph a sense, synonyms kept;
* ``man`` and ``pod``: manual pages, the running text only;
* ``fortune``: sayings between lines that hold a single ``%``;
* ``deb822``: the long descriptions of packages;
* ``sword``: commentaries and books in zlib blocks;
* ``wml``: the spoken and descriptive text of Battle for Wesnoth scenarios;
* ``text``: plain text with blank lines between paragraphs.
"""

import gzip
import html
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

#: A document's name, and its paragraphs.
Entry = tuple[str, list[str]]


_SPACE = re.compile(r"\s+")
_BLANK_LINES = re.compile(r"\n[ \t]*\n")
_LETTER = re.compile(r"[A-Za-z]")
_PROSE = re.compile(r"[A-Za-z ,.;:'\"()\-]")
_WORD = re.compile(r"[A-Za-z]{2,}")
_CODE_LISTS = re.compile(
    r"\bICD[- ]?(?:9|10|11|O)\b|\bSNOMED\b|\bLOINC\b", re.IGNORECASE
)
_TYPOGRAPHY = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2010": "-",
        "\u2011": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u00a0": " ",
        "\u00ad": "",
        "\u00b6": " ",
        "\u200b": "",
        "\ufb01": "fi",
        "\ufb02": "fl",
    }
)


def tidy(text: str) -> str:
    """Return one line of text: plain quotes and hyphens, single spaces."""
    return _SPACE.sub(" ", text.translate(_TYPOGRAPHY)).strip()


def cut_at_blank_lines(text: str) -> list[str]:
    """Return the parts between blank lines as they are."""
    return _BLANK_LINES.split(text)


def split_paragraphs(text: str) -> list[str]:
    """Return the tidy paragraphs of plain text; hyphenated line ends are kept."""
    return [p for p in map(tidy, cut_at_blank_lines(text)) if p]


def is_prose(paragraph: str, least_words: int = 6) -> bool:
    """Return whether a tidy paragraph is English prose rather than code or a table.

    Lists of medical codes are left out altogether: evaluation data is made of them,
    and the encoder must not have seen it.
    """
    if len(_WORD.findall(paragraph)) < least_words:
        return False
    size = len(paragraph)
    if len(_LETTER.findall(paragraph)) < 0.6 * size:
        return False
    if len(_PROSE.findall(paragraph)) < 0.88 * size:
        return False
    return _CODE_LISTS.search(paragraph) is None


def read_text(path: Path) -> str:
    """Return a file's text, gzipped or not; UTF-8, or Latin-1 where it is not."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# --------------------------------------------------------------------------
# HTML

_HTML_DROP = re.compile(
    r"<!--.*?-->|<(script|style|pre|head|nav|footer|header|code-block|svg|math|select"
    r"|button|textarea)\b[^>]*>.*?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_HTML_MARK = re.compile(
    r"<a[^>]*class=\"(?:headerlink|anchor|reference internal image-reference)\"[^>]*>"
    r".*?</a>",
    re.DOTALL | re.IGNORECASE,
)
_HTML_BLOCK = re.compile(
    r"</?(?:p|div|h[1-6]|li|ul|ol|dl|dt|dd|td|th|tr|table|tbody|thead|section|article"
    r"|aside|blockquote|br|hr|body|html|main|figure|figcaption|caption|center|form"
    r"|details|summary)\b[^>]*>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[^>]*>")


def clean_html(markup: str) -> list[str]:
    """Return the text blocks of a page, without code, scripts and navigation."""
    text = _HTML_DROP.sub("\n\n", markup)
    text = _HTML_MARK.sub("", text)
    text = _TAG.sub("", _HTML_BLOCK.sub("\0", text))
    parts = (tidy(html.unescape(part)) for part in text.split("\0"))
    return [part for part in parts if part]


# --------------------------------------------------------------------------
# Dictionaries

_DICT_DIGITS = {
    c: i
    for i, c in enumerate(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    )
}
_DICT_CREDIT = re.compile(
    r"\[(?:\d{4} Webster|(?:Webster|WordNet|Century|GCIDE)[^\]]*|PJC|AS"
    r"|\+?[A-Z]{2,4})\]"
)
_DICT_PRONUNCIATION = re.compile(r"\\[^\\]{1,60}\\")
_DICT_ETYMOLOGY = re.compile(
    r"\[(?:OE|AS|L|F|Gr|OF|Icel|D|G|NL|LL|From|Cf|See|Sp|It|Pg|Skr)\b[^\]]*\]"
)
_BRACES = re.compile(r"[{}]+")
_SENSE = re.compile(
    r"^\s{2,}(?:(?:n|v|adj|adv)\s+)?(?:(?:n|v|adj|adv)?\s*\d+:|:)\s+", re.MULTILINE
)
_SYNONYMS = re.compile(r"\[(syn|ant|also):\s*([^\]]*)\]")
_SYNONYM_NAMES = {"syn": "synonyms", "ant": "opposite", "also": "also"}


def read_dictd(index: Path) -> Iterator[tuple[str, str]]:
    """Yield headword and definition of a dictionary, in file order, each text once."""
    body = index.with_suffix(".dict.dz")
    data = (
        gzip.decompress(body.read_bytes())
        if body.exists()
        else index.with_suffix(".dict").read_bytes()
    )
    places: dict[tuple[int, int], str] = {}
    for line in index.read_text(encoding="utf-8", errors="replace").splitlines():
        parts = line.split("\t")
        if len(parts) >= 3 and not parts[0].startswith("00"):  # 00…: about the file
            place = _dict_number(parts[1]), _dict_number(parts[2])
            places.setdefault(place, parts[0])
    for (start, size), word in sorted(places.items()):
        yield word, data[start : start + size].decode("utf-8", errors="replace")


def _dict_number(text: str) -> int:
    """Return a number in the base-64 notation of dictd index files."""
    value = 0
    for c in text:
        value = value * 64 + _DICT_DIGITS[c]
    return value


def clean_definition(text: str) -> list[str]:
    """Return an entry's paragraphs without credits, pronunciation and link marks."""
    for pattern in (_DICT_CREDIT, _DICT_PRONUNCIATION, _DICT_ETYMOLOGY):
        text = pattern.sub(" ", text)
    return split_paragraphs(_BRACES.sub("", text))


def clean_wordnet(word: str, text: str) -> list[str]:
    """Return a paragraph a sense: ``word: definition; "example" (synonyms: a, b)``."""
    body = text.split("\n", 1)[1] if "\n" in text else text
    senses = []
    for part in _SENSE.split(body):
        sense = tidy(part)
        if sense:
            sense = _SYNONYMS.sub(lambda m: f"({_SYNONYM_NAMES[m[1]]}: {m[2]})", sense)
            senses.append(f"{word}: {_BRACES.sub('', sense)}")
    return senses


# --------------------------------------------------------------------------
# Manual pages: roff and Pod

_ROFF_SKIP = re.compile(r"^\.(?:nf|EX|TS|EQ|ig|de)\b")
_ROFF_RESUME = re.compile(r"^(?:\.(?:fi|EE|TE|EN)\b|\.\.)")
_ROFF_TEXT = re.compile(
    r"^\.(?:B|I|R|BR|BI|IR|IB|RB|RI|SM|SB|Nm|Fl|Ar|Em|Xr|Pa|Li|Dv|Cm)\s+(.*)"
)
_ROFF_TWO_FONTS = re.compile(r"^\.[A-Z]{2}\s")
_ROFF_UNQUOTED_SPACE = re.compile(r'\s+(?=[^"]*(?:"[^"]*"[^"]*)*$)')
_ROFF_ESCAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\f(?:\(..|\[[^\]]*\]|.)"), ""),
    (re.compile(r"\\s[+-]?\d"), ""),
    (re.compile(r"\\\((?:aq|cq|oq)|\\\[(?:aq|cq|oq)\]"), "'"),
    (re.compile(r"\\\((?:lq|rq|dq)|\\\*\([LR]\"|\\\*\(C['+]"), '"'),
    (re.compile(r"\\\((?:em|en|hy)"), "-"),
    (re.compile(r"\\\(..|\\\[[^\]]*\]|\\\*\(..|\\\*."), " "),
    (re.compile(r"\\[&|^/,%:]"), ""),
    (re.compile(r"\\-"), "-"),
    (re.compile(r"\\[e]"), "\\\\"),
    (re.compile(r"\\ "), " "),
)


def clean_man(text: str) -> list[str]:
    """Return the running text of a roff page: requests end paragraphs, displays go."""
    lines: list[str] = []
    skipping = False
    for line in text.splitlines():
        if skipping:
            skipping = _ROFF_RESUME.match(line) is None
        elif _ROFF_SKIP.match(line):
            skipping = True
            lines.append("")
        elif not line.startswith(("'", '.\\"', '\\"')):  # these are comments
            lines.append(_roff_line(line))
    body = "\n".join(lines)
    for pattern, plain in _ROFF_ESCAPES:
        body = pattern.sub(plain, body)
    return split_paragraphs(body)


def _roff_line(line: str) -> str:
    font = _ROFF_TEXT.match(line)
    if font:
        words = font[1]
        if _ROFF_TWO_FONTS.match(line):  # .BR foo (3): parts that touch
            words = _ROFF_UNQUOTED_SPACE.sub("", words)
        return words.replace('"', "")
    return "" if line.startswith((".", " ", "\t")) else line


_POD_CODE = re.compile(r"[A-Z]<{2,}\s(.*?)\s>{2,}", re.DOTALL)
_POD_LINK = re.compile(r"L<([^<>|]*)\|[^<>]*>")
_POD_ESCAPE = {"lt": "<", "gt": ">", "sol": "/", "verbar": "|"}
_POD_MARK = re.compile(r"([A-Z])<([^<>]*)>")


def clean_pod(text: str) -> list[str]:
    """Return the running text of a Pod page, without commands and verbatim parts."""
    paragraphs = []
    for part in cut_at_blank_lines(text):
        if not part.strip() or part.startswith((" ", "\t", "=")):
            continue
        plain = _POD_LINK.sub(r"\1", _POD_CODE.sub(r"\1", part))
        for _ in range(3):  # marks nest
            plain = _POD_MARK.sub(_pod_mark, plain)
        paragraphs.append(tidy(plain))
    return [p for p in paragraphs if p]


def _pod_mark(mark: re.Match[str]) -> str:
    if mark[1] == "E":
        return _POD_ESCAPE.get(mark[2], "")
    return "" if mark[1] in "XZ" else mark[2]


# --------------------------------------------------------------------------
# Fortunes, package descriptions, SWORD modules, scenarios


def clean_fortunes(text: str) -> list[str]:
    """Return the sayings of a fortune file, each one paragraph."""
    sayings = re.split(r"^%+$", text, flags=re.MULTILINE)
    return [p for p in map(tidy, sayings) if p]


def clean_description(stanza: str) -> list[str]:
    """Return the paragraphs of one package description, its synopsis first."""
    lines = []
    synopsis = ""
    inside = False
    for line in stanza.splitlines():
        if line.startswith("Description"):
            label, _, rest = line.partition(":")
            inside = not label.startswith("Description-md5")
            synopsis = rest.strip() if inside else synopsis
        elif line.startswith(" ") and inside:
            lines.append("" if line.strip() == "." else line[1:])
        else:
            inside = False
    body = "\n".join(
        "" if line.startswith((" ", "\t")) and len(line) > 70 else line
        for line in lines
    )
    return [p for p in [synopsis, *split_paragraphs(body)] if p]


_SWORD_NOTE = re.compile(r"<note\b.*?</note>", re.DOTALL)
_SWORD_TITLE = re.compile(r"<(?:title|h\d)\b.*?</(?:title|h\d)>", re.DOTALL)
_SWORD_BREAK = re.compile(r"</?(?:p|lb|l|lg|div|chapter|br|milestone)\b[^>]*>")


def read_sword(path: Path) -> Iterator[Entry]:
    """Yield number and paragraphs of every block of a compressed module (``.?zz``)."""
    data = path.read_bytes()
    index = path.with_suffix(path.suffix[:2] + "zs").read_bytes()
    for i in range(len(index) // 12):
        start, size, _ = struct.unpack_from("<III", index, 12 * i)
        if size:
            block = zlib.decompress(data[start : start + size])
            text = _SWORD_NOTE.sub("", block.decode("utf-8", errors="replace"))
            text = _SWORD_BREAK.sub("\n\n", _SWORD_TITLE.sub("\n\n", text))
            text = html.unescape(_TAG.sub("", text)).replace("\0", "\n\n")
            yield str(i), split_paragraphs(text)


_WML_TEXT = re.compile(r'_\s*"((?:[^"]|"")*)"')
_WML_MARKUP = re.compile(r"<[^>]{1,40}>|\$[a-z_|.\[\]]+\|?")


def clean_wml(text: str) -> list[str]:
    """Return the translatable strings of a scenario file."""
    parts = (_WML_MARKUP.sub("", m.replace('""', '"')) for m in _WML_TEXT.findall(text))
    return [p for part in parts for p in split_paragraphs(part)]


# --------------------------------------------------------------------------
# The table of readers


def _whole(clean: Callable[[str], list[str]]) -> Callable[[Path, str], Iterable[Entry]]:
    """Return a reader for formats in which a file is one document."""
    return lambda path, name: [(name, clean(read_text(path)))]


def _dictionary(path: Path, name: str) -> Iterator[Entry]:
    for word, text in read_dictd(path):
        yield f"{name}#{word}", clean_definition(text)


def _wordnet(path: Path, name: str) -> Iterator[Entry]:
    for word, text in read_dictd(path):
        yield f"{name}#{word}", clean_wordnet(word, text)


def _sword(path: Path, name: str) -> Iterator[Entry]:
    for number, paragraphs in read_sword(path):
        yield f"{name}#{number}", paragraphs


def _descriptions(path: Path, _: str) -> Iterator[Entry]:
    for stanza in re.split(r"\n\n+", read_text(path)):
        package = stanza.partition("\n")[0].removeprefix("Package: ")
        yield package, clean_description(stanza)


def _fortunes(path: Path, name: str) -> Iterator[Entry]:
    if path.suffix not in (".dat", ".u8"):  # the index, and a copy in UTF-8
        for i, saying in enumerate(clean_fortunes(read_text(path))):
            yield f"{name}#{i}", [saying]


#: What turns a file, and the name it goes by, into documents.
READERS: dict[str, Callable[[Path, str], Iterable[Entry]]] = {
    "deb822": _descriptions,
    "dictd": _dictionary,
    "fortune": _fortunes,
    "html": _whole(clean_html),
    "man": _whole(clean_man),
    "pod": _whole(clean_pod),
    "sword": _sword,
    "text": _whole(split_paragraphs),
    "wml": _whole(clean_wml),
    "wordnet": _wordnet,
}

#: Readers of short texts, whose paragraphs may have fewer words.
SHORT_TEXTS = {"deb822", "dictd", "sword", "wordnet"}
