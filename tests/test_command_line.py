"""The command line: what is here, and what it prints to."""

import subprocess
import sys

from sbert_lab.__main__ import main


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "verified  all-MiniLM-L6-v2" in out
    assert "PyTorch" in out


def test_output_may_be_cut_off():
    command = f"{sys.executable} -m sbert_lab doctor | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert done.stdout.startswith(b"Python 3")
    assert b"Traceback" not in done.stderr
