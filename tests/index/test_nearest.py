"""Texts nearest to a question: against a loop, with long ones in passages."""

import pytest
from conftest import tiny_encoder

from sbert_lab.__main__ import main
from sbert_lab.index.nearest import nearest
from sbert_lab.models.embedding_cache import EmbeddingCache

TEXTS = [
    "the cat sat on the mat",
    "the quick brown fox jumps over the lazy dog and the bird flew over the hill "
    "in the red blue green hill and the cat ran to the dog on the mat",
    "a red bird",
    "",
    "the dog ran",
]


def test_the_nearest_passage_of_each_text():
    encoder = tiny_encoder(head=("normalize",), max_seq_length=12)
    found = nearest(encoder, TEXTS, "a bird flew", k=9)
    assert {row for row, *_ in found} == {0, 1, 2, 4}
    asked = encoder.encode("a bird flew")
    for row, passage, score in found:
        assert passage in TEXTS[row]
        assert score == pytest.approx(float(encoder.encode(passage) @ asked))
    scores = [score for *_, score in found]
    assert scores == sorted(scores, reverse=True)
    assert TEXTS[1] not in [passage for _, passage, _ in found]  # too long to read
    assert nearest(encoder, TEXTS, "a bird flew", k=2) == found[:2]


def test_vectors_are_kept(tmp_path):
    encoder, cache = tiny_encoder(head=("normalize",)), EmbeddingCache(tmp_path)
    first = nearest(encoder, TEXTS, "a bird", cache=cache)
    missed = cache.misses
    assert nearest(encoder, TEXTS, "a bird", cache=cache) == first
    assert cache.misses == missed


def test_nothing_to_find():
    with pytest.raises(ValueError, match="2 texts without a word"):
        nearest(tiny_encoder(), ["", " "], "a bird")
    with pytest.raises(ValueError, match="'?!' holds no word"):
        nearest(tiny_encoder(), ["a cat"], "?!")
    with pytest.raises(ValueError, match="k=0: "):
        nearest(tiny_encoder(), ["a cat"], "a bird", k=0)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    notes = tmp_path / "notes.csv"
    notes.write_text('title,body\n1,"Sugar,\nand water."\n2,\n3,A dog barks.\n')
    command = ["search", "a noisy pet", f"--csv={notes}", "--text=body", "--k=1"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.out.split(maxsplit=1)[1].strip() == "row 4     A dog barks."
    assert "new texts are then encoded" in told.err
    with pytest.raises(SystemExit, match="'text' is missing; the file has 'title'"):
        main(command[:3])
    with pytest.raises(SystemExit, match="--text=body is a column|name its file"):
        main(["search", "a pet", "--text=body"])
