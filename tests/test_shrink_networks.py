"""Shrinking through normalisation, shortcuts, pools and depthwise convolutions: the paper's networks, and by layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shrink import outputs, says_the_same, seeds, widths

from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import (
    AvgPool,
    BatchNorm,
    DepthwiseConv2D,
    GlobalAvgPool,
    Pointwise,
    ReLU6,
    Residual,
    Standardise,
)
from nanoprune.lab.models.model import Model, load_model, save_model
from nanoprune.lab.shrink import shrink
from nanoprune.lab.workflow.single_model import shrunk
from nanoprune.lab.zoo import build, describe, widths_of
from nanoprune.lab.zoo.cost import costs
from nanoprune.lab.zoo.keep_ratios import layer_ratios
from nanoprune.nn import Conv2D, Dense, Flatten, Layer, MaxPool, Network, ReLU, Sequential
from nanoprune.prune import Budget, hard_prune

quick = settings(deadline=None, max_examples=40)
PAPER = (("vgg16", 32), ("mobilenetv2", 8), ("resnet18", 8))


def drawn(net: Network, rng: np.random.Generator) -> Network:
    """All values at random, as after training: weights, scales, shifts of both signs, statistics."""
    net.theta[...] = rng.standard_normal(net.theta.shape)
    for weight in net.weights:
        weight.value *= weight.std  # so that what a shift adds is not lost beside the rest
    net.state[...] = rng.standard_normal(net.state.shape)
    for s in net.statistics:
        if s.name == "var":
            s.value[...] = rng.uniform(0.5, 2.0, s.value.shape)
    return net


def random_net(layers: list[Layer], shape: tuple[int, ...], rng: np.random.Generator, R: int = 1) -> Network:
    return drawn(Network(Sequential(*layers), shape, R, "float64"), rng)


def paper_net(name: str, side: int, rng: np.random.Generator, width: float = 0.1, dtype: str = "float64") -> Network:
    return drawn(build(describe(name, (side, 3, side), 10, width), 1, dtype), rng)


def prune(net: Network, scheme: str, keep: float) -> None:
    hard_prune(net, Budget(net, layer_ratios(net, keep, exempt=("first", "last")), scheme=scheme))


def test_a_block_that_would_get_a_shortcut_is_refused():
    """Where widths become equal by chance, they would describe a different network."""
    net = paper_net("mobilenetv2", 8, np.random.default_rng(0))
    prune(net, "channel", 0.5)
    words = r"mobilenetv2 cannot have the remaining widths: .* ends as wide as it begins; prune a little more or less$"
    with pytest.raises(ArgumentError, match=words):
        shrink(net)


@pytest.mark.parametrize("scheme", ["filter", "channel"])
@pytest.mark.parametrize(("name", "side"), PAPER)
def test_the_papers_networks_are_smaller_with_the_same_outputs(name, side, scheme, tmp_path):
    """Also after saving and loading: a shrunk network is an ordinary model with a width for each layer."""
    rng = np.random.default_rng(0)
    net = paper_net(name, side, rng, dtype="float32")
    prune(net, scheme, 0.6)
    model = Model(net, "cifar10", "", 10, 0, 10, 0, [])
    small = shrunk(model)
    assert small.steps[-1] == {"step": "shrink", "widths": widths_of(net.description)}
    assert small.net.size < 0.9 * net.size
    assert small.net.state.shape[1] < net.state.shape[1]
    assert [*small.net.description["widths"], 10] == widths(small.net)
    says_the_same(net, small.net, rng)
    save_model(small, tmp_path / "small.h5")
    again = load_model(tmp_path / "small.h5").net
    X = rng.standard_normal((1, side, 3, side, 3)).astype(np.float32)
    np.testing.assert_array_equal(outputs(again, X), outputs(small.net, X))
    assert costs(again)["parameters"][0] == again.size  # scales and shifts are in the sum


@pytest.mark.parametrize(("name", "side"), PAPER)
def test_unpruned_networks_are_unchanged(name, side):
    net = paper_net(name, side, np.random.default_rng(1))
    small = shrink(net)
    assert widths(small) == widths(net)
    np.testing.assert_array_equal(small.theta, net.theta)
    np.testing.assert_array_equal(small.state, net.state)


def test_in_a_resnet_only_units_inside_of_blocks_are_removed():
    """By hand: of the 20 layers, the first of each block (1, 3, 5, 8, 10, 13, 15, 18) keeps half of its channels."""
    rng = np.random.default_rng(2)
    net = paper_net("resnet18", 8, rng, width=0.125)
    inner = [1, 3, 5, 8, 10, 13, 15, 18]
    keep = [0.5 if i - 1 in inner else 1.0 for i in range(len(net.weights))]  # channels of the convolution after it
    hard_prune(net, Budget(net, keep, scheme="channel"))
    before = widths(net)
    small = shrink(net)
    assert widths(small) == [width // 2 if i in inner else width for i, width in enumerate(before)]
    says_the_same(net, small, rng)


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_a_filter_before_normalisation_is_removed_where_the_rectifier_zeroes_its_shift(shift):
    """A zero channel becomes beta - gamma mean / sigma; before zero padding only the constant 0 can be folded."""
    rng = np.random.default_rng(3)
    layers = [Conv2D(2, 4, 3, padding=1, bias=False), BatchNorm(4), ReLU(), Conv2D(4, 3, 3, padding=1, bias=False)]
    net = random_net([*layers, BatchNorm(3), GlobalAvgPool(), Dense(3, 2)], (5, 2, 5), rng)
    net.weights[0].value[0, 1] = 0
    gamma, beta = net.biases[:2]
    mean, var = net.statistics[:2]
    gamma.value[0, 1], mean.value[0, 1], var.value[0, 1] = 3.0, 2.0, 4.0 - 1e-5
    beta.value[0, 1] = 3.0 + shift  # 3 * (0 - 2) / 2 + 3 = 0
    small = shrink(net)
    assert widths(small) == [3 if shift < 0 else 4, 3, 2]
    says_the_same(net, small, rng)


@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_is_folded_into_an_existing_bias(bias):
    rng = np.random.default_rng(4)
    layers = [Pointwise(2, 3, bias=True), ReLU6(), Pointwise(3, 4, stride=2, bias=bias), Flatten(), Dense(16, 2)]
    net = random_net(layers, (3, 2, 3), rng)
    net.weights[0].value[0, 2] = 0
    net.biases[0].value[0, 2] = 7.0  # 6 behind the rectifier
    small = shrink(net)
    assert widths(small) == [2 if bias else 3, 4, 2]
    says_the_same(net, small, rng)


def test_a_depthwise_convolution_loses_the_channels_around_it():
    rng = np.random.default_rng(5)
    layers = [Pointwise(2, 5, bias=False), BatchNorm(5), ReLU6(), DepthwiseConv2D(5, 3, 2, 1, bias=False)]
    net = random_net([*layers, BatchNorm(5), ReLU6(), Pointwise(5, 3), GlobalAvgPool(), Dense(3, 2)], (5, 2, 5), rng)
    net.weights[2].value[0, :, 3] = 0  # its channel 3 is not read
    small = shrink(net)
    assert widths(small) == [4, 4, 3, 2]
    says_the_same(net, small, rng)


def test_every_replica_brings_its_own_statistics():
    rng = np.random.default_rng(6)
    layers = [Standardise([0.5, 0.4], [0.2, 0.3]), Conv2D(2, 6, 3, bias=False), BatchNorm(6), ReLU(), GlobalAvgPool()]
    net = random_net([*layers, Dense(6, 3)], (5, 2, 5), rng, R=3)
    for r in range(3):
        net.weights[1].value[r][:, rng.permutation(6)[:3]] = 0
    small = shrink(net)
    assert widths(small) == [3, 3]
    assert len({state.tobytes() for state in small.state}) == 3
    says_the_same(net, small, rng)


@st.composite
def blocks(draw):
    """A convolution, then blocks of any kind with or without a shortcut, then pooling and a dense layer."""
    rng, channels, side = np.random.default_rng(draw(seeds)), draw(st.integers(1, 4)), 6
    layers: list[Layer] = [Conv2D(2, channels, 3, padding=1, bias=draw(st.booleans())), BatchNorm(channels)]
    for _ in range(draw(st.integers(1, 3))):
        inner, bias = draw(st.integers(1, 5)), draw(st.booleans())
        act = draw(st.sampled_from([ReLU, ReLU6]))
        middle = draw(
            st.sampled_from(
                [
                    [Pointwise(channels, inner, bias=bias), BatchNorm(inner), act()],
                    [Conv2D(channels, inner, 3, padding=1, bias=bias), act()],
                    [Pointwise(channels, inner), act(), DepthwiseConv2D(inner, 3, padding=1, bias=bias), act()],
                    [DepthwiseConv2D(channels, 3, padding=1), act(), Conv2D(channels, inner, 1, bias=bias)],
                ]
            )
        )
        outer = draw(st.integers(1, 4))
        kind = draw(st.sampled_from(["plain", "identity", "projection"]))
        outer = channels if kind == "identity" else outer
        body = Sequential(*middle, Conv2D(inner, outer, 3, padding=1, bias=bias), BatchNorm(outer))
        shortcut = Sequential(Pointwise(channels, outer, bias=bias), BatchNorm(outer)) if kind == "projection" else None
        layers += [*body.parts] if kind == "plain" else [Residual(body, shortcut)]
        layers.append(act())
        channels = outer
    pool = draw(st.sampled_from([[GlobalAvgPool()], [AvgPool(3), Flatten()], [MaxPool(3), Flatten()]]))
    layers += pool
    inputs = Sequential(*layers).output_shape((side, 2, side))[0]
    return random_net([*layers, Dense(inputs, 3)], (side, 2, side), rng), rng


@quick
@given(blocks(), st.sampled_from(["filter", "channel", "column", "unstructured"]), st.floats(0.05, 0.7))
def test_outputs_are_the_same_whatever_was_pruned(problem, scheme, keep):
    net, rng = problem
    hard_prune(net, Budget(net, keep, scheme=scheme))
    theta, state = net.theta.copy(), net.state.copy()
    small = shrink(net)
    np.testing.assert_array_equal(net.theta, theta)  # a new network
    np.testing.assert_array_equal(net.state, state)
    says_the_same(net, small, rng)
    assert small.size <= net.size
    assert widths(shrink(small)) == widths(small)  # nothing more to take
