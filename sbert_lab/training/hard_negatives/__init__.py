"""Hard negatives: texts that a model takes for the answer, and that are not.

Random texts teach little, for a good model tells them apart already. The nearest wrong
ones teach most, but among them stand right answers that nobody wrote down, and a model
that is taught to push those away gets worse. So most of this is about what is *not*
mined. In order: `candidates` are near and called right by nobody, `choice` takes away
what is too near and draws among the rest, `hard` does it all, `mined` is the result.
"""

from sbert_lab.training.hard_negatives.hard import mine
from sbert_lab.training.hard_negatives.mined import Mined

__all__ = ["Mined", "mine"]
