"""The intermediate representation, packing and int8, and the command `export`."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from exporting import ZOO, model_of, network, randomised
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import cli
from nanoprune import nn
from nanoprune.errors import ArgumentError
from nanoprune.lab import layers as lab_layers
from nanoprune.lab.audit.predictions import file_sha256
from nanoprune.lab.export.lower import lower_layer, lower_layers
from nanoprune.lab.export.packing import channel_scales, gaps_and_values, integers, program_of, quantised, unpacked
from nanoprune.lab.export.quantise import is_quantised, quantised_network
from nanoprune.lab.export.steps import Affine, Conv, Linear, folded
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.nn import Network

FLOATS = st.floats(-4, 4, width=32)


def test_every_layer_has_an_export_rule():
    everything = [*vars(nn).values(), *vars(lab_layers).values()]
    found = [of for of in everything if isinstance(of, type) and issubclass(of, nn.Layer) and of is not nn.Layer]
    assert len(found) > 15
    unknown = lower_layer.dispatch(nn.Layer)
    assert [of.__name__ for of in found if lower_layer.dispatch(of) is unknown] == []


def test_an_unknown_layer_is_refused_by_name():
    class Mystery(nn.Layer):
        pass

    with pytest.raises(ArgumentError, match="Mystery has no export rule"):
        lower_layers(nn.Sequential(Mystery()), (3,))


@pytest.mark.parametrize("name", ["vgg16", "mobilenetv2", "resnet18"])
def test_every_batchnorm_of_the_zoo_is_folded(name):
    assert not any(isinstance(step.operation, Affine) for step in program_of(network(name), "dense").steps)


def test_a_weight_that_is_zero_stays_zero_when_batchnorm_is_folded():
    net = network("resnet18", keep=0.1)
    kept = sum(
        np.count_nonzero(s.operation.weight) for s in program_of(net, "dense").steps if hasattr(s.operation, "weight")
    )
    assert kept == int(net.nonzero()[0])


@given(st.lists(st.tuples(st.integers(0, 700), FLOATS), max_size=30), st.integers(0, 600))
def test_gaps_and_values_expand_to_the_array(runs, tail):
    flat = np.array([x for zeros, value in runs for x in [0.0] * zeros + [value]] + [0.0] * tail, np.float32)
    gaps, values = gaps_and_values(flat)
    assert gaps.dtype == np.uint8
    assert (unpacked(gaps, values, flat.size) == flat).all()


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=6), elements=FLOATS))
def test_int8_weights_are_as_close_as_127_levels_allow(weight):
    weight = weight.astype(np.float64)
    scale = channel_scales(weight).reshape(-1, *[1] * (weight.ndim - 1))
    again = integers(weight, scale.ravel()) * scale
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1).reshape(scale.shape)
    assert (np.abs(again - weight) <= np.maximum(largest / 127 * (0.5 + 127 * 2.0**-16), 2.0**-100)).all()
    assert (again.astype(np.float32) == again).all()  # exact in float32
    assert (channel_scales(again) == scale.ravel()).all()


@pytest.mark.parametrize("name", ["lenet-5", "mobilenetv2"])
def test_quantising_twice_changes_nothing(name):
    once = quantised_network(network(name, "float32"))
    assert is_quantised(once)
    assert (quantised_network(once).theta == once.theta).all()
    assert not is_quantised(network(name, "float32"))


@pytest.mark.parametrize("name", ZOO)
def test_int8_export_has_the_integers_of_the_quantised_network(name):
    """`attack` sees the exported integers in a quantised model file: BatchNorm only changes the scales."""
    net = network(name, "float32")
    shipped = [s.operation for s in program_of(net, "int8").steps if isinstance(s.operation, Conv | Linear)]
    plain = lower_layers(quantised_network(net).body, net.input_shape)
    audited = [s.operation for s in plain.steps if isinstance(s.operation, Conv | Linear)]
    for ours, theirs in zip(shipped, audited, strict=True):
        assert (integers(ours.weight, ours.scale) == integers(theirs.weight, channel_scales(theirs.weight))).all()


def test_batchnorm_is_not_folded_where_another_step_reads_the_convolution():
    body = nn.Sequential(
        lab_layers.Pointwise(2, 2),
        lab_layers.Residual(lab_layers.BatchNorm(2)),
        lab_layers.GlobalAvgPool(),
        nn.Dense(2, 2),
    )
    program = lower_layers(randomised(Network(body, (3, 2, 3), dtype="float64")).body, (3, 2, 3))
    assert sum(isinstance(step.operation, Affine) for step in folded(quantised(program)).steps) == 1


def test_numbers_that_float32_cannot_hold_are_refused():
    net = network("resnet18", "float64")
    net.statistics[1].value[...] = 0.0
    net.biases[0].value[...] = 1e38
    with pytest.raises(ArgumentError, match="float32 cannot hold"):
        program_of(net, "dense")


@pytest.fixture
def lenet(tmp_path):
    path = tmp_path / "lenet.h5"
    save_model(model_of(network("lenet-5", "float32", keep=0.1)), path)
    return path


def audit_file(path, of, **changes):
    interval = {"value": 0.612, "low": 0.58, "high": 0.64}
    results = {
        "source": {"name": of.name, "sha256": file_sha256(of)},
        "rows_of": "data set",
        "alpha": 0.05,
        "seed": 918273645,
        "members": 731951,
        "train_accuracy": 0.99,
        "test_accuracy": 0.91,
        "nonmembers": 1000,
        "strongest": {"attack": "lira", "per_class": False, "accuracy": interval},
        "attacks": {"lira": {"accuracy": interval, "auc": interval, "tpr_at_fpr": {"0.01": interval, "0.001": None}}},
        "validity": [{"name": "order", "outcome": "ok", "found": "as many"}],
    }
    path.write_text(json.dumps(results | changes))
    return path


def invoke(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def test_export_writes_c_and_header_without_overwriting(lenet, tmp_path):
    out = tmp_path / "net.c"
    assert invoke("export", lenet, "--to", "c", "--out", out).exit_code == 0
    assert out.with_suffix(".h").exists()
    before = out.read_bytes()
    again = invoke("export", lenet, "--to", "c", "--weights", "packed", "--out", out)
    assert (again.exit_code, out.read_bytes()) == (2, before)
    assert "already exists" in again.output
    assert invoke("export", lenet, "--to", "c", "--weights", "packed", "--out", out, "--overwrite").exit_code == 0
    assert len(out.read_bytes()) < len(before)


def test_audit_of_these_weights_goes_with_them_without_counts(lenet, tmp_path):
    audit, out = audit_file(tmp_path / "audit.json", lenet), tmp_path / "net.c"
    found = invoke("export", lenet, "--to", "c", "--audit", audit, "--out", out)
    assert found.exit_code == 0, found.output
    text = out.read_text()
    assert '"value": 61.2' in text
    assert "731951" not in text
    assert "918273645" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": {"name": "lenet.h5", "sha256": "0" * 64}}, "an audit of other weights"),
        ({"rows_of": None}, "an audit of predictions"),
        ({"validity": [{"name": "order", "outcome": "void", "found": "labels differ"}]}, "the audit is void"),
        ({"strongest": 3}, "not an audit"),
        ({"attacks": []}, "not an audit"),
    ],
)
def test_audits_that_do_not_belong_to_the_weights_are_refused(lenet, tmp_path, changes, words):
    audit, out = audit_file(tmp_path / "audit.json", lenet, **changes), tmp_path / "net.c"
    found = invoke("export", lenet, "--to", "c", "--audit", audit, "--out", out)
    assert found.exit_code == 2
    assert words in found.output
    assert not out.exists()


def test_the_audit_of_a_model_goes_with_its_shrunk_form_and_no_other(tmp_path):
    filters, small, other, out = (tmp_path / name for name in ("filters.h5", "small.h5", "other.h5", "net.c"))
    net = network("lenet-5", "float32")
    net.weights[0].value[0, ::2] = 0
    save_model(model_of(net), filters)
    assert invoke("shrink", filters, "--out", small).exit_code == 0
    net.weights[1].value[0, 1] = 0
    save_model(model_of(net), other)
    audit = audit_file(tmp_path / "audit.json", filters)
    options = ["--to", "c", "--audit", audit, "--out", out]
    assert "an audit of other weights" in invoke("export", small, *options).output
    assert (
        "the model is not the result of `shrink` on it" in invoke("export", small, *options, "--audited", other).output
    )
    assert not out.exists()
    assert invoke("export", small, *options, "--audited", filters).exit_code == 0
    assert '"value": 61.2' in out.read_text()


def test_int8_needs_an_audit_of_the_int8_weights(lenet, tmp_path):
    out, int8 = tmp_path / "net.c", tmp_path / "int8.h5"
    audit = audit_file(tmp_path / "audit.json", lenet)
    refused = invoke("export", lenet, "--to", "c", "--weights", "int8", "--audit", audit, "--out", out)
    assert refused.exit_code == 2
    assert "float32 weights" in refused.output
    assert invoke("quantise", lenet, "--out", int8).exit_code == 0
    stale = invoke("export", int8, "--to", "c", "--weights", "int8", "--audit", audit, "--out", out)
    assert "an audit of other weights" in stale.output
    audit = audit_file(tmp_path / "audit.json", int8)
    assert invoke("export", int8, "--to", "c", "--weights", "int8", "--audit", audit, "--out", out).exit_code == 0
    assert load_model(int8).steps[-1]["weights"] == "int8"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "tflite", "--out", "net.tflite"], "'tflite' is no target of exports; there are onnx"),
        (["--to", "c", "--out", "net.onnx"], "out must end with .c"),
        (["--to", "c", "--weights", "fp4", "--out", "net.c"], "no form of weights; there are dense, packed, int8"),
        (["--to", "c", "--out", "my-net.c"], "must be a C identifier"),
        (["--to", "c", "--out", "net.c", "--labels", "labels.txt"], "labels must be 7 names"),
    ],
)
def test_options_that_do_not_fit_are_one_line(lenet, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    found = invoke("export", lenet, *arguments)
    assert found.exit_code == 2
    assert words in found.output
    assert len(found.output.strip().splitlines()) == 1


def test_without_the_package_onnx_the_extra_is_named(lenet, tmp_path, monkeypatch):
    monkeypatch.setattr("nanoprune.lab.export.onnx.onnx", None)
    found = invoke("export", lenet, "--to", "onnx", "--out", tmp_path / "net.onnx")
    assert found.exit_code == 2
    assert "pip install 'nanoprune[onnx]'" in found.output
    assert not (tmp_path / "net.onnx").exists()
