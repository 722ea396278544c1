"""Texts and values as a page may show them: printable, short, without folders."""

import re
import unicodedata

_LETTERS = 300  # of a text; the page is no place for whole documents

# An address, which may be told, or a path that begins at a root, a home or a drive.
_PATH = re.compile(
    r"""((?<![\w+.-])(?!file:)[A-Za-z][\w+.-]{1,20}://\S+)
    |(?<![^\s"'=(:,;\[])(?:file:/{2,3}|~(?=[/\\])|[A-Za-z]:(?=[/\\]))?
    [/\\]{1,2}[^\s"'/\\,;)\]]+(?:[/\\]+[^\s"'/\\,;)\]]+)*[/\\]*""",
    re.VERBOSE,
)


def clean(text: str) -> str:
    """Replace what no HTML file may hold: control characters and halves of others."""
    if text.isprintable():
        return text
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd"
        for c in text
    )


def clipped(text: str) -> str:
    """Return the beginning of a long text, and how long it is."""
    if len(text) <= _LETTERS:
        return text
    return f"{text[:_LETTERS].rstrip()} … ({len(text):,} characters in all)"


def file_name(text: str) -> str:
    """Return the last part of a path, of this system or another."""
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] or "a folder"


def without_folders(text: str) -> str:
    """Return a value with the name alone of each file or folder in it."""
    if re.match(r"[/~\\]|[A-Za-z]:[/\\]|file:", text):
        return file_name(text)  # names with spaces in them, too
    return _PATH.sub(lambda found: found[1] or file_name(found[0]), text)


def duration(seconds: float) -> str:
    """Show a time as ``0.4 s``, ``41 s``, ``6 min 52 s`` or ``1 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
