"""Trials: trainings that are alike in all but what is compared, each over every seed.

A notebook says what is trained and on what; here it is trained, measured item by item,
and compared in pairs, so that an interval can say which differences are more than luck.
"""

import gc
import logging
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainerCallback

from sbert_lab._utils import random_state_kept
from sbert_lab.datasets.icd10cm import RetrievalTask
from sbert_lab.datasets.icd10cm_tasks import graded_hierarchy
from sbert_lab.datasets.nli import (
    LABELS,
    Inference,
    all_nli,
    authored,
    icd10cm_entailment,
    nli_triplets,
)
from sbert_lab.datasets.sts import ScoredPairs, stsb
from sbert_lab.evaluation.evaluators import Evaluator
from sbert_lab.evaluation.metrics import ndcg_at_k, pairwise_cosine, spearman
from sbert_lab.evaluation.statistics import Interval, bootstrap_mean
from sbert_lab.evaluation.tasks import similarity_score
from sbert_lab.experiments.profiles import Profile
from sbert_lab.index.exact import exact_search
from sbert_lab.losses import CosineSimilarityLoss, Objective, SoftmaxLoss
from sbert_lab.models.checkpoint import Layout, load_transformer
from sbert_lab.models.registry import resolve
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.training import (
    SentenceTrainer,
    SentenceTrainingArguments,
    TrainingData,
    set_dropout,
)
from sbert_lab.training.trainer import has_fast_bfloat16

log = logging.getLogger(__name__)

#: One number an item: a cosine a pair, or an nDCG a query.
Items = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Trained:
    """A trained encoder and what the trainer logged on the way."""

    encoder: SentenceEncoder
    history: list[dict[str, float]]


def raw_encoder(
    profile: Profile, pooling: str | Sequence[str] = "mean"
) -> SentenceEncoder:
    """Return the profile's raw BERT with a pooling, before any training for similarity.

    Its dropout is the profile's.
    """
    modes = (pooling,) if isinstance(pooling, str) else tuple(pooling)
    transformer, tokenizer = load_transformer(resolve(profile.raw_model))
    width = transformer.config.hidden_size
    encoder = SentenceEncoder(
        transformer, tokenizer, Layout(dimension=width, pooling=modes)
    )
    set_dropout(encoder, profile.dropout)
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def with_pooling(encoder: SentenceEncoder, pooling: str) -> SentenceEncoder:
    """Return the same weights under another pooling."""
    layout = replace(
        encoder.layout, pooling=(pooling,), max_seq_length=encoder.max_seq_length
    )
    other = SentenceEncoder(encoder.transformer, encoder.tokenizer, layout)
    other.head, other.prompts = encoder.head, encoder.prompts
    return other.to(encoder.device).eval()


def train(
    profile: Profile,
    data: TrainingData,
    objective: Callable[[SentenceEncoder], Objective],
    *,
    seed: int = 0,
    pooling: str | Sequence[str] = "mean",
    rate: float | None = None,
    encoder: SentenceEncoder | None = None,
    evaluators: Sequence[Evaluator] = (),
    evaluations: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Train the profile's raw BERT, or a given encoder in place, for one epoch.

    Parameters
    ----------
    profile
        Model, batch size, learning rate, dropout.
    data
        Rows to train on.
    objective
        Makes the objective for an encoder.
    seed
        Of the batches, and of the objective's own first weights.
    pooling
        Of a new encoder.
    rate
        Learning rate; None for the profile's.
    encoder
        To go on with, instead of a new one.
    evaluators, evaluations
        What to measure on the way, and how often: that many times, the last one at
        the end, and once before the first step.
    callbacks
        As in transformers.
    """
    steps = max(1, len(data) // profile.rows)
    with random_state_kept():  # loading draws a pooler, where there is none
        encoder = raw_encoder(profile, pooling) if encoder is None else encoder
        # Drawn here, so that an objective need not know of seeds.
        torch.manual_seed(seed)
        made = objective(encoder)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SentenceTrainer(
            encoder,
            SentenceTrainingArguments(
                folder,
                num_train_epochs=1,
                per_device_train_batch_size=profile.rows,
                learning_rate=profile.rate if rate is None else rate,
                warmup_steps=0.1,
                seed=seed,
                bf16=has_fast_bfloat16(),
                use_cpu=encoder.device.type == "cpu",
                save_strategy="no",
                eval_strategy="steps" if evaluations else "no",
                eval_steps=1,  # _Evenly says which of them
                eval_on_start=evaluations > 0,
                logging_steps=max(1, steps // 20),
            ),
            data,
            made,
            evaluators=evaluators,
            callbacks=[_Evenly(evaluations), *callbacks],
        )
        # A run begins by collecting garbage. What was loaded before is none; to look
        # through a hundred thousand objects takes longer than a few steps.
        gc.freeze()
        try:
            trainer.train()
        finally:
            gc.unfreeze()
    return Trained(encoder, trainer.state.log_history)


class _Evenly(TrainerCallback):
    """Asks for evaluations at even distances, the last at the last step."""

    def __init__(self, count: int) -> None:
        self.count = count

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        del args
        due = state.global_step * self.count  # in steps, times the last step
        last = state.max_steps
        control.should_evaluate = due // last > (due - self.count) // last


def softmax(encoder: SentenceEncoder) -> SoftmaxLoss:
    """Return the paper's classification objective over `LABELS`."""
    return softmax_of(("u", "v", "|u-v|"))(encoder)


def softmax_of(parts: Sequence[str]) -> Callable[[SentenceEncoder], SoftmaxLoss]:
    """Return what makes the classification objective with these parts."""
    return lambda encoder: SoftmaxLoss(encoder.dimension, len(LABELS), parts)


def labelled(pairs: Sequence[Inference]) -> TrainingData:
    """Return labelled pairs as columns ``first``, ``second``, ``label``."""
    return TrainingData(
        {
            "first": [pair.premise for pair in pairs],
            "second": [pair.hypothesis for pair in pairs],
            "label": [LABELS.index(pair.label) for pair in pairs],
        },
        source="entailment",
    )


def shuffled(pairs: Sequence[Inference], seed: int) -> TrainingData:
    """Return `labelled` pairs whose labels were dealt out anew, at random."""
    data = labelled(pairs)
    assert data.label is not None
    data.label = np.random.default_rng(seed).permutation(data.label)
    return data


def triplets(pairs: Sequence[Inference]) -> TrainingData:
    """Return premise, entailed and contradicting hypothesis, of the same pairs."""
    anchor, positive, negative = zip(*nli_triplets(pairs), strict=True)
    columns = {"anchor": anchor, "positive": positive, "negative": negative}
    return TrainingData(columns, source="entailment")


def regressed(encoder: SentenceEncoder) -> CosineSimilarityLoss:
    """Return the paper's regression objective."""
    del encoder
    return CosineSimilarityLoss()


def regression(pairs: ScoredPairs, top: float = 5.0) -> TrainingData:
    """Return scored pairs as ``first``, ``second``, ``label``, scores from 0 to 1."""
    label = [score / top for score in pairs.score]
    columns = {"first": pairs.first, "second": pairs.second, "label": label}
    return TrainingData(columns, source="graded pairs")


def scored_pairs(profile: Profile) -> ScoredPairs:
    """Return the scored pairs that a profile trains on, scores from 0 to 5."""
    if profile.scored == "icd10cm":
        return graded_hierarchy(profile.graded_anchors, "train", profile.seed)
    if profile.scored == "stsb":
        return stsb("train")
    raise ValueError(f"scored={profile.scored!r}: icd10cm or stsb")


@dataclass(frozen=True)
class Yardstick:
    """What models are measured with.

    Parameters
    ----------
    sets
        Scored pairs, by name.
    retrieval
        Queries and corpus; None for none.
    """

    sets: dict[str, ScoredPairs]
    retrieval: RetrievalTask | None = None

    def measure(
        self, encoder: SentenceEncoder, only: Collection[str] | None = None
    ) -> Items:
        """Return the cosine of every pair of every set, and the nDCG@10 of queries.

        With `only`, of these sets, and of no query.
        """
        found: Items = {}
        for name, pairs in self.sets.items():
            if only is not None and name not in only:
                continue
            vectors = encoder.encode([*pairs.first, *pairs.second], show_progress=False)
            found[name] = pairwise_cosine(vectors[: len(pairs)], vectors[len(pairs) :])
        if self.retrieval is not None and only is None:
            found["retrieval"] = _ndcg(encoder, self.retrieval)
        return found

    def score(
        self,
        name: str,
        runs: Sequence[Items],
        over: Sequence[Items] | None = None,
        kept: NDArray[np.bool_] | None = None,
        cells: int = 1,
    ) -> Interval:
        """Return the mean score of runs, or their paired difference from others.

        Parameters
        ----------
        name
            A set, judged by Spearman's correlation; or ``"retrieval"``, by nDCG@10.
        runs
            What `measure` gave, one for each seed. Seeds are the outer level of the
            bootstrap.
        over
            The same for what they are compared with; one run counts for every seed.
        kept
            True for the pairs, or queries, to judge, ``[n]``; None for all.
        cells
            Conditions that the runs belong to, all seeds of the first one first; for a
            set only. A seed's score is their mean.

        Pairs of one group, and queries of one category, are drawn together.
        """
        ours = np.stack([run[name] for run in runs])
        theirs = None
        if over is not None:
            theirs = np.broadcast_to(np.stack([run[name] for run in over]), ours.shape)
        if name == "retrieval" and self.retrieval is not None:
            items = ours if theirs is None else ours - theirs
            category = np.array([code[:3] for code in self.retrieval.relevant])
            if kept is not None:
                items, category = items[:, kept], category[kept]
            return bootstrap_mean(items, groups=category)
        return similarity_score(
            self.sets[name], ours, baseline=theirs, kept=kept, cells=cells
        )

    def point(self, name: str, run: Items) -> float:
        """Return Spearman's correlation of one run on a set, without an interval."""
        return spearman(run[name], np.array(self.sets[name].score))


def _ndcg(encoder: SentenceEncoder, task: RetrievalTask) -> NDArray[np.float64]:
    queries, corpus = (
        encoder.encode(texts, show_progress=False)
        for texts in (task.queries, task.corpus_texts)
    )
    _, rows = exact_search(queries, corpus, 10, "cosine")
    found = [[task.corpus_codes[i] for i in row] for row in rows]
    return ndcg_at_k(found, [{code} for code in task.relevant])


def inference_pairs(profile: Profile) -> tuple[Inference, ...]:
    """Return the labelled pairs that a profile trains on.

    Those of `complete_premises`, so that every objective can be trained on the same
    premises; AllNLI as it is.
    """
    found: list[Inference] = []
    for name in profile.nli:
        if name == "authored":
            found += complete_premises(
                authored(), profile.authored_premises, profile.seed
            )
        elif name == "icd10cm":
            pairs = icd10cm_entailment("train")
            found += complete_premises(pairs, profile.premises, profile.seed)
        elif name == "all-nli":
            found += all_nli("train")
        else:
            raise ValueError(f"nli {name!r}: authored, icd10cm, all-nli")
    return tuple(found)


def complete_premises(
    pairs: Sequence[Inference], count: int | None, seed: int = 0
) -> tuple[Inference, ...]:
    """Return one pair of each label for premises that have all three, three a premise.

    So that every objective can be trained on the same premises.

    Parameters
    ----------
    pairs
        Labelled pairs; of several with one premise and label the first counts.
    count
        Premises to draw at random; None takes all.
    seed
        Of the draw.
    """
    by_premise: dict[str, dict[str, Inference]] = {}
    for pair in pairs:
        by_premise.setdefault(pair.premise, {}).setdefault(pair.label, pair)
    full = [found for found in by_premise.values() if len(found) == len(LABELS)]
    if count is not None and count < len(full):
        drawn = np.random.default_rng(seed).choice(len(full), count, replace=False)
        full = [full[row] for row in sorted(drawn)]
    return tuple(found[label] for found in full for label in LABELS)


def curve(history: Sequence[dict[str, Any]], metric: str) -> list[tuple[int, float]]:
    """Return the steps at which a metric was logged, and its values."""
    return [(int(row["step"]), row[metric]) for row in history if metric in row]
