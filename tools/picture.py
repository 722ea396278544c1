"""Draw README's picture from the records of the full studies: what pays, what costs.

python -m tools.picture
"""

from io import BytesIO

from experiments.answers import Figure, recorded
from sbert_lab._utils import committed_results, write_bytes
from sbert_lab.evaluation.figures import new_figure

#: What is drawn: a notebook's record, a key in it, and words for it.
ROWS = (
    ("07", "icd_10000.icd", "adapt to 10,000 pairs"),
    ("08", "icd.base.read", "cross-encoder, not adapted"),
    ("07", "icd_1000.icd", "adapt to 1,000 pairs"),
    ("08", "fusion.icd.base.tuned", "words (BM25), tuned"),
    ("08", "icd.adapted.read", "cross-encoder, adapted"),
    ("09", "bfloat16_ties.icd", "scores in bfloat16"),
    ("09", "hnsw_default.icd", "HNSW as it comes"),
    ("09", "stale_half.icd", "half of the vectors stale"),
    ("09", "padding.icd", "padding in the mean"),
    ("09", "dot.icd", "dot product, not normalised"),
    ("09", "other_tokenizer.icd", "tokenizer of another model"),
    ("09", "two_models.icd", "queries by another model"),
)


def picture() -> bytes:
    """Return the picture as PNG."""
    values: list[Figure] = [recorded(notebook)[key] for notebook, key, _ in ROWS]
    figure, (axes,) = new_figure(width=9, height=4.6)
    for place, value in enumerate(values):
        marker, colour = ("o", "#0072B2") if value.mean > 0 else ("s", "#D55E00")
        spread = [[value.mean - value.low], [value.high - value.mean]]
        style = {"fmt": marker, "color": colour, "capsize": 3}
        axes.errorbar(value.mean, place, xerr=spread, **style)
        axes.annotate(
            f"{value.mean:+.3f}",
            (value.high, place),
            textcoords="offset points",
            xytext=(8, -4),
            fontsize=10,
        )
    axes.set_yticks(range(len(ROWS)), [words for *_, words in ROWS])
    axes.invert_yaxis()
    axes.axvline(0, color="gray", linestyle=":")
    axes.set(xlabel="change in nDCG@10 of a medical search, 95 % intervals")
    png = BytesIO()
    figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    return png.getvalue()


if __name__ == "__main__":
    write_bytes(committed_results("full").parent / "picture.png", picture())
