"""Paragraphs: tidy typography, cut at blank lines, and prose told from the rest."""

import re

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
