"""The plan of a run: how much, how fast, for how long.

The learning rate warms up, stays, then falls slowly; only a cool-down at the end
brings it to zero. A run can therefore be made longer at any time, and a cool-down can
branch off any checkpoint.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sbert_lab._utils import write_json

#: After so many tokens the weights are exported and the checkpoint stays.
SNAPSHOTS = (1e6, 2e6, 5e6, 10e6, 20e6, 40e6, 80e6, 150e6, 300e6)


@dataclass(frozen=True)
class Plan:
    """Settings of a run.

    Parameters
    ----------
    rows, length, long_every
        Shape of a batch, as `tools.pretraining.batches.batch_at` takes it.
    peak, warmup, hold, total, cooldown
        The highest learning rate, and its phases in steps: see `learning_rate`.
    weight_decay, clip
        Of AdamW; the norm to which gradients are cut.
    seed
        Of weights, batches and masks.
    bf16
        Whether matrix products are in bfloat16.
    evaluate_every, log_every
        Steps between held-out measures, and between lines of the log.
    checkpoint_seconds
        Time between checkpoints.
    snapshots
        Tokens seen at which one is taken.
    """

    rows: int = 48
    length: int = 64
    long_every: int = 4
    peak: float = 1e-3
    warmup: int = 400
    hold: int = 8000
    total: int = 48800
    cooldown: int = 0
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    bf16: bool = False
    evaluate_every: int = 500
    log_every: int = 50
    checkpoint_seconds: float = 600.0
    snapshots: tuple[float, ...] = SNAPSHOTS

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one step sees."""
        return self.rows * self.length

    def steps(self, tokens: float) -> int:
        """Return how many steps see so many tokens."""
        return math.ceil(tokens / self.tokens_per_step)

    def is_snapshot(self, tokens: int) -> bool:
        """Return whether the step that made it `tokens` passed a snapshot's mark."""
        return any(0 <= tokens - mark < self.tokens_per_step for mark in self.snapshots)


def learning_rate(step: int, plan: Plan) -> float:
    """Return the rate of a step.

    Warm-up, constant until ``hold``, inverse square root after it, and a linear fall
    over the last ``cooldown`` steps before ``total``. Until that fall begins
    ``total`` has no influence.
    """
    rate = plan.peak * min(1.0, (step + 1) / max(1, plan.warmup))
    rate *= math.sqrt(plan.hold / max(step, plan.hold))
    if plan.cooldown:
        rate *= min(1.0, max(0.0, (plan.total - step) / plan.cooldown))
    return rate


def cooldown_plan(plan: Plan, step: int, tokens: float) -> Plan:
    """Return the plan of a branch that leaves at `step` and cools for `tokens`."""
    steps = plan.steps(tokens)
    return replace(plan, total=step + steps, cooldown=steps)


def save_plan(plan: Plan, run: Path) -> None:
    """Write the settings a run is started with."""
    write_json(run / "plan.json", asdict(plan))


def load_plan(run: Path) -> Plan:
    """Read the settings a run was last started with."""
    record = json.loads((run / "plan.json").read_text())
    return Plan(**{**record, "snapshots": tuple(record["snapshots"])})
