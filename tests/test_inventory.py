"""The layers of a network, as printed by `info`: counted here by formulas, layer by layer."""

import json
import re
import tracemalloc

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import DepthwiseConv2D, Pointwise, Residual
from nanoprune.lab.models.inventory import inventory_of
from nanoprune.lab.models.model import Model, save_model
from nanoprune.lab.zoo import build, describe
from nanoprune.lab.zoo.keep_ratios import layer_names
from nanoprune.lab.zoo.structure import macs
from nanoprune.nn import Branches, Conv2D, Dense, Sequential


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.fixture
def pruned(tmp_path):
    """LeNet-5 with 100 of its first layer's weights, 1 of the second's, and all others."""
    net = build(describe("lenet-5", (28, 1, 28), 10))
    net.W[...] = 1
    net.weights[0].value.reshape(1, -1)[0, 100:] = 0
    net.weights[1].value.reshape(1, -1)[0, 1:] = 0
    save_model(Model(net, "mnist", "", None, 0, 0, 0, []), tmp_path / "m.h5")
    return tmp_path / "m.h5"


def test_multiply_accumulates_are_weights_times_positions():
    image = (9, 4, 7)
    assert macs(Conv2D(4, 6, 3, stride=2, padding=1), image) == 5 * 4 * (6 * 4 * 9)
    assert macs(DepthwiseConv2D(4, 3, stride=2, padding=1), image) == 5 * 4 * (4 * 9)
    assert macs(Pointwise(4, 6, stride=2), image) == 5 * 4 * (4 * 6)
    assert macs(Dense(5, 3), (5,)) == 15
    assert macs(Residual(Pointwise(4, 6), Conv2D(4, 6, 1)), image) == 2 * 63 * 24
    assert macs(Branches((2, Dense(2, 3)), (3, Sequential(Dense(3, 4), Dense(4, 1)))), (5,)) == 6 + 12 + 4


def test_lenet_5_layer_by_layer():
    """500, 25,000, 400,000 and 5,000 weights at 24x24, 8x8, 1 and 1 positions."""
    found = inventory_of("lenet-5")
    weights = [500, 25_000, 400_000, 5_000]
    macs = [500 * 24 * 24, 25_000 * 8 * 8, 400_000, 5_000]
    layers = [layer for layer in found["layers"] if layer["weights"]]
    assert [layer["weights"] for layer in layers] == weights
    assert [layer["macs"] for layer in layers] == macs
    assert [layer["parameters"] for layer in layers] == [520, 25_050, 400_500, 5_010]
    assert [layer["output"] for layer in layers] == [(24, 20, 24), (8, 50, 8), (500,), (10,)]
    assert (found["weights"], found["parameters"], found["macs"]) == (430_500, 431_080, sum(macs))
    assert found["kept_weights"] is None


@pytest.mark.parametrize(
    ("arguments", "parameters", "shape", "classes"),
    [
        (["resnet18"], 11_689_512, [224, 3, 224], 1000),
        (["mobilenetv2", "--input", 32, "--classes", 1000], 3_504_872, [32, 3, 32], 1000),
        (["resnet18", "--input", 32], 11_173_962, [32, 3, 32], 10),
        (["lenet-300-100"], 266_610, [784], 10),
        (["mlp", "--input", 64], 64 * 512 + 512 + 512 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10, [64], 10),
    ],
)
def test_info_as_json(arguments, parameters, shape, classes):
    result = run("info", *arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["parameters"], found["input_shape"], found["classes"]) == (parameters, shape, classes)
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"])
    assert found["layers"][0]["input"] == shape
    assert found["layers"][-1]["output"] == [classes]


def test_counting_takes_no_memory_for_parameters():
    tracemalloc.start()
    assert inventory_of("vgg16")["parameters"] == 138_365_992
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_of_a_model_file_what_is_kept(pruned):
    found = json.loads(run("info", pruned, "--json").output)
    layers = [layer for layer in found["layers"] if layer["weights"]]
    assert [layer["kept_weights"] for layer in layers] == [100, 1, 400_000, 5_000]
    assert [layer["kept_macs"] for layer in layers] == [100 * 24 * 24, 64, 400_000, 5_000]
    assert (found["kept_weights"], found["kept_macs"]) == (405_101, 57_600 + 64 + 405_000)
    table = run("info", pruned).output
    assert re.search(r"conv2 +5x5 +8x50x8 +25,000 +1 +1\.6M +64\s", table)
    assert "405,101" in table
    assert "…" not in table  # no name is cut


def test_info_in_words():
    table = run("info", "resnet18").output
    assert re.search(r"mean +512\s", table)
    assert "11,689,512 parameters" in " ".join(table.split())
    assert "1,814,073,344" in table


def test_of_a_model_file_names_data_steps_and_accuracy(tmp_path):
    """In 40 lines of 80 columns for a ResNet18, with the names that --keep-file takes."""
    net = build(describe("resnet18", (32, 3, 32), 10, 0.25)).initialise([np.random.default_rng(0)])
    schedule = {"epochs": 15, "batch": 64, "lr": 0.05, "momentum": 0.9}
    steps = [
        {"step": "train", "minmax": 2.0, **schedule, "accuracy": {"train": 1.0, "test": 0.6125}},
        {
            "step": "prune",
            "keep": 0.05,
            "scope": "global",
            "prune": schedule,
            "retrain": schedule,
            "status": "converged",
        },
    ]
    save_model(Model(net, "cifar10", "ab", 5000, 4000, 3000, 7, steps), tmp_path / "m.h5")
    output = CliRunner().invoke(cli.main, ["info", str(tmp_path / "m.h5")], env={"COLUMNS": "80"}).output
    table = output.splitlines()[4:]
    assert len(table) < 40
    assert max(map(len, table)) <= 80
    for said in (
        "data: cifar10; members 5,000, reference 4,000, non-members 3,000; seed 7",
        "train: epochs 15, batch 64, lr 0.05, momentum 0.9, minmax 2; accuracy train 100.00% test 61.25%",
        "prune: keep 0.05, scope global, prune (epochs 15, batch 64, lr 0.05), retrain",
    ):
        assert said in output
    shown = re.findall(r"^ (\w+\d+) .*\d", output, re.MULTILINE)
    assert shown == layer_names(net)
    assert re.search(r"conv2 +3x3 norm relu +32x16x32", output)
    found = json.loads(run("info", tmp_path / "m.h5", "--json").output)
    assert (found["model"]["dataset"], found["model"]["steps"]) == ("cifar10", steps)
    assert [layer["name"] for layer in found["layers"] if layer["name"]] == layer_names(net)


def test_what_training_kept_of_its_accuracy_is_told(tmp_path):
    out = tmp_path / "m.h5"
    said = run("train", "digits", "--members", 50, "--nonmembers", 60, "--epochs", 2, "--out", out).output
    figures = re.search(r"accuracy train [\d.]+% test [\d.]+%", said).group()
    assert figures in run("info", out).output


def test_what_info_cannot_do(pruned, tmp_path):
    with pytest.raises(ArgumentError, match=r"network must be one of mlp, .*, or a model file; got 'resnet19'"):
        inventory_of("resnet19")
    with pytest.raises(ArgumentError, match="the model file says inputs, width and classes; leave the options out"):
        inventory_of(str(pruned), side=32)
    (tmp_path / "other.h5").write_bytes(np.arange(9).tobytes())
    for arguments in (["resnet19"], [tmp_path / "other.h5"], ["lenet-5", "--width", 0.5], ["resnet18", "--width", 0]):
        result = run("info", *arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
