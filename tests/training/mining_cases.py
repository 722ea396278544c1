"""Made-up scores, and mining as one would write it down: loop by loop."""

import hashlib

import numpy as np

from sbert_lab.datasets.pairs import plain


class Scores:
    """An encoder whose similarities are chosen: a query picks a row of a table."""

    metric = "dot"

    def __init__(self, table, anchors, texts):
        self.table = np.asarray(table, np.float32)  # [anchors, texts]
        self.anchors, self.texts = list(anchors), list(texts)
        self.dimension = len(self.anchors)

    def encode_query(self, texts):
        rows = [self.anchors.index(text) for text in texts]
        return np.eye(self.dimension, dtype=np.float32)[rows]

    def encode_document(self, texts):
        return self.table.T[[self.texts.index(text) for text in texts]]

    encode = encode_document

    def score(self, anchor, text):
        return float(self.table[self.anchors.index(anchor), self.texts.index(text)])


class Vectors:
    """An encoder that looks every text up among random vectors."""

    def __init__(self, dimension=16, seed=0, metric="cosine"):
        self.dimension, self.seed, self.metric = dimension, seed, metric

    def encode(self, texts):
        return np.stack([self.one(text) for text in texts]).astype(np.float32)

    def one(self, text):
        digest = hashlib.sha256(text.encode()).digest()
        rng = np.random.default_rng([self.seed, *digest])
        return rng.normal(size=self.dimension) + 0.3


def naive(
    encoder,
    anchors,
    positives,
    corpus,
    *,
    rank,
    score=(-np.inf, np.inf),
    absolute_margin=None,
    relative_margin=None,
    known=(),
    guard=None,
    judge=None,
    judge_margin=0.0,
):
    """Return, by anchor, corpus rows and scores of all that is left; and counts."""
    removed = dict.fromkeys(
        "known guard score absolute_margin relative_margin judge".split(), 0
    )
    left = {}
    for name in dict.fromkeys(plain(anchor) for anchor in anchors):
        pairs = [i for i, anchor in enumerate(anchors) if plain(anchor) == name]
        anchor = anchors[pairs[0]]
        right = {name} | {plain(positives[i]) for i in pairs}
        right |= {plain(text) for other, text in known if plain(other) == name}
        lowest = min(encoder.score(anchor, positives[i]) for i in pairs)
        order = sorted(set(corpus), key=lambda text: -encoder.score(anchor, text))
        window, seen = [], set()
        for text in order:
            rows = [r for r, other in enumerate(corpus) if plain(other) == plain(text)]
            if plain(text) in seen or len(window) >= rank[1]:
                continue
            seen.add(plain(text))
            if plain(text) in right:
                removed["known"] += 1
            elif guard is not None and any(guard[i][r] for i in pairs for r in rows):
                removed["guard"] += 1
            else:
                window.append(text)
        left[name] = []
        for text in window[rank[0] :]:
            value = encoder.score(anchor, text)
            if not score[0] <= value <= score[1]:
                removed["score"] += 1
            elif absolute_margin is not None and value > lowest - absolute_margin:
                removed["absolute_margin"] += 1
            elif (
                relative_margin is not None
                and value > lowest - abs(lowest) * relative_margin
            ):
                removed["relative_margin"] += 1
            elif (
                judge is not None
                and judge[anchor, text]
                > min(judge[anchors[i], positives[i]] for i in pairs) - judge_margin
            ):
                removed["judge"] += 1
            else:
                left[name].append((corpus.index(text), value))
    return left, removed
