"""Training equals what it should be worked out by hand, and leaves no traces."""

import logging
import random

import numpy as np
import pytest
import torch
from tiny_training import (
    WIDTH,
    WORDS,
    AfterStep,
    Told,
    classed,
    farthest,
    load,
    logged,
    made,
    make_folder,
    pairs,
    plain_texts,
    scored,
    sentences,
    train,
    unequal,
    weights,
)
from torch.nn import functional as F
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from sbert_lab import SentenceEncoder
from sbert_lab.losses import (
    CachedLoss,
    CachedMultipleNegativesRankingLoss,
    CosineSimilarityLoss,
    DenoisingAutoEncoderLoss,
    MultipleNegativesRankingLoss,
    Objective,
    SoftmaxLoss,
)
from sbert_lab.training import TrainingData, set_dropout
from sbert_lab.training.batch_samplers import BatchSampler, random_batches


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.mark.parametrize(
    ("data", "objective"),
    [
        (pairs(16), lambda encoder: MultipleNegativesRankingLoss()),
        (pairs(16), lambda encoder: CachedMultipleNegativesRankingLoss(tokens=30)),
        (scored(16), lambda encoder: CosineSimilarityLoss()),
        (classed(16), lambda encoder: SoftmaxLoss(WIDTH)),
        (plain_texts(4), DenoisingAutoEncoderLoss),
    ],
    ids=["mnrl", "cached", "cosine", "softmax", "tsdae"],
)
def test_loss_falls(folder, tmp_path, data, objective):
    torch.manual_seed(0)
    encoder = load(folder)
    options = {"max_steps": 30, "learning_rate": 2e-3}
    trainer = train(encoder, tmp_path, data, objective(encoder), **options)
    found = logged(trainer, "loss")
    assert len(found) == 30
    assert np.mean(found[-4:]) < 0.8 * np.mean(found[:4])


def by_hand(encoder, texts, steps, size, seed):
    """Train with MNRL in a plain loop; return the weights after each step."""
    rows = BatchSampler(
        [lambda rng: random_batches(len(texts[0]), size, rng)],
        [0],
        seed=seed,
        least_rows=[2],
    )
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-3, weight_decay=0)
    total, done, found = steps, 0, []
    while done < total:
        rows.set_epoch(done // len(rows))
        for batch in rows:
            if done == total:
                break
            vectors = []
            for column in texts:
                given = encoder.tokenizer(
                    [column[row] for row in batch], padding=True, return_tensors="pt"
                )
                vectors.append(encoder(given["input_ids"], given["attention_mask"]))
            a, p = (F.normalize(part, dim=-1) for part in vectors)
            F.cross_entropy(a @ p.T / 0.05, torch.arange(len(a))).backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            for group in optimiser.param_groups:
                warm = min(1, done / 2)  # two steps of warming up
                group["lr"] = 1e-3 * min(warm, (total - done) / (total - 2))
            optimiser.step()
            optimiser.zero_grad()
            done += 1
            found.append(weights(encoder))
    return found


def test_every_step_equals_a_loop_by_hand(folder, tmp_path):
    texts = sentences(28)
    columns = {"anchor": texts[:14], "positive": texts[14:]}
    expected = by_hand(
        load(folder, 0, double=True), (texts[:14], texts[14:]), 9, 4, seed=7
    )
    encoder, found = load(folder, 0, double=True), []
    train(
        encoder,
        tmp_path,
        TrainingData(columns),
        MultipleNegativesRankingLoss(),
        callbacks=[AfterStep(lambda: found.append(weights(encoder)))],
        max_steps=9,
        warmup_steps=2,
        seed=7,
    )
    assert len(found) == len(expected) == 9  # more than two epochs of 4, 4, 4 and 2
    for ours, theirs in zip(found, expected, strict=True):
        assert farthest(ours, theirs) < 1e-6
    assert farthest(expected[0], weights(load(folder, 0, double=True))) == 0  # warm-up
    assert farthest(expected[0], expected[-1]) > 1e-3


def test_gradients_accumulate_to_those_of_the_whole_batch(folder, tmp_path):
    found = []
    for size, parts in ((8, 1), (4, 2), (2, 4)):
        encoder = load(folder, 0, double=True)
        trainer = train(
            encoder,
            tmp_path,
            scored(20),  # the last batch of an epoch is a half
            CosineSimilarityLoss(),
            num_train_epochs=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
        )
        assert trainer.state.global_step == 6
        found.append((weights(encoder), logged(trainer, "loss")))
    for other, losses in found[1:]:
        assert farthest(other, found[0][0]) < 1e-6
        np.testing.assert_allclose(losses, found[0][1], atol=1e-6)


@pytest.mark.parametrize("kind", [MultipleNegativesRankingLoss, CosineSimilarityLoss])
def test_group_size_does_not_change_the_gradient(folder, tmp_path, kind):
    data = pairs(16) if kind is MultipleNegativesRankingLoss else scored(16)
    found = []
    for group in (None, 10, 100):
        encoder = load(folder, 0, double=True)
        train(encoder, tmp_path, data, kind(), group_tokens=group)
        found.append(weights(encoder))
    assert farthest(found[0], found[1]) < 1e-6
    assert farthest(found[0], found[2]) < 1e-6


ONE_STEP = {
    "max_steps": 1,
    "optim": "sgd",
    "learning_rate": 1e-3,
    "max_grad_norm": 0,
    "per_device_train_batch_size": 8,
    "lr_scheduler_type": "constant",
}


def gradient(folder, out, objective, dropout=0.0, **options):
    """Return the gradient of one step."""
    encoder = load(folder, dropout)
    before = weights(encoder)
    train(encoder, out, pairs(8), objective, **ONE_STEP | options)
    after = weights(encoder)
    return torch.cat([((before[n] - after[n]) / 1e-3).flatten() for n in before])


def test_bfloat16(folder, tmp_path):
    encoder = load(folder, 0)
    trainer = train(
        encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(), bf16=True
    )
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    exact = train(load(folder, 0), tmp_path, pairs(16), MultipleNegativesRankingLoss())
    found, expected = logged(trainer, "loss")[0], logged(exact, "loss")[0]
    assert found != expected
    assert found == pytest.approx(expected, abs=0.05)


def test_a_cached_loss_goes_backward_in_bfloat16_too(folder, tmp_path):
    plain = gradient(folder, tmp_path, MultipleNegativesRankingLoss())
    kinds = []
    handle = register_module_forward_hook(
        lambda module, _, out: (
            kinds.append(out.dtype) if isinstance(module, torch.nn.Linear) else None
        )
    )
    try:
        cached = gradient(
            folder, tmp_path, CachedMultipleNegativesRankingLoss(tokens=30), bf16=True
        )
    finally:
        handle.remove()
    assert set(kinds) == {torch.bfloat16}
    assert F.cosine_similarity(cached, plain, dim=0) > 0.999
    assert cached.norm() == pytest.approx(plain.norm().item(), rel=0.01)


def test_a_cached_loss_has_the_gradient_of_the_loss(folder, tmp_path):
    plain = gradient(folder, tmp_path, MultipleNegativesRankingLoss())
    for objective in (
        CachedMultipleNegativesRankingLoss(tokens=30),
        CachedLoss(MultipleNegativesRankingLoss(), tokens=1),
    ):
        cached = gradient(folder, tmp_path, objective)
        torch.testing.assert_close(cached, plain, rtol=1e-3, atol=2e-3)
    assert plain.norm() > 1


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    "objective",
    [
        MultipleNegativesRankingLoss,
        lambda: CachedMultipleNegativesRankingLoss(tokens=30),
    ],
    ids=["plain", "cached"],
)
def test_activations_worked_out_again_give_the_same_gradient(
    folder, tmp_path, objective, dropout
):
    options = {"dropout": dropout, "group_tokens": 60}
    plain = gradient(folder, tmp_path, objective(), **options)
    calls = []
    handle = register_module_forward_pre_hook(
        lambda module, *_: calls.append(type(module).__name__)
    )
    try:
        again = gradient(
            folder, tmp_path, objective(), activation_checkpointing=True, **options
        )
    finally:
        handle.remove()
    torch.testing.assert_close(again, plain, rtol=0, atol=1e-6)
    # Each layer runs once, and what is in it once more when it goes backward.
    assert calls.count("BertAttention") > calls.count("BertLayer") > 0


def test_set_dropout(folder, tmp_path):
    encoder = load(folder, 0.25)
    config = encoder.transformer.config
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.25
    drops = [m.p for m in encoder.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(drops) == {0.25}
    encoder.save(tmp_path / "saved")
    saved = SentenceEncoder.from_pretrained(tmp_path / "saved", device="cpu")
    assert saved.transformer.config.hidden_dropout_prob == 0.25
    with pytest.raises(ValueError, match="from 0 to below 1"):
        set_dropout(encoder, 1.0)


# Several data sets


def two_sets(count=8):
    return {"pairs": pairs(2 * count), "scores": scored(count)}


def two_objectives():
    return {"pairs": MultipleNegativesRankingLoss(), "scores": CosineSimilarityLoss()}


@pytest.mark.parametrize(
    ("mixing", "steps"), [("proportional", 12), ("round_robin", 8)]
)
def test_two_data_sets_with_an_objective_each(folder, tmp_path, mixing, steps):
    encoder = load(folder)
    trainer = train(
        encoder,
        tmp_path,
        two_sets(16),
        two_objectives(),
        mixing=mixing,
        num_train_epochs=1,
    )
    assert trainer.state.global_step == steps
    turns = [
        "pairs" if "pairs_accuracy" in entry else "scores"
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    assert turns.count("scores") == 4
    if mixing == "round_robin":
        assert turns == ["pairs", "scores"] * 4
    else:
        assert turns != sorted(turns)


def test_diagnostics_are_means_over_the_batches_that_had_them(folder, tmp_path):
    data = {"one": plain_texts(8), "two": plain_texts(8, seed=1)}
    objective = {"one": Told("height", [1, 2]), "two": Told("width", [3, 5])}
    trainer = train(
        load(folder), tmp_path, data, objective, num_train_epochs=1, logging_steps=4
    )
    (entry,) = [e for e in trainer.state.log_history if "loss" in e]
    assert entry["one_height"] == 1.5
    assert entry["two_width"] == 4
    trainer = train(
        load(folder), tmp_path, data["one"], Told("height", [1, 2, 5, 9]),
        logging_steps=2, gradient_accumulation_steps=1,
    )  # fmt: skip
    assert logged(trainer, "height") == [1.5, 7]


def test_diagnostics_explain_the_loss(folder, tmp_path):
    trainer = train(load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss())
    for name in ("accuracy", "positive", "negative"):
        assert len(logged(trainer, name)) == 4
        assert all(-1 <= value <= 1 for value in logged(trainer, name))
    trainer = train(load(folder), tmp_path, classed(16), SoftmaxLoss(WIDTH))
    assert len(logged(trainer, "accuracy")) == 4


def test_one_objective_for_two_sets_is_one_set_of_weights(folder, tmp_path):
    head = SoftmaxLoss(WIDTH)
    data = {"one": classed(8), "two": classed(8, seed=1)}
    trainer = train(load(folder), tmp_path, data, head, num_train_epochs=1)
    assert list(trainer.trained.own_parameters()) == ["for one.weight"]
    assert trainer.state.global_step == 4


def test_prompts_stand_before_the_texts(folder, tmp_path):
    texts = sentences(32)
    columns = {"anchor": texts[:16], "positive": texts[16:]}
    by_prompt, by_hand = load(folder), load(folder)
    objective = MultipleNegativesRankingLoss
    train(
        by_prompt, tmp_path, TrainingData(columns), objective(), prompts="balan ketor "
    )
    prefixed = {
        role: [f"balan ketor {text}" for text in column]
        for role, column in columns.items()
    }
    train(by_hand, tmp_path, TrainingData(prefixed), objective())
    assert unequal(weights(by_prompt), weights(by_hand)) == []
    without = load(folder)
    train(without, tmp_path, TrainingData(columns), objective())
    assert unequal(weights(by_prompt), weights(without))


def test_prompts_by_data_set(folder, tmp_path):
    data = two_sets()
    trainer = made(
        load(folder), tmp_path, data, two_objectives(),
        prompts={"pairs": "", "scores": "balan "},
    )  # fmt: skip
    batches = list(trainer.get_train_dataloader())
    balan = trainer.encoder.tokenizer.convert_tokens_to_ids("balan")
    for given in batches:
        first = next(iter(given["batch"].tokens.values()))
        starts = {ids[1] == balan for ids in first}
        assert starts == {given["dataset"] == "scores"}


def test_two_trainers_with_the_same_data_do_not_meet(folder, tmp_path):
    data = pairs(16)
    alone = load(folder)
    train(alone, tmp_path, data, MultipleNegativesRankingLoss())
    encoder, other = load(folder), load(folder)
    other.max_seq_length = 4
    one = made(encoder, tmp_path, data, MultipleNegativesRankingLoss())
    two = made(other, tmp_path, data, MultipleNegativesRankingLoss(), prompts="su ")
    one.train()
    two.train()
    assert unequal(weights(encoder), weights(alone)) == []


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"batching": "no_duplicates"}, 4),
        ({"batching": "tokens", "batch_tokens": 60}, None),
        ({"dataloader_drop_last": True}, 4),
    ],
)
def test_ways_of_batching(folder, tmp_path, options, rows):
    texts = sentences(10)
    rng = np.random.default_rng(0)
    columns = {
        "anchor": list(rng.choice(texts, 22)),
        "positive": list(rng.choice(texts, 22)),
    }
    trainer = made(
        load(folder),
        tmp_path,
        TrainingData(columns),
        MultipleNegativesRankingLoss(),
        **options,
    )
    loader = trainer.get_train_dataloader()
    for given in loader:
        batch = given["batch"]
        assert len(batch) >= 2
        if rows:
            assert len(batch) <= rows
        if options.get("batching") == "no_duplicates":
            pairs = zip(batch.texts["anchor"], batch.texts["positive"], strict=True)
            words = [text for pair in pairs for text in set(pair)]
            assert len(words) == len(set(words))
        if "batch_tokens" in options:
            assert sum(len(i) for c in batch.tokens.values() for i in c) <= 60
        if "dataloader_drop_last" in options:
            assert len(batch) == rows
    assert len(list(loader)) == len(loader) > 3
    trainer.train()


def test_a_batch_of_one_row_is_left_out_or_refused(folder, tmp_path):
    objective = MultipleNegativesRankingLoss()
    trainer = train(load(folder), tmp_path, pairs(9), objective, num_train_epochs=2)
    assert trainer.state.global_step == 4  # 4 and 4 rows, twice
    cached = CachedMultipleNegativesRankingLoss()
    for kind in (objective, cached):
        with pytest.raises(ValueError, match="needs 2 or more; .*batch_size is 1"):
            made(load(folder), tmp_path, pairs(9), kind, per_device_train_batch_size=1)
        with pytest.raises(ValueError, match="needs 2 rows, and made-up pairs has 1"):
            made(load(folder), tmp_path, pairs(1), kind)
    trainer = train(load(folder), tmp_path, scored(9), CosineSimilarityLoss(),
                    num_train_epochs=1)  # fmt: skip
    assert trainer.state.global_step == 3


def test_hard_negatives_of_any_number(folder, tmp_path):
    texts = sentences(40)
    columns = {
        "anchor": texts[:8],
        "positive": texts[8:16],
        "negative": [texts[16 + row : 16 + 2 * row] for row in range(8)],
    }
    data = TrainingData(columns)
    trainer = train(
        load(folder), tmp_path, data, MultipleNegativesRankingLoss(),
        per_device_train_batch_size=2, num_train_epochs=2,
    )  # fmt: skip
    assert trainer.state.global_step == 8
    columns["negative"] = [[]] * 8
    train(load(folder), tmp_path, TrainingData(columns), MultipleNegativesRankingLoss())


# What is left behind


def global_state():
    return (
        random.getstate(),
        [str(part) for part in np.random.get_state()],  # noqa: NPY002
        torch.get_rng_state().tolist(),
    )


def test_global_random_state_is_left_alone_and_does_not_matter(folder, tmp_path):
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        encoder, data = load(folder), pairs(16)
        before = global_state()
        trainer = made(
            encoder, tmp_path, data, MultipleNegativesRankingLoss(), seed=5,
            evaluation_data=pairs(8, seed=1), eval_strategy="steps", eval_steps=2,
        )  # fmt: skip
        assert global_state() == before
        trainer.train()
        assert global_state() == before
        trainer.evaluate()
        assert global_state() == before
        found.append(weights(encoder))
    assert unequal(*found) == []


def test_encoder_is_left_as_it_was(folder, tmp_path):
    encoder = load(folder)
    encoder.transformer.set_attn_implementation("sdpa")
    seen = []

    def look():
        seen.append((encoder.training, encoder.transformer.config._attn_implementation))

    trainer = made(
        encoder,
        tmp_path,
        pairs(16),
        MultipleNegativesRankingLoss(),
        callbacks=[AfterStep(look)],
        save_strategy="steps",
        save_steps=4,
    )
    trainer.train()
    assert seen == [(True, "eager")] * 4
    assert not any(module.training for module in encoder.modules())
    assert encoder.transformer.config._attn_implementation == "sdpa"
    saved = SentenceEncoder.from_pretrained(tmp_path / "checkpoint-4", device="cpu")
    assert saved.fingerprint() == encoder.fingerprint()


def test_encoder_is_left_as_it_was_by_an_error_too(folder, tmp_path):
    encoder = load(folder)
    before = encoder.transformer.config._attn_implementation

    def fail():
        raise KeyError("on purpose")

    state = global_state()
    with pytest.raises(KeyError, match="on purpose"):
        train(
            encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            callbacks=[AfterStep(fail)], activation_checkpointing=True,
        )  # fmt: skip
    assert not encoder.training
    assert encoder.transformer.config._attn_implementation == before == "sdpa"
    assert not encoder.transformer.is_activation_checkpointing
    assert global_state() == state


def test_same_seed_same_weights_and_another_others(folder, tmp_path):
    found = []
    for seed in (1, 1, 2):
        encoder = load(folder)
        train(encoder, tmp_path, pairs(16), MultipleNegativesRankingLoss(), seed=seed)
        found.append(weights(encoder))
    assert unequal(found[0], found[1]) == []
    assert unequal(found[0], found[2])


def test_data_seed_orders_the_rows_alone(folder, tmp_path):
    def order(**seeds):
        trainer = made(
            load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(), **seeds
        )
        return [
            given["batch"].rows.tolist() for given in trainer.get_train_dataloader()
        ]

    assert order(seed=1, data_seed=3) == order(seed=2, data_seed=3) == order(seed=3)
    assert order(seed=1) != order(seed=2)


def test_one_plain_line_for_each_report(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sbert_lab")
    train(load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss())
    lines = [record.getMessage() for record in caplog.records]
    steps = [line for line in lines if line.startswith("step ") and "  loss " in line]
    assert [line.split("  ")[0] for line in steps] == [
        f"step {n} of 4" for n in (1, 2, 3, 4)
    ]
    assert all("accuracy" in line and "nan" not in line for line in steps)


def test_nothing_is_printed(folder, tmp_path, capsys):
    train(load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss())
    train(
        load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
        disable_tqdm=False,
    )  # fmt: skip
    found = capsys.readouterr()
    assert found.out == found.err == ""


# A loss that is not a number


def with_weight(folder, value):
    """Return an encoder with that value in the word embedding of one word."""
    encoder = load(folder)
    number = encoder.tokenizer.convert_tokens_to_ids(WORDS[7])
    with torch.no_grad():
        encoder.transformer.embeddings.word_embeddings.weight[number] = value
    return encoder


def damaged_rows(*rows, count=8):
    """Return pairs of which some rows hold the one word."""
    texts = [" ".join(w for w in text.split() if w != WORDS[7]) + " balan" for text in
             sentences(2 * count)]  # fmt: skip
    first, second = texts[:count], texts[count:]
    for row in rows:
        second[row] += f" {WORDS[7]}"
    return first, second


@pytest.mark.parametrize("kind", ["cosine", "mnrl", "cached"])
def test_rows_that_make_the_loss_no_number_are_named(folder, tmp_path, kind):
    first, second = damaged_rows(3, 5)
    objective = {
        "cosine": CosineSimilarityLoss,
        "mnrl": MultipleNegativesRankingLoss,
        "cached": CachedMultipleNegativesRankingLoss,
    }[kind]()
    roles = ("first", "second") if kind == "cosine" else ("anchor", "positive")
    columns = dict(zip(roles, (first, second), strict=True))
    if kind == "cosine":
        columns["label"] = [0.5] * 8
    data = TrainingData(columns, source="my rows")
    with pytest.raises(FloatingPointError) as error:
        train(
            with_weight(folder, 3e38), tmp_path, data, objective,
            per_device_train_batch_size=8,
        )  # fmt: skip
    said = str(error.value)
    assert said.startswith("step 1: the loss is not a number; my rows, rows ")
    rows = said.removeprefix("step 1: the loss is not a number; my rows, rows ")
    assert sorted(rows.split(".")[0].split(", ")) == ["3", "5"]
    assert any(second[row] in said for row in (3, 5))
    assert ("label 0.5" in said) == (kind == "cosine")


def test_a_single_row_is_named_by_its_line_in_the_file(folder, tmp_path):
    from sbert_lab.datasets.pairs import read_pairs

    path = tmp_path / "pairs.csv"
    lines = [f"{a},{b}" for a, b in zip(*damaged_rows(6), strict=True)]
    path.write_text("\n".join(["anchor,positive", *lines]), encoding="utf-8")
    data = TrainingData.from_pairs(read_pairs(path))
    with pytest.raises(FloatingPointError, match=r"pairs\.csv, row 8\. The first"):
        train(
            with_weight(folder, 3e38), tmp_path, data, MultipleNegativesRankingLoss(),
            num_train_epochs=1,
        )  # fmt: skip


def test_weights_that_are_no_numbers_are_said_to_be(folder, tmp_path):
    encoder = with_weight(folder, float("nan"))
    first, second = damaged_rows(0, 1, 2, 3, 4, 5, 6, 7)
    data = TrainingData({"anchor": first, "positive": second})
    objective = MultipleNegativesRankingLoss()
    with pytest.raises(FloatingPointError, match="step 1: .*neither are the weights"):
        train(encoder, tmp_path, data, objective)
    assert not encoder.training


def test_a_step_too_long_is_said_to_be(folder, tmp_path):
    with pytest.raises(FloatingPointError, match="step 2: .*earlier step was too long"):
        train(
            load(folder), tmp_path, pairs(16), MultipleNegativesRankingLoss(),
            learning_rate=float("inf"),
        )  # fmt: skip


class Crowded(Objective):
    """A loss that is no number where a batch has more than one row."""

    roles = ("text",)

    def value(self, texts, batch):
        return texts["text"].sum() * (float("nan") if len(batch) > 1 else 1)


def test_rows_that_are_well_alone(folder, tmp_path):
    with pytest.raises(
        FloatingPointError, match="each of which is well alone"
    ) as error:
        train(load(folder), tmp_path, plain_texts(4), Crowded())
    assert "rows " in str(error.value)


# What is saved


def test_a_checkpoint_is_a_model(folder, tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder = load(folder)
    trainer = train(
        encoder, tmp_path, classed(16), SoftmaxLoss(WIDTH),
        save_strategy="steps", save_steps=4,
    )  # fmt: skip
    texts = sentences(9, seed=3)
    expected = encoder.encode(texts)
    trainer.save_model(str(tmp_path / "model"))
    for saved in (tmp_path / "checkpoint-4", tmp_path / "model"):
        ours = SentenceEncoder.from_pretrained(saved, device="cpu")
        np.testing.assert_allclose(ours.encode(texts), expected, rtol=0, atol=1e-6)
        theirs = SentenceTransformer(str(saved), device="cpu")
        np.testing.assert_allclose(theirs.encode(texts), expected, rtol=0, atol=1e-6)


def test_saving_a_model_never_removes_checkpoints(folder, tmp_path):
    trainer = made(
        load(folder), tmp_path / "out", pairs(16), MultipleNegativesRankingLoss(),
        save_strategy="steps", save_steps=2,
    )  # fmt: skip
    trainer.save_model()
    trainer.save_model()
    trainer.train()
    with pytest.raises(FileExistsError, match="give save_model a folder of its own"):
        trainer.save_model()
    assert (tmp_path / "out" / "checkpoint-4" / "trainer_state.json").is_file()


def test_several_gpus_in_one_process_are_not_used(folder, tmp_path, caplog):
    """A stand-in: on a CPU the number of GPUs is told, not found."""
    from tiny_training import arguments

    from sbert_lab.training import SentenceTrainer

    args = arguments(tmp_path)
    assert args.n_gpu <= 1
    args._n_gpu = 2
    trainer = SentenceTrainer(
        load(folder), args, pairs(16), MultipleNegativesRankingLoss()
    )
    assert args.n_gpu == 1
    assert args.train_batch_size == 4
    assert "torchrun" in caplog.text
    trainer.train()
