"""Files are whole or absent, whatever happens while they are written."""

import signal
import subprocess
import sys
import textwrap

import pytest

from sbert_lab import _utils
from sbert_lab._utils import new_folder, sha256_file, write_bytes, write_json


def test_write_replaces_whole(tmp_path):
    path = tmp_path / "a" / "file.txt"
    write_bytes(path, b"old")
    with path.open("rb") as reader:
        write_bytes(path, b"abc")
        assert reader.read() == b"old"  # a file that is read is never touched
    assert path.read_bytes() == b"abc"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    # The published test vector of SHA-256 (FIPS 180-2, appendix B.1).
    assert sha256_file(path).startswith("ba7816bf8f01cfea414140de5dae2223")


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("atomic", [True, False])
def test_new_folder_replaces_whole(tmp_path, monkeypatch, atomic):
    if not atomic:  # as on a platform without an atomic exchange
        monkeypatch.setattr(_utils, "_exchange", lambda a, b: False)
    target = tmp_path / "model"
    for content in ("old", "new"):
        with new_folder(target, "mark") as folder:
            (folder / content).touch()
            (folder / "mark").touch()
    assert sorted(p.name for p in target.iterdir()) == ["mark", "new"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_new_folder_keeps_the_old_one_on_error(tmp_path):
    target = tmp_path / "model"
    with new_folder(target, "mark") as folder:
        (folder / "mark").touch()
    with pytest.raises(RuntimeError), new_folder(target, "mark") as folder:
        (folder / "new").touch()
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["mark"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_killed_writer_leaves_the_previous_folder(tmp_path):
    target = tmp_path / "model"
    with new_folder(target, "old") as folder:
        (folder / "old").write_text("whole")
    script = f"""
        import os, signal
        from pathlib import Path
        from sbert_lab import _utils
        _utils._swap = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        with _utils.new_folder(Path({str(target)!r}), "old") as folder:
            (folder / "new").write_text("half")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert {p.name: p.read_text() for p in target.iterdir()} == {"old": "whole"}


def test_new_folder_spares_what_is_not_ours(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").touch()
    for name, error in (("mine", FileExistsError), ("file", NotADirectoryError)):
        with pytest.raises(error), new_folder(tmp_path / name, "index.json"):
            pass
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
