"""Fewer dimensions: the leading ones."""

from sbert_lab._utils import Vectors, whole_number
from sbert_lab.index.exact import checked, normalized


def truncate(vectors: Vectors, dimension: int) -> Vectors:
    """Keep the leading dimensions, scaled to unit length: ``[n, d] -> [n, dimension]``.

    Of a model that is not trained for it (Matryoshka, Kusupati et al. 2022) they are
    any dimensions; those in which a corpus varies, as by scikit-learn's PCA, lose less.
    """
    rows = checked(vectors, "vectors")
    dimension = whole_number(dimension, "dimension", 1, rows.shape[1])
    return normalized(rows[:, :dimension])
