import multiprocessing

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_parts
from hypothesis import given
from hypothesis import strategies as st

from sbert_lab.models.batching import (
    check_texts,
    in_batches,
    pad_right,
    token_budget_batches,
)


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 100), st.booleans())
def test_every_text_once_and_within_budget(lengths, budget, packed):
    lengths = np.array(lengths, dtype=np.int64)
    batches = list(token_budget_batches(lengths, budget, packed=packed))
    seen = sorted(i for batch in batches for i in batch.tolist())
    assert seen == list(range(len(lengths)))
    for batch in batches:
        longest = lengths[batch].max()
        cost = lengths[batch].sum() if packed else len(batch) * longest
        assert cost <= budget or len(batch) == 1


def test_pads_on_the_right():
    ids, mask = pad_right([(5, 6, 7), (8,)], pad=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    pairs = pad_right([[(5, 0), (6, 1)], [(8, 0)]], pad=9)[0]
    assert pairs.tolist() == [[[5, 0], [6, 1]], [[8, 0], [9, 9]]]


@pytest.mark.parametrize("kinds", [False, True])
@pytest.mark.parametrize("options", [{}, {"output_hidden_states": True}])
def test_a_model_read_in_batches_is_the_model_read_one_by_one(options, kinds):
    """Packed without options, padded with them; segments or none; input order."""
    model, _ = tiny_parts()
    rng = np.random.default_rng(0)
    texts = [rng.integers(5, 40, n) for n in rng.integers(1, 12, 25)]
    pairs = [np.stack([ids, rng.integers(0, 2, len(ids))], 1) for ids in texts]
    done = []
    found = in_batches(
        model.train(),
        pairs if kinds else texts,
        lambda output, mask: (output.last_hidden_state * mask[..., None]).sum(1),
        pad=3,
        token_budget=40,
        advance=lambda rows: done.extend(rows.tolist()),
        **options,
    )
    assert model.training
    assert found.dtype == np.float32
    assert sorted(done) == list(range(25))
    with torch.no_grad():
        model.eval()
        for row, ids in enumerate(texts):
            more = {}
            if kinds:
                more["token_type_ids"] = torch.from_numpy(pairs[row][:, 1])[None]
            alone = model(input_ids=torch.from_numpy(ids)[None], **more)
            wanted = alone.last_hidden_state[0].sum(0)
            np.testing.assert_allclose(found[row], wanted, atol=1e-5)
    assert in_batches(model, [], lambda output, mask: output).shape == (0, 0)


def test_what_holds_no_texts_in_order_is_refused():
    table = pd.DataFrame({"texts": ["the cat"], "label": ["a"]})
    arrays = [np.array("red"), np.array([["a", "b"]])]
    for texts in ["red", b"red", 5, None, {"a": "b"}, {"a"}, table, *arrays]:
        with pytest.raises(TypeError, match=r"^them must be a list.*, not \w+; .+$"):
            check_texts(texts, "them")
    good = ["a", "", "a\0b", "🙂", "e\u0301"]
    for kind in (tuple, iter, np.array, pd.Series, pd.Index):
        assert check_texts(kind(good)) == good


@pytest.mark.parametrize(
    "bad", [None, float("nan"), pd.NA, b"a", ["a"], ("a", "b"), "a \ud800"]
)
def test_an_item_that_is_no_text_is_named(bad):
    text = isinstance(bad, str)
    said = r"has half a character, .* at 2; replace" if text else "is .*, not a string"
    for listed in (
        ["a"] * 20_000 + [bad],
        pd.Series(["a"] * 20_000 + [bad], None, "O"),
    ):
        with pytest.raises((TypeError, ValueError), match=rf"texts\[20000\] {said}"):
            check_texts(listed)


def parallel():
    """Something large enough for PyTorch to share among threads."""
    torch.nn.functional.gelu(torch.zeros(1_000_000))


def test_a_forked_process_waits_for_no_thread_that_it_lacks():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        parallel()
        child = multiprocessing.get_context("fork").Process(target=parallel)
        child.start()
        child.join(30)
        child.kill()
        child.join()
    finally:
        torch.set_num_threads(threads)
    assert child.exitcode == 0
