"""The command line: what is here, what it prints to, and how it ends."""

import os
import subprocess
import sys

import pytest

from sbert_lab import __main__ as module
from sbert_lab.__main__ import main


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "verified  all-MiniLM-L6-v2" in out
    assert "PyTorch" in out


def test_output_may_be_cut_off(monkeypatch):
    command = f"{sys.executable} -m sbert_lab doctor | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert done.stdout.startswith(b"Python 3")
    assert b"Traceback" not in done.stderr
    ours, reader = os.pipe()[::-1]
    os.close(reader)  # before the first byte: what is printed waits in a buffer
    with os.fdopen(ours, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["--help"]) == 0


def test_the_commands_are_listed(capsys):
    for arguments, status in (([], "0"), (["selct"], "2")):
        with pytest.raises(SystemExit, match=status):
            main(arguments)
        told = "".join(capsys.readouterr())
        assert all(n in told for n in ("select", "adapt", "benchmark", "doctor"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "cache/x"), "SBERT_LAB_CACHE names"),
        (ModuleNotFoundError("No module named 'mteb'"), "No module named 'mteb'"),
        (OverflowError("too large"), "too large"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_what_ends_a_command_is_a_line(error, told, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr(module, "_doctor", fail)
    monkeypatch.setenv("SBERT_LAB_CACHE", "cache")
    if isinstance(error, KeyboardInterrupt):
        assert main(["doctor"]) == 130
        assert capsys.readouterr().err == f"{told}\n"
        return
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    assert told in str(caught.value.code)
    assert "\n" not in str(caught.value.code)


def test_a_mistake_is_told_in_a_line():
    with pytest.raises(SystemExit, match="no model or data set 'no-such-model'"):
        main(["benchmark", "no-such-model"])
