"""`CrossEncoder`: two texts go in together, one score comes out.

Where `SentenceEncoder` makes a vector of each text and compares those, here every token
of one text sees every token of the other. That judges better and cannot be prepared:
each pair costs a pass. So it is put on top of a search, to sort its first k answers
anew (`rerank`).
"""

import inspect
import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbert_lab._utils import Advance, progress
from sbert_lab.models import cross_folder
from sbert_lab.models.batching import in_batches
from sbert_lab.models.checkpoint import ACTIVATIONS, CheckpointError
from sbert_lab.models.cross_folder import SPELLING, CrossLayout
from sbert_lab.models.fingerprint import Fingerprint, idle_settings_removed
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import CHUNK
from sbert_lab.models.transformer import encoding_part, fast_tokenizer, length_limit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Scores = NDArray[np.float32]

OWN = "own"  # the activation that the model was saved with


class Ranking(NamedTuple):
    """Documents sorted by score.

    Parameters
    ----------
    order
        int64 ``[k]``, their places in what was given, best first.
    scores
        float32 ``[k]``, falling.
    """

    order: NDArray[np.int64]
    scores: Scores


class CrossEncoder(nn.Module):
    """A transformer with a head of one score, as a function of two texts.

    Parameters
    ----------
    transformer
        A transformers model for sequence classification with one label: its ``logits``
        are ``[B, 1]``.
    tokenizer
        Its fast tokenizer.
    activation
        What follows the score unless `predict` is told otherwise: ``"sigmoid"``,
        ``"identity"`` or another of `SPELLING`.
    max_seq_length
        Longest pair in tokens, special tokens included; None for what the model bears.

    Use `from_pretrained` to load one.

    Source: Devlin et al. 2019, section 4.1 (sentence pairs); Nogueira and Cho 2019
    (reranking).
    """

    def __init__(
        self,
        transformer: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        activation: str = "sigmoid",
        max_seq_length: int | None = None,
    ) -> None:
        super().__init__()
        if not tokenizer.is_fast:
            raise CheckpointError(
                "the tokenizer has no tokenizer.json and none can be made from its "
                "vocabulary; save it with a fast tokenizer"
            )
        if transformer.config.num_labels != 1:
            raise CheckpointError(
                f"the head gives {transformer.config.num_labels} scores a pair; a "
                "cross-encoder here gives one (num_labels=1)"
            )
        _check_activation(activation)
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.activation = activation
        self.last_truncated = 0
        self.max_seq_length = max_seq_length  # builds the tokenizer's copy
        name, takes = (
            "token_type_ids",
            inspect.signature(transformer.forward).parameters,
        )
        told = name in tokenizer.model_input_names and name in takes
        # A RoBERTa has one kind of token, whatever its tokenizer says.
        self._segmented = (
            told and getattr(transformer.config, "type_vocab_size", 2) != 1
        )
        self._fingerprint = Fingerprint()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        head_seed: int | None = None,
        device: str | torch.device | None = None,
        allow_hub: bool = True,
    ) -> Self:
        """Load a cross-encoder, or begin one from an encoder.

        Parameters
        ----------
        name_or_path
            A folder that sentence-transformers' CrossEncoder, `save` or transformers
            wrote, a catalogue name, or ``"owner/name"`` on the hub.
        head_seed
            Of a plain encoder, which has no head: draw one with this seed. Without it
            such a folder is refused, for its scores would mean nothing.
        device
            ``"cpu"``, ``"cuda"`` …; the default is the GPU if there is one.
        allow_hub
            False never asks the network.

        Raises
        ------
        FileNotFoundError, ChecksumError, CheckpointError
            Each with what to do.
        """
        folder = resolve(name_or_path, allow_hub=allow_hub)
        layout = cross_folder.read(folder)
        transformer, tokenizer = cross_folder.load(folder, layout, head_seed)
        encoder = cls(
            transformer,
            tokenizer,
            activation=layout.activation,
            max_seq_length=layout.max_seq_length,
        )
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return encoder.to(device).eval()

    def save(self, folder: str | Path) -> None:
        """Write a folder that sentence-transformers' CrossEncoder loads.

        Atomic: a killed process leaves the folder as it was, or the new one.
        """
        layout = CrossLayout(self.activation, self.max_seq_length)
        cross_folder.write(Path(folder), layout, self.transformer, self.tokenizer)

    @property
    def max_seq_length(self) -> int:
        """Longest pair in tokens, special tokens included; longer ones are cut.

        The longer text of a pair is cut first. Set it to another number, or to None for
        what the model bears.
        """
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, wanted: int | None) -> None:
        limit = length_limit(wanted, self.tokenizer, self.transformer)
        self._max_seq_length = limit
        self._backend = fast_tokenizer(self.tokenizer, limit, do_lower_case=False)
        self._tokenizer_json = encoding_part(self._backend)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def token_ids(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return the tokens of single texts as `pair_ids` gives those of pairs."""
        return self._tokens(list(texts))

    def pair_ids(
        self, first: Sequence[str], second: Sequence[str]
    ) -> list[NDArray[np.int64]]:
        """Return the tokens of each pair, int64 ``[L, 2]``, cut at `max_seq_length`.

        First the token's id, then the text that it belongs to, 0 or 1.
        `last_truncated` says how many pairs were cut.
        """
        return self._tokens(list(zip(first, second, strict=True)))

    def _tokens(
        self, inputs: list[str] | list[tuple[str, str]]
    ) -> list[NDArray[np.int64]]:
        found = self._backend.encode_batch_fast(inputs)
        self.last_truncated = sum(bool(e.overflowing) for e in found)
        return [np.array([e.ids, e.type_ids], np.int64).T for e in found]

    def pair_lengths(
        self, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the tokens of pairs, uncut, from those that `token_ids` gives each."""
        alone = self._backend.num_special_tokens_to_add(False)
        together = self._backend.num_special_tokens_to_add(True)
        return first + second - 2 * alone + together

    def forward(self, pairs: Tensor, attention_mask: Tensor) -> Tensor:
        """Score padded pairs.

        Parameters
        ----------
        pairs
            int64 ``[B, L, 2]``, as `pair_ids` gives them: ids, and which text.
        attention_mask
            int64 ``[B, L]``.

        Returns
        -------
        Tensor
            ``[B, 1]``, before any activation.
        """
        ids, kinds = pairs.unbind(-1)
        more = {"token_type_ids": kinds} if self._segmented else {}
        found: Tensor = self.transformer(
            input_ids=ids, attention_mask=attention_mask, **more
        ).logits
        return found

    def predict(
        self,
        first: Sequence[str],
        second: Sequence[str],
        *,
        activation: str | None = OWN,
        token_budget: int | None = None,
        show_progress: bool | None = None,
    ) -> Scores:
        """Score pairs of texts.

        Batches are filled to a budget of tokens, longest pairs first, and on a CPU a
        BERT reads them without padding. The scores are those of one pair at a time.

        Parameters
        ----------
        first, second
            The two texts of each pair; a query comes first.
        activation
            What follows the score: ``"own"``, the one that the model was saved with,
            ``"sigmoid"`` or another of `SPELLING`; None for nothing.
        token_budget
            Tokens in a batch; the default suits the device. Changes speed and memory,
            not the result.
        show_progress
            A bar on standard error; by default for long work on a terminal.

        Returns
        -------
        NDArray
            float32 ``[n]``.

        Raises
        ------
        TypeError
            An item is not a string; names its position.
        ValueError
            Texts without a partner, an unknown activation, or a score that is not
            finite.
        """
        first, second = _strings("first", first), _strings("second", second)
        if len(first) != len(second):
            raise ValueError(
                f"{len(first)} first texts and {len(second)} second ones; to score one "
                "query with many documents, use rerank"
            )
        name = self.activation if activation == OWN else activation or "identity"
        _check_activation(name)
        out: Scores = np.empty(len(first), np.float32)
        truncated = 0
        with progress(len(first), "score", show=show_progress) as move:
            for start in range(0, len(first), CHUNK):
                part = slice(start, start + CHUNK)
                pairs = self.pair_ids(first[part], second[part])
                truncated += self.last_truncated
                out[part] = self._scores(pairs, token_budget, move)
        self.last_truncated = truncated
        if truncated:
            log.warning(
                "%d of %d pairs are longer than %d tokens and were cut there",
                truncated,
                len(first),
                self.max_seq_length,
            )
        bad = np.flatnonzero(~np.isfinite(out))
        if len(bad):
            raise ValueError(
                f"{len(bad)} scores are not finite, the first for "
                f"{first[bad[0]][:40]!r} and {second[bad[0]][:40]!r}: the weights are "
                "damaged or training diverged; load the model again"
            )
        function = ACTIVATIONS[SPELLING[name]]()
        scores: Scores = function(torch.from_numpy(out)).numpy()
        return scores

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        k: int | None = None,
        **options: Any,  # noqa: ANN401  (those of predict)
    ) -> Ranking:
        """Sort documents by their score with a query; return the best `k`, or all."""
        return rerank(self, [query], [documents], k, **options)[0]

    def fingerprint(self) -> str:
        """Return the sha256 that names this model in caches and records.

        Covers whatever changes the score of a pair: weights, configuration, tokenizer,
        activation. Worked out anew when a weight has changed in place.
        """
        settings = {
            "activation": self.activation,
            "config": idle_settings_removed(self.transformer.config.to_diff_dict()),
            "tokenizer": self._tokenizer_json,
        }
        return self._fingerprint.of(self, settings)

    def _scores(
        self,
        pairs: Sequence[NDArray[np.int64]],
        token_budget: int | None,
        advance: Advance,
    ) -> Scores:
        """Score one chunk, ``[n]``, before any activation."""
        from transformers import BertForSequenceClassification

        model: Any = self.transformer
        plain = type(model) is BertForSequenceClassification

        def read(output: Any, _: Tensor) -> Tensor:  # noqa: ANN401
            if not plain:
                return output.logits  # type: ignore[no-any-return]
            first = output.last_hidden_state[:, :1]
            return model.classifier(model.bert.pooler(first))  # type: ignore[no-any-return]

        scores = in_batches(
            model.bert if plain else model,  # a BERT alone can read without padding
            [pair[:, 0] for pair in pairs],
            read,
            token_type_ids=[p[:, 1] for p in pairs] if self._segmented else None,
            pad=self.tokenizer.pad_token_id or 0,
            token_budget=token_budget,
            advance=lambda rows: advance(len(rows)),
        )
        return scores[:, 0]


def rerank(
    encoder: CrossEncoder,
    queries: Sequence[str],
    candidates: Sequence[Sequence[str]],
    k: int | None = None,
    **options: Any,  # noqa: ANN401  (those of predict)
) -> list[Ranking]:
    """Sort the candidates of each query by their score, all queries in one go.

    Parameters
    ----------
    encoder
        Gives the scores.
    queries
        q texts.
    candidates
        For each query its documents, as many as there are.
    k
        Keep the best `k` of each; None for all.
    options
        See `CrossEncoder.predict`.

    Returns
    -------
    list of Ranking
        One a query. Documents of equal score stay in the order given.
    """
    queries = _strings("queries", queries)
    if len(queries) != len(candidates):
        raise ValueError(
            f"{len(queries)} queries and {len(candidates)} lists of candidates"
        )
    if k is not None and k < 1:
        raise ValueError(f"k={k}: one or more, or None for all")
    listed = [_strings(f"candidates[{i}]", texts) for i, texts in enumerate(candidates)]
    first = [query for query, own in zip(queries, listed, strict=True) for _ in own]
    scores = encoder.predict(first, list(chain(*listed)), **options)
    found, start = [], 0
    for texts in listed:
        own = scores[start : start + len(texts)]
        start += len(texts)
        order = np.argsort(-own, kind="stable")[:k]
        found.append(Ranking(order.astype(np.int64), own[order]))
    return found


def _check_activation(name: str) -> None:
    if name not in SPELLING:
        raise ValueError(f"activation {name!r}: one of {', '.join(SPELLING)}")


def _strings(name: str, texts: object) -> list[str]:
    """Return `texts` as a list of strings, or say which one is not."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(
            f"{name} must be a list of strings, not a {type(texts).__name__}"
        )
    listed = list(texts)
    for position, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(
                f"{name}[{position}] is {text!r} ({type(text).__name__}), not a "
                "string; drop it, or convert it with str()"
            )
    return listed
