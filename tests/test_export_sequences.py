"""Exports of transformers: ONNX in float64 is the network, the other targets refuse it by name."""

import numpy as np
import pytest
from exporting import randomised

from nanoprune.errors import ArgumentError
from nanoprune.lab.export import TARGETS, export_model
from nanoprune.lab.export.about import input_words
from nanoprune.lab.export.check import difference, logits, probes_of
from nanoprune.lab.export.onnx import run_onnx, to_onnx
from nanoprune.lab.export.packing import program_of
from nanoprune.lab.export.quantise import quantised_network
from nanoprune.lab.layers import Embedding, LastToken, LayerNorm, PositionalEncoding
from nanoprune.lab.verify.layers import transformer_block
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Dense, Network, Sequential

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


@pytest.mark.parametrize("target", sorted(set(TARGETS) - {"onnx"}))
@pytest.mark.parametrize("name", ["transformer-text", "vit"])
def test_other_targets_refuse_by_name(target, name, tmp_path):
    with pytest.raises(ArgumentError) as caught:
        export_model(named(name, dtype="float32"), target, "dense", {}, tmp_path / f"x{TARGETS[target][0]}")
    assert "\n" not in str(caught.value)
