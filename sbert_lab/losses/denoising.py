"""TSDAE: a sentence vector from which a damaged sentence can be written out again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sbert_lab._utils import quiet_transformers
from sbert_lab.losses.objective import (
    Batch,
    Encode,
    Objective,
    Tokens,
    to_float32,
    trained_width,
)
from sbert_lab.models.batching import pad_right


def deleted(
    tokens: Tokens,
    inner: NDArray[np.bool_],
    starts: NDArray[np.bool_],
    ratio: float,
    draw: NDArray[np.float64],
) -> Tokens:
    """Return a text without about `ratio` of its words; at least one stays.

    All arrays are ``[L]``: the token ids, False in `inner` for special tokens, which
    stay, True in `starts` where a word begins (its other pieces go with it), and
    uniform numbers in `draw`; a word goes where its first one is below `ratio`.

    Source: Wang, Reimers and Gurevych 2021, section 3.1 (deletion, ratio 0.6).
    """
    first = np.flatnonzero(starts & inner)
    if not len(first):
        return tokens
    word = np.maximum((starts & inner).cumsum() - 1, 0)  # [L]
    luck = draw[first]
    stays = luck >= ratio
    stays[luck.argmax()] = True
    kept: Tokens = tokens[~inner | stays[word]]
    return kept


def denoising_loss(logits: Tensor, target: Tensor, pad: int) -> Tensor:
    """Return the mean cross-entropy of the next token, a scalar.

    ``L = −1/T Σ_t log p(x_t | x_<t, s)``, s the vector of the damaged sentence.

    `logits` are what the decoder expects after each token, ``[B, L, V]``; `target` are
    token ids, int64 ``[B, L]``, of which the first and the padding are not asked for.

    Source: Wang, Reimers and Gurevych 2021, equation 1.
    """
    expected = to_float32(logits[:, :-1]).flatten(0, 1)
    return F.cross_entropy(expected, target[:, 1:].reshape(-1), ignore_index=pad)


class DenoisingAutoEncoderLoss(Objective):
    """`denoising_loss` of the column ``text``, with a decoder that is thrown away.

    The decoder sees the damaged sentence through its one vector only. It shares the
    weights of the encoder to be trained; its attention to that vector and its output
    layer are its own, drawn from `seed`. `ratio` of the words are deleted.

    Source: Wang, Reimers and Gurevych 2021.
    """

    roles = ("text",)

    def __init__(
        self,
        encoder: Any,  # noqa: ANN401  (a SentenceEncoder, which stands above)
        ratio: float = 0.6,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio={ratio}: from 0 to below 1; the paper's is 0.6")
        width = encoder.transformer.config.hidden_size
        found = trained_width(encoder, width)
        if found != width:
            raise ValueError(
                f"the encoder's vectors have {found} dimensions and its transformer "
                f"{width}: TSDAE needs them equal; train before a dense layer is added"
            )
        self.ratio = ratio
        self.decoder = _decoder(encoder.transformer, seed)
        tokenizer = encoder.tokenizer
        pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self._starts = np.array([not piece.startswith("##") for piece in pieces])
        # An unknown word is a word like others.
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self._special = np.isin(np.arange(len(pieces)), list(special))
        self._pad = tokenizer.pad_token_id or 0
        self._encoder_weights = {id(p) for p in encoder.parameters()}

    def bind(self, encoder: nn.Module, numbers: Mapping[str, int]) -> None:
        """Refuse another encoder than the one whose weights the decoder shares."""
        del numbers
        if {id(p) for p in encoder.parameters()} != self._encoder_weights:
            raise ValueError("DenoisingAutoEncoderLoss was made for another encoder")

    def forward(self, encode: Encode, batch: Batch) -> Tensor:
        """Embed the damaged texts, and return the loss."""
        whole = batch.tokens["text"]
        vectors = encode([self._damaged(text) for text in whole])  # [B, D]
        return self.reconstruction(vectors, whole)

    def reconstruction(self, vectors: Tensor, whole: Sequence[Tokens]) -> Tensor:
        """Return `denoising_loss` of texts that the decoder writes from vectors."""
        ids = torch.from_numpy(pad_right(whole, self._pad)[0]).to(vectors.device)
        logits = self.decoder(
            input_ids=ids,
            encoder_hidden_states=to_float32(vectors)[:, None],
            use_cache=False,
        ).logits
        return denoising_loss(logits, ids, self._pad)

    def _damaged(self, tokens: Tokens) -> Tokens:
        # From torch's own generator, as dropout is: a resumed run goes on alike.
        draw = torch.rand(len(tokens), dtype=torch.float64).numpy()
        inner = ~self._special[tokens]
        return deleted(tokens, inner, self._starts[tokens], self.ratio, draw)


def _decoder(transformer: Any, seed: int) -> nn.Module:  # noqa: ANN401
    """Return a language model with the transformer's own weights as its layers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**transformer.config.to_dict())
    config.is_decoder = config.add_cross_attention = True
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    base = getattr(model, model.base_model_prefix)
    shared = dict(transformer.named_parameters())
    tied = 0
    for name, _ in list(base.named_parameters()):
        if name in shared:
            owner, _, leaf = name.rpartition(".")
            setattr(base.get_submodule(owner), leaf, shared[name])
            tied += 1
    if tied < len([n for n in shared if not n.startswith("pooler.")]):
        raise ValueError(
            f"no decoder shares all weights of a {type(transformer).__name__}: TSDAE "
            "needs a model whose causal form has the same layers, such as BERT"
        )
    model.tie_weights()  # the output layer is the word embeddings
    made: nn.Module = model.to(transformer.device)
    return made
