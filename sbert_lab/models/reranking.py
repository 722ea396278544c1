"""Reading two texts together: every token of one sees every token of the other.

That is how BERT was meant to compare two texts, and it has a price: nothing that is
worked out for one pair helps with the next.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sbert_lab._utils import progress
from sbert_lab.models.batching import (
    TOKEN_BUDGET,
    equal_lengths,
    evaluating,
    pad_right,
    token_budget_batches,
)
from sbert_lab.models.packed_bert import is_supported, packed_bert, workspace
from sbert_lab.models.sentence_encoder import SentenceEncoder


def read_together(
    encoder: SentenceEncoder,
    first: Sequence[str],
    second: Sequence[str],
    *,
    show_progress: bool | None = None,
) -> NDArray[np.float32]:
    """Run the transformer over ``[CLS] first [SEP] second [SEP]``, pair by pair.

    As fast as `SentenceEncoder.encode`: sorted by length and, on a CPU, not padded.

    Parameters
    ----------
    encoder
        Its transformer and tokenizer are used.
    first, second
        The two texts of each pair; together cut to the model's limit, the longer one
        first.
    show_progress
        A bar on standard error; by default for long work on a terminal.

    Returns
    -------
    NDArray
        The last hidden state at ``[CLS]``, float32 ``[n, D]``, where a cross-encoder
        puts its score.

    Source: Devlin et al. 2019, section 4 (sentence pairs).
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} first texts and {len(second)} second ones")
    model, device = encoder.transformer, encoder.device
    out = np.empty((len(first), model.config.hidden_size), np.float32)
    if not len(first):
        return out
    tokens = encoder.tokenizer(
        list(first),
        list(second),
        truncation="longest_first",
        max_length=encoder.max_seq_length,
        return_token_type_ids=True,
    )
    ids, kinds = tokens["input_ids"], tokens["token_type_ids"]
    pad = encoder.tokenizer.pad_token_id or 0
    lengths = np.array([len(row) for row in ids], np.int64)
    packed = device.type == "cpu" and is_supported(model)
    budget = TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"])
    batches = list(token_budget_batches(lengths, budget, packed=packed))
    with evaluating(model), progress(len(ids), "read", show=show_progress) as go:
        space = None
        if packed:
            space = workspace(model, max(int(lengths[rows].sum()) for rows in batches))
        for rows in batches:
            if packed:
                runs = equal_lengths(rows, lengths)
                words = [torch.tensor([ids[i] for i in run]) for run in runs]
                parts = [torch.tensor([kinds[i] for i in run]) for run in runs]
                found = packed_bert(model, words, space, parts)
            else:
                padded, mask = pad_right([ids[i] for i in rows], pad)
                part, _ = pad_right([kinds[i] for i in rows], 0)
                hidden = model(
                    input_ids=torch.from_numpy(padded).to(device),
                    attention_mask=torch.from_numpy(mask).to(device),
                    token_type_ids=torch.from_numpy(part).to(device),
                )
                found = [hidden.last_hidden_state]
            out[rows] = torch.cat([t[:, 0] for t in found]).float().cpu().numpy()
            go(len(rows))
    return out
