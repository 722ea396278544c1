"""Two processes, with batches of their own, train as one with the joined batches."""

import os
import signal
import socket
import sys
import time

import pytest
import torch
from processes import STEP, cases, start
from safetensors.torch import load_file
from tiny_training import (
    Scripted,
    classed,
    farthest,
    load,
    made,
    make_folder,
    train,
    unequal,
    weights,
)

NAMES = list(cases(rank=0))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("tiny") / "model")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    """Run all processes, once for all tests."""
    where = tmp_path_factory.mktemp("two")
    settings = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    if sys.platform == "linux":  # there may be no network at all
        settings["GLOO_SOCKET_IFNAME"] = "lo"
    running, ends = start(folder, where, settings), {}
    try:
        until = time.monotonic() + 600
        while len(ends) < len(running):
            assert time.monotonic() < until
            for child in set(running) - ends.keys():
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    ends[child] = os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
    finally:
        for child in set(running) - ends.keys():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    errors = [path.read_text() for path in where.glob("error *")]
    assert [ends[child] for child in running] == [0, 0], errors
    return where


def left_by(out, name, rank):
    return load_file(out / f"{name} {rank}.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_one_process_on_the_joined_batches(
    folder, tmp_path, out, name
):
    data, objective, options = cases(rank=0)[name]
    encoder = load(folder, 0, double=True)
    before = weights(encoder, objective)
    options = STEP | options | {"per_device_train_batch_size": 8}
    train(encoder, tmp_path, data, objective, **options)
    after = weights(encoder, objective)
    assert farthest(before, after) > 1e-3
    for rank in (0, 1):
        assert farthest(left_by(out, name, rank), after) < 1e-6
    assert unequal(left_by(out, name, 0), left_by(out, name, 1)) == []


def test_what_cannot_go_well_is_refused_in_both(out):
    for rank in (0, 1):
        assert "too few for 2 process" in (out / f"refusal {rank}").read_text()


def test_stopped_and_resumed_equals_not_stopped(out):
    for rank in (0, 1):
        whole, parts = (left_by(out, name, rank) for name in ("whole", "parts"))
        assert unequal(whole, parts) == []
        # The best weights were kept, in both; the last were others.
        assert any(
            not torch.equal(value, whole[key.removeprefix("last ")])
            for key, value in whole.items()
            if key.startswith("last ")
        )
    assert unequal(left_by(out, "parts", 0), left_by(out, "parts", 1)) == []


def test_a_checkpoint_has_the_files_of_both(folder, out):
    """Though the second process is there long before the first has made the folder."""
    for checkpoint in (out / "whole").glob("checkpoint-*"):
        for rank in (0, 1):
            assert (checkpoint / f"rng_state_{rank}.pth").is_file()
    trainer = made(
        load(folder, 0.2), out / "whole", classed(20), cases(0)["head"][1],
        evaluators=[Scripted("told")],
    )  # fmt: skip
    with pytest.raises(ValueError, match="changed since are world_size"):
        trainer.train(True)
