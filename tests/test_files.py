import subprocess
import sys
import textwrap

import pytest

from sbert_lab import _utils as files
from sbert_lab._utils import new_folder, write_bytes, write_json


def test_write_replaces_whole(tmp_path):
    path = tmp_path / "a" / "file.txt"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("atomic", [True, False])
def test_new_folder_replaces_whole(tmp_path, monkeypatch, atomic):
    if not atomic:  # as on a platform without an atomic exchange
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    target = tmp_path / "model"
    for content in ("old", "new"):
        with new_folder(target, "old") as folder:
            (folder / content).write_text(content)
            (folder / "old").touch()
    assert sorted(p.name for p in target.iterdir()) == ["new", "old"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_new_folder_keeps_the_old_one_on_error(tmp_path):
    target = tmp_path / "model"
    with new_folder(target, "old") as folder:
        (folder / "old").touch()
    with (
        pytest.raises(RuntimeError, match="half-way"),
        new_folder(target, "old") as folder,
    ):
        (folder / "new").touch()
        raise RuntimeError("half-way")
    assert [p.name for p in target.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_new_folder_refuses_a_file(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(NotADirectoryError, match="folder"),
        new_folder(tmp_path / "file", "old"),
    ):
        pass


@pytest.mark.parametrize("moment", ["inside", "before the swap"])
def test_killed_writer_leaves_the_previous_folder(tmp_path, moment):
    target = tmp_path / "model"
    with new_folder(target, "old") as folder:
        (folder / "old").write_text("whole")
    script = f"""
        import os, signal
        from pathlib import Path
        from sbert_lab import files
        die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        if {moment!r} == "before the swap":
            files._swap = die
        with files.new_folder(Path({str(target)!r}), "old") as folder:
            (folder / "new").write_text("half")
            if {moment!r} == "inside":
                die()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -9
    assert {p.name: p.read_text() for p in target.iterdir()} == {"old": "whole"}


def test_new_folder_spares_what_is_not_ours(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(FileExistsError, match="thesis.txt"),
        new_folder(tmp_path / "mine", "index.json"),
    ):
        pass
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty", "index.json") as folder:
        (folder / "index.json").touch()
    assert (tmp_path / "empty" / "index.json").exists()
