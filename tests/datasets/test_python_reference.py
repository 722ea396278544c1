"""Python's own reference: no page that others repeat, and questions it answers."""

from pydoc_data.topics import topics

from sbert_lab.datasets import python_reference
from sbert_lab.datasets.pairs import read_authored


def words(text):
    return " ".join(text.split())


def test_pages_that_others_repeat_are_left_out_and_nothing_is_lost():
    pages = python_reference.pages()
    assert 30 < len(pages) < len(topics)
    assert all(topics[name] == text for name, text in pages.items())
    whole = words(" ".join(pages.values()))
    for name in topics.keys() - pages.keys():
        parts = [words(part) for part in topics[name].split("\n\n") if part.strip()]
        held = sum(len(part) for part in parts if part in whole)
        assert held >= 0.75 * sum(map(len, parts)), name


def test_each_question_has_its_quote(monkeypatch):
    found, written = python_reference.questions(), read_authored("python_questions.csv")
    assert 100 <= len(found) <= len(written)
    assert len({text for text, _, _ in found}) == len(found)
    texts = [words(text) for text in python_reference.pages().values()]
    assert all(any(words(quote) in text for text in texts) for *_, quote in found)
    assert all(topic in topics for _, topic, _ in found)
    lost = found[0]
    changed = {k: v.replace(lost[2], "") for k, v in topics.items()}
    monkeypatch.setattr("pydoc_data.topics.topics", changed)
    assert lost not in python_reference.questions()
