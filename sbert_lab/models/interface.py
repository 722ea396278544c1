"""What every encoder has in common, be it a transformer, a table, or word counts.

Whoever compares models takes an `Encoder` and asks no more. Two things differ between
them, and have a function each: whether queries and documents are encoded in the same
way, and which measure their vectors are made for.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast, runtime_checkable

from sbert_lab._utils import METRICS, Metric, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: What encoding gives: float32 ``[n, d]``, dense, or sparse where d is a vocabulary.
Encoded: TypeAlias = "Vectors | csr_array"


@runtime_checkable
class Encoder(Protocol):
    """Text goes in, vectors come out.

    Optional are ``encode_query`` and ``encode_document``, for models that tell the two
    apart, and ``metric``, ``"cosine"`` or ``"dot"``, for those that need the latter.
    """

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Turn texts into rows, float32 ``[n, dimension]``."""
        ...


def encode_queries(encoder: Encoder, texts: Sequence[str]) -> Encoded:
    """Encode what is searched with: by ``encode_query``, or else by ``encode``."""
    return _first_of(encoder, "encode_query")(texts)


def encode_documents(encoder: Encoder, texts: Sequence[str]) -> Encoded:
    """Encode what is searched in: by ``encode_document``, or else by ``encode``."""
    return _first_of(encoder, "encode_document")(texts)


def metric_of(encoder: Encoder) -> Metric:
    """Return the measure that the vectors are made for, ``"cosine"`` unless it says.

    Raises
    ------
    ValueError
        The encoder's ``metric`` is neither ``"cosine"`` nor ``"dot"``.
    """
    metric = getattr(encoder, "metric", "cosine")
    if metric not in METRICS:
        raise ValueError(
            f"{type(encoder).__name__}.metric is {metric!r}: one of "
            f"{', '.join(METRICS)}"
        )
    return cast(Metric, metric)


def _first_of(encoder: Encoder, name: str) -> Callable[[Sequence[str]], Encoded]:
    return cast(
        Callable[[Sequence[str]], Encoded], getattr(encoder, name, encoder.encode)
    )
