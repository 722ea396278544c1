"""Where models come from, and that nothing unverified is served."""

import dataclasses
import shutil
from fnmatch import fnmatch

import numpy as np
import pytest
from conftest import tiny_encoder

from sbert_lab import SentenceEncoder
from sbert_lab._utils import sha256_file
from sbert_lab.models import registry
from sbert_lab.models.registry import BY_NAME, ENTRIES, ChecksumError, resolve, status

OFFLINE = [e.name for e in ENTRIES if e.bundled or (e.package and not e.parts)]


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_entries_are_here_and_verified(name):
    state, folder, remedy = status(BY_NAME[name])
    assert (state, remedy) == ("verified", "")
    assert resolve(name) == resolve(f"sentence-transformers/{name}") == folder


def test_bundled_file_that_is_damaged_is_an_error(tmp_path, monkeypatch):
    name = "bert-mini-static"
    entry = BY_NAME[name]
    copy = tmp_path / entry.bundled
    shutil.copytree(registry.locate(entry), copy)
    monkeypatch.setattr(registry, "project_root", lambda: tmp_path)
    assert status(entry) == ("verified", copy, "")
    (file,) = entry.sha256
    (copy / file).write_bytes((copy / file).read_bytes()[:-1] + b"?")
    assert status(entry)[:2] == ("mismatch", copy)
    with pytest.raises(ChecksumError, match="damaged or another.*git checkout"):
        resolve(name)
    (copy / file).unlink()
    with pytest.raises(ChecksumError, match=f"{file} is missing.*git checkout"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "kind"), [("stsb", "dataset"), ("bert-base-uncased", "model")]
)
def test_hub_is_asked_for_the_right_kind_at_the_pinned_commit(name, kind, monkeypatch):
    asked = {}

    def snapshot_download(repository, **options):
        asked[repository] = options
        raise OSError("no network in tests")

    monkeypatch.delenv("SBERT_LAB_DATA_HOME", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(FileNotFoundError, match=f"{name} is not on this machine"):
        resolve(name)
    options = asked[BY_NAME[name].hub]
    assert (options["repo_type"], options["revision"]) == (kind, BY_NAME[name].revision)
    for file in ("pytorch_model.bin", "model.py", "data.pkl", "README.md"):
        assert not any(fnmatch(file, p) for p in options["allow_patterns"])


def test_absent_and_unknown_names_say_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "project_root", lambda: tmp_path)
    assert status(BY_NAME["bert-mini"])[:2] == ("absent", None)
    with pytest.raises(FileNotFoundError, match="bert-mini is not on.*git checkout"):
        resolve("bert-mini", allow_hub=False)
    with pytest.raises(
        FileNotFoundError, match="v3'; did you mean all-MiniLM-L6-v2 or"
    ):
        resolve("sentence-transformers/all-MiniLM-l6-v3", allow_hub=False)
    for name in ("no-such", "~/no-such", "./no-such"):
        with pytest.raises(FileNotFoundError, match="no-such'. Give a folder.*doctor"):
            resolve(name, allow_hub=False)


def test_hub_snapshot_in_the_cache_is_found(tmp_path, monkeypatch):
    """A folder laid out as the hub's cache, found with no network."""
    from huggingface_hub import constants

    commit = "c" * 40
    repository = tmp_path / "models--owner--tiny"
    tiny_encoder().save(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = SentenceEncoder.from_pretrained("owner/tiny", device="cpu")
    np.testing.assert_array_equal(
        found.encode(["the cat"]), tiny_encoder().encode(["the cat"])
    )
    with pytest.raises(FileNotFoundError, match="owner/name of the hub"):
        resolve("owner/another")


def test_split_zip_is_joined_once_and_verified(tmp_path, monkeypatch):
    """The five-part package, laid out in miniature."""
    import zipfile

    tiny_encoder().save(tmp_path / "tiny")
    with zipfile.ZipFile(tmp_path / "tiny.zip", "w") as archive:
        for path in (tmp_path / "tiny").rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("tiny/../../evil.txt", "outside")
        archive.writestr("tiny/desktop.ini", "noise")
    whole = (tmp_path / "tiny.zip").read_bytes()
    third = len(whole) // 3
    cuts = [whole[:third], whole[third : 2 * third], whole[2 * third :]]

    class Distribution:
        def __init__(self, name):
            number = int(name[-1])
            self.path = tmp_path / f"tiny.zip.00{number}"
            self.path.write_bytes(cuts[number - 1])

        @property
        def files(self):
            return [
                type("F", (), {"name": self.path.name, "locate": lambda f: self.path})()
            ]

    monkeypatch.setattr(registry.metadata, "distribution", Distribution)
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    weights = sha256_file(tmp_path / "tiny" / "model.safetensors")
    entry = dataclasses.replace(
        BY_NAME["all-mpnet-base-v2"],
        name="tiny",
        parts=("p1", "p2", "p3"),
        sha256={"model.safetensors": weights},
    )
    folder = registry.locate(entry)
    assert folder == tmp_path / "cache" / "models" / "tiny"
    assert not (folder / "desktop.ini").exists()
    assert not (tmp_path / "cache" / "evil.txt").exists()
    SentenceEncoder.from_pretrained(folder, device="cpu")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ChecksumError):
        registry.locate(dataclasses.replace(entry, sha256={"model.safetensors": "0"}))
    assert not folder.exists()
