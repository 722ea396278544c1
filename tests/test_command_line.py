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
    done = subprocess.run(
        f"{sys.executable} -m sbert_lab doctor | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Python 3")
    assert "Traceback" not in done.stderr
