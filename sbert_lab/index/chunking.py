"""Long documents become passages that an encoder reads whole."""

from dataclasses import dataclass
from typing import Any

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from sbert_lab.models.sentence_encoder import Encoder
from sbert_lab.models.transformer import fast_tokenizer

#: Tokens of a chunk for encoders that cut nothing, as tables of word vectors.
WITHOUT_LIMIT = 256


@dataclass(frozen=True)
class Chunk:
    """A part of a document: ``document_text[start:end] == text``, in characters."""

    document: str
    start: int
    end: int
    text: str


def splitter(
    encoder: Encoder, max_tokens: int | None = None, overlap: int = 0
) -> TextSplitter:
    """Return what cuts texts into chunks of at most `max_tokens` of an encoder.

    By default they are all that the encoder reads beside its special tokens and its
    prompt for documents, and more is an error. A chunk repeats at most `overlap` tokens
    of the one before.
    """
    held: Any = getattr(encoder, "tokenizer", None)
    if getattr(held, "is_fast", False):
        held = fast_tokenizer(held, 512)
    if not isinstance(held, Tokenizer):
        raise TypeError(f"{type(encoder).__name__} carries no fast tokenizer")
    reads = WITHOUT_LIMIT if max_tokens is None else max_tokens
    words = Tokenizer.from_str(held.to_str())
    words.no_truncation()
    words.no_padding()
    if longest := getattr(encoder, "max_seq_length", None):
        reads = int(longest) - len(words.encode(document_prompt(encoder)).ids)
    wanted = reads if max_tokens is None else max_tokens
    if wanted not in range(1, reads + 1) or overlap not in range(wanted):
        raise ValueError(
            f"max_tokens={wanted}, overlap={overlap}: at most the {reads} tokens that "
            "the encoder reads, and an overlap of fewer"
        )
    return TextSplitter.from_huggingface_tokenizer(words, wanted, overlap)


def chunk(text: str, splitter: TextSplitter, document: str = "") -> list[Chunk]:
    """Cut a text at the best ends in reach; every word of it is in a chunk.

    An end of a paragraph is better than that of a sentence, and this than that of a
    word. Only a word that no chunk holds whole is cut inside.

    Examples
    --------
    >>> from sbert_lab import SentenceEncoder
    >>> encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", device="cpu")
    >>> text = "One sentence. Another one, longer. And the last."
    >>> [c.text for c in chunk(text, splitter(encoder, 6))]
    ['One sentence.', 'Another one, longer.', 'And the last.']
    """
    found = splitter.chunk_indices(text)
    return [Chunk(document, at, at + len(part), part) for at, part in found]


def document_prompt(encoder: Encoder) -> str:
    """Return what an encoder puts before every document, mostly nothing."""
    return str(getattr(encoder, "prompt_for", lambda _: "")("document"))
