"""A hundred injected faults in each run of the tests; `faults` can do a thousand."""

import tempfile
from pathlib import Path

import pytest
from faults import FAULTS, Lab, inject


@pytest.fixture(scope="module")
def lab():
    # Not in pytest's folder, into which another user may not look.
    with tempfile.TemporaryDirectory() as home:
        yield Lab(Path(home))


@pytest.mark.parametrize("shard", range(3))
@pytest.mark.parametrize("kind", FAULTS)
def test_nothing_is_lost_and_nothing_silently_wrong(lab, kind, shard):
    for seed in range(shard, 10 if kind == "save" else 23, 3):  # saves fork twice
        what, ended = inject(lab, kind, seed)
        command = f"python tests/faults.py --only {kind} --seed {seed}"
        assert ended in ("refused", "unharmed"), f"{command}: {what}: {ended}"


def test_a_careless_save_is_caught(lab, monkeypatch):
    def careless(value, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "r.json").write_text(f"{value}" * 9_999)

    record = lab.kept["record"]._replace(save=careless)
    monkeypatch.setattr(lab, "kept", {"record": record})
    assert any("FAILED" in inject(lab, "save", seed)[1] for seed in range(9))
