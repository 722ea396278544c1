"""BM25 equals bm25s and its formula; latent semantic analysis equals a plain SVD."""

import math
import sys
from collections import Counter
from dataclasses import replace

import bm25s
import numpy as np
import pytest
from conftest import states
from sklearn.feature_extraction.text import TfidfVectorizer

from sbert_lab.datasets.icd10cm_tasks import term_retrieval
from sbert_lab.models.lexical import Bm25Encoder, LsaEncoder

CORPUS = [
    "The cat sat on the mat",
    "a cat and a dog, and one more Cat",
    "quick brown fox",
    "the lazy dog: a dog of two dogs",
    "it was not",  # stop words alone
]


@pytest.fixture(scope="module")
def codes():
    return term_retrieval(60)


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (0.0, 0.75), (2.0, 1)])
def test_scores_are_those_of_bm25s(codes, k1, b):
    peer = bm25s.BM25(k1=k1, b=b, method="lucene")
    tokens = bm25s.tokenize(list(codes.corpus_texts), show_progress=False)
    peer.index(tokens, show_progress=False)
    asked = bm25s.tokenize(list(codes.queries), return_ids=False, show_progress=False)
    known = [[w for w in words if w in tokens.vocab] for words in asked]
    encoder = Bm25Encoder.fit(codes.corpus_texts, k1=k1, b=b)
    assert encoder.dimension == len(set(tokens.vocab) - {""})
    documents = encoder.encode_document(codes.corpus_texts)
    ours = (encoder.encode_query(codes.queries) @ documents.T).toarray()
    theirs = np.stack([peer.get_scores(words) for words in known if words])
    assert theirs.max() > 3
    rows = [bool(words) for words in known]
    np.testing.assert_allclose(ours[rows], theirs, atol=1e-5)
    assert not ours[[not row for row in rows]].any()


def test_an_unseen_document_is_weighed_by_the_formula():
    """Idf and average length are the corpus's; unknown words do not count."""
    words = [
        "cat sat mat".split(),
        "cat dog one more cat".split(),
        "quick brown fox".split(),
        "lazy dog dog two dogs".split(),
        [],
    ]
    average = sum(map(len, words)) / 5
    counts, weights = Counter("dog dog cat".split()), {}
    for word, times in counts.items():
        n = sum(word in text for text in words)
        idf = math.log(1 + (5 - n + 0.5) / (n + 0.5))
        weights[word] = idf * times / (times + 1.2 * (1 - 0.6 + 0.6 * 3 / average))
    encoder = Bm25Encoder.fit(CORPUS, k1=1.2, b=0.6)
    found = encoder.encode_document(["The dog, the DOG, a zebra and a cat"]).toarray()
    vocabulary = encoder.counter.vocabulary_
    for word, weight in weights.items():
        assert found[0, vocabulary[word]] == pytest.approx(weight, rel=1e-6)
    assert np.count_nonzero(found) == 2
    query = encoder.encode_query(["dog dog zebra"]).toarray()
    assert query[0, vocabulary["dog"]] == query.sum() == 2


def test_a_text_without_known_words_is_an_empty_row():
    encoder = Bm25Encoder.fit(CORPUS)
    for encode in (encoder.encode, encoder.encode_query, encoder.encode_document):
        rows = encode(["", "zebra", "it was", "cat"])
        assert np.diff(rows.indptr).tolist() == [0, 0, 0, 1]
        assert rows.dtype == np.float32
        assert encode([]).shape == (0, encoder.dimension)
    assert not LsaEncoder.fit(CORPUS, dimension=3).encode(["", "zzz"]).any()


def test_encode_is_of_documents():
    encoder = Bm25Encoder.fit(CORPUS)
    expected = encoder.encode_document(CORPUS).toarray()
    np.testing.assert_array_equal(encoder.encode(CORPUS).toarray(), expected)
    assert (expected != encoder.encode_query(CORPUS).toarray()).any()


def test_lsa_is_the_projection_on_the_best_singular_vectors(codes):
    """Against a full SVD: the same inner products, whatever the signs."""
    texts = codes.corpus_texts
    encoder = LsaEncoder.fit(texts, dimension=24)
    weigher = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 2), sublinear_tf=True)
    weights = weigher.fit_transform(texts).toarray()
    _, sizes, right = np.linalg.svd(weights, full_matrices=False)
    found = encoder.encode(texts)
    assert found.shape == (len(texts), encoder.dimension) == (len(texts), 24)
    assert found.dtype == np.float32
    # The randomised SVD finds the largest directions well, the last ones roughly.
    lengths = np.linalg.norm(found.astype(np.float64), axis=0)
    np.testing.assert_allclose(lengths[:6], sizes[:6], rtol=0.01)
    kept = np.linalg.norm(found) ** 2
    assert 0.97 * (sizes[:24] ** 2).sum() < kept < (sizes[:24] ** 2).sum() * 1.0001
    inside = encoder.components[:3] @ right[:6].T
    np.testing.assert_allclose(np.linalg.norm(inside, axis=1), 1, atol=0.02)


def test_lsa_is_deterministic_and_follows_its_seed():
    before = states()
    one, same = (LsaEncoder.fit(CORPUS, dimension=3) for _ in range(2))
    assert states() == before
    np.testing.assert_array_equal(one.encode(CORPUS), same.encode(CORPUS))
    texts = [f"{a}{b} {b}{c}" for a in "abcdef" for b in "ghijkl" for c in "mnop"]
    first, other = (
        LsaEncoder.fit(texts, dimension=4, seed=s).components for s in (0, 1)
    )
    assert (first != other).any()


def test_nbytes_counts_numbers_and_words():
    encoder = Bm25Encoder.fit(["größe cat", "cat dog"])
    assert encoder.nbytes == 3 * 4 + len("größecatdog".encode())
    lsa = LsaEncoder.fit(["abc", "abd xy"], dimension=1)
    features = [" a", "ab", "bc", "c ", "bd", "d ", " x", "xy", "y "]
    assert lsa.nbytes == len(features) * (4 + 4 + 2)


@pytest.mark.parametrize("kind", [Bm25Encoder, LsaEncoder])
def test_says_what_is_wrong_with_the_texts(kind):
    with pytest.raises(ValueError, match="none of 0 texts has a word"):
        kind.fit([])
    with pytest.raises(ValueError, match="none of 2 texts has a word"):
        kind.fit(["", " "])
    with pytest.raises(TypeError, match=r"texts\[1\] is None \(NoneType\)"):
        kind.fit(["cat", None])
    with pytest.raises(TypeError, match=r"pass \[text\]"):
        kind.fit("cat")
    options = {"dimension": 3} if kind is LsaEncoder else {}
    encoder = kind.fit(CORPUS, **options)
    with pytest.raises(TypeError, match=r"texts\[0\] is 3 \(int\)"):
        encoder.encode([3])
    with pytest.raises(TypeError, match=r"pass \[text\]"):
        encoder.encode("cat")


def test_says_what_is_wrong_with_the_numbers():
    with pytest.raises(ValueError, match=r"dimension=256 of 5 texts .* from 1 to 5"):
        LsaEncoder.fit(CORPUS)
    with pytest.raises(ValueError, match=r"dimension=10 .* 9 different .* from 1 to 9"):
        LsaEncoder.fit(["abc", "abd xy"] * 10, dimension=10)
    with pytest.raises(ValueError, match="dimension=0"):
        LsaEncoder.fit(CORPUS, dimension=0)
    for wrong in ({"k1": -1}, {"b": 1.5}, {"k1": float("nan")}):
        with pytest.raises(ValueError, match="k1 is 0 or more, b from 0 to 1"):
            Bm25Encoder.fit(CORPUS, **wrong)


def test_encoders_are_values():
    encoder = Bm25Encoder.fit(CORPUS)
    assert replace(encoder, b=0.0).average_length == encoder.average_length
    with pytest.raises(AttributeError):
        encoder.k1 = 2


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        Bm25Encoder.fit(CORPUS)
