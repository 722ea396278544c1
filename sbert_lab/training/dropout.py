"""How many units are dropped while training."""

from torch import nn

from sbert_lab.models.sentence_encoder import SentenceEncoder


def set_dropout(encoder: SentenceEncoder, probability: float) -> None:
    """Set the dropout of every layer of an encoder, and of its saved configuration.

    Parameters
    ----------
    encoder
        The encoder.
    probability
        From 0 (none) to below 1; BERT's own is 0.1.
    """
    if not 0 <= probability < 1:
        raise ValueError(f"dropout {probability}: from 0 to below 1")
    for part in encoder.modules():
        if isinstance(part, nn.Dropout):
            part.p = probability
        # Attention keeps a number of its own in some models, as in MPNet's.
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = probability  # type: ignore[assignment]
    config = encoder.transformer.config
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if hasattr(config, name):
            setattr(config, name, probability)
