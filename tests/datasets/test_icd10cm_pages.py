"""Pages hold the book, and know where."""

import re

import pytest

from sbert_lab.datasets import icd10cm
from sbert_lab.datasets.icd10cm_pages import pages


@pytest.fixture(scope="module")
def book():
    return pages()


def test_every_code_stands_once_in_its_category(book):
    found = {}
    for page in book:
        for start, end, category in page.places:
            part = page.text[start:end]
            assert part == part.strip()
            for line in part.splitlines():
                code, _, rest = line.partition(" ")
                assert code not in found
                found[code] = (category, rest)
    codes = [c for c in icd10cm.retrieval_corpus() if c.category]
    assert len(found) == len(codes)
    for code in codes:
        category, rest = found[code.code]
        assert category == code.category
        assert rest == "; ".join([code.description, *code.inclusion_terms]) + "."


def test_a_page_begins_with_its_block(book):
    titles = {c.code: c.description for c in icd10cm.load() if c.kind == "block"}
    assert len(book) > 250
    for page in book:
        assert page.text.startswith(titles[page.name] + "\n\n")


def test_places_are_found_by_any_of_their_characters(book):
    page = next(p for p in book if len(p.places) > 3)
    (a, b, one), (c, d, two), *_ = page.places
    assert page.categories(a, b) == {one}
    assert page.categories(b - 1, c + 1) == {one, two}
    assert page.categories(b, c) == set()  # what is between two is of neither
    assert page.categories(0, a) == set()
    assert page.categories(d - 1, d) == {two}
    found = page.categories(0, len(page.text))
    assert found == {name for *_, name in page.places}
    assert all(re.fullmatch(r"[A-Z]\d\w", name) for name in found)


def test_a_draw_holds_what_it_must(book):
    wanted = {"N20", "A35"}
    some = pages(9, holding=wanted)
    assert len(some) == 9
    held = set().union(*(p.categories(0, len(p.text)) for p in some))
    assert wanted <= held
    names = [p.name for p in book]
    order = [names.index(p.name) for p in some]
    assert order == sorted(order)
    assert pages(9, holding=wanted, seed=1) != some == pages(9, holding=wanted)
    assert len(pages(1, holding=wanted)) == 2
    assert pages(10_000) == book
