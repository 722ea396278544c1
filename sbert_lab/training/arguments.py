"""How a training goes: transformers' arguments, and the few that are ours."""

from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments

from sbert_lab.training.batch_samplers import Mixing

#: What transformers offers and this trainer does not do, with the value that asks for
#: nothing; anything else is refused, for an option that is read by nobody misleads.
_NOT_HERE: dict[str, Any] = {
    "label_smoothing_factor": 0.0,
    "neftune_noise_alpha": None,
    "use_liger_kernel": False,
    "label_names": None,
    "train_sampling_strategy": "random",
    "include_num_input_tokens_seen": "no",
    "include_for_metrics": (),
    "batch_eval_metrics": False,
    "prediction_loss_only": False,
    "torch_compile": False,
    "deepspeed": None,
    "fsdp": None,
    "parallelism_config": None,
    "push_to_hub": False,
    "auto_find_batch_size": False,
    "dataloader_num_workers": 0,
}


@dataclass
class SentenceTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments`, and how batches are made.

    Parameters
    ----------
    batching
        ``"random"``; ``"no_duplicates"``, in which no text stands twice in a batch; or
        ``"tokens"``, batches of at most `batch_tokens`.
    batch_tokens
        Tokens in a batch, all columns together, for ``batching="tokens"``.
    mixing
        Of several data sets: ``"proportional"`` or ``"round_robin"``.
    group_tokens
        Padded tokens that go through the model together; changes speed and memory, not
        the gradient. None suits the device.
    """

    batching: str = "random"
    batch_tokens: int | None = None
    mixing: Mixing = "proportional"
    group_tokens: int | None = None

    def __post_init__(self) -> None:
        """Check what is ours, and refuse what would be ignored."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        if self.batching not in ("random", "no_duplicates", "tokens"):
            raise ValueError(
                f"batching={self.batching!r}: 'random', 'no_duplicates' or 'tokens'"
            )
        if (self.batching == "tokens") != (self.batch_tokens is not None):
            raise ValueError("batching='tokens' and batch_tokens=… go together")
        for name, value in (
            ("batch_tokens", self.batch_tokens),
            ("group_tokens", self.group_tokens),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: one or more")
        if self.mixing not in ("proportional", "round_robin"):
            raise ValueError(f"mixing={self.mixing!r}: 'proportional' or 'round_robin'")
        for name, idle in _NOT_HERE.items():
            value = getattr(self, name, idle)
            if value != idle and value not in (None, [], "", False):
                raise ValueError(
                    f"{name}={value!r}: SentenceTrainer has no use for it; leave it out"
                )
