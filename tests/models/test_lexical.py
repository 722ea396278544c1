"""BM25 is its formula, ties in order."""

import math
import re
import unicodedata

import bm25s
import numpy as np
import pytest

from sbert_lab._utils import project_root
from sbert_lab.models.lexical import Bm25, _words, spelled

CORPUS = [
    "The cat sat on the mat",
    "a cat and a dog, and one more Cat",
    "quick brown fox",
    "the lazy dog: a dog of two dogs",
    "it was not",  # stop words alone
    "The cat sat on a mat",
]
WORDS = [
    "cat sat mat".split(),
    "cat dog one more cat".split(),
    "quick brown fox".split(),
    "lazy dog dog two dogs".split(),
    [],
    "cat sat mat".split(),
]
QUERIES = ["The dog, the DOG, a zebra and a cat", "brown mat", "zebra it was", ""]


def formula(query, words, k1, b):
    """Return a query's BM25 score for one text of the corpus, Lucene's variant."""
    average, score = sum(map(len, WORDS)) / len(WORDS), 0.0
    for word in query:
        n = sum(word in text for text in WORDS)
        idf = math.log(1 + (len(WORDS) - n + 0.5) / (n + 0.5))
        times = words.count(word)
        slack = k1 * (1 - b + b * len(words) / average)
        score += idf * times / (times + slack) if times else 0.0
    return score


def test_bm25_is_the_formula():
    queries = ["dog dog zebra cat".split(), ["brown", "mat"], ["zebra"], []]
    wanted = [
        [formula(query, text, k1=1.5, b=0.75) for text in WORDS] for query in queries
    ]
    bm25 = Bm25(CORPUS)
    found = bm25.scores(QUERIES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert not found[2:].any(), "no word in common is 0"
    assert bm25.scores([]).shape == (0, len(CORPUS)) == (0, len(bm25))
    assert bm25.vocabulary == {word for text in WORDS for word in text}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("東京タワーで", "東 京 タ ワ ー で 東京 京タ タワ ワー ーで"),
        ("학교에서 책", "학 교 에 서 학교 교에 에서 책"),
        ("ﾃﾞｰﾀ", "デ ー タ デー ータ"),
        ("T⽇本", "t 日 本 日本"),
        ("กินข้าว", "กิ น ข้ า ว กิน นข้ ข้า าว"),
        ("ខ្មែរ", "ខ្ មែ រ ខ្មែ មែរ"),
        ("हिन्दी में लिखा", "हिन्दी में लिखा"),
        ("كِتَابٌ", "كتاب"),
        ("שָׁלוֹם", "שלום"),
        ("می\u200cخواهم", "میخواهم"),
        ("ＢＭ２５ ﬁne hos\u00adpital Straße", "bm25 fine hospital strasse"),
        ("Vitamin D, C++ or 'R': don't, it’s O'Neill", "vitamin d c r don neill"),
        ("10⁵ H₂O 1½ Tylenol™ 5 _", "10⁵ h₂o 1½ tylenol"),
        ("pd.read_csv -> DataFrame", "pd read_csv dataframe read csv data frame"),
        ("HTTPError, APIs, myAPIs", "httperror apis myapis http error my apis"),
        ("a__bc, caféBar, __init__", "a__bc cafébar __init__ bc café bar"),
        ("用read_csv函数", "用 read_csv 函 数 函数 read csv"),
    ],
)
def test_words_of_many_scripts(text, words):
    assert _words([text]) == [words.split()]
    for form in ("NFC", "NFD"):
        assert _words([unicodedata.normalize(form, text)]) == [words.split()]
    assert Bm25([text, "..."]).scores([text])[0, 0] > 0


def test_english_words_are_those_of_bm25s():
    files = (project_root() / "data" / "authored").glob("*.*")
    texts = [line for file in files for line in file.read_text("utf-8").splitlines()]
    texts = [text for text in texts if text.casefold() == text.lower()]  # ß is ss
    options = {"stopwords": "en", "return_ids": False, "show_progress": False}
    theirs = bm25s.tokenize(texts, **options)
    ours = [[word for word in own if len(word) > 1] for own in _words(texts)]
    for text, own, their in zip(texts, ours, theirs, strict=True):
        assert own[: len(their)] == their
        if not re.search("_|[a-z][A-Z]|[A-Z]{2}[a-z]{2}", text):  # no identifier
            assert own == their
    assert [spelled(text) for text in texts] == [text.lower() for text in texts]


@pytest.mark.parametrize("k", [1, 3, 99])
def test_search_is_by_score_then_by_position(k):
    bm25 = Bm25(CORPUS)
    scores, positions = bm25.search(QUERIES, k)
    assert scores.shape == positions.shape == (len(QUERIES), min(k, len(CORPUS)))
    for row, own in enumerate(bm25.scores(QUERIES).tolist()):
        best = sorted(range(len(CORPUS)), key=lambda i: (-own[i], i))[:k]
        assert positions[row].tolist() == best
        assert scores[row].tolist() == [own[i] for i in best]


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="k=1.5: a whole number"):
        Bm25(CORPUS).search(QUERIES, 1.5)
    with pytest.raises(TypeError, match="queries must be a list of strings"):
        Bm25(CORPUS).search("the cat", 3)
    with pytest.raises(ValueError, match="has a word"):
        Bm25(["", " "])


def test_no_letter_of_a_long_word_is_read_again():
    assert _words(["a" * 500_000]) == [["a" * 500_000]]
