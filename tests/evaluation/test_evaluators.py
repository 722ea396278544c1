"""What evaluators measure, against figures worked out by hand."""

import numpy as np
import pytest

from sbert_lab.evaluation.evaluators import RetrievalEvaluator


class Compass:
    """Stands for an encoder: a text is an angle in degrees, and how long its arrow is.

    Keeps what it was asked for, and how.
    """

    def __init__(self):
        self.asked = {}

    def encode(self, texts):
        angle, length = np.array([text.split() for text in texts], float).T
        arrows = length * [np.cos(np.radians(angle)), np.sin(np.radians(angle))]
        return arrows.T.astype(np.float32)

    def encode_query(self, texts):
        self.asked["query"] = list(texts)
        return self.encode(texts)

    def encode_document(self, texts):
        self.asked["document"] = list(texts)
        return self.encode(texts)


CORPUS = {"east": "0 1", "near": "30 9", "far": "60 5", "north": "90 2"}
# At 10°: east, near, far, north. At 85°: north, far, near, east.
QUERIES = ["10 3", "85 1"]


def test_retrieval_by_hand():
    compass = Compass()
    evaluator = RetrievalEvaluator(
        "search", QUERIES, CORPUS, [["near", "near"], ("north", "east")], k=2
    )
    second = 1 / np.log2(3)
    assert evaluator(compass) == {
        "ndcg_at_2": pytest.approx((second + 1 / (1 + second)) / 2),
        "recall_at_2": pytest.approx((1 + 1 / 2) / 2),
    }
    assert compass.asked == {"query": QUERIES, "document": list(CORPUS.values())}
    assert list(evaluator.held_out()) == [("10 3",), ("85 1",)]


def test_retrieval_is_by_the_models_own_metric():
    compass = Compass()
    evaluator = RetrievalEvaluator("x", QUERIES[:1], CORPUS, [{"near": 1, "far": 0}], 1)
    assert evaluator(compass)["recall_at_1"] == 0
    compass.metric = "dot"  # near is longer than east
    assert evaluator(compass)["recall_at_1"] == 1
    compass.metric = "euclidean"
    with pytest.raises(ValueError, match="'euclidean' .* similarity_fn_name"):
        evaluator(compass)


def test_k_may_be_larger_than_the_corpus_and_a_query_have_no_answer():
    found = RetrievalEvaluator("x", QUERIES, CORPUS, [{"far"}, set()])(Compass())
    assert found == {"ndcg_at_10": pytest.approx(0.25), "recall_at_10": 0.5}


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"the corpus lacks: \['south', 'west'\]"):
        RetrievalEvaluator("x", QUERIES, CORPUS, [{"near", "west"}, {"south"}])
    for queries, k, message in (
        (QUERIES, 1, "2 queries and 1 answers"),
        ([], 1, "0 queries"),
        (["10 3"], 0, "k=0"),
    ):
        with pytest.raises(ValueError, match=message):
            RetrievalEvaluator("x", queries, CORPUS, [{"near"}], k)
    for queries, answer in (("a", ["near"]), (["10 3"], "near")):
        with pytest.raises(TypeError, match="list of (strings|ids)"):
            RetrievalEvaluator("x", queries, CORPUS | dict.fromkeys("near"), [answer])
