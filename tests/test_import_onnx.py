"""Networks from ONNX graphs: their outputs are those of onnxruntime, and what no layer here does is refused by name."""

import contextlib
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.export.check import difference, logits, probes
from nanoprune.lab.export.onnx import to_onnx
from nanoprune.lab.export.packing import program_of
from nanoprune.lab.models.onnx_import import import_onnx
from nanoprune.lab.zoo import SEQUENTIAL, build, describe

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from exporting import network, randomised  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_writer import Writer, residual_network, run  # noqa: E402

FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def agree(path, tolerance=1e-5, varies=True, **options):
    """The model of a file, whose logits are onnxruntime's on random records, beside the largest of them."""
    model, _ = import_onnx(path, **options)
    x = probes(model.net.input_shape, 3)
    expected = run(path, x)
    assert not varies or np.ptp(expected, axis=0).max() > 1e-3  # the outputs depend on the input
    assert difference(logits(model.net, x), expected) < tolerance
    return model


ACTS = st.sampled_from(["Relu", "Tanh", "Clip"])


@st.composite
def sequentials(draw):
    """Random sequences of all the layers that there are, on images or features."""
    images = draw(st.booleans())
    shape = (draw(st.integers(1, 3)), draw(st.integers(6, 9)), draw(st.integers(6, 9))) if images else (7,)
    opset, batch = draw(st.sampled_from([13, 17])), draw(st.sampled_from(["N", 3]))
    net = Writer(shape, draw(st.integers(0, 2**20)), opset, batch)
    for _ in range(draw(st.integers(0, 4)) if images else 0):
        kind, side = draw(st.sampled_from(["conv", "batchnorm", "act", "pool"])), min(net.shape[1:])
        if kind == "conv":
            size = draw(st.integers(1, min(3, side)))
            depthwise, bias = draw(st.booleans()) and net.shape[0] > 1, draw(st.booleans())
            net.conv(draw(st.integers(1, 4)), size, draw(st.integers(1, 2)), draw(st.integers(0, 1)), bias, depthwise)
        elif kind == "pool" and side >= 2:
            op, overlap = draw(st.sampled_from(["MaxPool", "AveragePool"])), draw(st.booleans())
            net.pool(op, 2, *((1, 1) if overlap and op == "MaxPool" else ()))
        elif kind == "batchnorm":
            net.batchnorm(draw(st.sampled_from([1e-5, 1e-3])))
        else:
            net.act(draw(ACTS))
    if images:
        forms = ["Flatten", "Reshape", "view", "GlobalAveragePool", "ReduceMean"]
        form = draw(st.sampled_from(forms))
        net.mean(form) if form in forms[3:] else net.flatten(form)
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["dense", "batchnorm", "act", "dropout"]))
        if kind == "dense":
            net.dense(draw(st.integers(2, 6)), draw(st.sampled_from(["gemm", "matmul"])))
        elif kind == "batchnorm":
            net.batchnorm()
        else:
            net.node("Identity") if kind == "dropout" else net.act(draw(ACTS))
    return net.dense(draw(st.integers(2, 5)))


@FAST
@given(sequentials())
def test_outputs_of_random_sequences_are_those_of_onnxruntime(net):
    with tempfile.TemporaryDirectory() as folder:
        agree(net.save(pathlib.Path(folder) / "net.onnx"), varies=False)  # some are all zeros behind a ReLU


@st.composite
def records(draw):
    """Random networks of ours in which no BatchNorm follows what it could be folded into."""
    found, widths = [], []
    for _ in range(draw(st.integers(0, 3))):
        found.append({"layer": draw(st.sampled_from(["batchnorm", "relu", "tanh", "relu6"]))})
        found.append({"layer": "conv", "size": draw(st.integers(1, 3)), "padding": 1, "bias": draw(st.booleans())})
        widths.append(draw(st.integers(1, 4)))
        found.append({"layer": "relu"})
    found += draw(st.sampled_from([[{"layer": "flatten"}, {"layer": "batchnorm"}], [{"layer": "globalavgpool"}]]))
    found += [{"layer": "dense"}, {"layer": "tanh"}, {"layer": "batchnorm"}, {"layer": "dense"}]
    description = describe(SEQUENTIAL, (6, 2, 5), 3, [*widths, 4], sequence=found)
    return randomised(build(description), draw(st.integers(0, 99)), keep=draw(st.sampled_from([1.0, 0.02])))


@FAST
@given(records(), st.sampled_from(["dense", "packed"]))
def test_what_export_wrote_comes_back_bit_for_bit(net, form):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "net.onnx"
        path.write_bytes(to_onnx(program_of(net, form), {}, form))
        again = import_onnx(path)[0].net
    x = probes(net.input_shape, 4)
    assert logits(again, x).tobytes() == logits(net, x).tobytes()
    assert again.W.tobytes() == net.W.tobytes()
    assert again.state.tobytes() == net.state.tobytes()


@pytest.mark.parametrize("name", ["mlp", "lenet-5", "vgg16", "resnet18", "mobilenetv2"])
def test_the_zoo_comes_back(name, tmp_path):
    """BatchNorm is folded: the outputs are the same up to rounding, and a second export has the very same weights."""
    net = network(name, "float32")
    (tmp_path / "a.onnx").write_bytes(to_onnx(program_of(net, "dense"), {}))
    once = agree(tmp_path / "a.onnx").net
    x = probes(net.input_shape, 3)
    assert difference(logits(once, x), logits(net, x)) < 2e-5
    (tmp_path / "b.onnx").write_bytes(to_onnx(program_of(once, "dense"), {}))
    assert import_onnx(tmp_path / "b.onnx")[0].net.theta.tobytes() == once.theta.tobytes()
    if name in ("mlp", "lenet-5"):  # nothing to fold: by name, bit for bit
        assert once.description == net.description
        assert once.theta.tobytes() == net.theta.tobytes()


def test_branches_that_join_are_residual_blocks(tmp_path):
    model = agree(residual_network().save(tmp_path / "net.onnx"))
    kinds = [record["layer"] for record in model.net.description["sequence"]]
    assert kinds.count("residual") == 2
    body, beside = (model.net.description["sequence"][kinds.index("residual") + 2][of] for of in ("body", "shortcut"))
    assert [record["layer"] for record in beside] == ["conv", "batchnorm"]
    assert [record["layer"] for record in body] == ["conv", "batchnorm", "relu", "conv"]


def test_a_network_that_has_a_name_gets_it(tmp_path):
    net = Writer((5,)).dense(4).act("Relu").dense(3).act("Relu").dense(2)
    assert agree(net.save(tmp_path / "net.onnx")).net.description["network"] == "mlp"
    net = Writer((5,)).dense(4).act("Tanh").dense(2)
    assert agree(net.save(tmp_path / "net.onnx")).net.description["network"] == SEQUENTIAL


def test_steps_before_and_after_the_layers(tmp_path):
    """Standardised images, scales that become part of a layer, a softmax that is left out, dropout that stays."""
    net = Writer((2, 5, 5))
    net.node("Sub", net.constant(np.full((2, 1, 1), 0.4))).node("Div", net.constant([[[[0.2]], [[0.3]]]]))
    net.conv(3, bias=False).node("Mul", net.constant(np.full((1, 3, 1, 1), 1.5))).flatten()
    net.node("Dropout", net.constant(0.25)).dense(4).node("Softmax", axis=1)
    model, notes = import_onnx(net.save(tmp_path / "net.onnx"))
    assert "softmax" in notes[0]
    np.testing.assert_allclose(model.net.description["standardise"], [[0.4, 0.4], [0.2, 0.3]], rtol=1e-6)
    assert {"layer": "dropout", "rate": 0.25} in model.net.description["sequence"]
    x = probes(model.net.input_shape, 3)
    z = np.exp(logits(model.net, x).astype(np.float64))
    np.testing.assert_allclose(z / z.sum(axis=1, keepdims=True), run(tmp_path / "net.onnx", x), atol=1e-6)
    table = Writer((4,))
    table.node("Mul", table.constant([[1.0, 2.0, 3.0, 4.0]])).node("Add", table.constant(0.5)).dense(3)
    agree(table.save(tmp_path / "table.onnx"))


def test_the_side_of_images_that_the_file_leaves_open(tmp_path):
    net = Writer((1, 8, 8)).conv(2).mean().dense(3)
    net.input_shape = (1, "H", "W")
    path = net.save(tmp_path / "net.onnx")
    with pytest.raises(DataError, match=r"shape \(\?, 1, \?, \?\).*--input"):
        import_onnx(path)
    assert import_onnx(path, side=11)[0].net.input_shape == (11, 1, 11)
    fixed = Writer((1, 8, 8)).conv(2).mean().dense(3).save(tmp_path / "fixed.onnx")
    with pytest.raises(ArgumentError, match="leave --input out"):
        import_onnx(fixed, side=9)


def external(folder, name="net.data", **entries):
    """A graph whose weights lie in a second file, as PyTorch writes them."""
    net, entries = Writer((4,)).dense(3), {"location": name} | entries
    tensor = net.tensors[0]
    if pathlib.PurePath(name).name == name != "..":
        (folder / name).write_bytes(b"\0" * 8 + tensor.raw_data)
    del tensor.external_data[:]
    tensor.data_location, tensor.raw_data = TensorProto.EXTERNAL, b""
    tensor.ClearField("raw_data")
    for key, value in ({"offset": 8, "length": 48} | entries).items():
        tensor.external_data.add(key=key, value=str(value))
    return net.save(folder / "net.onnx")


def test_weights_in_a_file_beside_it(tmp_path):
    agree(external(tmp_path))
    (tmp_path / "net.data").unlink()
    with pytest.raises(DataError, match=r"net\.data, which cannot be read .* keep the two files together"):
        import_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    "entries",
    [
        {"name": "../net.data"},
        {"name": "/etc/passwd"},
        {"name": ""},
        {"name": ".."},
        {"offset": 9},
        {"offset": -8},
        {"offset": "x"},
        {"length": 2**40},
        {"length": 4},
    ],
)
def test_weights_elsewhere_are_not_read(entries, tmp_path):
    with pytest.raises(DataError, match=r"net\.onnx"):
        import_onnx(external(tmp_path, **entries))


def test_a_link_or_a_pipe_beside_it_is_not_waited_for(tmp_path):
    import os

    path = external(tmp_path)
    (tmp_path / "net.data").unlink()
    os.mkfifo(tmp_path / "net.data")
    with pytest.raises(DataError, match=r"net\.onnx|net\.data"):
        import_onnx(path)


def bad(**changes):
    """A graph that one thing is wrong with."""
    net = Writer((2, 6, 6))
    if "conv" in changes:
        W = net.normal(*changes.get("shape", (3, 2, 3, 3)))
        net.node("Conv", W, shape=(3, 4, 4), **changes["conv"])
    elif "op" in changes:
        net.node(changes["op"], **changes.get("attributes", {}))
    elif "pool" in changes:
        net.node(changes["pool"], **changes["attributes"])
    return net.flatten().dense(3)


def looped():
    """x_n = x_{n-1} + x_{n-2}: a graph whose branches use each other."""
    net = Writer((4,)).dense(4)
    first = net.value
    net.act("Relu")
    for _ in range(30):
        second = net.value
        net.node("Add", first, before=second)
        first = second
    return net.dense(2)


def bomb():
    net = Writer((4,))
    shape = net.constant([10**5, 10**5], np.int64)
    net.nodes.append(helper.make_node("ConstantOfShape", [shape], ["big"]))
    return net.node("MatMul", "big", shape=(3,))


def wrong_size():
    net = Writer((4,)).dense(3)
    net.tensors[0].dims[:] = [1 << 20, 1 << 20]
    return net


def training():
    net = Writer((4,)).dense(3)
    of = [net.constant(np.ones(3)) for _ in range(4)]
    net.node("BatchNormalization", *of, training_mode=1)
    return net.dense(2)


def mixing():
    net = Writer((4,)).dense(4)
    return net.node("Reshape", net.constant([2, -1], np.int64), shape=(8,)).dense(2)


def scaled_in_between():
    net = Writer((4,)).dense(3).act("Relu")
    return net.node("Mul", net.constant(2.0))


REFUSED = {
    "operations that no layer does": (lambda: bad(op="Sigmoid"), "has Sigmoid, which no layer"),
    "dilated kernels": (lambda: bad(conv={"dilations": [2, 2]}), "not dilated"),
    "padding on one side": (lambda: bad(conv={"pads": [0, 0, 1, 1]}), "padded alike"),
    "padding by name": (lambda: bad(conv={"auto_pad": "SAME_UPPER", "strides": [2, 2]}), "one side more"),
    "groups": (lambda: bad(conv={"group": 2}, shape=(4, 1, 3, 3)), "one group, or one for each channel"),
    "kernels that are not square": (lambda: bad(conv={}, shape=(3, 2, 3, 2)), "square"),
    "overlapping means": (
        lambda: bad(pool="AveragePool", attributes={"kernel_shape": [3, 3], "strides": [1, 1]}),
        "moved by 1",
    ),
    "sizes rounded up": (
        lambda: bad(pool="MaxPool", attributes={"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1}),
        "ceil_mode",
    ),
    "a softmax in between": (lambda: Writer((4,)).dense(3).node("Softmax", axis=-1).dense(2), "has a softmax"),
    "branches of branches": (looped, "sums of two branches"),
    "more memory than the file has": (bomb, "asks for"),
    "a shape without values": (wrong_size, "values, its shape"),
    "training mode": (training, "model.eval()"),
    "mixed records": (mixing, "mixes records"),
    "a scale where there is no layer": (scaled_in_between, "scales its values"),
    "no weights": (lambda: Writer((4,)).act("Relu"), "layer with weights"),
    "a flattened image at the end": (lambda: Writer((2, 6, 6)).conv(2).flatten(), "flattened image"),
    "NaN": (lambda: _with_nan(), "NaN, infinity"),
    "one axis": (lambda: Writer((3, 4)).node("Relu"), r"expected (N, F) or (N, C, H, W)"),
}


def _with_nan():
    net = Writer((4,)).dense(3)
    net.tensors[0].CopyFrom(numpy_helper.from_array(np.full((3, 4), np.nan, np.float32), net.tensors[0].name))
    return net


@pytest.mark.parametrize(("made", "said"), REFUSED.values(), ids=REFUSED)
def test_what_no_layer_does_is_refused_in_one_line(made, said, tmp_path):
    with pytest.raises(DataError) as caught:
        import_onnx(made().save(tmp_path / "net.onnx"))
    assert said in str(caught.value)
    assert "net.onnx" in str(caught.value)
    assert str(caught.value).isprintable()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_raise_no_error_of_others(data):
    whole = bytearray(residual_network().model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "net.onnx"
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
        with contextlib.suppress(DataError, ArgumentError):
            import_onnx(path)


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ArgumentError, match=r"pip install 'nanoprune\[onnx\]'"):
        import_onnx(tmp_path / "net.onnx")
