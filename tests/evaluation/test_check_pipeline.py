"""The smoke test for a search: what broken ones smell of, and sound ones do not."""

import numpy as np
import pytest
from pipelines import Answers, Texts, broken, flat, sound

from experiments.mistakes import ILLUSIONS, MISTAKES, embed, rank
from sbert_lab import SentenceEncoder, VectorIndex
from sbert_lab.evaluation.check_pipeline import CURES, check_pipeline
from sbert_lab.index.exact import exact_search, normalized
from sbert_lab.models.static import StaticEncoder


@pytest.fixture(scope="module")
def texts():
    return Texts()


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder.from_pretrained("bert-mini", device="cpu")


@pytest.fixture(scope="module")
def mistakes(texts, encoder):
    other = StaticEncoder.from_pretrained("wordllama-256")
    return broken(texts, encoder, other)


PRICED = MISTAKES.keys() | ILLUSIONS.keys()
UNTRIED = {"int8_coarse", "cut_256"}  # moves no vector far; is as cut_128
MORE = "another language|other answers|a few stale|not all indexed|another width"
MORE += "|one side lower-cased"
BROKEN = [*sorted(PRICED - UNTRIED), *MORE.split("|")]


def test_every_mistake_is_tried(mistakes):
    assert sorted(mistakes) == sorted(BROKEN)
    assert {expected for expected, _ in mistakes.values()} == CURES.keys()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_search_smells_of_its_mistake(name, mistakes):
    expected, search = mistakes[name]
    smells = check_pipeline(**search, sample=60)
    assert expected in [smell.mistake for smell in smells], smells
    assert all(CURES[smell.mistake] in str(smell) for smell in smells)


def test_twenty_sound_searches_smell_of_nothing(texts, encoder):
    searches = sound(texts, encoder)
    assert len(searches) >= 20
    found = {name: check_pipeline(**one, sample=60) for name, one in searches.items()}
    assert not any(found.values()), {k: v for k, v in found.items() if v}


def test_the_packaged_models_smell_of_nothing(texts, minilm):
    """Those with other parts: a head that normalises, and no transformer at all."""
    for one in (minilm, StaticEncoder.from_pretrained("wordllama-256")):
        vectors = one.encode(list(texts.documents.values()))
        search = texts.search(one, VectorIndex.build(vectors))
        assert not check_pipeline(**search, sample=60)


def test_the_working_search_of_the_notebook_is_the_packages(texts, minilm):
    some = list(texts.documents.values())[:60]
    both = embed(minilm, texts.queries), embed(minilm, some)
    for made, of in zip(both, (texts.queries, some), strict=True):
        np.testing.assert_allclose(normalized(made), minilm.encode(of), atol=1e-5)
    cosines = normalized(both[0]) @ normalized(both[1]).T
    near = np.take_along_axis(cosines, rank(*both), 1)  # of a tie any row
    np.testing.assert_allclose(near, exact_search(*both, 10)[0], atol=1e-5)


def test_a_share_of_the_documents_is_encoded_and_the_same_one_again(texts, encoder):
    class Counted:
        dimension, counts = encoder.dimension, []

        def encode(self, texts):
            self.counts.append(len(texts))
            return encoder.encode(texts)

    vectors = encoder.encode(list(texts.documents.values()))
    search = texts.search(Counted(), flat(vectors)) | {"sample": 20}
    first, second = check_pipeline(**search), check_pipeline(**search)
    half = len(Counted.counts) // 2
    assert first == second == []
    assert Counted.counts[:half] == Counted.counts[half:]
    assert max(Counted.counts) <= 20 + 20 * 10


def test_answers_may_be_graded_and_few(texts, encoder):
    vectors = encoder.encode(list(texts.documents.values()))
    graded = [dict.fromkeys(own, 2) | {0: 0} for own in texts.relevant]
    search = texts.search(encoder, flat(vectors)) | {"relevant": graded}
    assert check_pipeline(**search, sample=20) == []
    gone = [{"no such entry"}, *texts.relevant[1:]]
    smells = check_pipeline(**search | {"relevant": gone, "sample": 60})
    assert [smell.mistake for smell in smells] == ["unknown ids"]
    assert "'no such entry'" in str(smells[0])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"relevant": [{0}]}, "40 queries, 1 answers"),
        ({"documents": {0: "one"}}, "1 documents"),
        ({"documents": {0: "one", "b": None}}, "document 'b' is None, no text"),
        ({"relevant": [3] * 40}, "relevant: .*give ids for each query"),
        ({"training": ["a text"]}, "training: give rows of texts"),
        ({"query_vectors": np.zeros((3, 256), np.float32)}, "3 vectors, 40 queries"),
        ({"sample": 1}, "sample"),
        ({"k": 0}, "k"),
    ],
)
def test_arguments_that_do_not_belong_together(texts, encoder, change, told):
    index = Answers(lambda *_: pytest.fail("searched all the same"))
    with pytest.raises(ValueError, match=told):
        check_pipeline(**texts.search(encoder, index) | change)
