"""Hard negatives, against loops, against sentence-transformers, on real codes."""

import dataclasses
import logging
from collections import Counter

import numpy as np
import pytest
from conftest import states, tiny_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from mining_cases import Scores, Vectors, naive

from sbert_lab import EmbeddingCache, VectorIndex
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.pairs import plain
from sbert_lab.datasets.relatives import hierarchy_guard
from sbert_lab.losses import MultipleNegativesRankingLoss, TripletLoss
from sbert_lab.models.static import StaticEncoder
from sbert_lab.training.data import TrainingData, check_columns
from sbert_lab.training.hard_negatives import candidates, mine

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=[(1_024, 16), (2, 0)], ids=["whole", "blocks"])
def parts(request, monkeypatch):
    """All anchors at once, or a few, with searches that must go deeper."""
    at_once, spare = request.param
    monkeypatch.setattr(candidates, "_ANCHORS_AT_ONCE", at_once)
    monkeypatch.setattr(candidates, "_SPARE", spare)


def case(seed):
    """Draw scores, texts that repeat in several forms, and options."""
    rng = np.random.default_rng(seed)
    forms = [form for i in range(rng.integers(3, 12)) for form in (f"t {i}", f"T  {i}")]
    names = [form for i in range(rng.integers(1, 5)) for form in (f"a {i}", f"A {i}")]
    texts = [*forms, *names]  # an anchor may stand in the corpus too
    table = np.array([rng.permutation(len(texts)) for _ in names])
    table = (table - rng.integers(0, len(texts))) / 4
    pairs = rng.integers(1, 9)
    anchors = rng.choice(names, pairs).tolist()
    positives = rng.choice(forms, pairs).tolist()
    corpus = rng.choice(texts, rng.integers(1, 2 * len(texts))).tolist()
    first = int(rng.integers(0, 3))
    per_anchor = int(rng.integers(1, 4))

    def maybe(value, chance=0.4):
        return value if rng.random() < chance else None

    low, high = sorted(rng.choice(table.ravel(), 2).tolist())
    known = [(str(rng.choice(names)), str(rng.choice(texts))) for _ in range(3)]
    judge = {(a, t): float(rng.integers(0, 6)) for a in names for t in texts}
    options = {
        "rank": (first, first + per_anchor + int(rng.integers(0, 12))),
        "score": maybe((low, high)),
        "absolute_margin": maybe(float(rng.integers(-2, 3)) / 2),
        "relative_margin": maybe(float(rng.choice([0, 0.25, 0.5]))),
        "known": maybe(known),
        "guard": maybe(rng.random((pairs, len(corpus))) < 0.2),
        "judge": maybe(judge),
        "judge_margin": maybe(float(rng.integers(0, 3))),
    }
    options = {name: value for name, value in options.items() if value is not None}
    return (
        Scores(table, names, texts),
        (anchors, positives, corpus),
        per_anchor,
        options,
    )


def called(options):
    """Return options with tables turned into what `mine` takes."""
    options = dict(options)
    if "guard" in options:
        table = options["guard"]
        options["guard"] = lambda pairs, rows: table[pairs, rows]
    if "judge" in options:
        scores = options["judge"]
        options["judge"] = lambda asked: [scores[pair] for pair in asked]
    return options


@pytest.mark.usefixtures("parts")
def test_is_the_loop():
    """Every option, alone and with others."""
    seen = Counter()

    @settings(deadline=None, max_examples=150, database=None)
    @given(st.integers(0, 2**32))
    def check(seed):
        encoder, (anchors, positives, corpus), per_anchor, options = case(seed)
        left, removed = naive(encoder, anchors, positives, corpus, **options)
        ask = {"corpus": corpus, "per_anchor": per_anchor} | called(options)
        if not any(left.values()):
            seen["nothing left"] += 1
            with pytest.raises(ValueError, match="no negative is left|no anchor has"):
                mine(encoder, anchors, positives, **ask)
            return
        found = mine(encoder, anchors, positives, **ask)
        for row, anchor in enumerate(anchors):
            expected = left[plain(anchor)][:per_anchor]
            missing = [(-1, -np.inf)] * (per_anchor - len(expected))
            got = list(zip(found.negatives[row], found.scores[row], strict=True))
            assert got == expected + missing
        counts = [len(rows) for rows in left.values()]
        assert found.fewer == sum(count < per_anchor for count in counts)
        assert found.without == counts.count(0)
        assert found.removed == {name: removed[name] for name in found.removed}
        assert {n for n, count in removed.items() if count} <= set(found.removed)
        np.testing.assert_array_equal(
            found.positive_scores,
            [
                encoder.score(next(a for a in anchors if plain(a) == plain(b)), p)
                for b, p in zip(anchors, positives, strict=True)
            ],
        )
        drawn = mine(encoder, anchors, positives, **ask, sampling="random", seed=seed)
        for row, anchor in enumerate(anchors):
            rows = [r for r in drawn.negatives[row] if r >= 0]
            order = [r for r, _ in left[plain(anchor)]]
            assert len(rows) == min(per_anchor, len(order))
            assert rows == [r for r in order if r in rows]  # nearest first, no other
        seen.update(name for name, count in removed.items() if count)
        seen["several forms"] += len({*anchors}) > len(left)

    check()
    assert set(seen) >= {
        *"known guard score absolute_margin relative_margin judge".split(),
        "nothing left",
        "several forms",
    }


@pytest.fixture(scope="module")
def terms():
    """Return 150 training terms with their codes, a dozen with two positives."""
    rng = np.random.default_rng(0)
    pairs = icd10cm.split_pairs("train")
    drawn = [pairs[row] for row in rng.choice(len(pairs), 150, replace=False)]
    anchors = [term for term, _ in drawn] + [term for term, _ in drawn[:12]]
    positives = [code.description for _, code in drawn]
    positives += [", ".join(code.description.split()) for _, code in drawn[:12]]
    unique = {plain(text): i for i, text in enumerate(positives)}.values()
    kept = [i for i in sorted(unique) if plain(anchors[i]) not in map(plain, positives)]
    return [anchors[i] for i in kept], [positives[i] for i in kept]


@pytest.fixture(scope="module")
def vectors_kept(tmp_path_factory):
    """Return folders where each side keeps its vectors, encoded once for all cases."""
    return tuple(tmp_path_factory.mktemp(side) for side in ("ours", "theirs"))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"range_min": 3}, {"rank": (3, None)}),
        ({"relative_margin": 0.05}, {"relative_margin": 0.05}),
        ({"absolute_margin": 0.1}, {"absolute_margin": 0.1}),
        ({"min_score": 0.2, "max_score": 0.5}, {"score": (0.2, 0.5)}),
        (
            {"relative_margin": 0.2, "absolute_margin": -0.1, "max_score": 0.6},
            {"relative_margin": 0.2, "absolute_margin": -0.1, "score": (None, 0.6)},
        ),
    ],
)
def test_is_sentence_transformers(minilm, peer, terms, vectors_kept, theirs, ours):
    """Where nothing but ranks, or all ranks, decide, both mine the same triplets."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    anchors, positives = terms
    filtered = bool(set(theirs) - {"range_min"})
    if filtered:
        theirs = theirs | {"range_max": len(positives)}
        ours = ours | {"rank": (0, len(positives))}
    before, cache = states(), EmbeddingCache(vectors_kept[0])
    found = mine(minilm, anchors, positives, per_anchor=3, cache=cache, **ours)
    assert states() == before
    expected = mine_hard_negatives(
        Dataset.from_dict({"anchor": anchors, "positive": positives}),
        peer,
        num_negatives=3,
        output_scores=True,
        verbose=False,
        cache_folder=str(vectors_kept[1]),
        **theirs,
    )
    names = ("anchor", "positive", "negative")
    got = list(zip(*(found.triplets()[name] for name in names), strict=True))
    want = list(zip(*(expected[name] for name in names), strict=True))
    assert sorted(got) == sorted(want)
    assert len(got) > 200
    row, place = np.nonzero(found.negatives >= 0)
    scores = np.stack([found.positive_scores[row], found.scores[row, place]], 1)
    by_triplet = dict(zip(want, expected["scores"], strict=True))
    np.testing.assert_allclose(
        scores, [by_triplet[triplet] for triplet in got], rtol=0, atol=2e-6
    )


def test_ranks_are_counted_before_margins():
    """Here sentence-transformers skips two of those the margin leaves: see `mine`."""
    encoder = Scores([[9, 8, 7, 6, 5, 4, 3]], ["a"], list("pqrstuv"))
    ask = {"corpus": list("qrstuv"), "rank": (2, 5), "absolute_margin": 2.5}
    found = mine(encoder, ["a"], ["p"], **ask)
    assert found.triplets()["negative"] == ["s"]  # rank 2, and 3 below the positive
    assert found.removed["absolute_margin"] == 0


def test_negative_scores_have_a_margin_below_them():
    encoder = Scores([[-4, -3.9, -4.3, -4.5]], ["a"], list("pqrs"))
    found = mine(encoder, ["a"], ["p"], corpus=list("qrs"), relative_margin=0.1)
    assert found.triplets()["negative"] == ["s"]  # -4.5 <= -4.4; -4 * 0.9 is -3.6


def test_a_function_may_know():
    encoder = Scores([[9, 8, 7], [7, 8, 9]], ["a", "b"], list("pqr"))
    asked = []

    def known(anchor, text):
        asked.append((anchor, text))
        return (anchor, text) == ("a", "q")

    found = mine(encoder, ["a", "b"], ["p", "p"], corpus=list("pqr"), known=known)
    assert found.triplets()["negative"] == ["r", "r"]
    assert ("a", "p") not in asked  # a known positive needs no question
    pairs = [("A ", "Q"), ("c", "r"), ("b", "nowhere")]
    same = mine(encoder, ["a", "b"], ["p", "p"], corpus=list("pqr"), known=iter(pairs))
    assert same.negatives.tolist() == found.negatives.tolist()


@pytest.fixture(scope="module")
def medical():
    """Return a fast encoder, 400 training terms with codes, and the whole corpus."""
    encoder = StaticEncoder.from_pretrained("wordllama-256")
    pairs, corpus = icd10cm.split_pairs("train"), icd10cm.retrieval_corpus()
    rows = np.random.default_rng(1).choice(len(pairs), 400, replace=False)
    return encoder, [pairs[row] for row in rows], corpus


def relatives(mined, pairs, corpus):
    """Return the negatives that are a positive, or stand above or below one's code."""
    above = {c.code: {a.code for a in icd10cm.ancestors(c)} for c in corpus}
    above |= {c.code: {a.code for a in icd10cm.ancestors(c)} for _, c in pairs}
    codes, named = {}, {}
    for term, code in pairs:
        codes.setdefault(plain(term), []).append(code.code)
    for code in corpus:
        named.setdefault(plain(code.description), []).append(code.code)
    found = []
    columns = mined.triplets()
    for anchor, negative in zip(columns["anchor"], columns["negative"], strict=True):
        for a in codes[plain(anchor)]:
            for b in named[plain(negative)]:
                if a == b or a in above[b] or b in above[a]:
                    found.append((anchor, negative))
    return found


def test_no_positive_and_no_relative_is_mined(medical):
    encoder, pairs, corpus = medical
    anchors = [term for term, _ in pairs]
    positives = [code.description for _, code in pairs]
    texts = [code.description for code in corpus]
    guard = hierarchy_guard([c.code for _, c in pairs], [c.code for c in corpus])
    ask = {"corpus": texts, "per_anchor": 5}
    free = mine(encoder, anchors, positives, **ask)
    right = {(plain(a), plain(p)) for a, p in zip(anchors, positives, strict=True)}
    for mined in (free, mine(encoder, anchors, positives, **ask, guard=guard)):
        columns = mined.triplets()
        met = zip(columns["anchor"], columns["negative"], strict=True)
        assert not right & {(plain(a), plain(n)) for a, n in met}
        assert len(mined) == 5 * len(anchors)
    assert free.removed["known"] > 100
    assert len(relatives(free, pairs, corpus)) > 100  # what the guard is for
    assert not relatives(mined, pairs, corpus)
    assert mined.removed["guard"] > 200


def test_seed_decides_and_nothing_else(medical):
    encoder, pairs, corpus = medical
    ask = {
        "anchors": [term for term, _ in pairs],
        "positives": [code.description for _, code in pairs],
        "corpus": [code.description for code in corpus[:3_000]],
        "per_anchor": 2,
        "rank": (0, 30),
    }
    before = states()
    first, same, other = (
        mine(encoder, **ask, sampling="random", seed=seed) for seed in (1, 1, 2)
    )
    assert states() == before
    np.testing.assert_array_equal(first.negatives, same.negatives)
    assert (first.negatives != other.negatives).mean() > 0.5
    nearest = mine(encoder, **ask)
    np.testing.assert_array_equal(
        nearest.negatives, mine(encoder, **ask, seed=9).negatives
    )


def test_the_draw_is_even():
    names = [f"a {i}" for i in range(2_000)]
    table = np.tile([9.0, 5, 4, 3, 2, 1], (2_000, 1))
    encoder = Scores(table, names, list("pqrstu"))
    found = mine(
        encoder,
        names,
        ["p"] * 2_000,
        corpus=list("qrstu"),
        per_anchor=2,
        rank=(1, 5),
        sampling="random",
    )
    counts = np.bincount(found.negatives.ravel(), minlength=5)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 1_000, atol=110)  # five standard deviations


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.usefixtures("parts")
def test_an_index_finds_the_same(kind, metric):
    encoder = Vectors(metric=metric)
    corpus = [f"text {i % 200}" for i in range(240)]
    anchors = [f"anchor {i % 30}" for i in range(40)]
    positives = [f"text {5 * i}" for i in range(40)]
    index = VectorIndex.build(encoder.encode(corpus), kind=kind, metric=metric)
    forbidden = np.random.default_rng(0).random((40, 240)) < 0.3
    ask = {
        "corpus": corpus,
        "per_anchor": 3,
        "rank": (1, 20),
        "absolute_margin": -0.5 if metric == "cosine" else -8.0,
        "guard": lambda pairs, rows: forbidden[pairs, rows],
    }
    exact = mine(encoder, anchors, positives, **ask)
    found = mine(encoder, anchors, positives, **ask, index=index)
    np.testing.assert_array_equal(found.negatives, exact.negatives)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=0, atol=1e-5)
    assert found.removed == exact.removed
    assert exact.removed["absolute_margin"] > 20
    assert len(exact) > 60


def test_an_index_may_have_lost_rows():
    encoder = Vectors()
    corpus = [f"text {i}" for i in range(30)]
    index = VectorIndex.build(encoder.encode(corpus))
    index.remove(range(0, 30, 2))
    found = mine(encoder, ["a"], ["b"], corpus=corpus, per_anchor=15, index=index)
    assert sorted(found.negatives[0]) == list(range(1, 30, 2))


def test_a_wrong_index_is_refused():
    encoder, corpus = Vectors(), [f"text {i}" for i in range(300)]
    vectors = encoder.encode(corpus)
    ask = {"anchors": ["a"], "positives": ["b"], "corpus": corpus}
    for index, message in (
        (VectorIndex.build(vectors[:9]), "300 rows of the corpus"),
        (VectorIndex.build(vectors, ids=corpus), "300 rows of the corpus"),
        (VectorIndex.build(vectors, metric="dot"), "measures 'dot'"),
        (VectorIndex.build(vectors[:, :8]), "8 dimensions"),
    ):
        with pytest.raises(ValueError, match=message):
            mine(encoder, **ask, index=index)
    rough = VectorIndex.build(vectors, kind="ivfpq", nlist=2)
    assert len(mine(encoder, **ask, index=rough)) == 1
    for name in ("absolute_margin", "relative_margin"):
        with pytest.raises(ValueError, match="ivfpq .* only roughly"):
            mine(encoder, **ask, index=rough, **{name: 0.1})
    with pytest.raises(ValueError, match="ivfpq .* only roughly"):
        mine(encoder, **ask, index=rough, score=(None, 0.9))
    tiny = tiny_encoder()
    another = VectorIndex.build(tiny.encode(corpus), model_hash="another model")
    with pytest.raises(ValueError, match="vectors of model another"):
        mine(tiny, **ask, index=another)


def test_order_of_the_corpus_does_not_matter():
    encoder, rng = Vectors(), np.random.default_rng(3)
    corpus = [f"text {i}" for i in range(200)]
    anchors = [f"anchor {i}" for i in range(40)]
    ask = {"per_anchor": 4, "rank": (2, 40), "sampling": "random"}
    first = mine(encoder, anchors, corpus[:40], corpus=corpus, **ask)
    shuffled = [corpus[i] for i in rng.permutation(200)]
    assert shuffled != corpus
    again = mine(encoder, anchors, corpus[:40], corpus=shuffled, **ask)
    assert first.triplets() == again.triplets()


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_words_are_searched_too(metric):
    """Sparse rows give what the same numbers give as dense ones."""
    from scipy.sparse import csr_array

    dense, sparse = (Vectors(metric=metric) for _ in range(2))
    sparse.encode = lambda texts: csr_array(dense.encode(texts))
    anchors, corpus = [f"a {i}" for i in range(30)], [f"text {i}" for i in range(90)]
    ask = {"corpus": corpus, "per_anchor": 3, "absolute_margin": 0.1, "rank": (0, 60)}
    one, two = (mine(e, anchors, corpus[:30], **ask) for e in (dense, sparse))
    np.testing.assert_array_equal(one.negatives, two.negatives)
    np.testing.assert_allclose(one.positive_scores, two.positive_scores, atol=1e-5)
    with pytest.raises(ValueError, match="dense vectors"):
        index = VectorIndex.build(dense.encode(corpus), metric=metric)
        mine(sparse, anchors, corpus[:30], corpus=corpus, index=index)


def test_columns_train():
    encoder = Scores([[9, 5, 4, 3], [3, 2, 9, 1]], ["a", "b"], list("pqrs"))
    ask = {"per_anchor": 3, "score": (3, None)}
    found = mine(encoder, ["b", "a"], ["r", "p"], corpus=list("pqrs"), **ask)
    assert found.columns() == {
        "anchor": ["b", "a"],
        "positive": ["r", "p"],
        "negative": [["p"], ["q", "r", "s"]],
    }
    assert found.triplets() == {
        "anchor": ["b", "a", "a", "a"],
        "positive": ["r", "p", "p", "p"],
        "negative": ["p", "q", "r", "s"],
    }
    assert (len(found), found.fewer, found.without) == (4, 1, 0)
    assert found.rows.tolist() == [0, 1]
    check_columns(TrainingData(found.columns()), MultipleNegativesRankingLoss())
    check_columns(TrainingData(found.triplets()), TripletLoss())
    few = mine(encoder, ["b", "a"], ["r", "p"], corpus=list("qs"), score=(3, None))
    assert (few.rows.tolist(), few.without) == ([1], 1)
    assert few.columns()["negative"] == [[], ["q"]]


WORDS = ["the cat", "a dog", "a bird", "brown fox", "red hill", "blue mat", "one two"]


def test_results_are_kept(tmp_path, caplog):
    calls = []

    class Judge:
        name = "judge"

        def __call__(self, pairs):
            calls.append(len(pairs))
            return [len(text) for _, text in pairs]

        def fingerprint(self):
            return self.name

    encoder, judge, cache = tiny_encoder(), Judge(), EmbeddingCache(tmp_path)
    ask = {"anchors": WORDS, "positives": WORDS[1:] + WORDS[:1], "judge": judge}
    ask |= {"cache": cache, "judge_margin": -9.0, "known": [("a dog", "the cat")]}

    def files():
        return sorted((tmp_path / "mined").glob("*"))

    index = VectorIndex.build(
        encoder.encode(ask["positives"]), model_hash=encoder.fingerprint()
    )
    indexed = mine(encoder, **ask, index=index)
    assert files() == []  # what an index finds is not kept
    first, asked = mine(encoder, **ask), len(calls)
    np.testing.assert_array_equal(indexed.negatives, first.negatives)
    encoded = cache.misses
    again = mine(encoder, **ask)
    assert (len(calls), cache.misses, len(files())) == (asked, encoded, 1)
    for field in dataclasses.fields(first):
        np.testing.assert_equal(getattr(again, field.name), getattr(first, field.name))
    plainly = mine(encoder, **ask | {"cache": None})
    np.testing.assert_array_equal(plainly.negatives, first.negatives)
    for change in (
        {"per_anchor": 2},
        {"seed": 1},
        {"rank": (1, None)},
        {"score": (None, 2.0)},
        {"known": None},
        {"judge": None},
        {"judge_margin": -8.0},
        {"anchors": [*WORDS[:-1], "one"]},
        {"corpus": WORDS[1:]},
        {"guard": hierarchy_guard(["A00"] * 6 + ["B20"])},
        {"guard": hierarchy_guard(["A00"] * 5 + ["B20"] * 2)},
    ):
        count = len(files())
        mine(encoder, **ask | change)
        assert len(files()) == count + 1, change
    count, judge.name = len(files()), "another"
    mine(encoder, **ask)
    encoder.transformer.embeddings.word_embeddings.weight.data.mul_(-1.5)
    mine(encoder, **ask)
    encoder.prompts = {"query": "query : "}
    mine(encoder, **ask)
    encoder.layout = dataclasses.replace(encoder.layout, default_prompt="query")
    mine(encoder, **ask)
    encoder.metric = "dot"
    mine(encoder, **ask)
    assert len(files()) == count + 5
    mine(encoder, **ask | {"judge": lambda pairs: [0] * len(pairs)})
    mine(Vectors(), **ask)
    assert len(files()) == count + 5  # what has no name is not kept
    files_now = {path: path.read_bytes() for path in files()}
    for path, content in files_now.items():
        path.write_bytes(content[: len(content) // 2])
    expected = mine(encoder, **ask | {"cache": None})
    with caplog.at_level(logging.WARNING):
        found = mine(encoder, **ask)
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(found.negatives, expected.negatives)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchors": []}, "anchors is empty"),
        ({"positives": []}, "positives is empty"),
        ({"corpus": []}, "corpus is empty"),
        ({"anchors": "ab"}, "anchors is one text"),
        ({"positives": ["p", " "]}, "positives, row 1: empty"),
        ({"corpus": ["p", None]}, "corpus, row 1: NoneType"),
        ({"anchors": ["a"]}, "1 anchors and 2 positives"),
        ({"per_anchor": 0}, "per_anchor=0"),
        ({"rank": (-1, 5)}, "ranks start at 0"),
        ({"rank": (5, 5)}, "last must be above the first"),
        ({"rank": (0, 2), "per_anchor": 3}, "holds 2 candidates, per_anchor=3"),
        ({"score": (0.5, 0.4)}, "least must not be above"),
        ({"score": (float("nan"), None)}, "least must not be above"),
        ({"relative_margin": 5}, "0.05 is 5 %"),
        ({"relative_margin": -0.1}, "0.05 is 5 %"),
        ({"absolute_margin": float("nan")}, "absolute_margin=nan"),
        ({"judge_margin": float("inf")}, "judge_margin=inf"),
        ({"sampling": "top"}, "'first' or 'random'"),
        ({"guard": lambda pairs, rows: rows}, "the guard gave int64"),
        ({"guard": lambda pairs, rows: rows[:1] > 0}, "one bool a pair"),
        ({"judge": lambda pairs: [[0.0, 1.0]] * len(pairs)}, "judge gave scores"),
        ({"judge": lambda pairs: [float("nan")] * len(pairs)}, "one finite number"),
        ({"score": (99, None)}, r"of 3 candidates; removed were .*Loosen score="),
        ({"absolute_margin": 50}, "Loosen absolute_margin=50"),
        ({"relative_margin": 1.0}, "Loosen relative_margin=1.0"),
        (
            {"judge": lambda pairs: -np.arange(len(pairs))[::-1]},
            "Loosen judge_margin=0",
        ),
        ({"rank": (3, 5)}, "nearer rank"),
        ({"guard": lambda pairs, rows: rows >= 0}, "loosen known and guard"),
        ({"corpus": ["P", "a"]}, "larger corpus"),
    ],
)
def test_what_cannot_be_mined_is_said(change, message):
    table = [[9, 5, 4, 3, 2, 1], [8, 7, 6, 5, 2, 1]]
    encoder = Scores(table, ["a", "A"], [*"pqrPsa"])
    ask = {"anchors": ["a", "A"], "positives": ["p", "P"], "corpus": [*"qrs"]}
    with pytest.raises(ValueError, match=message):
        mine(encoder, **ask | change)


def test_the_judge_is_asked_in_batches(monkeypatch):
    from sbert_lab.training.hard_negatives import choice

    monkeypatch.setattr(choice, "_PAIRS_AT_ONCE", 7)
    encoder, sizes = Vectors(), []
    anchors, corpus = [f"a {i}" for i in range(12)], [f"text {i}" for i in range(40)]

    def judge(pairs):
        sizes.append(len(pairs))
        return [int(text.split()[1]) % 5 for _, text in pairs]

    found = mine(encoder, anchors, corpus[5:17], corpus=corpus, judge=judge)
    assert max(sizes) == 7
    assert sum(sizes) == 12 * 11  # each positive, and ten candidates
    for row, text in zip(found.negatives[:, 0], corpus[5:17], strict=True):
        assert row < 0 or row % 5 <= int(text.split()[1]) % 5


def test_without_a_corpus_positives_are_it():
    encoder = Vectors()
    anchors, texts = [f"a {i}" for i in range(20)], [f"text {i}" for i in range(20)]
    first = mine(encoder, anchors, texts, per_anchor=2)
    assert (
        first.triplets()
        == mine(encoder, anchors, texts, corpus=texts, per_anchor=2).triplets()
    )
    assert first.corpus == tuple(texts)


def test_progress_is_shown(capsys):
    mine(
        Vectors(),
        ["a", "b"],
        ["c", "d"],
        judge=lambda p: [0] * len(p),
        show_progress=True,
    )
    shown = capsys.readouterr().err
    assert "mine" in shown
    assert "judge" in shown
    mine(Vectors(), ["a", "b"], ["c", "d"], show_progress=False)
    assert not capsys.readouterr().err
