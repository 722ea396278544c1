"""How far one machine goes with a candidate, and where the choice changes."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sbert_lab.selection.recommend import Constraints, NothingFits, recommend
from sbert_lab.selection.rows import Row, Survey

_DAY = 86_400  # seconds


@dataclass(frozen=True)
class Capacity:
    """What one machine bears of one candidate.

    Parameters
    ----------
    entries_in_memory
        Entries whose index fits beside the model.
    entries_in_time
        Entries that an exact search gets through in time.
    queries_a_day
        Queries, one after the other, over the corpus that was asked for; by the mean
        of their times, not the percentile.
    documents_a_day
        Long texts that it encodes in batches, doing nothing else.
    """

    entries_in_memory: int
    entries_in_time: int
    queries_a_day: int
    documents_a_day: int

    @property
    def entries(self) -> int:
        """The smaller of both limits: beyond it, one machine is not enough."""
        return min(self.entries_in_memory, self.entries_in_time)


def capacity(row: Row, *, mb: float, ms: float, corpus: int = 100_000) -> Capacity:
    """Return what a machine bears, with so much memory, at so long a wait.

    Parameters
    ----------
    row
        The candidate.
    mb
        Memory for model and index, in MB of a million bytes.
    ms
        Milliseconds that a query may take.
    corpus
        Entries that queries are counted for; none are served if it does not fit.
    """
    if not (mb > 0 and ms > 0):
        raise ValueError(f"mb={mb}, ms={ms}: must both be over 0")
    memory = (mb - row.mb(0)) / row.bytes_per_entry * 1e6
    seconds = (ms - row.ms(0)) / row.cost["search_ms"].median * 1e6
    fits = corpus <= min(memory, seconds)
    each = 1e3 / row.cost["short_texts_alone"].median + row.search_ms(corpus)
    return Capacity(
        entries_in_memory=max(0, int(memory)),
        entries_in_time=max(0, int(seconds)),
        queries_a_day=int(_DAY * 1e3 / each) if fits else 0,
        documents_a_day=int(_DAY * row.cost["long_texts"].median),
    )


def decisions(
    survey: Survey, limits: Constraints, corpora: Sequence[int]
) -> Iterator[tuple[int, str | None]]:
    """Yield, for each number of entries, whom `recommend` chooses; None for nobody."""
    for corpus in corpora:
        try:
            chosen = recommend(survey, dataclasses.replace(limits, corpus=corpus))
        except NothingFits:
            yield corpus, None
        else:
            yield corpus, chosen.row.name
