"""The networks of transformer blocks: their sizes, gradients and descriptions."""

import json

import numpy as np
import pytest

from nanoprune.errors import ArgumentError
from nanoprune.lab.shrink import shrink
from nanoprune.lab.verify.gradient import apart, gradients, network
from nanoprune.lab.zoo import build, checked, describe, layers_of, narrowed, widths_of
from nanoprune.lab.zoo.build import weight_count
from nanoprune.lab.zoo.structure import macs
from nanoprune.nn import Workspace
from nanoprune.prune import Budget, hard_prune


def text(width=0.25, tokens=20, length=7, classes=3):
    return describe("transformer-text", (length,), classes, width, tokens=tokens)


def tokens_of(rng, shape, tokens=20):
    X = rng.integers(1, tokens, shape)
    X[:, shape[1] // 2 :, : shape[2] // 2] = 0  # padding of half of the records
    return X.astype(np.float64)


def test_parameters_are_those_counted_by_hand():
    E, T, V, C = 64, 32, 1000, 4
    block = (E * 3 * E + 3 * E) + (E * E + E) + (E * 2 * E + 2 * E) + (2 * E * E + E) + 2 * 2 * E
    net = build(describe("transformer-text", (T,), C, tokens=V), 1)
    assert net.size == V * E + T * E + 2 * block + 2 * E + E * C + C
    net = build(describe("vit", (32, 3, 32), 10), 1)
    assert net.size == (48 * E + E) + 64 * E + 4 * block + 2 * E + E * 10 + 10
    weights = E * 3 * E + E * E + 2 * E * 2 * E
    assert macs(net.body, (32, 3, 32)) == 64 * 48 * E + 4 * (64 * weights + 2 * 64 * 64 * E) + 10 * E


def test_images_of_224_pixels_have_patches_of_16():
    body = layers_of(describe("vit", (224, 3, 224), 1000, 0.25))
    assert body.parts[0].size == body.parts[0].stride == 16
    assert body.parts[2].positions == 14 * 14


@pytest.mark.parametrize("of", ["text", "images"])
def test_gradients_equal_central_differences(of):
    rng = np.random.default_rng(0)
    if of == "text":
        net = network(layers_of(text()), (7,), rng)
        pairs = gradients(net, tokens_of(rng, (2, 7, 4)), rng, tokens=True)
    else:
        net = network(layers_of(describe("vit", (8, 1, 12), 3, 0.25)), (8, 1, 12), rng)
        pairs = gradients(net, apart(rng, (2, 8, 1, 12, 3)), rng)
    for what, (ours, oracle) in pairs.items():
        assert ours == pytest.approx(oracle, rel=1e-5, abs=1e-6), what


@pytest.mark.parametrize("description", [text(), describe("vit", (8, 1, 8), 3, 0.25)], ids=["text", "vit"])
def test_a_description_survives_json(description):
    read = checked(json.loads(json.dumps(description)))
    assert read == description
    assert repr(layers_of(read)) == repr(layers_of(description))


@pytest.mark.parametrize("tokens", [0, -1, 2.0, 10**7, "20"])
def test_a_description_with_another_number_of_tokens_is_refused(tokens):
    with pytest.raises(ArgumentError, match="integer"):
        checked(text() | {"tokens": tokens})


def test_inputs_of_another_kind_are_refused_by_name():
    with pytest.raises(ArgumentError, match=r"mlp takes numbers in .*try transformer-text"):
        describe("mlp", (7,), 3, tokens=20)
    with pytest.raises(ArgumentError, match="transformer-text takes sequences of tokens"):
        describe("transformer-text", (8, 1, 8), 3)
    with pytest.raises(ArgumentError, match="vit takes images"):
        describe("vit", (64,), 3)


@pytest.mark.parametrize("widths", [[16, 40, 16, 32, 16], [16, 48, 16, 32, 8], [16, 48, 20, 32, 16]])
def test_widths_that_are_no_block_are_refused(widths):
    with pytest.raises(ArgumentError, match="widths of a block must be a multiple of 48"):
        layers_of(text() | {"widths": widths + widths[1:]} | {"width": None})


def test_the_largest_network_of_so_many_weights_has_whole_heads():
    whole = text(1.0)
    for share in (0.9, 0.5, 0.2):
        small = narrowed(whole, int(share * weight_count(whole)))
        assert 0.5 * share * weight_count(whole) < weight_count(small) <= share * weight_count(whole)
        assert all(width % 48 == 0 for width in widths_of(small)[1::4])
        layers_of(small)


def test_a_network_with_pruned_heads_and_hidden_units_shrinks_to_a_description():
    """64 channels: the second block loses two of its four heads, the first block half of its hidden units."""
    rng = np.random.default_rng(0)
    net = build(text(1.0), 1, "float64")
    net.theta[...] = rng.standard_normal(net.theta.shape)
    hard_prune(net, Budget(net, [1, 1, 1, 0.5, *[1] * 6], scheme="filter"))  # 128 hidden units, 64 kept
    attention = net.body.parts[4].body.parts[1]
    attention.parts[0].W.value[:, 128 + 32 :] = 0  # the values of the last two heads
    small = shrink(net)
    assert repr(shrink(small).body) == repr(small.body)  # nothing more to take
    assert small.description["widths"] == [64, 192, 64, 64, 64, 96, 64, 128, 64]
    X = tokens_of(rng, (1, 7, 6))
    expected = net.forward(X, Workspace())
    np.testing.assert_allclose(small.forward(X, Workspace()), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_the_scheme_head_leaves_the_heads_of_largest_norm():
    """Of four heads each block keeps two: the second and the third, whose weights are the largest."""
    rng = np.random.default_rng(0)
    net = build(text(1.0), 1, "float64")
    net.theta[...] = rng.standard_normal(net.theta.shape)
    attentions = [part.body.parts[1] for part in (net.body.parts[2], net.body.parts[4])]
    for attention in attentions:
        attention.parts[0].W.value.reshape(3, 4, 16, 64)[:, 1:3] *= 2
    hard_prune(net, Budget(net, [1, 0.5, 1, 1, 1, 0.5, 1, 1, 1, 1], scheme="head"))
    for attention in attentions:
        kept = (attention.parts[0].W.value.reshape(3, 4, 16, 64) != 0).any(axis=(0, 2, 3))
        assert kept.tolist() == [False, True, True, False]
    small = shrink(net)
    assert small.description["widths"] == [64, 96, 64, 128, 64, 96, 64, 128, 64]
    X = tokens_of(rng, (1, 7, 6))
    expected = net.forward(X, Workspace())
    np.testing.assert_allclose(small.forward(X, Workspace()), expected, rtol=0, atol=1e-9 * np.abs(expected).max())
