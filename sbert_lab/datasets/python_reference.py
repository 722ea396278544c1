"""The reference of the Python language, which every Python carries, with questions.

The pages are what ``help("topics")`` shows. The questions were written for this
project, each with the words of a page that answer it.
"""

from sbert_lab.datasets.pairs import read_authored

#: Share of a page that other pages hold, from which on it is left out.
_REPEATED = 0.8


def pages() -> dict[str, str]:
    """Return the pages by topic, without those that others repeat.

    The page on ``with``, for one, stands word for word in that on compound statements.
    """
    from pydoc_data.topics import topics

    parts = {name: _paragraphs(text) for name, text in topics.items()}
    kept = dict(topics)
    for name in sorted(parts, key=lambda name: (len(topics[name]), name)):
        others = {part for other in kept if other != name for part in parts[other]}
        repeated = sum(len(part) for part in parts[name] if part in others)
        if repeated >= _REPEATED * sum(map(len, parts[name])):
            del kept[name]
    return kept


def questions() -> list[tuple[str, str, str]]:
    """Return questions, each with its topic and a quote that answers it.

    They were written for Python 3.11; what the reference of another lacks is left out.
    """
    rows = read_authored("python_questions.csv")
    found = [(row["question"], row["topic"], row["quote"]) for row in rows]
    texts = [" ".join(text.split()) for text in pages().values()]
    return [q for q in found if any(" ".join(q[2].split()) in text for text in texts)]


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
