"""BM25: what knows words and no meaning, and what a trained model must beat."""

import logging
import sys
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray

from sbert_lab._utils import Vectors, whole_number
from sbert_lab.models.batching import check_texts

#: Written without spaces or, as Korean, with endings grown onto the words.
_RUN = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+"
)
_LETTERS = regex.compile(r"[\p{L}\p{M}\p{Nd}\p{Han}]+")
#: Invisible signs, but for the space of no width, and vowel points, mostly left out.
_UNWRITTEN = regex.compile(r"(?V1)[\p{Cf}--\u200b]|[\p{M}&&[\p{scx=Arab}\p{scx=Hebr}]]")
#: Two signs or more; or one letter, which in "don't" and "O'Neill" is no word.
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}_]{2,}|(?<!\w['’])\p{L}(?!['’]\w)")
#: A name out of code, and where its parts meet: read|_csv, HTTP|Error, but not AP|Is.
_NAME = regex.compile(r"\b\w*(?:[^\W_]_+[^\W_]|\p{Ll}\p{Lu}|\p{Lu}{2}\p{Ll}{2})\w*")
_SEAM = regex.compile(r"_+|(?<=\p{Ll})(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll}{2})")


class Bm25:
    """BM25 over a corpus, by the library bm25s: word counts, weighed by rarity.

    The variant of Lucene (Kamphuis et al. 2020), k1 1.5 and b 0.75. Words, of texts as
    `spelled`, are runs of two or more letters or digits and single letters that stand
    alone, without Lucene's English stop words. A name out of code counts as one word
    and as its parts: ``read_csv`` is found by "read" and by "csv".

    Source: Robertson and Zaragoza 2009, section 3.
    """

    def __init__(self, corpus: Sequence[str]) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells each step
        words = _words(corpus)
        if not any(words):
            raise ValueError(f"none of {len(words)} texts has a word to count")
        self._index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        self._index.index(words, create_empty_token=False, show_progress=False)
        self._size = len(words)

    def __len__(self) -> int:
        """Return the number of texts in the corpus."""
        return self._size

    @property
    def vocabulary(self) -> frozenset[str]:
        """The words it counts."""
        return frozenset(self._index.vocab_dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the index: weights, positions, and the words in UTF-8."""
        arrays = ("data", "indices", "indptr")
        numbers = sum(self._index.scores[name].nbytes for name in arrays)
        return int(numbers) + sum(len(w.encode()) for w in self._index.vocab_dict)

    def scores(self, queries: Sequence[str]) -> Vectors:
        """Score every text for every query, ``[q, n]``; 0 is no word in common."""
        asked = _words(queries)
        out = np.zeros((len(asked), self._size), np.float32)
        for row, words in zip(out, asked, strict=True):
            known = self._index.get_tokens_ids(words)
            if known:
                row[:] = self._index.get_scores_from_ids(known)
        return out

    def search(
        self, queries: Sequence[str], k: int
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Find the k best texts for each query: scores and positions, ``[q, k]``.

        Those of equal scores are in order. k is at most the size of the corpus.
        """
        texts = check_texts(queries, "queries")
        k = min(whole_number(k, "k"), self._size)
        scores = np.zeros((len(texts), k), np.float32)
        positions = np.zeros((len(texts), k), np.int64)
        for i, text in enumerate(texts):
            (found,) = self.scores([text])
            positions[i] = np.argsort(-found, kind="stable")[:k]
            scores[i] = found[positions[i]]
        return scores, positions


def spelled(text: str) -> str:
    """Return a text in lower case, each word in one of the spellings that Unicode has.

    Letters of like meaning are one letter (NFKC), and vowel points of Arabic and Hebrew
    are gone. Runs of scripts without spaces become their letters, and the pairs of
    neighbours, as Lucene's analyser for Chinese, Japanese and Korean has them.
    """
    if text.isascii():
        return text.lower()
    text = _UNWRITTEN.sub("", unicodedata.normalize("NFC", text))
    text = _LETTERS.sub(lambda m: unicodedata.normalize("NFKC", m[0]).casefold(), text)
    return str(_RUN.sub(lambda run: f" {' '.join(_grams(run[0]))} ", text))


def _grams(run: str) -> list[str]:
    letters: list[str] = regex.findall(r"\P{M}\p{M}*|\p{M}+", run)
    return letters + [a + b for a, b in pairwise(letters)]


def _words(texts: Sequence[str]) -> list[list[str]]:
    """Return the words of each text that BM25 counts."""
    from bm25s.stopwords import STOPWORDS_EN

    stop = {*STOPWORDS_EN}
    found = (_WORD.findall(spelled(_opened(text))) for text in check_texts(texts))
    return [[sys.intern(word) for word in own if word not in stop] for own in found]


def _opened(text: str) -> str:
    """Return a text, and behind it the parts of the identifiers in it."""
    spaced = _RUN.sub(" ", unicodedata.normalize("NFC", text))
    parts = [_SEAM.sub(" ", name) for name in _NAME.findall(spaced)]
    return " ".join([text, *parts])
