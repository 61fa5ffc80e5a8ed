"""`make gpu` without a GPU: its parts on the stand-in for CuPy, so that minutes on a real one are not wasted."""

import json
import pathlib
import sys

import numpy as np
import pytest
import strict_cupy

from nanoprune.backend import use_device

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setitem(sys.modules, "cupy", strict_cupy.module)
    import gpu

    for name, small in {"REPLICAS": 2, "BATCH": 3, "IMAGES": 1, "SIDE": 16, "ROUNDS": 1}.items():
        monkeypatch.setattr(gpu, name, small)
    monkeypatch.setattr(gpu, "torch_on_gpu", lambda: None)
    yield gpu
    use_device("cpu")


def test_rates_and_steps_are_measured_on_the_gpu(gpu):
    assert gpu.rates().keys() == {"device", "gpu TFLOP/s", "gpu-tf32 TFLOP/s", "copy GB/s"}
    assert gpu.fleet()["nanoprune ms"] > 0
    assert gpu.resnet18()["nanoprune ms"] > 0


def test_a_step_changes_the_parameters_of_every_replica(gpu, monkeypatch):
    from nanoprune.nn import Network

    made = []
    monkeypatch.setattr(Network, "initialise", lambda net, generators: made.append(net) or net)
    step = gpu.our_step("mlp", (4,), 3, [5], replicas=2, batch=3)
    made[0].theta[...] = strict_cupy.module.asarray(np.random.default_rng(0).standard_normal(made[0].theta.shape))
    before = made[0].theta.get()
    step()
    assert (made[0].theta.get() != before).any(axis=1).all()


def test_a_peer_that_fails_has_its_last_words_and_the_others_are_compared(gpu):
    def broken():
        raise RuntimeError("one\nno compiler")

    found = gpu.compared(0.002, {"slow": lambda: lambda: sum(range(100_000)), "broken": broken})
    assert found["broken failed"] == "no compiler"
    assert found["nanoprune ms"] == 2
    assert found["ratio"] == 2 / found["slow ms"]


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [("fleet", 60, '{"failed": "error: device gpu: CuPy'), ("fleet", 0.01, "longer"), ("tests", 0, "no time")],
)
def test_a_part_that_fails_says_why(gpu, name, limit, words):
    """The processes of the parts see no stand-in, so here they find no GPU."""
    assert words in json.dumps(gpu.part(name, limit))
