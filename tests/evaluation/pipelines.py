"""Searches for `check_pipeline`: sound ones, and each with one mistake in it."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import torch
from tokenizers.normalizers import BertNormalizer

from experiments.mistakes import embed
from sbert_lab import SentenceEncoder, VectorIndex
from sbert_lab.datasets import icd10cm
from sbert_lab.index.chunking import chunk, splitter
from sbert_lab.index.exact import normalized
from sbert_lab.models.pooling import cls_pooling
from sbert_lab.models.static import StaticEncoder

DOCUMENTS, QUERIES = 1_060, 40
PROMPTS = {"query": "query: ", "document": "passage: "}

#: The arguments of `check_pipeline`.
Search = dict[str, Any]


class Texts:
    """Medical terms, and the entries among which each must find its own."""

    def __init__(self) -> None:
        task = icd10cm.retrieval_task("test", QUERIES, DOCUMENTS)
        self.queries = list(task.queries)
        self.documents = dict(enumerate(task.corpus_texts))
        row = {code: row for row, code in enumerate(task.corpus_codes)}
        self.relevant = [{row[code]} for code in task.relevant]
        self.pages = {
            number: ". ".join(task.corpus_texts[at : at + 40])
            for number, at in enumerate(range(0, 1_050 * 40, 40))
            if task.corpus_texts[at : at + 40]
        }

    def search(self, encoder: Any, index: Any, **more: Any) -> Search:
        """Return the arguments for a search in the documents, or in others."""
        told = {"queries": self.queries, "relevant": self.relevant}
        told |= {"encoder": encoder, "index": index, "documents": self.documents}
        return told | more


def flat(vectors, kind=faiss.IndexFlatIP, scale=normalized):
    """Return one of FAISS's indexes with these vectors in it."""
    index = kind(vectors.shape[1])
    index.add(np.ascontiguousarray(scale(vectors), np.float32))
    return index


def as_given(rows):
    return rows


class Answers:
    """An index of which only the answers are known."""

    def __init__(self, search: Callable[[Any, int], Any]) -> None:
        self.search = search


class Padded:
    """An encoder that averages the padding of a batch, too."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder, self.dimension = encoder, encoder.dimension

    def encode(self, texts):
        return embed(self.encoder, list(texts), masked=False, max_tokens=128)


def broken(
    t: Texts, encoder: SentenceEncoder, other: Any
) -> dict[str, tuple[str, Search]]:
    """Return searches with a mistake, each with what it should smell of.

    `other` is a model of the same width.
    """
    texts, queries = list(t.documents.values()), t.queries
    vectors, asked = encoder.encode(texts), encoder.encode(queries)
    cased = StaticEncoder.from_pretrained("wordllama-256")
    long = normalized(vectors) * np.linspace(1, 3, len(texts))[:, None]
    prompted = deepcopy(encoder)
    prompted.prompts |= PROMPTS
    behind = flat(prompted.encode_document(texts))
    uncased = SentenceEncoder(
        encoder.transformer, deepcopy(encoder.tokenizer), encoder.layout
    )
    uncased.tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)
    uncased.max_seq_length = encoder.max_seq_length  # makes the tokenizer's copy
    foreign = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", device="cpu")
    foreign = SentenceEncoder(foreign.transformer, encoder.tokenizer, foreign.layout)
    small = [text.lower() for text in texts], [text.lower() for text in queries]
    whole = " ".join(texts)
    pieces = {i: whole[at : at + 60] for i, at in enumerate(range(0, 66_000, 60))}
    padded = Padded(encoder)
    longer = [40 * (text + " ") if i % 4 == 0 else text for i, text in enumerate(texts)]
    read = vectors.copy()
    read[::4] = encoder.encode(longer[::4])
    half = np.where(np.arange(len(texts))[:, None] % 2, vectors, other.encode(texts))
    chinese = [f"\u7b2c{i}\u53f7\u6587\u66f8" for i in range(len(texts))]
    some_stale = np.where(
        np.arange(len(texts))[:, None] % 5, vectors, other.encode(texts)
    )
    gone = vectors.copy()
    gone[::9] = 0

    def in_bfloat16(sent, k):
        both = (torch.from_numpy(normalized(v)).bfloat16() for v in (sent, vectors))
        a, b = both
        scores, rows = (a @ b.T).float().sort(descending=True, stable=True)
        return scores[:, :k].numpy(), rows[:, :k].numpy()

    def filtered_late(sent, k):
        scores, rows = flat(vectors).search(normalized(sent), k)
        return scores, np.sort(np.where(rows % 3 == 0, rows, -1))[:, ::-1]

    def with_deleted(sent, k):
        twice = flat(np.concatenate([vectors, vectors]))
        scores, rows = twice.search(normalized(sent), k)
        return scores, rows

    def walk(metric, ef, scale, vectors=vectors):
        graph = faiss.IndexHNSWFlat(vectors.shape[1], 2, metric)
        graph.hnsw.efSearch = ef
        graph.add(scale(vectors))
        return graph

    row = list(zip(queries, queries[1:] + queries[:1], strict=True))
    many = [(text, texts[0]) for text in texts[1:30]]
    make = t.search
    cls = embed(encoder, texts, pool=cls_pooling, max_tokens=128)
    return {
        "padding": ("padding averaged in", make(padded, flat(padded.encode(texts)))),
        "cls": ("another pooling", make(encoder, flat(cls))),
        "dot": ("not normalised", make(encoder, flat(long, scale=as_given))),
        "l2": (
            "not normalised",
            make(encoder, flat(long, faiss.IndexFlatL2, as_given)),
        ),
        "two_models": (
            "another model",
            make(encoder, flat(vectors), query_vectors=other.encode(queries)),
        ),
        "stale_half": ("stale vectors", make(encoder, flat(half))),
        "query_prompt_missing": (
            "missing prompt",
            make(prompted, behind, query_vectors=asked),
        ),
        "prompt_of_documents": (
            "prompt of the other side",
            make(prompted, behind, query_vectors=prompted.encode_document(queries)),
        ),
        "a few stale": ("stale vectors", make(encoder, flat(some_stale))),
        "not all indexed": ("unknown ids", make(encoder, flat(vectors[:900]))),
        "another width": ("another model", make(encoder, flat(vectors[:, :128]))),
        "one side lower-cased": (
            "lower-cased",
            make(cased, flat(cased.encode(small[0])), documents=small[0]),
        ),
        "prompts_missing": (
            "missing prompt",
            make(prompted, flat(vectors), query_vectors=asked),
        ),
        "stale_all": ("another model", make(encoder, flat(other.encode(texts)))),
        "other answers": (
            "no right answer",
            make(encoder, flat(vectors), relevant=t.relevant[20:] + t.relevant[:20]),
        ),
        "another language": (
            "unknown words",
            make(
                encoder,
                flat(encoder.encode(chinese)),
                documents=dict(enumerate(chinese)),
            ),
        ),
        "prompt_doubled": (
            "doubled prompt",
            make(prompted, behind, queries=["query: " + q for q in queries]),
        ),
        "cut_128": (
            "truncation",
            make(encoder, flat(read), documents=dict(enumerate(longer))),
        ),
        "fixed_characters": (
            "cut at fixed characters",
            make(
                encoder, flat(encoder.encode(list(pieces.values()))), documents=pieces
            ),
        ),
        "not_lowered": (
            "not lower-cased",
            make(uncased, flat(uncased.encode(texts))),
        ),
        "lowered": (
            "lower-cased",
            make(
                cased,
                flat(cased.encode(small[0])),
                queries=small[1],
                documents=dict(enumerate(small[0])),
            ),
        ),
        "other_tokenizer": (
            "tokenizer of another model",
            make(
                foreign, flat(np.resize(foreign.encode(texts[:40]), (len(texts), 384)))
            ),
        ),
        "float16_overflow": ("overflow", make(encoder, flat(gone))),
        "bfloat16_ties": ("ties", make(encoder, Answers(in_bfloat16))),
        "bits": (
            "missed neighbours",
            make(
                encoder, flat(vectors, lambda d: faiss.IndexLSH(d, d, False), as_given)
            ),
        ),
        "hnsw_default": (
            "missed neighbours",
            make(encoder, walk(faiss.METRIC_INNER_PRODUCT, 1, normalized)),
        ),
        "hnsw_metric": (
            "not normalised",
            make(encoder, walk(faiss.METRIC_L2, 64, as_given, long)),
        ),
        "deletions": (
            "unknown ids",
            make(encoder, Answers(with_deleted)),
        ),
        "filtered_late": (
            "too few answers",
            make(encoder, Answers(filtered_late)),
        ),
        "small_corpus": (
            "small corpus",
            make(
                encoder,
                flat(vectors[:500]),
                documents=dict(enumerate(texts[:500])),
                relevant=[{0}] * len(queries),
            ),
        ),
        "test_in_training": (
            "test in training",
            make(encoder, flat(vectors), training=row),
        ),
        "false_negatives": (
            "false negatives",
            make(encoder, flat(vectors), training=many),
        ),
    }


def sound(t: Texts, encoder: SentenceEncoder) -> dict[str, Search]:
    """Return searches without a mistake, of as many kinds as there are in use."""
    texts, queries = list(t.documents.values()), t.queries
    vectors, asked = encoder.encode(texts), encoder.encode(queries)
    make, found = t.search, dict[str, Search]()
    for kind in ("flat", "int8", "hnsw", "hnsw-int8", "ivfpq+flat", "ivfpq+int8"):
        index = VectorIndex.build(vectors, kind=kind)
        found[f"VectorIndex, {kind}"] = make(encoder, index)
    bits = VectorIndex.build(vectors, kind="binary+int8", candidates=40)
    found["bits, scored again"] = make(encoder, bits)
    unit = VectorIndex.build(normalized(vectors), metric="dot")
    found["dot product of unit vectors"] = make(encoder, unit)
    found["FAISS, inner product"] = make(
        encoder, flat(vectors), query_vectors=normalized(asked)
    )
    found["FAISS, L2 of unit vectors"] = make(
        encoder, flat(vectors, faiss.IndexFlatL2), query_vectors=normalized(asked)
    )
    found["FAISS, 8-bit levels"] = make(encoder, eight_bits(vectors))
    halves = vectors.astype(np.float16).astype(np.float32)
    found["kept in float16"] = make(encoder, flat(halves))
    mapped = faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
    mapped.add_with_ids(normalized(vectors), np.arange(len(texts)) + 7_000)
    own = {row + 7_000: text for row, text in t.documents.items()}
    right = [{row + 7_000 for row in one} for one in t.relevant]
    found["FAISS with ids"] = make(encoder, mapped, documents=own, relevant=right)
    for recipe in ("PCA128,Flat", "IVF16,Flat", "PQ16,RFlat"):
        inner = faiss.METRIC_INNER_PRODUCT
        index = faiss.index_factory(vectors.shape[1], recipe, inner)
        index.train(normalized(vectors))
        index.add(normalized(vectors))
        if recipe.startswith("IVF"):
            index.nprobe = 16
        if recipe.endswith("RFlat"):
            index.k_factor = 10
        found[f"FAISS, {recipe}"] = make(encoder, index)
    found["documents in a list"] = make(encoder, flat(vectors), documents=texts)
    found["only answers known"] = make(
        encoder, Answers(flat(vectors).search), query_vectors=normalized(asked)
    )
    named = {f"entry {row}": text for row, text in t.documents.items()}
    ids = VectorIndex.build(vectors, list(named))
    right = [{f"entry {row}" for row in own} for own in t.relevant]
    found["ids are strings"] = make(encoder, ids, documents=named, relevant=right)
    shrunk = VectorIndex.build(vectors)
    unused = [row for row in t.documents if {row} not in t.relevant][:50]
    shrunk.remove(unused)
    rest = {row: text for row, text in t.documents.items() if row not in unused}
    found["some removed"] = make(encoder, shrunk, documents=rest)
    prompted = deepcopy(encoder)
    prompted.prompts |= PROMPTS
    found["prompts"] = make(prompted, flat(prompted.encode_document(texts)))
    made = splitter(encoder, 40)
    pages = [part.text for page in t.pages.values() for part in chunk(page, made)]
    passages = dict(enumerate((pages + texts)[:1_200]))
    inside = flat(encoder.encode(list(passages.values())))
    nearest = inside.search(normalized(asked), 1)[1].tolist()
    answers = [set(row) for row in nearest]
    found["passages"] = make(encoder, inside, documents=passages, relevant=answers)
    learnt = list(zip(texts[:300], texts[300:600], strict=True))
    found["other texts learnt"] = make(encoder, flat(vectors), training=learnt)
    by_dot = deepcopy(encoder)
    by_dot.layout = replace(encoder.layout, similarity="dot")
    found["a model for the dot product"] = make(by_dot, flat(vectors, scale=as_given))
    short = deepcopy(encoder)
    short.layout = replace(encoder.layout, truncate_dim=64)
    found["fewer dimensions"] = make(short, flat(short.encode(texts)))
    return found


def eight_bits(vectors):
    """Return FAISS's index of a byte a dimension, its ranges learnt."""
    inner = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, inner
    )
    index.train(normalized(vectors))
    index.add(normalized(vectors))
    return index
