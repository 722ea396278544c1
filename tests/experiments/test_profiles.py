"""The three profiles, and single fields changed from outside."""

import dataclasses
import os

import pytest

from sbert_lab import __main__ as command_line
from sbert_lab.__main__ import main
from sbert_lab.datasets import sts
from sbert_lab.experiments.profiles import CHANGES, PROFILES, VARIABLE, changed, current
from sbert_lab.models.registry import BY_NAME

LAPTOP = PROFILES["laptop"]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    """Remove both variables, and put back what a command left in them."""
    for name in (VARIABLE, CHANGES):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_smoke_decides_nothing():
    decides = {name: profile.decides for name, profile in PROFILES.items()}
    assert decides == {"smoke": False, "laptop": True, "paper": True}


@pytest.mark.parametrize("name", PROFILES["paper"].sts)
def test_similarity_sets_of_a_profile_are_in_the_catalogue(name, monkeypatch):
    def resolve(name):
        raise LookupError(BY_NAME[name].hub)

    monkeypatch.setattr(sts, "resolve", resolve)
    with pytest.raises(LookupError, match="^mteb/"):
        sts.by_name(name)


def test_the_default_is_laptop(monkeypatch):
    assert current() == LAPTOP
    monkeypatch.setenv(VARIABLE, "smoke")
    assert current() == PROFILES["smoke"]
    monkeypatch.setenv(VARIABLE, "huge")
    with pytest.raises(ValueError, match="'huge': choose one of smoke, laptop, paper"):
        current()


def test_nothing_changed_is_the_same_profile():
    assert changed(LAPTOP, "") is LAPTOP
    assert changed(LAPTOP, "  ") is LAPTOP


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("queries=7", "queries", 7),
        ("codes=none", "codes", None),
        ("codes=500", "codes", 500),
        ("anchors=None", "anchors", None),
        ("sts=sts12,sick", "sts", ("sts12", "sick")),
        ("sts=", "sts", ()),
        ("decides=False", "decides", False),
        ("decides=true", "decides", True),
        ("sbert=/my/model", "sbert", "/my/model"),
        ("raw_model='/my own/model'", "raw_model", "/my own/model"),
        ("model=a=b", "model", "a=b"),
        ("seed=-1", "seed", -1),
    ],
)
def test_a_field_is_read_as_its_kind(change, field, value):
    found = changed(LAPTOP, change)
    assert getattr(found, field) == value
    assert type(getattr(found, field)) is type(value)
    about = f"{LAPTOP.about}; changed: {change}"
    assert found == dataclasses.replace(LAPTOP, about=about, **{field: value})


def test_several_fields_come_from_the_environment(monkeypatch):
    monkeypatch.setenv(VARIABLE, "smoke")
    monkeypatch.setenv(CHANGES, "queries=5 titles=9")
    found = current()
    assert (found.name, found.queries, found.titles) == ("smoke", 5, 9)
    assert found.about.endswith("; changed: queries=5 titles=9")
    assert found.repeats == PROFILES["smoke"].repeats


@pytest.mark.parametrize(
    "wrong", ["nothing=1", "queries", "name=paper", "about=mine", "=1", "queries =1"]
)
def test_a_field_must_exist(wrong):
    with pytest.raises(ValueError, match="give field=value, field one of decides,"):
        changed(LAPTOP, wrong)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("queries=many", "invalid literal for int.*'many'"),
        ("queries=none", "invalid literal for int.*'none'"),
        ("queries=1.5", "invalid literal for int"),
        ("decides=1", "true or false"),
    ],
)
def test_a_value_must_be_of_its_kind(wrong, why):
    with pytest.raises(ValueError, match=f"SBERT_LAB_SET: '{wrong}': {why}"):
        changed(LAPTOP, wrong)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--set", "nothing=1"], "'nothing=1': give field=value"),
        (["--set", "queries=5", "--set", "repeats=x"], "'repeats=x': invalid literal"),
        (["--set", "queries=5", "--update"], "leave out --set"),
    ],
)
def test_command_line_refuses_before_it_runs(arguments, why, monkeypatch):
    monkeypatch.setattr(command_line, "_run_all", lambda _: pytest.fail("it ran"))
    with pytest.raises(SystemExit, match=why):
        main(["run", *arguments])
    assert CHANGES not in os.environ


def test_command_line_hands_changes_on(monkeypatch):
    seen = []
    monkeypatch.setattr(command_line, "_run_all", lambda _: seen.append(current()) or 0)
    assert main(["run", "--set", "sbert=/my own/model", "--set", "queries=5"]) == 0
    assert (seen[0].sbert, seen[0].queries) == ("/my own/model", 5)
