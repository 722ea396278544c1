"""Files are whole or absent, whatever happens while they are written."""

import json
import os
import re
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sbert_lab import VectorIndex, _utils
from sbert_lab._utils import new_folder, sha256_file, write_bytes, write_json


def test_write_replaces_whole(tmp_path):
    path = tmp_path / "a" / "file.txt"
    write_bytes(path, b"old")
    with path.open("rb") as reader:
        write_bytes(path, b"abc")
        assert reader.read() == b"old"  # a file that is read is never touched
    assert path.read_bytes() == b"abc"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    (tmp_path / "link").symlink_to("a/file.txt")
    path.chmod(0o600)
    write_bytes(tmp_path / "link", b"abc")
    assert (tmp_path / "link").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    # The published test vector of SHA-256 (FIPS 180-2, appendix B.1).
    assert sha256_file(path).startswith("ba7816bf8f01cfea414140de5dae2223")


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def fill(target, **files):
    with new_folder(target, "list.json") as folder:
        for name, text in files.items():
            write_bytes(folder / name.replace("_", "/"), text.encode())


def content(folder):
    """Return all files in a folder and what is in them, links and empty folders."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and path.name != "list.json":
            found[name] = path.read_text("latin-1")
        elif path.is_dir() and not any(path.iterdir()):
            found[name] = None
    return found


@pytest.mark.parametrize("atomic", [True, False])
def test_new_folder_replaces_its_own_and_keeps_the_rest(
    tmp_path, monkeypatch, caplog, atomic
):
    if not atomic:  # as on a platform without an atomic exchange
        monkeypatch.setattr(_utils, "_exchange", lambda a, b: False)
    monkeypatch.setenv("HOME", str(tmp_path))
    target = tmp_path / "model"
    fill(Path("~/model"), a="old", b="old", sub_c="old", gone_d="old")
    target.chmod(0o750)
    (target / ".git" / "refs").mkdir(parents=True)
    (target / "link").symlink_to("README")
    (tmp_path / "link").symlink_to("model")
    kept = {"model/sub/note": "n", "model/README": "r", "model.previous": "p"}
    for name, text in kept.items():
        (tmp_path / name).write_text(text)
    fill(tmp_path / "link", a="new", sub_c="new")
    new = {"model/a": "new", "model/sub/c": "new", "model/.git/refs": None}
    links = {"link": "-> model", "model/link": "-> README"}
    assert content(tmp_path) == kept | new | links
    assert target.stat().st_mode & 0o777 == 0o750
    assert "['.git', 'README', 'link']" in caplog.text
    listed = json.loads((target / "list.json").read_text())["sha256"]
    assert listed == {name: sha256_file(target / name) for name in ("a", "sub/c")}


def test_new_folder_keeps_the_old_one_on_error(tmp_path):
    fill(tmp_path / "model", a="old")
    with pytest.raises(AttributeError):
        fill(tmp_path / "model", b="new", c=None)
    assert content(tmp_path) == {"model/a": "old"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", None),
        ("list.json", '{"chapters": []}'),
        ("list.json", '{"sha256": {}}'),
        ("a", "changed since"),
        ("new", "not listed"),
        ("sub", "a file where a folder must be"),
    ],
)
def test_new_folder_never_takes_the_place_of_others(tmp_path, name, text):
    target = tmp_path / "model"
    fill(target, a="old", b="old")
    (target / name).write_text(text) if text else (target / name).unlink()
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="model/.*: move it away, or give anot"):
        fill(target, a="new", new="new", sub_c="new")
    assert content(tmp_path) == before


PLACES = {
    "a file": (lambda p: p / "m" / "a", "is a file; give the path"),
    "in a file": (lambda p: p / "m" / "a" / "x", "a/x is not saved.*Not a directory"),
    "too long": (lambda p: p / ("n" * 300), "nnn is not saved.*name too long"),
    "worked in": (lambda _: Path(), "holds the current folder; give another"),
    "above": (lambda p: p, "holds the current folder; give another"),
    "mounted": (lambda _: Path("/"), "a mounted disk.*; give another"),
    "read-only": (lambda p: p / "m", "is read-only.*; give another"),
}


@pytest.mark.parametrize("case", PLACES)
def test_new_folder_refuses_a_place_and_names_the_cure(tmp_path, monkeypatch, case):
    where, message = PLACES[case]
    fill(tmp_path / "m", a="old")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if case == "read-only":  # but root may write anywhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match=message):
        fill(where(tmp_path), a="new")
    assert content(tmp_path) == {"here": None, "m/a": "old"}


@pytest.fixture
def small_files():
    """Let no file grow beyond 64 kB: a full disk for whoever writes more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_changes_nothing(tmp_path, small_files):
    """In the words of the system, of FAISS, and of safetensors."""
    many = np.zeros((9000, 8), np.float32)

    def tensors(path):
        with new_folder(path) as folder:
            save_file({"many": many}, folder / "many.safetensors")

    fill(tmp_path / "m", a="old")
    VectorIndex.build(many[:9]).save(tmp_path / "i")
    before = content(tmp_path)
    for path, save in {
        "m": lambda path: fill(path, a="new" * 99_999),
        "m/a": lambda path: write_bytes(path, b"new" * 99_999),
        "i": VectorIndex.build(many).save,
        "s": tensors,
    }.items():
        told = " is not saved, .* File too large; it needs more than [0-9,]+ bytes, "
        with pytest.raises(OSError, match=re.escape(str(tmp_path / path)) + told):
            save(tmp_path / path)
    assert content(tmp_path) == before
