"""Exports of transformers: ONNX in float64 is the network, the other targets refuse it by name."""

import numpy as np
import pytest
from click.testing import CliRunner
from exporting import model_of, randomised

import cli
from nanoprune.errors import ArgumentError
from nanoprune.lab.export import TARGETS
from nanoprune.lab.export.about import input_words
from nanoprune.lab.export.check import difference, logits, probes_of
from nanoprune.lab.export.onnx import run_onnx, to_onnx
from nanoprune.lab.export.packing import FORMS, program_of
from nanoprune.lab.export.quantise import quantised_network
from nanoprune.lab.export.support import check_target
from nanoprune.lab.layers import Embedding, GroupNorm, LastToken, LayerNorm, PositionalEncoding
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.lab.verify.layers import transformer_block
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Branches, Dense, Layer, Network, Sequential

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")


def causal() -> Network:
    """Causal attention, and the last token: what the networks of the zoo do not have."""
    parts = [Embedding(5, 4), PositionalEncoding(6, 4), transformer_block(4, causal=True), LayerNorm(4), LastToken()]
    return randomised(Network(Sequential(*parts, Dense(4, 3)), (6,), dtype="float64"))


def without_tokens() -> Network:
    """A sequence whose positions are all there, of which the last is read."""
    body = build(describe("vit", (8, 3, 8), 4, 0.25)).template
    parts = [*body.parts[:4], LastToken(), body.parts[-1]]
    return randomised(Network(Sequential(*parts), (8, 3, 8), dtype="float64"))


def named(name: str, keep: float = 1.0, dtype: str = "float64") -> Network:
    of = {"transformer-text": ((7,), 20), "vit": ((8, 3, 12), None)}[name]
    return randomised(build(describe(name, of[0], 5, 0.5, tokens=of[1]), dtype=dtype), keep=keep)


NETS = {
    "transformer-text": lambda: named("transformer-text"),
    "vit": lambda: named("vit"),
    "causal": causal,
    "without tokens": without_tokens,
}


def evaluated(data, x):
    return reference.ReferenceEvaluator(onnx.load_from_string(data)).run(None, {"input": x.astype(np.float64)})[0]


@pytest.mark.parametrize("name", NETS)
def test_onnx_in_float64_is_the_network_in_float64(name):
    net = NETS[name]()
    x = probes_of(net, 6)
    data = to_onnx(program_of(net, "dense"), {"network": name}, dtype=np.float64)
    assert difference(evaluated(data, x), logits(net, x)) < 1e-12


@pytest.mark.parametrize("form", ["packed", "int8"])
def test_packed_and_int8_weights_expand_to_the_networks_own(form):
    net = named("transformer-text", keep=0.08)
    x = probes_of(net, 4)
    expected = quantised_network(net) if form == "int8" else net
    data = to_onnx(program_of(net, form), {}, form, np.float64)
    assert difference(evaluated(data, x), logits(expected, x)) < 1e-6
    assert len(data) < len(to_onnx(program_of(net, "dense"), {}, dtype=np.float64)) / 2


@pytest.mark.parametrize("name", ["transformer-text", "vit"])
def test_files_are_valid_and_onnxruntime_computes_the_same(name):
    net = named(name, dtype="float32")
    data = to_onnx(program_of(net, "dense"), {"network": name})
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [(of.domain, of.version) for of in model.opset_import] == [("", 13)]
    x = probes_of(net, 9)
    found = run_onnx(data, x)
    if found is None:
        pytest.skip("onnxruntime is not installed")
    assert difference(found, logits(net, x)) < 1e-5


def test_probes_of_texts_are_tokens_with_padding_at_the_end():
    x = probes_of(named("transformer-text"), 200)
    assert x.shape == (200, 7)
    lengths = (x > 0).sum(axis=1)
    assert set(lengths) == set(range(8))  # records that are all padding among them
    assert all((row[:n] > 0).all() and not row[n:].any() for row, n in zip(x, lengths, strict=True))
    assert x.max() == 19
    assert "whole numbers from 1 to 19" in input_words((7,), tokens=20)


FIRST = {  # the layers that a target does not know, in the order of the network
    "transformer-text": dict.fromkeys(sorted(set(TARGETS) - {"onnx"}), "Embedding(20, 32)"),
    "vit": {"c": "ImageTokens", "web": "ImageTokens", "safetensors": "PositionalEncoding(6, 32)"}
    | {"torch-code": "ImageTokens"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model file of each network."""
    folder = tmp_path_factory.mktemp("models")
    for name in FIRST:
        save_model(model_of(named(name, dtype="float32"), steps=[{"step": "train"}]), folder / f"{name}.h5")
    return folder


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("name", FIRST)
def test_export_writes_what_agrees_or_refuses_in_one_line(files, tmp_path, name, target, form):
    """The line names the layer and the targets that can; nothing is written, and there is no traceback."""
    out = tmp_path / f"x{TARGETS[target][0]}"
    words = ["export", files / f"{name}.h5", "--to", target, "--weights", form, "--out", out]
    done = CliRunner().invoke(cli.main, list(map(str, words)))
    if target == "onnx":
        assert done.exit_code == 0, done.output
        net = load_model(files / f"{name}.h5").net
        x, expected = probes_of(net, 5), quantised_network(net) if form == "int8" else net
        found = reference.ReferenceEvaluator(onnx.load(out)).run(None, {"input": x})[0]
        assert difference(found, logits(expected, x)) < 1e-4
        return
    assert done.exit_code == 2
    assert done.stderr == f"error: {target} cannot carry the layer {FIRST[name][target]}; --to onnx can\n"
    assert not list(tmp_path.iterdir())


def test_a_page_refuses_a_second_network_that_it_cannot_carry(files, tmp_path):
    other = tmp_path / "mlp.h5"
    mlp = randomised(build(describe("mlp", (7,), 5, [4])))
    save_model(model_of(mlp, steps=[{"step": "train"}]), other)
    words = ["export", other, "--to", "web", "--out", tmp_path / "x.html"]
    done = CliRunner().invoke(cli.main, list(map(str, [*words, "--beside", files / "transformer-text.h5"])))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: web cannot carry the layer Embedding(20, 32); --to onnx can\n"


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("what", ["sparse", "compiled"])
def test_inference_in_python_refuses_by_name(files, name, what):
    with pytest.raises(ArgumentError) as caught:
        getattr(load_model(files / f"{name}.h5"), what)()
    first = FIRST[name]["c"]
    assert str(caught.value) == f"{what}() has no form of the layer {first}; the command predict computes every network"


def test_a_layer_that_one_target_alone_lacks_leaves_the_others():
    """GroupNorm has no names in PyTorch's files, Branches no PyTorch code; the other targets carry both."""
    norm = Network(Sequential(GroupNorm(2, 4), Dense(4, 3)), (4,))
    with pytest.raises(ArgumentError) as caught:
        check_target(norm, "safetensors")
    assert str(caught.value) == "safetensors cannot carry the layer GroupNorm(2, 4); --to onnx or c or web can"
    branches = Network(Sequential(Branches((1, Dense(1, 2)), (3, Dense(3, 2)))), (4,))
    check_target(branches, "safetensors")
    with pytest.raises(
        ArgumentError, match="torch-code cannot carry the layer Branches; --to onnx or c or web or safe"
    ):
        check_target(branches, "torch-code")


def test_a_layer_without_any_rule_is_refused_by_its_name():
    class Mystery(Layer):
        def output_shape(self, shape):
            return shape

    with pytest.raises(ArgumentError, match="Mystery has no export rule"):
        check_target(Network(Sequential(Mystery(), Dense(3, 2)), (3,)), "onnx")
