"""Banking77 in both its forms: the rows as they stand, each split its own."""

import csv
import json

import pytest

from sbert_lab.datasets.intents import LabelledTexts, banking77

ROWS = {
    "train": [("where is my card?", "card_arrival"), ("a fee, why?", "card_fee")],
    "test": [("zero", "top_up"), ("my card", "card_arrival"), ("a", "top_up")],
}


def as_csv(folder, split, rows):
    """Write a split as its authors publish it."""
    with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "category"), *rows])


def as_lines(folder, split, rows):
    """Write a split as it lies on the hub: with the number of the class, too."""
    lines = [
        json.dumps({"text": text, "label": len(label), "label_text": label})
        for text, label in rows
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("write", [as_csv, as_lines])
def test_rows_come_in_their_order_with_the_names_of_their_classes(
    write, tmp_path, monkeypatch
):
    """Which rows the protocol trains on hangs on the order."""
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(tmp_path))
    folder = tmp_path / "banking77"
    folder.mkdir()
    for split, rows in ROWS.items():
        write(folder, split, rows)
    for split, rows in ROWS.items():
        assert banking77(split) == LabelledTexts(*zip(*rows, strict=True))
    assert len(banking77()) == 3


def test_sizes(evaluation_data, monkeypatch):
    if not (evaluation_data / "banking77").is_dir():
        pytest.skip("Banking77 is not here")
    monkeypatch.setenv("SBERT_LAB_DATA_HOME", str(evaluation_data))
    sides = {split: banking77(split) for split in ROWS}
    assert [len(side) for side in sides.values()] == [10_003, 3_080]
    assert [len(set(side.labels)) for side in sides.values()] == [77, 77]


def test_there_is_no_other_split():
    with pytest.raises(ValueError, match="split='dev': 'train' or 'test'"):
        banking77("dev")
