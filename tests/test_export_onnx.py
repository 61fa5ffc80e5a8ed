"""ONNX files compute the network's outputs, by onnx's reference evaluator in float64 and by onnxruntime."""

import json

import numpy as np
import pytest
from exporting import OTHERS, ZOO, model_of, network, secrets_in

from nanoprune.errors import DataError
from nanoprune.lab.export import export_model
from nanoprune.lab.export.about import about
from nanoprune.lab.export.check import difference, logits, probes
from nanoprune.lab.export.onnx import run_onnx, to_onnx
from nanoprune.lab.export.packing import program_of
from nanoprune.lab.export.quantise import quantised_network

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")


def evaluated(data: bytes, x: np.ndarray) -> np.ndarray:
    return reference.ReferenceEvaluator(onnx.load_from_string(data)).run(None, {"input": x.astype(np.float64)})[0]


def made(name):
    return OTHERS[name]() if name in OTHERS else network(name)


@pytest.mark.parametrize("name", [*ZOO, *OTHERS])
def test_onnx_in_float64_is_the_network_in_float64(name):
    net = made(name)
    x = probes(net.input_shape, 3)
    data = to_onnx(program_of(net, "dense"), {"network": name}, dtype=np.float64)
    # The epsilon of InstanceNormalization is a float32 attribute: 2.5e-13 beside a variance. The rest is rounding.
    assert difference(evaluated(data, x), logits(net, x)) < 1e-10


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("form", ["packed", "int8"])
def test_packed_and_int8_weights_expand_to_the_networks_own(name, form):
    net = network(name, keep=0.08)
    x = probes(net.input_shape, 3)
    expected = quantised_network(net) if form == "int8" else net
    data = to_onnx(program_of(net, form), {}, form, np.float64)
    assert difference(evaluated(data, x), logits(expected, x)) < 1e-6  # int8: the float32 products of scale and integer
    dense = to_onnx(program_of(net, "dense"), {}, dtype=np.float64)
    assert len(data) < len(dense) / (4 if form == "packed" else 8)


@pytest.mark.parametrize("name", ZOO)
def test_file_is_valid_and_old_runtimes_read_it(name):
    net = network(name, "float32", keep=0.1)
    for form in ("dense", "packed", "int8"):
        model = onnx.load_from_string(to_onnx(program_of(net, form), {"network": name}, form))
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == 8
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
        batch = [value.type.tensor_type.shape.dim[0].dim_param for value in [*model.graph.input, *model.graph.output]]
        assert batch == ["N", "N"]


@pytest.mark.parametrize("name", ["lenet-5", "mobilenetv2", "resnet18"])
def test_onnxruntime_runs_it_at_any_batch_size(name):
    pytest.importorskip("onnxruntime")
    net = network(name, "float32", keep=0.1)
    for form in ("dense", "packed", "int8"):
        data = to_onnx(program_of(net, form), {}, form)
        expected = quantised_network(net) if form == "int8" else net
        for count in (1, 5):
            x = probes(net.input_shape, count)
            assert difference(run_onnx(data, x), logits(expected, x)) < 1e-5


def test_metadata_is_complete_and_reveals_nothing_about_the_members(tmp_path):
    model = model_of(network("lenet-5", "float32", keep=0.05))
    labels = list("abcdefg")
    metadata = about(model, "int8", {"strongest_attack": "lira"}, labels, "MIT")
    files, _ = export_model(model.net, "onnx", "int8", metadata, tmp_path / "net.onnx")
    (data,) = files.values()
    found = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
    assert json.loads(found["labels"]) == labels
    assert found["licence"] == "MIT"
    assert found["input"] == "float32 (N, 3, 32, 32), channels first, pixels scaled to [0, 1]"
    assert json.loads(found["audit"]) == {"strongest_attack": "lira"}
    assert secrets_in(data) == []


def test_an_export_with_other_outputs_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    net = network("lenet-5", "float32")
    other = network("lenet-5", "float32")
    other.W[:] *= 1.01
    monkeypatch.setattr("nanoprune.lab.export.export.program_of", lambda _, form: program_of(other, form))
    with pytest.raises(DataError, match="differs from the network"):
        export_model(net, "onnx", "dense", {}, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
