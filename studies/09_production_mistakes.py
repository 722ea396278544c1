"""09: what each common mistake costs a search, in nDCG@10, and what warns of it.

A sound search of medical terms and of Python's functions, then the same with one line
changed. Those who ask are the queries of 07: of diseases and libraries of which no
model here learnt anything. A mistake either makes answers worse, or a measurement
better than it should be.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import faiss
import numpy as np
import torch
from fields import FIELDS, averaged, drawn, known, learnt
from numpy.typing import NDArray
from study import Items, Study, main
from tokenizers.normalizers import BertNormalizer

from experiments.mistakes import Rows, rank
from experiments.mistakes import embed as embed_in_order
from experiments.profiles import current
from experiments.runs import get_or_train
from sbert_lab._utils import Vectors
from sbert_lab.adaptation.recipe import Recipe, sha256_of
from sbert_lab.adaptation.supervised import train
from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.domains import Domain, icd10cm_domain, python_domain
from sbert_lab.datasets.pairs import Pairs
from sbert_lab.evaluation.metrics import ndcg_at_k
from sbert_lab.evaluation.statistics import bootstrap_mean
from sbert_lab.index.chunking import chunk, splitter
from sbert_lab.index.exact import exact_search, normalized
from sbert_lab.losses import MultipleNegativesRankingLoss
from sbert_lab.losses.objective import Batch
from sbert_lab.models.onnx import load_onnx
from sbert_lab.models.pooling import cls_pooling
from sbert_lab.models.sentence_encoder import SentenceEncoder
from sbert_lab.models.static import StaticEncoder
from sbert_lab.training import TrainingData
from sbert_lab.training.trainer import has_fast_bfloat16

Values = NDArray[np.float64]
PROMPTS = {"query": "query: ", "document": "passage: "}
PAIRS = 1_000  # that an update of the model learns
WITH_PROMPTS = {"icd": 8_000, "python": 2_000}  # that a model with prompts has learnt
SMALL = 1_000  # documents of a corpus that is too small
FEW_ANSWERS = 150  # of many questions each
EFFORTS = (16, 64, 128)  # values of efSearch
VERSION = 1  # raise it when a mistake is made in another way


@dataclass(frozen=True)
class Search:
    """Queries, documents, and for each query the row of the document that answers."""

    queries: list[str]
    documents: list[str]
    right: list[int]
    group: tuple[str, ...]
    shelf: list[str]  #: of each document: the chapter, or the library, to filter by

    def ndcg(self, found: Sequence[Sequence[int]] | Rows) -> Values:
        """Return the nDCG@10 of every query."""
        rows = [[row for row in own if row >= 0] for own in np.asarray(found).tolist()]
        return ndcg_at_k(rows, [{row} for row in self.right])


@cache
def domain(name: str) -> Domain:
    """Return a field whose documents are all searched."""
    profile, make = current(), {"icd": icd10cm_domain, "python": python_domain}[name]
    return make(profile.broken_queries, profile.broken_documents)


@cache
def short(name: str) -> Search:
    """Return a field's search, one entry a document."""
    test = domain(name).test
    row = {code: row for row, code in enumerate(test.corpus_codes)}
    book = icd10cm.by_code()
    shelf = [
        book[code].chapter if name == "icd" else code.split(".")[0]
        for code in test.corpus_codes
    ]
    right = [row[code] for code in test.relevant]
    texts = list(test.queries), list(test.corpus_texts)
    return Search(*texts, right, domain(name).group, shelf)


@cache
def pages(name: str) -> Search:
    """Return the search for whole pages: a category, or a module or class."""
    test, parts = domain(name).test, defaultdict[str, list[str]](list)

    def page(code: str) -> str:
        return code[:3] if name == "icd" else code.rpartition(".")[0]

    for code, text in zip(test.corpus_codes, test.corpus_texts, strict=True):
        parts[page(code)].append(text)
    row = {key: row for row, key in enumerate(parts)}
    right = [row[page(code)] for code in test.relevant]
    texts = ["\n".join(own) for own in parts.values()]
    return Search(list(test.queries), texts, right, domain(name).group, [])


def embed(encoder: SentenceEncoder, texts: Sequence[str], **how: Any) -> Vectors:
    """Embed the short texts first, which needs little padding; as `mistakes.embed`."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    rows = embed_in_order(encoder, [texts[row] for row in order.tolist()], **how)
    return rows[np.argsort(order)]


@cache
def base() -> SentenceEncoder:
    """Return the encoder of the sound search."""
    return SentenceEncoder.from_pretrained(current().model)


@cache
def vectors(name: str, side: str) -> Vectors:
    """Return the base's vectors of a side of a field, as they are pooled."""
    return embed(base(), getattr(short(name), side))


def sound(name: str) -> Values:
    """Return what the sound search reaches."""
    both = vectors(name, "queries"), vectors(name, "documents")
    return short(name).ndcg(rank(*both))


Pair = tuple[Values, Values]  #: the nDCG@10 of every query, sound and wrong


def compared(name: str, queries: Vectors, documents: Vectors, **how: Any) -> Pair:
    """Return a field's sound search beside one with other vectors, or another rank."""
    return sound(name), short(name).ndcg(rank(queries, documents, **how))


def both(name: str, **how: Any) -> Pair:
    """Return the sound search beside one that embeds both sides in another way."""
    sides = short(name).queries, short(name).documents
    return compared(name, *(embed(base(), texts, **how) for texts in sides))


def as_given(rows: Vectors) -> Vectors:
    """Leave vectors as they are."""
    return rows


# Text to tokens


def other_tokenizer(name: str) -> Pair:
    """Read with the tokenizer of another BERT."""
    return both(name, tokenizer=SentenceEncoder.from_pretrained("bert-mini").tokenizer)


def not_lowered(name: str) -> Pair:
    """Leave capitals to a vocabulary that has none."""
    words = SentenceEncoder.from_pretrained(current().model).tokenizer
    words.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)
    return both(name, tokenizer=words)


def lowered(name: str) -> Pair:
    """Take the capitals from a vocabulary that has them: WordLlama's."""
    one, sides = StaticEncoder.from_pretrained("wordllama-256"), short(name)
    texts = sides.queries, sides.documents
    told = [rank(*(one.encode(t) for t in texts))]
    told += [rank(*(one.encode([text.lower() for text in t]) for t in texts))]
    return sides.ndcg(told[0]), sides.ndcg(told[1])


def in_passages(name: str, cut: Callable[[str], list[str]], k: int = 200) -> Values:
    """Return what a search for pages reaches that looks at their passages."""
    search = pages(name)
    parts = [(row, part) for row, t in enumerate(search.documents) for part in cut(t)]
    owner = np.array([row for row, _ in parts])
    texts = [part for _, part in parts]
    near = rank(vectors(name, "queries"), embed(base(), texts), min(k, len(texts)))
    return search.ndcg([list(dict.fromkeys(owner[own].tolist()))[:10] for own in near])


@cache
def by_passage(name: str, tokens: int | None) -> Values:
    """Return what pages reach in passages that end where sentences do."""
    made = splitter(base(), tokens)
    return in_passages(name, lambda text: [part.text for part in chunk(text, made)])


def truncated(name: str, tokens: int) -> Pair:
    """Read the beginning of each page only."""
    search = pages(name)
    documents = embed(base(), search.documents, max_tokens=tokens)
    return by_passage(name, None), search.ndcg(
        rank(vectors(name, "queries"), documents)
    )


def fixed_characters(name: str) -> Pair:
    """Cut pages after so many characters, into as many parts as there are passages."""
    made, documents = splitter(base(), 64), pages(name).documents
    wanted = sum(len(chunk(text, made)) for text in documents)

    def parts(size: int) -> int:
        return sum(-(-len(text) // size) for text in documents)

    size = min(range(40, 800), key=lambda size: abs(parts(size) - wanted))

    def cut(text: str) -> list[str]:
        return [text[at : at + size] for at in range(0, len(text), size)]

    return by_passage(name, 64), in_passages(name, cut)


@cache
def prompted(name: str) -> SentenceEncoder:
    """Return an encoder that learnt a field with prompts, as an E5 does."""

    def make() -> SentenceEncoder:
        start = SentenceEncoder.from_pretrained(current().model)
        start.prompts |= PROMPTS
        return start

    start = get_or_train("with_prompts", {"base": current().model} | PROMPTS, make)
    recipe, pairs = (
        replace(Recipe(), base_weight=0.0),
        drawn(name, WITH_PROMPTS[name], 0),
    )
    trained = learnt(start.folder, pairs, recipe, known(name))
    return SentenceEncoder.from_pretrained(trained.folder)


def other_prompt(name: str, prompt: str) -> Pair:
    """Ask behind another prompt than the one that was learnt."""
    search, encoder = short(name), prompted(name)
    documents = embed(encoder, search.documents, prompt=PROMPTS["document"])
    asked = (
        embed(encoder, search.queries, prompt=p) for p in (PROMPTS["query"], prompt)
    )
    found = [search.ndcg(rank(queries, documents)) for queries in asked]
    return found[0], found[1]


def no_prompts(name: str) -> Pair:
    """Leave out both prompts."""
    search, encoder = short(name), prompted(name)
    sides = {"query": search.queries, "document": search.documents}
    right = [embed(encoder, t, prompt=PROMPTS[side]) for side, t in sides.items()]
    wrong = [embed(encoder, t) for t in sides.values()]
    return search.ndcg(rank(*right)), search.ndcg(rank(*wrong))


# Tokens to a vector


def padded(name: str) -> Pair:
    """Average the padding of a batch of documents too; queries come one at a time."""
    documents = embed_in_order(base(), short(name).documents, masked=False)
    return compared(name, vectors(name, "queries"), documents)


def float16_overflow(name: str) -> Pair:
    """Add tokens up, and normalise in float16, where squares end at 65,504."""

    def summed(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (tokens * mask[..., None]).sum(1)

    def scale(rows: Vectors) -> Vectors:
        halves = rows.astype(np.float16)
        with np.errstate(over="ignore"):
            lengths = np.sqrt((halves * halves).sum(1, dtype=np.float16))
        scaled: Vectors = (halves / lengths[:, None]).astype(np.float32)
        return scaled

    sides = short(name).queries, short(name).documents
    return compared(name, *(embed(base(), t, pool=summed) for t in sides), scale=scale)


# A vector to the index


def sides(name: str) -> tuple[Vectors, Vectors]:
    """Return the base's vectors of queries and documents."""
    return vectors(name, "queries"), vectors(name, "documents")


def two_models(name: str) -> Pair:
    """Ask with another model of the same width."""
    other = load_onnx("paraphrase-MiniLM-L3-v2-onnx")
    queries = other.encode(short(name).queries)
    return compared(name, queries, vectors(name, "documents"))


@cache
def updated(name: str) -> tuple[Vectors, Vectors]:
    """Return vectors of queries and documents by the base after an update."""
    recipe = Recipe()
    folder = learnt(current().model, drawn(name, PAIRS, 0), recipe, known(name)).folder
    encoder = averaged(current().model, folder, recipe.base_weight)
    search = short(name)
    return embed(encoder, search.queries), embed(encoder, search.documents)


def stale(name: str, every: int) -> Pair:
    """Update the model, and encode anew but one of so many documents."""
    queries, documents = updated(name)
    old = np.arange(len(documents)) % every == 0
    mixed = np.where(old[:, None], vectors(name, "documents"), documents)
    search = short(name)
    return search.ndcg(rank(queries, documents)), search.ndcg(rank(queries, mixed))


def bfloat16_ties(name: str) -> Pair:
    """Score in bfloat16, which has three digits."""
    queries, documents = (
        torch.from_numpy(normalized(rows)).bfloat16() for rows in sides(name)
    )
    found = [
        torch.sort(row, descending=True, stable=True).indices[:10].tolist()
        for row in queries @ documents.T
    ]
    return sound(name), short(name).ndcg(found)


def coarse(name: str) -> Pair:
    """Round components of -1 to 1 to 255 steps: those of a vector use a tenth."""

    def scale(rows: Vectors) -> Vectors:
        steps: Vectors = np.round(127 * normalized(rows)).astype(np.float32)
        return steps

    return compared(name, *sides(name), scale=scale)


def bits(name: str) -> Pair:
    """Keep the sign of each dimension, and score no candidate again."""
    return compared(name, *sides(name), index=lambda d: faiss.IndexLSH(d, d, False))


# The index to answers


def graph(metric: int, dimension: int) -> Any:
    """Return FAISS's HNSW, all else as it comes: efSearch is 16."""
    return faiss.IndexHNSWFlat(dimension, 32, metric)


def hnsw_default(name: str) -> Pair:
    """Search a graph as it comes."""
    inner = partial(graph, faiss.METRIC_INNER_PRODUCT)
    return compared(name, *sides(name), index=inner)


def by_effort(name: str) -> dict[str, Values]:
    """Return which share of the true neighbours a graph finds, by its efSearch."""
    queries, documents = (normalized(rows) for rows in sides(name))
    kth = exact_search(queries, documents, 10)[0][:, -1:]
    made = graph(faiss.METRIC_INNER_PRODUCT, documents.shape[1])
    made.add(documents)
    found = {}
    for effort in EFFORTS:
        made.hnsw.efSearch = effort
        found[f"recall_{effort}"] = (made.search(queries, 10)[0] > kth - 1e-6).mean(1)
    return found


def hnsw_metric(name: str) -> Pair:
    """Build a graph with the metric that it has by default, L2, and do not scale."""
    make = partial(graph, faiss.METRIC_L2)
    return compared(name, *sides(name), index=make, scale=as_given)


def after_deletions(name: str) -> Pair:
    """Replace every document by a new version, and drop old ones from the answers."""
    queries, documents = sides(name)
    old = vectors(name, "documents") + 0.02 * np.random.default_rng(0).standard_normal(
        documents.shape, np.float32
    )
    inner = partial(graph, faiss.METRIC_INNER_PRODUCT)
    found = rank(queries, np.concatenate([old, documents]), index=inner)
    alive = [[row - len(old) for row in own if row >= len(old)] for own in found]
    longest = max(map(len, alive))
    rows = [own + [-1] * (longest - len(own)) for own in alive]
    return sound(name), short(name).ndcg(rows)


def filtered_late(name: str) -> Pair:
    """Take the best ten of all, then those of the chapter or library asked for."""
    search, (queries, documents) = short(name), sides(name)
    shelf = np.array(search.shelf)
    right, late = [], rank(queries, documents)
    wrong = np.where(shelf[late] == shelf[search.right][:, None], late, -1)
    for own in sorted(set(search.shelf)):
        asked = np.flatnonzero(shelf[search.right] == own)
        rows = np.flatnonzero(shelf == own)
        if len(asked):
            found = exact_search(queries[asked], documents[rows], 10)[1]
            right += list(zip(asked.tolist(), rows[found].tolist(), strict=True))
    in_order = [found for _, found in sorted(right)]
    longest = max(map(len, in_order))
    filled = [own + [-1] * (longest - len(own)) for own in in_order]
    return search.ndcg(filled), search.ndcg(wrong)


# What is measured


def some_queries(name: str) -> NDArray[np.int64]:
    """Return the rows of some queries, drawn."""
    count = len(short(name).queries)
    return np.sort(np.random.default_rng(0).permutation(count)[: current().broken_few])


def small_corpus(name: str) -> Pair:
    """Measure in a corpus of little more than the answers."""
    search, (queries, documents) = short(name), sides(name)
    some = some_queries(name)
    answers = {search.right[row] for row in some.tolist()}
    order = np.random.default_rng(1).permutation(len(documents)).tolist()
    others = [row for row in order if row not in answers]
    rows = np.array([*answers, *others[: max(0, SMALL - len(answers))]])
    told = rows[rank(queries[some], documents[rows])]
    wanted = [{search.right[row]} for row in some.tolist()]
    true = rank(queries[some], documents)
    return ndcg_at_k(true, wanted), ndcg_at_k(told, wanted)


def test_in_training(name: str) -> Pair:
    """Learn the queries by which the model is then measured, and their answers."""
    search, recipe = short(name), Recipe()
    some, clean = some_queries(name), drawn(name, PAIRS, 0)
    asked = [search.queries[row] for row in some.tolist()]
    answers = [search.documents[search.right[row]] for row in some.tolist()]
    leaked = Pairs((*clean.anchor, *asked), (*clean.positive, *answers))
    values = []
    for pairs in (clean, leaked):
        trained = learnt(current().model, pairs, recipe, known(name)).folder
        encoder = averaged(current().model, trained, recipe.base_weight)
        documents = embed(encoder, search.documents)
        found = rank(embed(encoder, asked), documents)
        wanted = [{search.right[row]} for row in some.tolist()]
        values.append(ndcg_at_k(found, wanted))
    return values[0], values[1]


class EveryOtherIsWrong(MultipleNegativesRankingLoss):
    """The loss as it is often written: another row's positive is always wrong."""

    def _ignored(self, batch: Batch, like: torch.Tensor) -> torch.Tensor:
        rows = super()._ignored(batch, like)
        return torch.zeros_like(rows)


def false_negatives(name: str) -> Pair:
    """Learn many questions of few answers, twice the same answer in many a batch."""
    learns = domain(name)
    times = Counter(learns.codes)
    often = {code for code, _ in times.most_common(FEW_ANSWERS)}
    rows = [row for row, code in enumerate(learns.codes) if code in often]
    pairs, search = learns.pairs.pick(rows), short(name)
    recipe = replace(Recipe(), negatives=0, base_weight=0.0)
    values = []
    for loss in (MultipleNegativesRankingLoss, EveryOtherIsWrong):

        def make(loss: type[MultipleNegativesRankingLoss] = loss) -> SentenceEncoder:
            encoder = SentenceEncoder.from_pretrained(current().model)
            data = TrainingData({"anchor": pairs.anchor, "positive": pairs.positive})
            train(encoder, data, loss(), recipe)
            return encoder

        told = {"base": base().fingerprint(), "recipe": asdict(recipe)}
        told |= {"pairs": sha256_of([pairs.anchor, pairs.positive])}
        told |= {"loss": loss.__name__, "bf16": has_fast_bfloat16()}
        folder = get_or_train("few_answers", told, make).folder
        encoder = SentenceEncoder.from_pretrained(folder)
        texts = search.queries, search.documents
        values.append(search.ndcg(rank(*(embed(encoder, t) for t in texts))))
    return values[0], values[1]


#: Every mistake by its key in the record, and the fields in which it can be made.
MISTAKES: dict[str, Callable[[str], Pair]] = {
    "other_tokenizer": other_tokenizer,
    "not_lowered": not_lowered,
    "lowered": lowered,
    "cut_128": partial(truncated, tokens=128),
    "cut_256": partial(truncated, tokens=256),
    "fixed_characters": fixed_characters,
    "query_prompt_missing": partial(other_prompt, prompt=""),
    "prompts_missing": no_prompts,
    "prompt_doubled": partial(other_prompt, prompt=2 * PROMPTS["query"]),
    "prompt_of_documents": partial(other_prompt, prompt=PROMPTS["document"]),
    "padding": padded,
    "cls": partial(both, pool=cls_pooling),
    "float16_overflow": float16_overflow,
    "dot": lambda name: compared(name, *sides(name), scale=as_given),
    "l2": lambda name: compared(
        name, *sides(name), scale=as_given, index=faiss.IndexFlatL2
    ),
    "two_models": two_models,
    "stale_all": partial(stale, every=1),
    "stale_half": partial(stale, every=2),
    "bfloat16_ties": bfloat16_ties,
    "int8_coarse": coarse,
    "bits": bits,
    "hnsw_default": hnsw_default,
    "hnsw_metric": hnsw_metric,
    "deletions": after_deletions,
    "filtered_late": filtered_late,
    "small_corpus": small_corpus,
    "test_in_training": test_in_training,
    "false_negatives": false_negatives,
}
ONLY_ICD = {"false_negatives"}  # whose answers have many terms each
TRAINED = {"test_in_training", "false_negatives", "stale_all", "stale_half"}
TRAINED |= {key for key in MISTAKES if "prompt" in key}


def build() -> Study:
    """Return the study: a job for each mistake in each field."""
    profile = current()
    uses = [profile.model, "icd10cm", "wordllama-256", "paraphrase-MiniLM-L3-v2-onnx"]
    told = [sha256_of(asdict(make(name))) for make in (short, pages) for name in FIELDS]
    study = Study("09_production_mistakes", uses=uses, judged=sha256_of(told))
    for name in FIELDS:
        for key, make in MISTAKES.items():
            if name == "icd" or key not in ONLY_ICD:
                study.add(
                    f"{key} {name}",
                    partial(job, make, name),
                    seconds=240 if key in TRAINED else 40,
                    depends={"mistake": key, "field": name, "version": VERSION},
                )
        depends = {"recall": EFFORTS, "field": name, "version": VERSION}
        work = partial(by_effort, name)
        study.add(f"recall {name}", work, seconds=60, depends=depends)
    return study


def job(make: Callable[[str], Pair], name: str) -> dict[str, Values]:
    """Return the nDCG@10 of every query, without and with a mistake."""
    before, after = make(name)
    return {"sound": before, "wrong": after}


def conclude(study: Study, items: Mapping[str, Items]) -> None:
    """Record what each mistake changes, and from what level."""
    for title, found in items.items():
        key, name = title.split()
        groups: Any = short(name).group
        if key == "recall":
            for effort, shares in found.items():
                level = bootstrap_mean(shares, groups=groups)
                study.record(f"{effort}.{name}", level, "recall@10")
            continue
        if len(found["sound"]) < len(groups):
            groups = [groups[row] for row in some_queries(name).tolist()]
        change = bootstrap_mean(found["wrong"] - found["sound"], groups=groups)
        study.record(f"{key}.{name}", change, "nDCG@10")
        level = bootstrap_mean(found["sound"], groups=groups)
        study.record(f"{key}.{name}.sound", level, "nDCG@10")
    for name in FIELDS:
        size = len(short(name).documents), len(pages(name).documents)
        study.record(f"documents.{name}", size[0], "documents")
        study.record(f"pages.{name}", size[1], "pages")


if __name__ == "__main__":
    raise SystemExit(main(build, conclude))
