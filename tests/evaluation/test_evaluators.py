"""What evaluators measure, against figures worked out by hand."""

import numpy as np
import pytest
from conftest import tiny_encoder
from scipy import stats

from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.sts import ScoredPairs
from sbert_lab.evaluation.evaluators import RetrievalEvaluator, SimilarityEvaluator

TEXTS = [
    "the cat sat on a mat",
    "a quick brown fox jumps over the lazy dog",
    "two red birds flew",
    "one bird flew over the hill",
    "no dog ran",
    "a green hill",
    "the dog is not lazy",
    "three blue cats",
]


class Compass:
    """Stands for an encoder: a text is an angle in degrees, and how long its arrow is.

    Keeps what it was asked for, and how.
    """

    def __init__(self):
        self.asked = []

    def encode(self, texts, **_):
        numbers = np.array([list(map(float, text.split())) for text in texts])
        angle, length = np.radians(numbers[:, 0]), numbers[:, 1:]
        arrows = np.stack([np.cos(angle), np.sin(angle)], 1) * length
        return arrows.astype(np.float32)

    def encode_query(self, texts, **options):
        self.asked.append(("query", list(texts)))
        return self.encode(texts, **options)

    def encode_document(self, texts, **options):
        self.asked.append(("document", list(texts)))
        return self.encode(texts, **options)


CORPUS = {"east": "0 1", "near": "30 9", "far": "60 5", "north": "90 2"}
# At 10°: east, near, far, north. At 85°: north, far, near, east.
QUERIES = ["10 3", "85 1"]


def search(relevant, k=10, corpus=CORPUS, queries=QUERIES):
    return RetrievalEvaluator("search", queries, corpus, relevant, k)


# Similarity


def test_similarity_is_spearman_of_cosines():
    # Cosines of 10, 80, 40 and 120 degrees, whatever the lengths: ranks 4, 2, 3, 1.
    pairs = ScoredPairs(
        ("0 1", "0 2", "90 1", "0 7"),
        ("10 1", "80 9", "50 1", "120 1"),
        (5.0, 3.0, 1.0, 2.0),  # ranks 4, 3, 1, 2
    )
    found = SimilarityEvaluator("mine", pairs)(Compass())
    # 1 - 6 Σ d² / (n (n² - 1)), d = 0, 1, 2, 1
    assert found == {"spearman": pytest.approx(1 - 6 * 6 / (4 * 15))}


def test_similarity_of_an_encoder_is_scipys(tiny):
    pairs = ScoredPairs(tuple(TEXTS[:4]), tuple(TEXTS[4:]), (1.0, 4.0, 2.0, 2.0))
    evaluator = SimilarityEvaluator("mine", pairs)
    u, v = tiny.encode(TEXTS[:4]), tiny.encode(TEXTS[4:])
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(u, v, strict=True)]
    expected = stats.spearmanr(cosines, pairs.score).statistic
    assert evaluator(tiny)["spearman"] == pytest.approx(expected, abs=1e-9)
    assert type(evaluator(tiny)["spearman"]) is float
    assert evaluator.name == "mine"


def test_similarity_holds_its_pairs_out():
    pairs = ScoredPairs(("a", "b"), ("c", "d"), (1.0, 2.0))
    evaluator = SimilarityEvaluator("mine", pairs)
    for _ in range(2):  # each asker gets all of them
        assert [tuple(pair) for pair in evaluator.held_out()] == [
            ("a", "c"),
            ("b", "d"),
        ]


# Retrieval


def test_retrieval_by_hand():
    found = search([{"near"}, {"north", "east"}], k=2)(Compass())
    second = 1 / np.log2(3)
    assert found == {
        "ndcg_at_2": pytest.approx((second + 1 / (1 + second)) / 2),
        "recall_at_2": pytest.approx((1 + 1 / 2) / 2),
    }
    assert all(type(value) is float for value in found.values())


def test_the_nearest_are_looked_at_and_no_more():
    relevant = [{"far"}, {"north"}]
    assert search(relevant, k=1)(Compass())["recall_at_1"] == 0.5
    assert search(relevant, k=2)(Compass())["recall_at_2"] == 0.5
    assert search(relevant, k=3)(Compass())["recall_at_3"] == 1


def test_more_answers_than_are_looked_at_can_be_perfect():
    relevant = [{"east", "near", "far"}, {"north", "far", "near"}]
    found = search(relevant, k=2)(Compass())
    assert found["ndcg_at_2"] == pytest.approx(1)
    assert found["recall_at_2"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("k", [4, 5, 10, 100])
def test_k_may_be_larger_than_the_corpus(k):
    found = search([{"far"}, {"east"}], k)(Compass())
    gains = 1 / np.log2(4), 1 / np.log2(5)
    assert found == {
        f"ndcg_at_{k}": pytest.approx(np.mean(gains)),
        f"recall_at_{k}": 1.0,
    }


def test_more_than_ten_can_be_looked_at():
    corpus = {f"d{i}": f"{5 * i} 1" for i in range(15)}
    relevant = [{"d12"}, {"d14"}]  # the 13th to be found, and the 15th
    found = search(relevant, 13, corpus, ["0 1", "1 1"])(Compass())
    assert found == {
        "ndcg_at_13": pytest.approx(1 / np.log2(14) / 2),
        "recall_at_13": 0.5,
    }


def test_ten_are_looked_at_unless_told():
    evaluator = RetrievalEvaluator("x", QUERIES, CORPUS, [{"far"}, {"east"}])
    assert set(evaluator(Compass())) == {"ndcg_at_10", "recall_at_10"}


def test_a_query_without_an_answer_gains_nothing():
    found = search([{"east"}, set()])(Compass())
    assert found == {"ndcg_at_10": 0.5, "recall_at_10": 0.5}


def test_relevant_ids_are_a_set_however_they_come():
    lists = search([["near", "near"], ("north", "east")], k=2)(Compass())
    assert lists == search([{"near"}, {"north", "east"}], k=2)(Compass())


def test_unknown_relevant_ids_are_named():
    with pytest.raises(ValueError, match=r"the corpus lacks: \['south', 'west'\]"):
        search([{"near", "west"}, {"south"}])
    many = {f"x{i}" for i in range(9)}
    with pytest.raises(ValueError, match=r"lacks: \['x0', 'x1', 'x2'\]$"):
        search([many, {"near"}])


@pytest.mark.parametrize("relevant", [[], [{"near"}], [{"near"}] * 3])
def test_every_query_has_its_answers(relevant):
    with pytest.raises(ValueError, match=f"2 queries and {len(relevant)} answers"):
        search(relevant)


def test_queries_are_held_out_and_documents_are_not():
    held = search([{"near"}, {"east"}]).held_out()
    assert list(held) == [("10 3",), ("85 1",)]


def test_queries_and_documents_are_encoded_as_such():
    compass = Compass()
    search([{"near"}, {"east"}])(compass)
    assert sorted(compass.asked) == [
        ("document", list(CORPUS.values())),
        ("query", QUERIES),
    ]


def test_prompts_of_the_model_are_used():
    prompts = {"query": "query : ", "document": "passage : "}
    encoder = tiny_encoder(prompts=prompts)
    corpus = {f"d{i}": text for i, text in enumerate(TEXTS)}
    queries, relevant = TEXTS[:3], [{"d5"}, {"d6"}, {"d7"}]
    q = encoder.encode([f"query : {text}" for text in queries])
    d = encoder.encode([f"passage : {text}" for text in TEXTS])
    q, d = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, d))
    place = [1 + sum(row > row[i + 5]) for i, row in enumerate(q @ d.T)]
    found = RetrievalEvaluator("x", queries, corpus, relevant, k=8)(encoder)
    assert found["ndcg_at_8"] == pytest.approx(np.mean(1 / np.log2(np.add(place, 1))))
    without = RetrievalEvaluator("x", queries, corpus, relevant, k=8)(tiny_encoder())
    assert found != without


def test_a_task_becomes_an_evaluator():
    task = RetrievalTask(
        queries=("10 3", "85 1", "50 1"),
        relevant=("A1", "A2", "A1"),
        corpus_codes=("A0", "A1", "A2"),
        corpus_texts=("0 1", "30 9", "60 5"),
    )
    evaluator = RetrievalEvaluator.of_task("codes", task)
    assert evaluator.name == "codes"
    assert list(evaluator.held_out()) == [("10 3",), ("85 1",), ("50 1",)]
    second = 1 / np.log2(3)
    assert evaluator(Compass()) == {
        "ndcg_at_10": pytest.approx((second + 1 + second) / 3),
        "recall_at_10": 1.0,
    }


def test_metrics_do_not_depend_on_mode_and_leave_it(tiny):
    evaluators = [
        SimilarityEvaluator(
            "a", ScoredPairs(tuple(TEXTS[:4]), tuple(TEXTS[4:]), (1.0, 4.0, 2.0, 3.0))
        ),
        RetrievalEvaluator(
            "b", TEXTS[:3], dict(enumerate(TEXTS[3:])), [{0}, {1}, {2}], k=3
        ),
    ]
    expected = [evaluator(tiny) for evaluator in evaluators]
    tiny.train()
    assert [evaluator(tiny) for evaluator in evaluators] == expected
    assert tiny.training
