"""The three profiles, single fields changed from outside; timings."""

import itertools

import pytest

from experiments import timing
from experiments.profiles import CHANGES, PROFILES, VARIABLE, current
from sbert_lab.models.registry import BY_NAME


def test_the_environment_picks_a_profile_and_changes_fields(monkeypatch):
    for name in (VARIABLE, CHANGES):
        monkeypatch.delenv(name, raising=False)
    assert current() == PROFILES["laptop"]
    monkeypatch.setenv(VARIABLE, "smoke")
    assert current() == PROFILES["smoke"]
    monkeypatch.setenv(CHANGES, '{"queries": 7, "codes": "all", "kinds": ["STS"]}')
    found = current()
    assert (found.queries, found.codes, found.kinds) == (7, None, ("STS",))
    assert found.repeats == PROFILES["smoke"].repeats != PROFILES["laptop"].repeats
    monkeypatch.setenv(CHANGES, '{"nothing": 1}')
    with pytest.raises(ValueError, match="has no nothing"):
        current()
    monkeypatch.setenv(VARIABLE, "huge")
    with pytest.raises(ValueError, match="choose one of laptop, smoke, full, paper"):
        current()


def test_only_a_smoke_run_decides_nothing():
    decides = {profile.name: profile.decides for profile in PROFILES.values()}
    assert decides == {"smoke": False, "laptop": True, "full": True, "paper": True}
    paper = PROFILES["paper"]
    assert {paper.model, paper.base, paper.raw_model} <= BY_NAME.keys()


def test_ways_are_timed_in_turns_after_a_round_that_does_not_count(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(timing, "timed", lambda way: (way(), next(clock)))
    found = timing.side_by_side({"a": list, "b": list}, 2)
    assert found["a"].tolist() == [2, 4]
    assert found["b"].tolist() == [3, 5]
