"""The text of a documentation string: its first sentence, the rest, and no markup."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import ceil

_SIGNATURE = re.compile(r"[\w.]+\s*\(.*\)(\s*->.*)?", re.DOTALL)
_FIELD = re.compile(
    r":(?:param|type|returns?|rtype|meta|raises?)\b\s*(?:\w+\s+)?(\w*):"
)
_UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*")
_STOP = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\betc)(?<!\bcf)[.!?](?=\s+\S|$)"
)


def first_sentence(docstring: str) -> tuple[str, str]:
    """Return the first sentence of a docstring, without markup, and what follows it.

    A signature in the first line is skipped. The sentence is empty if the docstring is,
    or begins with a heading or a field.
    """
    paragraph, rest = _first_paragraph(docstring)
    if _SIGNATURE.fullmatch(paragraph):
        paragraph, rest = _first_paragraph(rest)
    if paragraph.startswith((":returns", ":return", ":param", ":meta", "..")) or any(
        map(_UNDERLINE.fullmatch, paragraph.splitlines())
    ):
        return "", rest
    text = " ".join(paragraph.split())
    stop = _STOP.search(text)
    if stop is None:
        return unmarked(text).rstrip(".:"), rest
    return unmarked(text[: stop.start()]), f"{text[stop.end() :].strip()}\n\n{rest}"


def _first_paragraph(text: str) -> tuple[str, str]:
    first, *others = re.split(r"\n\s*\n", text.strip(), maxsplit=1)
    return first, others[0] if others else ""


_ROLE = re.compile(r"(?::[\w:+-]+:)?`+([^`]+)`+_*")
_LINK = re.compile(r"\[([^\[\]]+)\]\([^()\s]*\)")
_BRACKETS = re.compile(r"\[(`[^`]+`)\]")
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,2})(?=\S)([^*]+?)(?<=\S)\1(?!\w)")


def unmarked(text: str) -> str:
    """Return a text without the marks of reStructuredText and Markdown.

    Of a reference the last part stays: ``:func:`~numpy.linalg.norm` `` is ``norm``.
    """
    text = _LINK.sub(r"\1", _BRACKETS.sub(r"\1", text))
    text = _ROLE.sub(lambda found: _target(found[1]), text)
    return " ".join(_EMPHASIS.sub(r"\2", text).split())


def _target(text: str) -> str:
    title, _, address = text.partition("<")
    if address and title.strip():
        return title.strip()
    return text.split(".")[-1] if text.startswith("~") else text.lstrip("!")


#: What comes after these headings is about something else, or is code.
_LATER = frozenset(
    "example examples note notes reference references raises warns warning warnings "
    "attributes methods yields".split()
) | {"see also"}
_HEADINGS = frozenset(
    ["parameters", "other parameters", "returns", "args", "arguments", "return"]
)


def body(text: str) -> str:
    """Return what a docstring says up to its examples, without headings and code."""
    lines = []
    for line in text.splitlines():
        title = line.strip().rstrip(":").lower()
        if title in _LATER:
            break
        if (
            title in _HEADINGS
            or _UNDERLINE.fullmatch(line)
            or line.lstrip().startswith((">>>", "...", "..", "```", "~~~"))
        ):
            continue
        line = _FIELD.sub(lambda found: f"{found[1]}:".lstrip(":"), line)
        lines.append(re.sub(r"^(\s*\*{0,2}\w+)\s+:\s", r"\1: ", line))
    return unmarked(" ".join(lines))


def bare(text: str) -> str:
    """Return the words of a text: case, punctuation and spacing do not count."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def near_rows(
    texts: Sequence[str], others: Iterable[str], threshold: float
) -> list[int]:
    """Return the rows of `texts` that have nearly the words of one of `others`.

    Parameters
    ----------
    texts, others
        To compare by their different words; one without any is near none.
    threshold
        Share of the words of both that they have in common (Jaccard's index), above 0
        and up to 1: from there on they are near.

    Raises
    ------
    ValueError
        `threshold` is out of range.

    Source: two such texts share a word among the rarest of each, so only those are
    looked up; Chaudhuri et al. 2006, section 4.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold}: above 0, up to 1")
    rows = [frozenset(bare(text).split()) for text in texts]
    known = list({frozenset(bare(text).split()) for text in others})
    often = Counter(word for words in (*rows, *known) for word in words)

    def rarest(words: frozenset[str]) -> list[str]:
        shared = ceil(threshold * len(words) - 1e-9)  # at least, by any near text
        in_order = sorted(words, key=lambda word: (often[word], word))
        return in_order[: len(words) - shared + 1]

    places = defaultdict(set)
    for number, each in enumerate(known):
        for word in rarest(each):
            places[word].add(number)
    found = []
    for row, words in enumerate(rows):
        met = set[int]().union(*(places.get(word, ()) for word in rarest(words)))
        for number in met:
            common = len(words & known[number])
            both = len(words) + len(known[number]) - common
            if common >= threshold * both - 1e-9:
                found.append(row)
                break
    return found


#: Words as they are written in code: ``read_csv``, ``DataFrame``, ``log1p``.
CODE_WORD = re.compile(r"\w*(?:_\w|[a-z][A-Z]|[A-Za-z]\d\w)\w*")
_TEMPLATE_WORD = re.compile(rf"{CODE_WORD.pattern}|\S*\w\.\w\S*|\b\d+\b")
_UNREADABLE = re.compile(r"[\\{}%$<>|=]|::|https?:|\.\.\s")
_UNHELPFUL = re.compile(
    r"(deprecated|internal|alias|see|todo|fixme|same as|like|refer to|wrapper|"
    r"a wrapper|helper|base class|abstract|mixin|private|not implemented|this is the|"
    r"these are|constructor|initiali[sz]e self|overrid|overload|placeholder|"
    r"call signature|equivalent to|calls)\b",
    re.IGNORECASE,
)


def says_something(sentence: str) -> bool:
    """Whether a sentence is English, and about what its function does."""
    return (
        sentence.isascii()
        and not _UNREADABLE.search(sentence)
        and not _UNHELPFUL.match(sentence)
    )


_JOINT = re.compile(r"_+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def spaced(text: str) -> str:
    """Return a text with names as words: ``read_csv`` and ``readCsv`` are two.

    For encoders that count words, to which each name is a word of its own.
    """
    return _JOINT.sub(" ", text)


def template(sentence: str) -> str:
    """Return a sentence with all names and numbers alike."""
    return bare(_TEMPLATE_WORD.sub(" 0 ", sentence))
