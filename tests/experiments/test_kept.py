"""A trained model is kept as long as its recipe and its code stay the same."""

import numpy as np
from conftest import tiny_encoder

from sbert_lab import SentenceEncoder
from sbert_lab.experiments import kept


def test_trains_once_a_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return tiny_encoder(seed=len(made))

    first, new = kept.trained("tiny", {"pairs": 5, "rate": 0.1}, make)
    assert new
    again, new = kept.trained("tiny", {"rate": 0.1, "pairs": 5}, make)
    assert (again, new, len(made)) == (first, False, 1)
    other, new = kept.trained("tiny", {"pairs": 6, "rate": 0.1}, make)
    assert new
    assert other != first
    vectors = [
        SentenceEncoder.from_pretrained(f).encode("a cat") for f in (first, other)
    ]
    assert not np.allclose(*vectors)


def test_trains_anew_when_the_code_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    package = tmp_path / "package"
    (package / "training").mkdir(parents=True)
    (package / "lab").mkdir()
    (package / "adaptation").mkdir()
    monkeypatch.setattr(kept, "_PACKAGE", package)
    recipe, folders = {"pairs": 5}, []
    for file, text in (
        ("training/trainer.py", "1"),
        ("lab/figures.py", "1"),  # cannot change a weight
        ("adaptation/report.py", "1"),  # nor this
        ("training/trainer.py", "2"),
        ("adaptation/stages.py", "1"),
    ):
        (package / file).write_text(text)
        folders.append(kept.trained("tiny", recipe, tiny_encoder)[0])
    assert folders[0] == folders[1] == folders[2]
    assert len(set(folders[2:])) == 3


def test_what_cannot_change_a_weight_exists():
    assert all((kept._PACKAGE / name).exists() for name in kept._ELSEWHERE)
