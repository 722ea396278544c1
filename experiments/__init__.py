"""What only the notebooks need: profiles, experiments, full studies and their records.

``recorded``, ``answer`` and ``beside`` show what a full study found.
"""

from experiments.answers import Figure, answer, beside, recorded

__all__ = ["Figure", "answer", "beside", "recorded"]
