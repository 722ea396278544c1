"""What cannot go well is refused before the first step, with what to do."""

import pytest
from tiny_training import (
    WIDTH,
    Scripted,
    arguments,
    classed,
    load,
    made,
    make_folder,
    pairs,
    scored,
    sentences,
)

from sbert_lab import SentenceEncoder
from sbert_lab.losses import (
    CachedMultipleNegativesRankingLoss,
    CosineSimilarityLoss,
    MultipleNegativesRankingLoss,
    SoftmaxLoss,
)
from sbert_lab.models.checkpoint import Layout
from sbert_lab.training import TrainingData


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "label_smoothing_factor": 0.1,
        "neftune_noise_alpha": 5.0,
        "use_liger_kernel": True,
        "label_names": ["label"],
        "train_sampling_strategy": "group_by_length",
        "include_num_input_tokens_seen": "all",
        "include_for_metrics": ["inputs"],
        "batch_eval_metrics": True,
        "prediction_loss_only": True,
        "torch_compile": True,
        "push_to_hub": True,
        "auto_find_batch_size": True,
        "dataloader_num_workers": 2,
    }.items(),
)
def test_arguments_that_nobody_reads_are_refused(tmp_path, name, value):
    said = rf"{name}=.*: SentenceTrainer has no use for it"
    with pytest.raises(ValueError, match=said):
        arguments(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("fsdp", True), ("deepspeed", {"zero_optimization": {}})]
)
def test_sharding_is_refused(tmp_path, name, value):
    """By us, or by transformers where a package lacks or there is one process."""
    with pytest.raises((ValueError, ImportError)):
        made_args = arguments(tmp_path, **{name: value})
        raise AssertionError(getattr(made_args, name))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batching": "sorted"}, "'random', 'no_duplicates' or 'tokens'"),
        ({"batching": "tokens"}, "batch_tokens=… go together"),
        ({"batch_tokens": 100}, "batch_tokens=… go together"),
        ({"batching": "tokens", "batch_tokens": 0}, "batch_tokens=0: one or more"),
        ({"group_tokens": 0}, "group_tokens=0: one or more"),
        ({"mixing": "alternating"}, "'proportional' or 'round_robin'"),
    ],
)
def test_own_arguments_are_checked(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        arguments(tmp_path, **options)


def test_arguments_that_ask_for_nothing_pass(tmp_path):
    arguments(
        tmp_path,
        label_smoothing_factor=0,
        dataloader_num_workers=0,
        include_for_metrics=[],
        torch_compile=False,
        fsdp="",
        batching="tokens",
        batch_tokens=100,
    )


def test_names_of_data_sets(folder, tmp_path):
    objective, encoder = MultipleNegativesRankingLoss(), load(folder)
    for name in ("", "a.b"):
        with pytest.raises(ValueError, match="a name without a point"):
            made(encoder, tmp_path, {name: pairs(8)}, objective)
    data = {"one": pairs(8), "two": pairs(8, 1)}
    with pytest.raises(ValueError, match="given for .*'three'"):
        made(encoder, tmp_path, data, {"one": objective, "three": objective})
    with pytest.raises(ValueError, match="the data sets are"):
        made(encoder, tmp_path, data, objective, prompts={"one": "x"})


def test_a_head_of_another_width(folder, tmp_path):
    with pytest.raises(ValueError, match=f"make it with SoftmaxLoss\\({WIDTH}\\)"):
        made(load(folder), tmp_path, classed(8), SoftmaxLoss(WIDTH + 1))


@pytest.mark.parametrize(
    "kind", [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss]
)
def test_known_positives_belong_to_one_data_set(folder, tmp_path, kind):
    data = {"one": pairs(8), "two": pairs(8, 1)}
    known = [tuple(data["one"].row_texts(0))]
    shared = kind(known=known)
    with pytest.raises(ValueError, match="give each data set an objective of its own"):
        made(load(folder), tmp_path, data, shared)
    made(load(folder), tmp_path, data, {"one": shared, "two": kind()})
    made(load(folder), tmp_path, data["one"], shared)
    made(load(folder), tmp_path, data, kind())


def test_known_positives_are_those_of_the_data(folder, tmp_path):
    data = pairs(8)
    anchor, positive = data.row_texts(2)[0], data.row_texts(5)[1]
    objective = MultipleNegativesRankingLoss(known=[(anchor, positive), ("no", "one")])
    trainer = made(
        load(folder), tmp_path, data, objective, per_device_train_batch_size=8
    )
    (given,) = trainer.get_train_dataloader()
    batch = given["batch"]
    import torch

    found = objective._ignored(batch, torch.zeros(8), 0)
    place = batch.rows.tolist().index
    assert found.nonzero().tolist() == [[place(2), place(5)]]


def test_prompts_that_the_encoder_would_not_pool(folder, tmp_path):
    plain = load(folder)
    layout = Layout(dimension=WIDTH, include_prompt=False)
    encoder = SentenceEncoder(plain.transformer, plain.tokenizer, layout)
    objective = MultipleNegativesRankingLoss()
    with pytest.raises(ValueError, match="train without prompts"):
        made(encoder, tmp_path, pairs(8), objective, prompts="query ")
    made(encoder, tmp_path, pairs(8), objective)


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({}, False),
        ({"batching": "tokens", "batch_tokens": 50}, False),
        (
            {"batching": "tokens", "batch_tokens": 50, "dataloader_drop_last": True},
            False,
        ),
        ({"dataloader_drop_last": True}, True),
        ({"dataloader_drop_last": True, "batching": "no_duplicates"}, True),
    ],
)
@pytest.mark.parametrize(
    "kind", [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss]
)
def test_what_is_gathered_must_be_of_one_size(tmp_path, options, fits, kind):
    from sbert_lab.training.checks import check_batch

    class Two:
        """Arguments as in one of two processes."""

        def __init__(self, args):
            self.args = args

        def __getattr__(self, name):
            return 2 if name == "world_size" else getattr(self.args, name)

    args = arguments(tmp_path, **options)
    check_batch(pairs(16), kind(gather=True), args)  # one process has nobody to ask
    check_batch(pairs(16), kind(), Two(args))
    if fits:
        check_batch(pairs(16), kind(gather=True), Two(args))
        return
    with pytest.raises(ValueError, match="set dataloader_drop_last=True"):
        check_batch(pairs(16), kind(gather=True), Two(args))


def test_a_data_set_without_a_batch_is_not_left_out_in_silence(folder, tmp_path):
    data = {"one": pairs(16), "two": pairs(3, 1)}
    trainer = made(
        load(folder), tmp_path, data, MultipleNegativesRankingLoss(),
        dataloader_drop_last=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"\[4, 0\] batches"):
        trainer.train()


def test_texts_that_are_cut_are_counted(folder, tmp_path, caplog):
    texts = sentences(16)
    texts[3] = texts[12] = " ".join(["balan"] * 40)
    columns = {"anchor": texts[:8], "positive": texts[8:]}
    data = TrainingData(columns, source="mine")
    made(load(folder), tmp_path, data, MultipleNegativesRankingLoss())
    assert "mine: 1 of 15 texts are longer than 24 tokens" in caplog.text


def test_errors_come_before_anything_is_tokenised(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        SentenceEncoder, "token_ids", lambda *_: pytest.fail("tokenised")
    )
    with pytest.raises(ValueError, match="called 'told'"):
        made(
            load(folder), tmp_path, scored(8), CosineSimilarityLoss(),
            evaluators=[Scripted("told"), Scripted("told")],
        )  # fmt: skip
