"""One small run over words, a tiny transformer and a table: every figure is there."""

from functools import partial

import numpy as np
import pytest
from conftest import tiny_encoder

from sbert_lab.datasets import icd10cm_tasks
from sbert_lab.datasets.pairs import read_pairs
from sbert_lab.evaluation.tasks import interval
from sbert_lab.models.sentence_encoder import encode_documents
from sbert_lab.models.static import StaticEncoder
from sbert_lab.selection import candidates, survey
from sbert_lab.selection.candidates import Candidate, load
from sbert_lab.selection.costs import search_costs
from sbert_lab.selection.quality import OWN, on_icd10cm, on_pairs
from sbert_lab.selection.rows import COSTS, Spread, read_survey, write_survey
from sbert_lab.selection.survey import measure_survey, paragraphs

KINDS = ("Retrieval", "STS", "Clustering", "PairClassification")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    model = tiny_encoder(head=("normalize",), max_seq_length=24)
    model.save(folder / "tiny")
    backend = tiny_encoder().tokenizer.backend_tokenizer
    rng = np.random.default_rng(0)
    table = rng.standard_normal((backend.get_vocab_size(), 16)).astype(np.float32)
    StaticEncoder(table, backend).save(folder / "table")
    return ["bm25", str(folder / "tiny"), str(folder / "table")]


@pytest.fixture(scope="module")
def found(names):
    with pytest.MonkeyPatch.context() as patch:
        small = partial(search_costs, index_mb=1)
        patch.setattr(survey, "search_costs", small)
        return measure_survey(
            names, size=16, kinds=KINDS, rounds=2, processes=1, show_progress=False
        )


def test_each_row_has_its_quality_with_intervals(found, names):
    assert [row.name for row in found.rows] == names
    assert found.tasks() == ("Retrieval", "STS", "PairClassification", "Clustering")
    for row in found.rows:
        assert len(row.quality) == (3 if row.lexical else 4)
        for task, score in row.quality.items():
            assert score.low < score.high, (row.name, task)
            assert score.n >= 10
            assert 0 < score.mean <= 1
        assert row.metrics["Retrieval"] == "ndcg_at_10"


def test_each_row_has_every_cost(found):
    for row in found.rows:
        assert list(row.cost) == list(COSTS)
        for cost, value in row.cost.items():
            assert 0 <= value.minimum <= value.median <= value.maximum, cost
        for cost in COSTS.keys() - {"resident_mb"}:
            assert row.cost[cost].minimum > 0, cost
        assert row.cost["query_ms_p50"].median <= row.cost["query_ms_p95"].median


def test_sizes(found, names):
    words, tiny, table = found.rows
    assert (words.lexical, tiny.lexical, table.lexical) == (True, False, False)
    assert tiny.dimension == table.dimension == 16
    assert tiny.bytes_per_entry == table.bytes_per_entry == 64
    corpus = list(icd10cm_tasks.term_retrieval(16).corpus_texts)
    encoder = load("bm25", corpus)
    rows = encode_documents(encoder, corpus)
    assert words.dimension == encoder.dimension == rows.shape[1]
    assert words.bytes_per_entry == 8 * rows.nnz / len(corpus)  # a number, its place
    assert words.disk_mb is None
    assert table.disk_mb == candidates.candidate(names[2]).disk_mb() > 0


def test_quality_and_differences_equal_the_scoreboard(found, names):
    corpus = list(icd10cm_tasks.term_retrieval(16).corpus_texts)
    measured = {n: on_icd10cm(load(n, corpus), 16, kinds=KINDS) for n in names}
    for row in found.rows:
        for task, score in row.quality.items():
            wanted = interval(measured[row.name][task])
            assert score.mean == pytest.approx(wanted.mean, abs=1e-6)
            assert score.n == wanted.n
    first, second, third = names
    assert list(found.differences) == list(found.tasks())
    for task, known in found.differences.items():
        both = [(first, second), (first, third), (second, third)]
        assert list(known) == (both[2:] if task == "Clustering" else both)
        for (a, b), gap in known.items():
            wanted = interval(measured[a][task], measured[b][task])
            near = pytest.approx((wanted.mean, wanted.low, wanted.high), abs=1e-6)
            assert (gap.mean, gap.low, gap.high) == near
            means = found.row(a).quality[task].mean - found.row(b).quality[task].mean
            assert gap.mean == pytest.approx(means, abs=1e-9)


def test_says_what_was_measured(found):
    assert found.about["quality on"] == "ICD-10-CM, 4 of 6 kinds of task, size 16"
    assert "threads" in found.about["machine"]
    assert found.about["torch"][0].isdigit()


def test_survives_its_file(found, tmp_path):
    write_survey(tmp_path / "survey.json", found)
    back = read_survey(tmp_path / "survey.json")
    assert list(back.rows) == list(found.rows)
    assert back.differences == found.differences


@pytest.fixture
def quick(monkeypatch):
    """Leave the costs out: these tests are about all else."""
    given = {}
    one = {cost: Spread(1, 1, 1) for cost in COSTS}
    own = {"resident_mb": one["resident_mb"], "load_s": one["load_s"]}
    timed = {k: v for k, v in one.items() if k not in {*own, "search_ms"}}

    def encoding(encoders, short, long, **options):
        given.update(short=short, long=long, rounds=options["rounds"])
        return dict.fromkeys(encoders, timed)

    def search(encoders, queries, corpus, **options):
        given.update(queries=queries, corpus=corpus)
        return dict.fromkeys(encoders, one["search_ms"])

    def footprints(loaders, texts, **options):
        given.update(loaders=loaders, processes=options["rounds"])
        return dict.fromkeys(loaders, own)

    monkeypatch.setattr(survey, "encoding_costs", encoding)
    monkeypatch.setattr(survey, "search_costs", search)
    monkeypatch.setattr(survey, "footprints", footprints)
    return given


def write_pairs(path, count=12):
    lines = [
        f"the {'red' if i % 2 else 'blue'} cat {i},cat {i} ran" for i in range(count)
    ]
    path.write_text("\n".join(["anchor,positive", *lines]) + "\n")
    return read_pairs(path)


def test_on_pairs_of_the_reader(quick, names, tmp_path):
    own = write_pairs(tmp_path / "own.csv")
    got = measure_survey(names, pairs=own, rounds=3, processes=2)
    assert got.tasks() == (OWN,)
    for row in got.rows:
        measured = on_pairs(load(row.name, list(own.positive)), own)
        assert row.quality[OWN].mean == pytest.approx(measured[OWN].score, abs=1e-6)
        assert row.quality[OWN].n == 12
    assert len(got.differences[OWN]) == 3
    assert got.about["quality on"] == "own.csv, 12 pairs"
    assert (quick["rounds"], quick["processes"]) == (3, 2)
    assert quick["corpus"] == list(own.positive)
    assert len(set(quick["short"])) == survey.SHORT
    assert quick["short"][:12] == list(own.anchor)
    assert quick["queries"] == list(own.anchor) + quick["short"][12:20]
    assert len(set(quick["long"])) == survey.LONG
    assert list(quick["loaders"]) == names
    assert quick["loaders"]["bm25"]().dimension == load("bm25", own.positive).dimension


def test_what_is_missing_shows_before_anything_is_measured(
    quick, names, tmp_path, monkeypatch
):
    loaded = []
    first = Candidate("first", "x", load=lambda _: loaded.append(1))
    unmet = Candidate("unmet", "x", first.load, libraries=("sklearn_", "scipy"))
    both = {"first": first, "unmet": unmet}
    monkeypatch.setattr(candidates, "CANDIDATES", both)
    own = write_pairs(tmp_path / "own.csv")
    with pytest.raises(ModuleNotFoundError, match="unmet needs sklearn_: pip install"):
        measure_survey(["first", "unmet"], pairs=own)
    with pytest.raises(FileNotFoundError, match="no candidate 'frist'.*mean first"):
        measure_survey(["first", "frist"], pairs=own)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no weights"):
        measure_survey(["first", str(tmp_path / "empty")], pairs=own)
    assert not loaded


@pytest.mark.parametrize("wrong", [[], ["bm25", "bm25"]])
def test_candidates_must_be_different_and_one_at_least(wrong):
    with pytest.raises(ValueError, match="must be different, one at least"):
        measure_survey(wrong, size=16)


def test_paragraphs_by_hand():
    texts = ["a b", "c d e", "f", "g h", "i"]
    assert paragraphs(texts, 3) == ["a b c d e", "f g h"]
    assert paragraphs(texts, 100) == ["a b c d e f g h i"]
    assert paragraphs(["one"], 3) == ["one"]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_copies_differ(count):
    texts = ["x", "y", "z"]
    got = survey._cycled(texts, count)
    assert len(set(got)) == len(got) == count
    assert got[:3] == texts[:count]
