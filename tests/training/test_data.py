"""Rows by role: what is refused, and what a batch holds."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import WIDTH, WORDS, load, make_folder, sentences

from sbert_lab.datasets.pairs import DataError, read_pairs
from sbert_lab.losses import (
    CosineSimilarityLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
    TripletLoss,
)
from sbert_lab.training import TrainingData
from sbert_lab.training.data import check_columns
from sbert_lab.training.trainer import encode_tokens


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load(make_folder(tmp_path_factory.mktemp("tiny") / "model"), dropout=0)


ROWS = {"anchor": ["a b", "c"], "positive": ["d", "e f"]}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (ROWS | {"negative": ["x"]}, "of one length"),
        ({"anchor": [], "positive": []}, "of one length"),
        ({"label": [1]}, "of one length"),
        (ROWS | {"anchor": ["a", " \n"]}, "row 1, column 'anchor': empty"),
        (ROWS | {"anchor": ["a", None]}, "row 1, column 'anchor': NoneType"),
        (ROWS | {"positive": [["d"], "e"]}, "row 0, column 'positive': list"),
        (ROWS | {"negative": [["x", ""], ["y"]]}, "row 0, column 'negative': empty"),
        (ROWS | {"label": [1, "one"]}, "column 'label': .*'one'"),
        ({"anchor": ["", "a"], "positive": ["b", 1], "label": ["y", "z"]}, "3 problem"),
    ],
)
def test_bad_rows_are_named(columns, said):
    with pytest.raises(DataError, match=said):
        TrainingData(columns)


def labelled(*labels):
    texts = [f"t{i}" for i in range(len(labels))]
    return TrainingData({"first": texts, "second": texts, "label": labels})


@pytest.mark.parametrize(
    ("data", "objective", "said"),
    [
        (
            TrainingData({"anchor": ["a"], "positve": ["b"]}),
            MultipleNegativesRankingLoss(),
            "has columns anchor, positve; .* reads anchor, positive, negative and",
        ),
        (TrainingData(ROWS), TripletLoss(), "needs anchor, positive, negative"),
        (
            TrainingData(ROWS | {"label": [0, 1]}),
            MultipleNegativesRankingLoss(),
            "reads no label",
        ),
        (
            TrainingData({"first": ["a"], "second": ["b"]}),
            CosineSimilarityLoss(),
            "needs a column 'label', a number from -1 to 1",
        ),
        (
            TrainingData(ROWS | {"negative": ["x", []]}),
            TripletLoss(),
            "row 1: 0 negatives; TripletLoss needs one or more: leave such rows out",
        ),
        (labelled(0, 1.01), CosineSimilarityLoss(), "row 1, column 'label': 1.01"),
        (labelled(float("nan")), CosineSimilarityLoss(), "row 0, column 'label': nan"),
        (labelled(0, 2, 3), SoftmaxLoss(WIDTH), "row 2, .* whole number from 0 to 2"),
        (labelled(0.5), SoftmaxLoss(WIDTH), "row 0, .* whole number from 0 to 2"),
    ],
)
def test_what_an_objective_cannot_read_is_refused(data, objective, said):
    with pytest.raises(DataError, match=said):
        check_columns(data, objective)


def test_pairs_of_a_file(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("anchor,positive,label\na b,c,1\nd,e f,0.5\n", encoding="utf-8")
    data = TrainingData.from_pairs(read_pairs(path))
    assert data.source == str(path)
    assert data.roles == ("anchor", "positive")
    assert list(data.row_names) == [2, 3]
    assert data.row_texts() == [["a b", "c"], ["d", "e f"]]
    assert data.label.tolist() == [1, 0.5]


texts = st.lists(st.sampled_from(WORDS[:12]), min_size=1, max_size=4).map(" ".join)


@st.composite
def tables(draw):
    count = draw(st.integers(1, 8))
    column = st.lists(texts, min_size=count, max_size=count)
    columns = {"anchor": draw(column), "positive": draw(column)}
    if draw(st.booleans()):
        several = st.lists(texts, max_size=3)
        columns["negative"] = draw(
            st.lists(texts | several, min_size=count, max_size=count)
        )
    if draw(st.booleans()):
        labels = st.lists(st.integers(0, 2), min_size=count, max_size=count)
        columns["label"] = draw(labels)
    return columns


def texts_of(entry):
    return [entry] if isinstance(entry, str) else list(entry)


@given(tables(), st.data())
@settings(max_examples=40)
def test_a_batch_equals_a_naive_one(encoder, columns, draw):
    data = TrainingData(columns)
    data.tokenize(encoder)
    count = len(columns["anchor"])
    rows = draw.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    expected, owner = {role: [] for role in data.roles}, []
    for place, row in enumerate(rows):
        for role in data.roles:
            entries = texts_of(columns[role][row])
            expected[role] += entries
            if role == "negative":
                owner += [place] * len(entries)
    expected = {role: found for role, found in expected.items() if found}
    batch = data.__getitems__(rows)
    assert {role: list(found) for role, found in batch.texts.items()} == expected
    assert batch.owner.tolist() == owner
    assert batch.rows.tolist() == rows
    for role, wanted in expected.items():
        for ids, text in zip(batch.tokens[role], wanted, strict=True):
            assert ids.tolist() == encoder.tokenizer(text)["input_ids"]
    if "label" in columns:
        assert batch.label.tolist() == [columns["label"][row] for row in rows]
    else:
        assert batch.label is None
    # Numbers are equal where texts are, across columns too.
    pairs = {
        (text, int(number))
        for role, wanted in expected.items()
        for text, number in zip(wanted, batch.numbers[role], strict=True)
    }
    assert len(pairs) == len({text for text, _ in pairs}) == len({n for _, n in pairs})
    for row in range(count):
        wanted = [t for role in data.roles for t in texts_of(columns[role][row])]
        assert data.row_texts()[row] == wanted
        sizes = [len(encoder.tokenizer(text)["input_ids"]) for text in wanted]
        assert data.lengths()[row] == sum(sizes)


def test_every_text_is_tokenised_once_and_cut_and_counted(encoder, caplog):
    long = " ".join(WORDS[:40])
    data = TrainingData({"anchor": ["a", long, "a"], "positive": [long, "b", "b"]})
    data.tokenize(encoder)
    assert "1 of 3 texts are longer than 24 tokens" in caplog.text
    assert (
        len(data.__getitems__([1]).tokens["anchor"][0]) == encoder.max_seq_length == 24
    )


def test_fingerprint_tells_rows_roles_and_labels_apart():
    columns = ROWS | {"negative": [["x", "y"], []], "label": [0, 1]}
    same = {role: list(column) for role, column in columns.items()}
    first = TrainingData(columns).fingerprint()
    assert TrainingData(same, source="elsewhere").fingerprint() == first
    for change in (
        {"anchor": ["c", "a b"]},  # the order of rows
        {"anchor": ["d", "e f"], "positive": ["a b", "c"]},  # roles
        {"label": [1, 0]},
        {"negative": [["x"], ["y"]]},  # whose a negative is
        {"negative": [["y", "x"], []]},
        {"anchor": ["a B", "c"]},
    ):
        assert TrainingData(columns | change).fingerprint() != first
    renamed = {"anchor": ROWS["anchor"], "second": ROWS["positive"]}
    assert TrainingData(renamed).fingerprint() != TrainingData(ROWS).fingerprint()


@pytest.mark.parametrize("budget", [1, 17, 1_000_000])
def test_gradients_are_those_of_one_padded_batch(encoder, budget):
    model, texts = copy.deepcopy(encoder).double().train(), sentences(23)
    wanted = torch.randn(23, WIDTH, generator=torch.Generator().manual_seed(0))

    def gradients(vectors):
        model.zero_grad()
        (vectors * wanted).sum().backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    found = gradients(encode_tokens(model, model.token_ids(texts), budget))
    padded = model.tokenizer(texts, padding=True, return_tensors="pt")
    expected = gradients(model(padded["input_ids"], padded["attention_mask"]))
    assert found.keys() == expected.keys()
    assert len(found) > 30
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-10)
