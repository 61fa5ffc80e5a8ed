"""What is imported is a model like any other: its records are named, it is pruned, attacked, shrunk and exported."""

import json
import lzma
import os
import pathlib

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from test_torchvision import narrow_resnet, write

import cli
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.data.members import read_members, with_members
from nanoprune.lab.export.check import logits, probes
from nanoprune.lab.models.by_shapes import natural
from nanoprune.lab.models.model import Model, load_model, save_model
from nanoprune.lab.models.torchvision import import_model
from nanoprune.lab.shrink import shrink
from nanoprune.lab.zoo import SEQUENTIAL, build, describe

pytest.importorskip("safetensors", reason="safetensors is not installed; it is in the extras import and test")
from exporting import network, randomised, state_dict_of

RNG = np.random.default_rng(0)
LAYERS = [
    {"layer": "conv", "size": 3, "padding": 1},
    {"layer": "batchnorm"},
    {"layer": "relu"},
    {"layer": "maxpool", "size": 2, "stride": 2},
    {"layer": "residual", "body": [{"layer": "conv", "size": 1}, {"layer": "tanh"}]},
    {"layer": "depthwise", "size": 3, "bias": False},
    {"layer": "relu6"},
    {"layer": "flatten"},
    {"layer": "dropout", "rate": 0.25},
    {"layer": "dense"},
    {"layer": "relu"},
    {"layer": "dense"},
]


def sequential(widths=(4, 4, 4, 6), layers=LAYERS, seed=0):
    return randomised(build(describe(SEQUENTIAL, (8, 1, 8), 10, list(widths), sequence=layers)), seed)


def run(*arguments, status=0):
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert result.exit_code == status, result.output
    return result


# Networks without a name


def test_a_list_of_layers_is_kept_and_built_again(tmp_path):
    net = sequential()
    save_model(Model(net, "d", "", None, 0, 0, 0, []), tmp_path / "m.h5")
    again = load_model(tmp_path / "m.h5").net
    assert (repr(again.body), again.description) == (repr(net.body), net.description)
    assert again.theta.tobytes() == net.theta.tobytes()
    assert again.state.tobytes() == net.state.tobytes()


def hostile(path, **changes):
    """A model file whose description is another one."""
    save_model(Model(sequential(), "d", "", None, 0, 0, 0, []), path)
    with h5py.File(path, "r+") as file:
        text = json.dumps(json.loads(bytes(file["network"][()])) | changes).encode()
        del file["network"]
        file["network"] = np.bytes_(text)
    return path


def nested(depth):
    return [{"layer": "residual", "body": nested(depth - 1) if depth else [{"layer": "dense"}]}]


HOSTILE = {
    "no list": {"sequence": {"layer": "dense"}},
    "none": {"sequence": None},
    "empty": {"sequence": []},
    "an unknown layer": {"sequence": [{"layer": "__import__"}, *LAYERS]},
    "no name": {"sequence": [{"size": 3}]},
    "a name that is no text": {"sequence": [{"layer": ["dense"]}]},
    "an unknown hyperparameter": {"sequence": [{"layer": "dense", "evil": 1}]},
    "a size of another type": {"sequence": [{"layer": "conv", "size": "3"}]},
    "a size that is a flag": {"sequence": [{"layer": "conv", "size": True}]},
    "a huge padding": {"sequence": [{"layer": "conv", "size": 3, "padding": 10**9}]},
    "a stride of 0": {"sequence": [{"layer": "conv", "size": 3, "stride": 0}]},
    "a rate of 1": {"sequence": [{"layer": "dropout", "rate": 1.0}, {"layer": "dense"}]},
    "too many layers": {"sequence": [{"layer": "relu"}] * 1001},
    "too many layers in blocks": {"sequence": [{"layer": "residual", "body": [{"layer": "relu"}] * 600}] * 2 + LAYERS},
    "too deep": {"sequence": nested(9), "widths": []},
    "no weights": {"sequence": [{"layer": "relu"}], "widths": []},
    "too few widths": {"widths": [4]},
    "widths that do not fit": {"widths": [4, 5, 4, 6]},
    "a name that it is not": {"network": "resnet18"},
    "a huge network": {"widths": [10**6, 10**6, 10**6, 10**6]},
    "other sizes": {"widths": [4, 4, 4, 7]},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_a_list_that_is_none_is_refused(changes, tmp_path):
    with pytest.raises(DataError) as caught:
        load_model(hostile(tmp_path / "m.h5", **changes))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_a_network_without_a_name_is_shrunk(tmp_path):
    net = sequential()
    conv, dense = net.weights[0], net.weights[3]
    conv.value[0, 1] = 0  # a filter: its channel is tied by the residual block, and stays
    dense.value[0, 2] = 0  # a unit, whose output is a constant
    small = shrink(net)
    assert small.description["widths"] == [4, 4, 4, 5]
    x = probes(net.input_shape, 5)
    np.testing.assert_allclose(logits(small, x), logits(net, x), atol=1e-5)
    assert small.size < net.size


# Weights by their shapes


def mlp_dict(sizes, names):
    found = {}
    for name, inputs, outputs in zip(names, sizes, sizes[1:], strict=False):
        found[f"{name}.weight"] = RNG.standard_normal((outputs, inputs)).astype(np.float32)
        found[f"{name}.bias"] = RNG.standard_normal(outputs).astype(np.float32)
    return found


def mlp_outputs(tensors, names, x):
    for name in names:
        x = x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
        x = x if name == names[-1] else np.maximum(x, 0)
    return x


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.model."])
@pytest.mark.parametrize("names", [["fc2", "fc9", "fc10", "fc11"], ["z_first", "a", "b", "out"], list("0246")])
def test_an_mlp_in_the_order_of_its_shapes(names, prefix, tmp_path):
    sizes = (5, 8, 8, 7, 3) if "fc9" in names or "0" in names else (5, 8, 6, 7, 3)
    tensors = mlp_dict(sizes, names)
    path = write(tmp_path / "w.safetensors", {prefix + name: tensors[name] for name in sorted(tensors)})
    model = import_model(path, "mlp")
    assert (model.net.input_shape, model.net.description["widths"]) == ((5,), list(sizes[1:-1]))
    x = RNG.random((4, 5), np.float32)
    np.testing.assert_allclose(logits(model.net, x), mlp_outputs(tensors, names, x), atol=1e-5)


def test_an_mlp_on_images(tmp_path):
    """PyTorch flattens (C, H, W), here (H, C, W) is flattened."""
    tensors = mlp_dict((12, 5, 3), ["0", "2"])
    net = import_model(write(tmp_path / "w.safetensors", tensors), "mlp", side=2).net
    assert net.input_shape == (2, 3, 2)
    x = RNG.random((4, 3, 2, 2), np.float32)
    np.testing.assert_allclose(logits(net, x), mlp_outputs(tensors, ["0", "2"], x.reshape(4, 12)), atol=1e-5)
    with pytest.raises(DataError, match="12 features, no image of 5 x 5"):
        import_model(tmp_path / "w.safetensors", "mlp", side=5)


ORDERLESS = {
    "layers of one shape": ((5, 8, 8, 8, 3), ["in", "left", "right", "out"], "names no order"),
    "no chain": ((5, 8, 6, 3), ["a", "b", "c"], "no order fits"),
    "two chains": ((4, 6, 4, 4), ["a", "b", "c"], "several orders fit"),
}


@pytest.mark.parametrize(("sizes", "names", "said"), ORDERLESS.values(), ids=ORDERLESS)
def test_an_order_that_the_shapes_do_not_say_is_not_guessed(sizes, names, said, tmp_path):
    tensors = mlp_dict(sizes, names)
    if said == "no order fits":
        del tensors["b.weight"]
    with pytest.raises(DataError, match=f"{said}.*export the network to ONNX"):
        import_model(write(tmp_path / "w.safetensors", tensors), "mlp")


def test_lenet_5_by_its_shapes(tmp_path):
    net = network("lenet-5", "float32", shape=(32, 3, 32))
    tensors = state_dict_of(net)
    names = {"conv1": "features.0", "conv2": "features.3", "dense1": "head.1", "dense2": "head.3"}
    renamed = {f"model.{names[name.split('.')[0]]}.{name.split('.')[1]}": of for name, of in tensors.items()}
    path = write(tmp_path / "w.safetensors", renamed)
    again = import_model(path, "lenet-5").net
    assert (again.input_shape, again.description["widths"]) == ((32, 3, 32), [20, 50, 500])
    assert again.theta.tobytes() == net.theta.tobytes()
    assert import_model(path, "lenet-5", side=33).net.input_shape == (33, 3, 33)
    with pytest.raises(DataError, match="mlp has dense layers alone"):
        import_model(path, "mlp")
    with pytest.raises(DataError, match="lenet-5 has two convolutions"):
        import_model(write(tmp_path / "m.safetensors", mlp_dict((5, 4, 3), "ab")), "lenet-5")


@given(st.lists(st.integers(0, 300), min_size=2, unique=True))
def test_names_are_sorted_by_their_numbers(numbers):
    names = [f"layers.{number}" for number in numbers]
    assert sorted(names, key=natural) == [f"layers.{number}" for number in sorted(numbers)]


def test_widths_and_multipliers_are_read_from_the_weights(tmp_path):
    tensors = narrow_resnet(np.random.default_rng(0))
    path = write(tmp_path / "w.safetensors", {f"module.{name}": of for name, of in tensors.items()})
    assert import_model(path, "resnet18", 64).net.description["width"] == 0.125
    for name, axis in (("layer1.0.conv1", 0), ("layer1.0.bn1", 0), ("layer1.0.conv2", 1)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            if f"{name}.{part}" in tensors:
                tensors[f"{name}.{part}"] = np.delete(tensors[f"{name}.{part}"], 3, axis)
    net = import_model(write(tmp_path / "odd.safetensors", tensors), "resnet18", 64).net
    assert net.description["widths"][:3] == [8, 7, 8]


def test_names_that_are_one_without_their_prefixes_are_refused(tmp_path):
    tensors = {name: np.zeros((3, 4), np.float32) for name in ("fc.weight", "module.fc.weight")}
    with pytest.raises(DataError, match="one name without their prefixes"):
        import_model(write(tmp_path / "w.safetensors", tensors), "mlp")


# Members


@given(st.sets(st.integers(0, 19), min_size=2, max_size=18))
def test_members_come_first_and_nobody_is_lost(places):
    x = np.arange(20, dtype=np.uint8)[:, None]
    dataset = Dataset.of("d", x, np.arange(20) % 2, 2, scale=255)
    member = np.isin(np.arange(20), list(places))
    found = with_members(dataset, member, "f")
    ids = np.rint(found.x[:, 0] * 255).astype(int)
    assert ids.tolist() == sorted(places) + sorted(set(range(20)) - places)
    assert (found.y == ids % 2).all()
    assert found.train == len(places)
    assert found.sha256 != with_members(dataset, ~member, "f").sha256


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0\n1\n40\n", r"line 3 is '40': expected a record's place from 0 to 39"),
        ("0\n-1\n", "line 2 is '-1'"),
        ("0\n1.5\n", "line 2"),
        ("3\n3\n", "line 2 is '3': is named twice"),
        ("\x1b[31m\n", "line 1"),
        ("9" * 5000, "longer than"),
    ],
)
def test_a_file_of_members_that_names_no_records_is_refused(text, said, tmp_path):
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_members(tmp_path / "ids.txt", 40)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("member", [np.zeros(1797), np.ones(1797), np.full(1797, 2), np.ones(5), np.ones((1797, 2))])
def test_an_array_of_members_that_is_none_is_refused(member, tmp_path):
    digits = load("digits")
    np.savez(tmp_path / "mine.npz", x=digits.x, y=digits.y, member=member)
    with pytest.raises(DataError, match=r"mine\.npz.*member"):
        load(str(tmp_path / "mine.npz"))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An MLP of somebody, the records of its training set, and the folder that they lie in."""
    monkeypatch.chdir(tmp_path)
    digits, tensors = load("digits"), mlp_dict((64, 24, 10), ["0", "2"])
    member = np.random.default_rng(1).permutation(len(digits.y)) < 60
    np.savez("mine.npz", x=digits.x, y=digits.y)
    np.savez("told.npz", x=digits.x, y=digits.y, member=member)
    (tmp_path / "ids.txt").write_text("".join(f"{place}\n" for place in np.flatnonzero(member)))
    write(tmp_path / "w.safetensors", tensors)
    return tmp_path


QUICK = ["--keep", 0.3, "--iterations", 2, "--epochs", 2, "--retrain-epochs", 1]


def test_an_imported_model_is_pruned_attacked_shrunk_and_exported(own):
    run("import", "w.safetensors", "--network", "mlp", "--out", "bare.h5")
    said = run("prune", "bare.h5", *QUICK, "--out", "p.h5", status=2).stderr
    assert "name them with --data" in said
    said = run("prune", "bare.h5", *QUICK, "--data", "mine.npz", "--out", "p.h5", status=2).stderr
    assert "--members-file" in said
    named = ["--data", "mine.npz", "--members-file", "ids.txt"]
    run("prune", "bare.h5", *QUICK, *named, "--out", "p.h5")
    pruned = load_model("p.h5")
    assert [step["step"] for step in pruned.steps] == ["import", "prune"]
    assert (pruned.dataset, pruned.members, pruned.nonmembers) == ("mine.npz", None, 1797 - 60)
    said = run("attack", "p.h5", status=2).stderr
    assert "not the records that the model was trained on" in said
    run("attack", "p.h5", *named, "--dense", "bare.h5", "--shadows", 6, "--json", "a.json")
    found = json.loads(pathlib.Path("a.json").read_text())
    assert any("how the model was trained is not known" in note for note in found["notes"])
    assert "lira dense and pruned" in " ".join(found["attacks"]).replace("_", " ")
    run("prune", "bare.h5", *QUICK, *named, "--scheme", "filter", "--out", "f.h5")
    run("shrink", "f.h5", "--out", "s.h5")
    assert load_model("s.h5").net.size < load_model("f.h5").net.size
    run("export", "s.h5", "--to", "safetensors", "--out", "s.safetensors")
    assert b"mine.npz" not in pathlib.Path("s.safetensors").read_bytes()


def test_an_array_of_the_data_file_names_the_members_as_a_file_does(own):
    how = ["--epochs", 7, "--batch", 20, "--lr", 0.05]
    said = run("import", "w.safetensors", "--network", "mlp", "--data", "told.npz", *how, "--out", "m.h5").output
    assert "all 1,737 held-out records" in said  # and the accuracies: labels in another order would show there
    assert load_model("m.h5").steps[0]["epochs"] == 7
    run("prune", "m.h5", *QUICK, "--out", "a.h5")  # its records lie here
    named = ["--data", "mine.npz", "--members-file", "ids.txt"]
    run("prune", "m.h5", *QUICK, *named, "--out", "b.h5")  # the very same records
    assert load_model("a.h5").net.theta.tobytes() == load_model("b.h5").net.theta.tobytes()
    run("attack", "a.h5", "--shadows", 6, "--json", "a.json")
    assert not any("not known" in note for note in json.loads(pathlib.Path("a.json").read_text())["notes"])


def test_the_shadow_models_of_an_import_repeat_what_its_user_said(own):
    from nanoprune.lab.audit.shadows import as_trained, recipe_steps

    how = {"epochs": 7, "batch": 20, "lr": 0.03}
    data = load("told.npz")
    model = import_model("w.safetensors", "mlp", dataset=data, training=how)
    trained, note = as_trained(model, data)
    ((step, recipe),) = recipe_steps(trained, data)
    assert note is None
    assert {name: getattr(recipe.dense, name) for name in how} == how
    assert step["step"] == "train"
    _, note = as_trained(import_model("w.safetensors", "mlp", dataset=data, training={"lr": 0.1}), data)
    assert "epochs" in note
    assert "lr" not in note


def test_other_shapes_and_unknown_members_are_told(own):
    digits = load("digits")
    with pytest.raises(ArgumentError, match=r"maps \(64,\) to \(10,\): not made for d, which maps \(3,\) to 2 classes"):
        import_model("w.safetensors", "mlp", dataset=Dataset.of("d", np.ones((9, 3)), np.arange(9) % 2, 2, train=4))
    with pytest.raises(DataError, match="does not say which records"):
        import_model("w.safetensors", "mlp", dataset=digits)
    said = run("import", "w.safetensors", "--members-file", "ids.txt", "--out", "m.h5", status=2).stderr
    assert "give --data" in said
    (own / "w.onnx").write_bytes(b"")
    said = run("import", "w.onnx", "--network", "mlp", "--out", "m.h5", status=2).stderr
    assert "says its layers itself" in said


# A network that was really trained


def dogs():
    folder = pathlib.Path(os.environ.get("NANOPRUNE_DATA", "data")) / "mobilenetv2-dogs"
    if not (folder / "reference.npz").is_file():
        pytest.skip("needs mobilenetv2-dogs in NANOPRUNE_DATA")
    return folder


def test_the_outputs_of_a_trained_mobilenetv2_are_those_of_keras(tmp_path):
    """Keras pads the other side where the stride is 2: images are turned by 180 degrees; they are 2 x - 1 there."""
    folder, path = dogs(), tmp_path / "dogs.safetensors"
    path.write_bytes(lzma.decompress((folder / "mobilenetv2-dogs.safetensors.xz").read_bytes()))
    half = "0.5,0.5,0.5"
    out = tmp_path / "dogs.h5"
    run("import", path, "--network", "mobilenetv2", "--input", 160, "--mean", half, "--std", half, "--out", out)
    net = load_model(out).net
    assert (net.description["width"], net.output_shape) == (1.0, (19,))
    with np.load(folder / "reference.npz") as reference:
        images, expected = reference["images"][:4], reference["probs"][:4]
    x = (images[:, ::-1, ::-1].astype(np.float32) / 255).transpose(0, 3, 1, 2)  # (N, C, H, W)
    z = np.exp(logits(net, x).astype(np.float64))
    assert np.ptp(expected, axis=0).max() > 0.5
    np.testing.assert_allclose(z / z.sum(axis=1, keepdims=True), expected, rtol=0, atol=2e-6)
