"""The three profiles, and single fields changed from outside."""

import pytest

from sbert_lab.datasets import sts
from sbert_lab.experiments.profiles import CHANGES, PROFILES, VARIABLE, current
from sbert_lab.models.registry import BY_NAME


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in (VARIABLE, CHANGES):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_picks_a_profile(monkeypatch):
    assert current() == PROFILES["laptop"]
    monkeypatch.setenv(VARIABLE, "smoke")
    assert current() == PROFILES["smoke"]
    monkeypatch.setenv(VARIABLE, "huge")
    with pytest.raises(ValueError, match="'huge': choose one of smoke, laptop, paper"):
        current()


def test_only_a_smoke_run_decides_nothing():
    decides = {name: profile.decides for name, profile in PROFILES.items()}
    assert decides == {"smoke": False, "laptop": True, "paper": True}
    assert all(name == profile.name for name, profile in PROFILES.items())


def test_single_fields_are_changed(monkeypatch):
    monkeypatch.setenv(CHANGES, '{"queries": 7, "codes": null, "sts": ["sick"]}')
    found = current()
    assert (found.queries, found.codes, found.sts) == (7, None, ("sick",))
    assert found.repeats == PROFILES["laptop"].repeats
    monkeypatch.setenv(CHANGES, '{"nothing": 1}')
    with pytest.raises(TypeError, match="nothing"):
        current()


@pytest.mark.parametrize("name", PROFILES["paper"].sts)
def test_similarity_sets_of_a_profile_are_in_the_catalogue(name, monkeypatch):
    def resolve(name):
        raise LookupError(BY_NAME[name].hub)

    monkeypatch.setattr(sts, "resolve", resolve)
    with pytest.raises(LookupError, match="^mteb/"):
        sts.by_name(name)
