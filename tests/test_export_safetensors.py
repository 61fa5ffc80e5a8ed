"""safetensors and PyTorch code: exactly the network's weights, with PyTorch's names and layout."""

import json
import runpy

import numpy as np
import pytest
from click.testing import CliRunner
from exporting import SECRETS, ZOO, model_of, network, secrets_in

import cli
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.export import export_model
from nanoprune.lab.export.about import about
from nanoprune.lab.export.check import difference, logits, probes
from nanoprune.lab.export.safetensors import read_safetensors, state_dict, to_safetensors
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.lab.models.torchvision import import_model
from nanoprune.lab.shrink.shrink import shrink

safetensors = pytest.importorskip("safetensors.numpy")


def written(name, tmp_path, net=None):
    net = net or network(name, "float32", keep=0.3)
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(to_safetensors(net, about(model_of(net), "dense")))
    return net, path


@pytest.mark.parametrize("name", ZOO)
def test_what_is_read_is_bitwise_what_was_written(name, tmp_path):
    net, path = written(name, tmp_path)
    again = read_safetensors(path)
    assert again.description == net.description
    assert again.theta.tobytes() == net.theta.tobytes()
    assert again.state.tobytes() == net.state.tobytes()


@pytest.mark.parametrize("name", ["vgg16", "mobilenetv2", "resnet18"])
def test_import_reads_torchvisions_names(name, tmp_path):
    net, path = written(name, tmp_path)
    again = import_model(path, name, 32, ZOO[name][1]).net
    assert again.theta.tobytes() == net.theta.tobytes()
    assert again.state.tobytes() == net.state.tobytes()


def test_a_shrunk_network_comes_back_too(tmp_path):
    net = network("lenet-5", "float32")
    net.weights[0].value[0, ::2] = 0
    _, path = written("lenet-5", tmp_path, shrink(net))
    assert read_safetensors(path).description["widths"][0] == 10


def test_weights_have_pytorchs_layout(tmp_path):
    """A convolution and a dense layer after Flatten, written out as PyTorch defines them."""
    net = network("lenet-5", "float64")
    tensors = {name: tensor.astype(np.float64) for name, tensor in state_dict(net).items()}
    assert list(tensors) == [
        f"{of}.{part}" for of in ("conv1", "conv2", "dense1", "dense2") for part in ("weight", "bias")
    ]
    x = probes(net.input_shape, 2).astype(np.float64)

    def conv(x, name):
        weight, windows = tensors[f"{name}.weight"], np.lib.stride_tricks.sliding_window_view(x, (5, 5), (2, 3))
        return np.einsum("nchwij,ocij->nohw", windows, weight) + tensors[f"{name}.bias"][:, None, None]

    def pool(x):
        N, C, H, W = x.shape
        return np.maximum(x[:, :, : H // 2 * 2, : W // 2 * 2].reshape(N, C, H // 2, 2, W // 2, 2).max((3, 5)), 0)

    a = pool(conv(pool(conv(x, "conv1")), "conv2")).reshape(2, -1)
    a = np.maximum(a @ tensors["dense1.weight"].T + tensors["dense1.bias"], 0)
    assert difference(a @ tensors["dense2.weight"].T + tensors["dense2.bias"], logits(net, x)) < 1e-6


@pytest.mark.parametrize("change", [{"classes": 8}, {"classes": -1}, {"network": "resnet50"}, {"input_shape": "x"}])
def test_a_file_that_lies_about_its_architecture_is_refused(tmp_path, change):
    net, path = written("lenet-5", tmp_path)
    path.write_bytes(to_safetensors(net, {"architecture": net.description | change}))
    with pytest.raises(DataError, match=r"lenet-5\.safetensors"):
        read_safetensors(path)


def test_a_file_without_architecture_or_of_other_bytes_is_refused(tmp_path):
    net, path = written("mlp", tmp_path)
    path.write_bytes(to_safetensors(net, {}))
    with pytest.raises(DataError, match="give --network"):
        read_safetensors(path)
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        read_safetensors(path)


@pytest.mark.parametrize("name", ["mlp", "lenet-5", "mobilenetv2", "resnet18", "vgg16"])
def test_torch_code_names_each_tensor_of_the_file_once(name, tmp_path):
    net = network(name, "float32", keep=0.3)
    model = model_of(net)
    files, _ = export_model(net, "torch-code", "dense", about(model, "dense", licence="MIT"), tmp_path / "model.py")
    for path, data in files.items():
        path.write_bytes(data)
        assert secrets_in(data) == []
    source = files[tmp_path / "model.py"].decode()
    compile(source, "model.py", "exec")
    places = eval(source.split("PLACES = ")[1], {"__builtins__": {}})
    stored = safetensors.load(files[tmp_path / "model.safetensors"])
    assert sorted(places.values()) == sorted(stored)


@pytest.mark.parametrize("name", ["mlp", "lenet-5", "mobilenetv2", "resnet18", "vgg16"])
def test_torch_code_computes_the_network(name, tmp_path):
    torch = pytest.importorskip("torch")
    net = network(name, "float32", keep=0.3)
    files, _ = export_model(net, "torch-code", "dense", about(model_of(net), "dense"), tmp_path / "model.py")
    for path, data in files.items():
        path.write_bytes(data)
    module = runpy.run_path(str(tmp_path / "model.py"))["load"](tmp_path)
    x = probes(net.input_shape, 2)
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    assert difference(found, logits(net, x)) < 1e-5


def test_safetensors_has_no_packed_weights(tmp_path):
    with pytest.raises(ArgumentError, match="weights of safetensors must be one of dense"):
        export_model(network("mlp", "float32"), "safetensors", "packed", {}, tmp_path / "net.safetensors")


def test_commands_export_and_import_give_the_model_back(tmp_path):
    net = network("lenet-300-100", "float32", keep=0.1)
    save_model(model_of(net), tmp_path / "a.h5")
    steps = [
        [
            "export",
            tmp_path / "a.h5",
            "--to",
            "safetensors",
            "--out",
            tmp_path / "a.safetensors",
            "--card",
            "scans | of hands",
        ],
        ["import", tmp_path / "a.safetensors", "--out", tmp_path / "b.h5"],
    ]
    for arguments in steps:
        found = CliRunner().invoke(cli.main, [str(a) for a in arguments])
        assert found.exit_code == 0, found.output
    again = load_model(tmp_path / "b.h5")
    assert again.net.theta.tobytes() == net.theta.tobytes()
    assert again.dataset != SECRETS["dataset"]
    for path in ("a.safetensors", "a.card.md", "a.card.json"):
        assert secrets_in((tmp_path / path).read_bytes()) == []
    record = json.loads((tmp_path / "a.card.json").read_text())
    assert record["weights"]["nonzero"] == int(net.nonzero()[0])
    assert record["data"] == "scans | of hands"
    assert "Not audited" in (tmp_path / "a.card.md").read_text()
