"""benchmarks/scaling.py: the limits are those of a count by hand, and what it measures is drawn."""

import json
import pathlib
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Dense, Network, ReLU, Sequential

ROOT = pathlib.Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scaling

    return scaling


def test_a_dense_layer_on_the_input_is_counted_by_hand(scaling):
    """7 inputs, 5 outputs, 40 parameters, 3 samples, 2 networks; Y = W X + b and dW, but no dX."""
    work = scaling.training_work(Network(Sequential(Dense(7, 5)), (7,)), 3, replicas=2)
    products = 2 * 7 * 5 * 3  # operations of Y, and as many of dW
    forward = 7 * 3 + 40 + 5 * 3  # reads X, W and b, writes Y
    backward = 5 * 3 + 7 * 3 + 40  # reads dY and X, writes dW and db
    sgd = 3 * 40 + 2 * 40  # reads g, V and theta, writes V and theta
    assert work.flop == 2 * (products + products)
    assert work.bytes == 2 * 4 * (forward + backward + sgd)
    assert work.resident == 4 * (3 * 40 + 7 * 3 + 5 * 3)  # theta, g, V, X and Y of the one that is trained at a time


def test_a_layer_behind_another_has_dX_too(scaling):
    """What Dense(5, 2) behind ReLU adds, with Adam's two moments."""
    first = scaling.training_work(Network(Sequential(Dense(7, 5)), (7,)), 3, moments=2)
    both = scaling.training_work(Network(Sequential(Dense(7, 5), ReLU(), Dense(5, 2)), (7,)), 3, moments=2)
    relu = 5 * 3 + 5 * 3 + 5 * 3 + 5 * 3 + 5 * 3  # reads X, writes Y; reads dY and X, writes dX
    dense = (5 * 3 + 12 + 2 * 3) + (2 * 3 + 5 * 3 + 12 + 5 * 3 + 12)  # backward: dY, X and W; dX, dW and db
    adam = 4 * 12 + 3 * 12  # reads g, M, S and theta, writes M, S and theta
    assert both.flop - first.flop == 3 * 2 * (5 * 2 * 3)
    assert both.bytes - first.bytes == 4 * (relu + dense + adam)


def test_the_operations_of_lenet5_are_those_of_its_loops(scaling):
    net = build(describe("lenet-5", (28, 1, 28), 10, [20, 50, 500]), 1)
    conv1 = sum(5 * 5 * 1 for _ in range(24 * 24) for _ in range(20))  # each output value
    conv2 = sum(5 * 5 * 20 for _ in range(8 * 8) for _ in range(50))
    rest = conv2 + 4 * 4 * 50 * 500 + 500 * 10
    assert scaling.training_work(net, 64).flop == 64 * 2 * (2 * conv1 + 3 * rest)


def test_both_branches_of_the_attack_network_read_the_input(scaling):
    from nanoprune.attack.attack_network import attacker

    first = 10 * 1024 + 10 * 512
    rest = 1024 * 512 + 512 * 64 + 512 * 64 + 128 * 256 + 256 * 64 + 64
    assert scaling.training_work(attacker(10), 64, moments=2).flop == 64 * 2 * (2 * first + 3 * rest)


def test_copies_as_large_as_the_arrays_are_the_limit(scaling):
    rates = {"sgemm": 1e3, "copy": [[10.0, 50.0], [100.0, 20.0]]}
    seconds = {size: scaling.limits(scaling.Work(5e3, 200.0, size), rates) for size in (1, 99, 100, 1e9)}
    assert {of["arithmetic"] for of in seconds.values()} == {5.0}
    assert [of["traffic"] for of in seconds.values()] == [4.0, 4.0, 10.0, 10.0]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A quick run of two series on one core, and its plots."""
    out = tmp_path_factory.mktemp("scaling") / "found.json"
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--out", str(out)]
    for words in (["--quick", "--threads", "1", "batch-mlp"], ["--quick", "--threads", "1", "quick-audit-records"]):
        subprocess.run([*command, *words], check=True, cwd=ROOT)
    subprocess.run([*command, "--draw", "--docs", str(out.parent)], check=True, cwd=ROOT)
    return out


def test_a_run_has_times_and_the_limits_of_a_count_by_hand(measured):
    training, audits = json.loads(measured.read_text())["series"]
    assert [point["x"] for point in training["points"]] == [16, 32]
    weights = [446 * 512, 512 * 256, 256 * 128, 128 * 30]
    rates = training["rates"]["1"]
    for point in training["points"]:
        assert 0 < point["spread"][0] <= point["seconds"] <= point["spread"][1]
        operations = 2 * point["x"] * (2 * weights[0] + 3 * sum(weights[1:]))
        assert point["arithmetic"] == pytest.approx(operations / rates["sgemm"])
        assert point["bytes"] / point["traffic"] == pytest.approx(rates["copy"][1][1])  # 4.8 MB: between 2 and 8
    assert [point["bytes"] for point in audits["points"]] == [4 * 1000 * 10, 4 * 10_000 * 10]
    assert {point["arithmetic"] for point in audits["points"]} == {0.0}


def test_a_run_is_drawn_in_small_files(measured):
    drawn = sorted(path.name for path in measured.parent.glob("*.svg"))
    assert drawn == ["roofline.svg", "scaling_audit.svg", "scaling_training.svg"]
    for name in drawn:
        content = (measured.parent / name).read_text()
        assert ElementTree.fromstring(content).tag.endswith("svg")
        assert len(content) < 150_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["batch-mpl"], "there is no series 'batch-mpl'; there are replicas-mlp, "),
        (["--quick"], "give --out FILE"),
        (["--threads", "2,0"], "--threads: must be numbers of at least 1 with commas between them, got '2,0'"),
        (["--threads", "two"], "got 'two'"),
        (["--draw", "--out", "nowhere.json"], "nowhere.json does not exist: measure first"),
    ],
)
def test_wrong_arguments_are_refused_by_name(scaling, words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        scaling.main(words)
    assert said in capsys.readouterr().err
