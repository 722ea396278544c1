"""Rows by role: what is refused, what a batch holds, and texts that leak."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import WIDTH, WORDS, load, make_folder, sentences

from sbert_lab.datasets.pairs import DataError, read_pairs
from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    CosineSimilarityLoss,
    DenoisingAutoEncoderLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
    TripletLoss,
)
from sbert_lab.training import TrainingData
from sbert_lab.training.data import check_columns
from sbert_lab.training.leaks import leaks, refuse_leaks
from sbert_lab.training.module import encode_tokens


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def encoder(folder):
    return load(folder, dropout=0)


def refused(columns, *words, **options):
    """Check that each of the words stands in the refusal, and return its problems."""
    with pytest.raises(DataError) as error:
        TrainingData(columns, **options)
    for word in words:
        assert word in str(error.value)
    return error.value.problems


def unfit(data, objective, *words):
    with pytest.raises(DataError) as error:
        check_columns(data, objective)
    for word in words:
        assert word in str(error.value)
    return error.value.problems


ROWS = {"anchor": ["a b", "c"], "positive": ["d", "e f"]}


def test_columns_of_different_length():
    columns = ROWS | {"negative": ["x"]}
    refused(columns, "different length", "'negative': 1", "'anchor': 2")


def test_no_rows_and_no_columns():
    refused({"anchor": [], "positive": []}, "no rows")
    refused({}, "no text column")
    refused({"label": [1]}, "no text column")


@pytest.mark.parametrize(
    ("entry", "said"),
    [("", "empty"), (" \n", "empty"), (None, "NoneType"), (3, "int"), (b"x", "bytes")],
)
def test_what_is_no_text_is_named(entry, said):
    columns = {"anchor": ["a", entry], "positive": ["b", "c"]}
    problems = refused(columns, "row 1, column 'anchor'", said, source="my file")
    assert len(problems) == 1
    assert problems[0].startswith("my file")


def test_every_problem_is_told_at_once():
    columns = {"anchor": ["", "a"], "positive": ["b", None], "label": ["one", None]}
    problems = refused(columns, "4 problem(s)")
    assert len(problems) == 4
    assert "row 0, column 'label': 'one', no number" in problems[0]
    assert "row 1, column 'label': None, no number" in problems[1]


def test_a_list_of_texts_is_for_negatives_only():
    refused(ROWS | {"positive": [["d"], "e"]}, "row 0, column 'positive': list")
    refused(ROWS | {"negative": [["x", ""], ["y", ["z"]]]}, "empty", "list, not a text")


def test_a_column_that_is_one_text():
    refused({"anchor": "ab", "positive": ["c", "d"]}, "'anchor' is one text, not a")


def test_names_say_which_column_plays_which_role():
    table = {"question": ["a"], "answer": ["b"], "year": [1999]}
    names = {"anchor": "question", "positive": "answer"}
    data = TrainingData(table, names)
    assert data.roles == ("anchor", "positive")
    assert data.label is None
    assert data.row_texts(0) == ["a", "b"]
    refused(table, "no column 'reply'", "'question'", names={"anchor": "reply"})


def test_columns_of_many_kinds():
    from datasets import Dataset

    expected = TrainingData(ROWS | {"label": [0.5, 1]})
    table = Dataset.from_dict(ROWS | {"label": [0.5, 1.0]})
    for columns in (
        {"anchor": np.array(ROWS["anchor"]), "positive": tuple(ROWS["positive"])}
        | {"label": np.array([0.5, 1])},
        {name: table[name] for name in table.column_names},
    ):
        assert TrainingData(columns).fingerprint() == expected.fingerprint()


def test_unknown_column_says_which_was_meant():
    data = TrainingData({"anchor": ["a"], "positve": ["b"]}, source="file")
    problems = unfit(data, MultipleNegativesRankingLoss(), "(did you mean 'positive'?)")
    assert len(problems) == 2
    assert (
        "file: MultipleNegativesRankingLoss does not read the column 'positve'"
        in (problems[0])
    )
    assert "names={role: column}" in problems[0]
    assert "needs a column 'positive'; there are anchor, positve" in problems[1]


def test_a_column_like_no_other_gets_no_guess():
    data = TrainingData(ROWS | {"zzz": ["a", "b"]})
    (problem,) = unfit(data, MultipleNegativesRankingLoss(), "'zzz'")
    assert "did you mean" not in problem
    assert "it reads anchor, positive, negative" in problem


def test_missing_column():
    unfit(TrainingData(ROWS), TripletLoss(), "TripletLoss needs a column 'negative'")
    check_columns(TrainingData(ROWS), CachedMultipleNegativesRankingLoss())


def labelled(*labels):
    texts = [f"t{i}" for i in range(len(labels))]
    return TrainingData({"first": texts, "second": texts, "label": labels})


@pytest.mark.parametrize("label", [1.01, -1.01, float("nan"), float("inf")])
def test_scores_out_of_range(label):
    data = labelled(0, label)
    (problem,) = unfit(data, CosineSimilarityLoss(), "takes a number from -1 to 1")
    assert "row 1, column 'label'" in problem


@pytest.mark.parametrize("label", [3, -1, 0.5, float("nan")])
def test_classes_are_whole_numbers_of_those_there_are(label):
    data = labelled(0, 2, label)
    (problem,) = unfit(data, SoftmaxLoss(WIDTH), "a whole number from 0 to 2")
    assert "row 2, column 'label'" in problem


def test_good_labels_pass():
    check_columns(labelled(-1, 0.25, 1), CosineSimilarityLoss())
    check_columns(labelled(0, 1.0, np.int64(2), True), SoftmaxLoss(WIDTH))


def test_labels_nobody_reads_and_labels_that_lack():
    data = TrainingData(ROWS | {"label": [0, 1]})
    unfit(data, MultipleNegativesRankingLoss(), "reads no label; leave that column out")
    data = TrainingData({"first": ["a"], "second": ["b"]})
    unfit(data, CosineSimilarityLoss(), "needs a column 'label', a number from -1 to 1")


def test_pairs_of_a_file(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("anchor,positive,label\na b,c,1\nd,e f,0.5\n", encoding="utf-8")
    data = TrainingData.from_pairs(read_pairs(path))
    assert data.source == str(path)
    assert data.roles == ("anchor", "positive")
    assert data.row_texts(1) == ["d", "e f"]
    assert data.label.tolist() == [1, 0.5]
    named = tmp_path / "named.csv"
    named.write_text("q,a,n,rest\na b,c,x,1\nd,e f,y,2\n", encoding="utf-8")
    roles = {"anchor": "q", "positive": "a", "negative": "n"}
    data = TrainingData.from_pairs(read_pairs(named, roles))
    assert data.roles == ("anchor", "positive", "negative")
    assert data.label is None
    assert data.row_texts(0) == ["a b", "c"]  # what belongs together
    data.tokenize(load(make_folder(tmp_path / "model")))
    assert data[1].texts["negative"] == ["y"]


texts = st.lists(st.sampled_from(WORDS[:12]), min_size=1, max_size=4).map(" ".join)


@st.composite
def tables(draw):
    count = draw(st.integers(1, 8))
    several = st.lists(texts, max_size=3)
    columns = {
        role: draw(st.lists(texts, min_size=count, max_size=count))
        for role in ("anchor", "positive")
    }
    kind = draw(st.sampled_from(["none", "one", "several", "mixed"]))
    if kind != "none":
        entry = {"one": texts, "several": several, "mixed": texts | several}[kind]
        columns["negative"] = draw(st.lists(entry, min_size=count, max_size=count))
    if draw(st.booleans()):
        columns["label"] = draw(
            st.lists(st.integers(0, 2), min_size=count, max_size=count)
        )
    return columns


def negatives_of(entry):
    return [entry] if isinstance(entry, str) else list(entry)


@given(tables(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_batch_equals_a_naive_one(encoder, columns, draw):
    data = TrainingData(columns)
    data.tokenize(encoder)
    count = len(columns["anchor"])
    rows = draw.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    expected, owner = {role: [] for role in data.roles}, []
    for place, row in enumerate(rows):
        for role in data.roles:
            entries = negatives_of(columns[role][row])
            expected[role] += entries
            if role == "negative":
                owner += [place] * len(entries)
    expected = {role: texts for role, texts in expected.items() if texts}
    batch = data.__getitems__(rows)
    assert {role: list(texts) for role, texts in batch.texts.items()} == expected
    assert batch.owner.tolist() == owner
    assert batch.rows.tolist() == rows
    assert len(batch) == len(rows)
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
    # One row of a batch is the batch of that row.
    for place, row in enumerate(rows):
        one, alone = batch.only(place), data[row]
        kept = {role: list(texts) for role, texts in one.texts.items() if texts}
        assert kept == {role: list(texts) for role, texts in alone.texts.items()}
        assert one.owner.tolist() == alone.owner.tolist()
        assert one.rows.tolist() == [row]


@given(tables())
@settings(max_examples=60, deadline=None)
def test_lengths_and_numbers_of_rows(encoder, columns):
    data = TrainingData(columns)
    data.tokenize(encoder)
    for row in range(len(data)):
        wanted = [t for role in data.roles for t in negatives_of(columns[role][row])]
        assert data.row_texts(row) == [columns[r][row] for r in ("anchor", "positive")]
        sizes = [len(encoder.tokenizer(text)["input_ids"]) for text in wanted]
        assert data.lengths()[row] == sum(sizes)
        numbers = data.text_numbers[row]
        assert [data.texts[n] for n in numbers if n >= 0] == wanted
        assert all(numbers[len(wanted) :] == -1)


def test_every_text_is_tokenised_once_and_cut_where_the_encoder_cuts(encoder):
    long = " ".join(WORDS[:40])
    data = TrainingData({"anchor": ["a", long, "a"], "positive": [long, "b", "b"]})
    assert data.tokenize(encoder) == 1
    assert len(data.texts) == 3
    assert len(data[1].tokens["anchor"][0]) == encoder.max_seq_length == 24


def test_a_prefix_stands_before_every_text(encoder):
    data = TrainingData({"anchor": ["lamor"], "positive": ["balan mitis"]})
    data.tokenize(encoder, "query ")
    ids = data[0].tokens["positive"][0].tolist()
    assert ids == encoder.tokenizer("query balan mitis")["input_ids"]
    assert data[0].texts["positive"] == ["balan mitis"]


def test_tokenize_comes_first():
    with pytest.raises(RuntimeError, match="call tokenize"):
        TrainingData(ROWS)[0]


def test_fingerprint():
    columns = ROWS | {"negative": [["x", "y"], []], "label": [0, 1]}
    same = {role: list(column) for role, column in columns.items()}
    first = TrainingData(columns).fingerprint()
    assert TrainingData(same, source="elsewhere").fingerprint() == first
    assert len(first) == 64
    for change in (
        {"anchor": ["c", "a b"]},  # the order of rows
        {"anchor": ["d", "e f"], "positive": ["a b", "c"]},  # roles
        {"label": [1, 0]},
        {"negative": [["x"], ["y"]]},  # whose a negative is
        {"negative": [["y", "x"], []]},
        {"anchor": ["a B", "c"]},
    ):
        assert TrainingData(columns | change).fingerprint() != first
    without = {role: columns[role] for role in columns if role != "label"}
    assert TrainingData(without).fingerprint() != first
    renamed = {"anchor": ROWS["anchor"], "second": ROWS["positive"]}
    assert TrainingData(renamed).fingerprint() != TrainingData(ROWS).fingerprint()


# Encoding


@pytest.mark.parametrize("budget", [1, 17, 64, 1_000_000])
def test_tokens_are_encoded_as_if_alone(encoder, budget):
    ids = encoder.token_ids([*sentences(23), "", WORDS[0]])
    with torch.no_grad():
        found = encode_tokens(encoder.eval(), ids, budget)
        for row, one in enumerate(ids):
            given = torch.from_numpy(one)[None]
            alone = encoder(given, torch.ones_like(given))[0]
            torch.testing.assert_close(found[row], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("budget", [1, 17, 64, 1_000_000])
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


def test_denoising_reads_the_text(encoder):
    data = TrainingData({"text": ["balan"]})
    check_columns(data, DenoisingAutoEncoderLoss(encoder))


# Leaks

TRAINED = TrainingData(
    {"anchor": ["One two", "three"], "positive": ["four", "five six"]}, source="mine"
)


@pytest.mark.parametrize(
    "item",
    [
        ("One two", "four"),
        ("four", "One two"),
        ("  ONE \n two ", "Four"),
        ("ｏｎｅ two", "four"),  # full-width letters
        ("FIVE  six",),
        ("three",),
    ],
)
def test_what_has_leaked_is_found(item):
    (found,) = leaks([TRAINED], [("test", [("nothing", "at all"), item])])
    assert found.startswith("test: ")
    assert "is also in mine, row " in found


@pytest.mark.parametrize(
    "item",
    [
        ("One two", "five six"),  # both are there, in different rows
        ("One two", "other"),
        ("other", "four"),
        ("One two three",),
        ("One",),
    ],
)
def test_what_has_not_leaked_is_no_false_alarm(item):
    assert leaks([TRAINED], [("test", [item])]) == []


def test_a_pair_of_equal_texts_has_leaked_with_its_pair_only():
    item = ("three", "Three")
    assert leaks([TRAINED], [("test", [item])]) == []
    twice = TrainingData({"anchor": ["THREE"], "positive": ["three"]})
    assert len(leaks([twice], [("test", [item])])) == 1


def test_leaks_name_the_row_the_set_and_the_evaluation():
    other = TrainingData({"text": ["six", "seven"]}, source="other")
    found = leaks(
        [TRAINED, other], [("a", [("seven",)]), ("b", [("three", "five six")])]
    )
    assert found[0].startswith("a: 'seven' is also in other, row 1")
    assert found[1].startswith("b: 'three / five six' is also in mine, row 1")


def test_leaks_in_negatives_count():
    data = TrainingData(ROWS | {"negative": [["x", "y"], []]})
    assert len(leaks([data], [("test", [("y",), ("a b", "y")])])) == 2


def test_refused_with_every_leak():
    refuse_leaks([TRAINED], [("test", [("no", "leak")])])
    with pytest.raises(DataError, match="2 problem") as error:
        refuse_leaks([TRAINED], [("test", [("three",), ("no",), ("four", "One two")])])
    assert "overlap='warn'" in str(error.value)
