"""Long documents become passages that an encoder reads whole.

An encoder cuts a text at its limit and says nothing of what it left out. So the text
is cut before, at the end of a paragraph or a sentence if there is one in reach. Tokens
are counted by the encoder's own tokenizer: another's counts are guesses.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from sbert_lab.models.sentence_encoder import Encoder
from sbert_lab.models.transformer import fast_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What tokens can be counted with.
Counter: TypeAlias = "Tokenizer | PreTrainedTokenizerBase | Encoder"

Places = NDArray[np.int64]

#: Tokens of a chunk for encoders that cut nothing, as tables of word vectors.
WITHOUT_LIMIT = 256

#: How good a place is to cut: inside a character never, and from there upwards.
#: In a script without spaces every kana or ideograph counts as a word.
_NEVER, _TOKEN, _WORD, _LINE, _SENTENCE, _PARAGRAPH = range(-1, 5)

_SPACE = re.compile(r"\s+")
_ENDS, _CLOSERS = tuple(".!?…"), "\"'”’»)]"
_FULL_WIDTH_END = re.compile(r"[。！？][」』”’）]{0,3}(?![。！？」』”’）])")


@dataclass(frozen=True)
class Chunk:
    """A part of a document.

    Parameters
    ----------
    document
        Name of the document.
    start, end
        Where it stands, in characters: ``document_text[start:end] == text``.
    text
        Begins and ends with something other than white space.
    """

    document: str
    start: int
    end: int
    text: str


def chunk(
    text: str,
    tokenizer: Counter,
    max_tokens: int | None = None,
    *,
    overlap: int = 0,
    document: str = "",
) -> list[Chunk]:
    """Cut a text into chunks of at most `max_tokens`.

    Each chunk is filled, and then cut back to the last end of a paragraph, else of a
    sentence, else of a line, else of a word, in the second half of what it adds to the
    one before. Only a word that no chunk holds whole is cut inside. A sentence ends
    with one of ``. ! ? …`` and white space, the next word not in lower case, or with
    ``。！？``; so it also "ends" after *Dr.* in *Dr. Smith*.

    Every character that is not white space is in a chunk; chunks come in order. The
    time grows with the length of the text, not with its square.

    Parameters
    ----------
    text
        The document.
    tokenizer
        An encoder that carries its tokenizer, or a fast tokenizer. For many texts,
        call `tokenizer_of` once: it copies the encoder's.
    max_tokens
        Longest chunk, special tokens not counted. The default, for an encoder only, is
        all that it reads (`token_limit`).
    overlap
        Tokens of a chunk, at most, that the next one begins with, at most half of
        `max_tokens`. From the start of a sentence if there is one among them, else of
        a line or a word.
    document
        Name of the document, for the chunks to carry.

    Raises
    ------
    TypeError
        The text is not a string, or the encoder carries no fast tokenizer.
    ValueError
        An option out of range, more tokens than the encoder reads, half a surrogate
        pair in the text, or one character that takes more than `max_tokens`.

    Examples
    --------
    >>> from sbert_lab import SentenceEncoder
    >>> encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", device="cpu")
    >>> text = "One sentence. Another one, longer. And the last."
    >>> [c.text for c in chunk(text, encoder, 6)]
    ['One sentence.', 'Another one, longer.', 'And the last.']
    """
    if not isinstance(text, str):
        raise TypeError(f"the text is a {type(text).__name__}, not a string")
    words = tokenizer_of(tokenizer)
    if not isinstance(tokenizer, Tokenizer) and not hasattr(tokenizer, "is_fast"):
        max_tokens = token_limit(tokenizer, max_tokens, words)
    if max_tokens is None:
        raise ValueError("a tokenizer alone has no limit; pass max_tokens=…")
    if max_tokens < 1 or not 0 <= 2 * overlap <= max_tokens:
        raise ValueError(
            f"max_tokens={max_tokens}, overlap={overlap}: at least one token, and at "
            "most half of them overlap"
        )
    spans = _Cuts(text, words).spans(max_tokens, overlap)
    return [Chunk(document, start, end, text[start:end]) for start, end in spans]


def tokenizer_of(encoder: Counter) -> Tokenizer:
    """Return the fast tokenizer of an encoder, one that neither cuts nor pads.

    A copy of the encoder's, or, given a tokenizer that does neither, that one.

    Raises
    ------
    TypeError
        The encoder carries none.
    """
    held: Any = encoder
    if not isinstance(held, Tokenizer) and not hasattr(held, "is_fast"):
        held = getattr(encoder, "tokenizer", None)
    if getattr(held, "is_fast", False):
        lower = getattr(getattr(encoder, "layout", None), "do_lower_case", False)
        held = fast_tokenizer(held, 512, lower)
    if not isinstance(held, Tokenizer):
        raise TypeError(
            f"{type(encoder).__name__} carries no fast tokenizer to count tokens with; "
            "pass one, of the library tokenizers"
        )
    words: Tokenizer = held
    if words.truncation is not None or words.padding is not None:
        words = Tokenizer.from_str(words.to_str())
        words.no_truncation()
        words.no_padding()
    return words


def token_limit(
    encoder: Encoder, wanted: int | None = None, tokenizer: Tokenizer | None = None
) -> int:
    """Return how many tokens a chunk may have: as wanted, or what the encoder reads.

    It reads its `max_seq_length` without the special tokens and without its prompt for
    documents. An encoder that has no such limit is given `WITHOUT_LIMIT`.

    Parameters
    ----------
    encoder
        The encoder.
    wanted
        Tokens, or None for as many as possible.
    tokenizer
        What `tokenizer_of` returns for the encoder, if you have it.

    Raises
    ------
    ValueError
        More are wanted than the encoder reads.
    """
    longest = getattr(encoder, "max_seq_length", None)
    if longest is None:
        return WITHOUT_LIMIT if wanted is None else wanted
    words = tokenizer or tokenizer_of(encoder)
    reads = int(longest) - len(words.encode(document_prompt(encoder)).ids)
    if wanted is not None and wanted > reads:
        raise ValueError(
            f"max_tokens={wanted}, but the encoder reads {reads} tokens of a text and "
            "would cut the rest; pass fewer"
        )
    return reads if wanted is None else wanted


def document_prompt(encoder: Encoder) -> str:
    """Return what an encoder puts before every document, mostly nothing."""
    prompts = getattr(encoder, "prompts", {})
    default = getattr(getattr(encoder, "layout", None), "default_prompt", None)
    names = ("document", "passage", "corpus", default or "")
    return next((prompts[name] for name in names if prompts.get(name)), "")


class _Cuts:
    """A text, its tokens, and how good each place between two of them is to cut.

    Place i of 0 … T is before token i. `starts[i]` is the first character from there
    on that is not white space; `levels[i]` says how good the place is.
    """

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self.text, self.tokenizer = text, tokenizer
        runs = list(_SPACE.finditer(text))
        self._space_starts = np.array([run.start() for run in runs], np.int64)
        self._space_ends = np.array([run.end() for run in runs], np.int64)
        codes = _code_points(text)
        # A text of which the tokenizer keeps nothing counts as one token.
        offsets = np.array(self._encoded(text).offsets or [(0, 0)], np.int64)
        first = np.append(offsets[:, 0], len(text))
        first[0] = 0  # what the tokenizer dropped before its first token goes with it
        starts = np.maximum.accumulate(self._skipped(first))
        # Tokens of white space alone, at the end of the text, are none.
        places = int(np.searchsorted(starts, len(text))) + 1
        self.starts = starts[:places]
        reached = np.maximum.accumulate(np.append(0, offsets[:, 1]))
        self._reached = reached[:places]
        self.levels = np.full(places, _TOKEN)
        own_word = np.append(_is_unspaced(codes), False)[self.starts]
        self.levels[np.isin(self.starts, self._space_ends) | own_word] = _WORD
        for run in runs:
            if (level := self._level(run)) > _WORD:
                self._raise_level(run.end(), level)
        for end in _FULL_WIDTH_END.finditer(text):
            self._raise_level(end.end(), _SENTENCE)
        # Several tokens can share a character, and one can be white space alone.
        inside = self.starts < self._skipped(self._reached)
        again = np.append(False, self.starts[1:] == self.starts[:-1])
        self.levels[inside | again] = _NEVER
        self.levels[[0, -1]] = _PARAGRAPH
        self._places = np.flatnonzero(self.levels > _NEVER)

    def spans(self, limit: int, overlap: int) -> list[tuple[int, int]]:
        """Return where the chunks start and end, in characters."""
        found: list[tuple[int, int]] = []
        last, start, end = len(self.starts) - 1, 0, 0
        while end < last:
            stop = self._stop(start, end, limit, overlap)
            if stop is None:
                start = end  # no room beside what is repeated: repeat nothing
                continue
            found.append(self._span(start, stop))
            start, end = self._next_start(start, stop, overlap), stop
        return found

    def _stop(self, start: int, end: int, limit: int, overlap: int) -> int | None:
        """Return the place where a chunk from `start` ends, somewhere after `end`.

        A part of a word can take more tokens than it took inside its text. So the chunk
        is counted for itself, and shortened while it is too long. None says that only
        without repeating anything a better end can be had.
        """
        most, last = start + limit, len(self.starts) - 1
        nearest = int(self._places[np.searchsorted(self._places, end, side="right")])
        half = end + (limit - overlap + 1) // 2
        while True:
            stop = last if most >= last else self._best(end, half, most) or nearest
            if start < end and stop < last and self.levels[stop] < _WORD:
                return None
            span = self._span(start, stop)
            excess = len(self._encoded(self.text[slice(*span)])) - limit
            if excess <= 0:
                return stop
            if stop <= nearest and start < end:
                return None
            if stop <= nearest:
                raise ValueError(
                    f"{self.text[slice(*span)][:20]!r}, character {span[0]} of the "
                    f"text, takes {limit + excess} tokens and cannot be cut; raise "
                    f"max_tokens={limit}"
                )
            most = min(stop - 1, max(stop - excess, (start + stop) // 2))

    def _best(self, end: int, half: int, most: int) -> int | None:
        """Return the best place after `end`, at most `most`; the last of equals.

        A place from `half` on comes first, unless it is inside a word and one before is
        not.
        """
        for low, worst in (
            (half, _WORD),
            (end + 1, _WORD),
            (half, _TOKEN),
            (end + 1, _TOKEN),
        ):
            levels = self.levels[low : most + 1]
            if len(levels) and (best := levels.max()) >= worst:
                return low + int(np.flatnonzero(levels == best)[-1])
        return None

    def _next_start(self, start: int, stop: int, overlap: int) -> int:
        """Return where the next chunk begins: first good place of the overlap."""
        low = max(stop - overlap, start + 1)
        levels = np.minimum(self.levels[low:stop], _SENTENCE)
        if not len(levels) or (best := levels.max()) < _WORD:
            return stop
        return low + int(np.flatnonzero(levels == best)[0])

    def _span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the characters between two places, white space at the end dropped."""
        first, end = int(self.starts[start]), int(self.starts[stop])
        run = int(np.searchsorted(self._space_ends, end))
        if run < len(self._space_ends) and self._space_ends[run] == end:
            end = max(first, int(self._space_starts[run]))
        return first, end

    def _skipped(self, places: Places) -> Places:
        """Return each place, or the end of the white space that it is in."""
        run = np.searchsorted(self._space_starts, places, side="right")
        skipped: Places = np.maximum(places, np.append(0, self._space_ends)[run])
        return skipped

    def _level(self, run: re.Match[str]) -> int:
        """Say how good it is to cut at some white space."""
        lines = run.group().count("\n")
        if lines > 1:
            return _PARAGRAPH
        before = self.text[max(0, run.start() - 4) : run.start()].rstrip(_CLOSERS)
        after = self.text[run.end() : run.end() + 1]
        if before.endswith(_ENDS) and not after.islower():
            return _SENTENCE
        return _LINE if lines else _WORD

    def _raise_level(self, character: int, level: int) -> None:
        """Raise the level of the place at a character, unless it is inside a token."""
        place = int(np.searchsorted(self.starts, character))
        if self._reached[place] <= character:
            self.levels[place] = max(self.levels[place], level)

    def _encoded(self, text: str) -> Encoding:
        return self.tokenizer.encode(text, add_special_tokens=False)


def _code_points(text: str) -> NDArray[np.uint32]:
    try:
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} of the text is half of a surrogate pair; read "
            "the file again as UTF-8, with errors='replace'"
        ) from error


def _is_unspaced(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return which characters are kana or ideographs."""
    ranges = ((0x3040, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
    found = [(low <= codes) & (codes <= high) for low, high in ranges]
    return found[0] | found[1] | found[2]
