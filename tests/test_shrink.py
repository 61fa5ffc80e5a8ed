"""`shrink` makes a network smaller and keeps its outputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import Dropout, Tanh
from nanoprune.lab.shrink import shrink
from nanoprune.lab.shrink.constants import constants
from nanoprune.lab.shrink.dependencies import dependencies
from nanoprune.lab.shrink.narrowed import narrowed
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Branches, Conv2D, Dense, Flatten, Layer, MaxPool, Network, ReLU, Sequential, Workspace
from nanoprune.prune import Budget, hard_prune

quick = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)


def outputs(net: Network, X: np.ndarray) -> np.ndarray:
    return net.forward(X, Workspace(training=False)).copy()


def says_the_same(net: Network, small: Network, rng: np.random.Generator) -> None:
    X = rng.standard_normal((net.replicas, *net.input_shape, 7)).astype(net.theta.dtype)
    expected = outputs(net, X)
    tolerance = 1e-10 if net.theta.dtype == np.float64 else 1e-4
    np.testing.assert_allclose(outputs(small, X), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def random_net(layers: list[Layer], shape: tuple[int, ...], rng: np.random.Generator, dtype="float64", R=1) -> Network:
    net = Network(Sequential(*layers), shape, R, dtype)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    return net


def widths(net: Network) -> list[int]:
    return [p.shape[0] for p in net.weights]


@st.composite
def networks(draw):
    """Convolutions of any padding, stride and pooling, then dense layers; ReLU, Tanh or nothing between them."""
    rng, dtype = np.random.default_rng(draw(seeds)), draw(st.sampled_from(["float32", "float64"]))
    between = st.sampled_from([[ReLU()], [Tanh()], [], [ReLU(), Dropout(0.5)]])
    shape, layers, channels = (7, draw(st.integers(1, 2)), 7), [], None
    channels = shape[1]
    for _ in range(draw(st.integers(0, 2))):
        kernels = draw(st.integers(1, 5))
        layers += [Conv2D(channels, kernels, draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1)))]
        layers += [*draw(between), *([MaxPool(1)] if draw(st.booleans()) else [])]
        channels = kernels
    layers.append(Flatten())
    inputs = Sequential(*layers).output_shape(shape)[0]
    for _ in range(draw(st.integers(0, 2))):
        width = draw(st.integers(1, 6))
        layers += [Dense(inputs, width), *draw(between)]
        inputs = width
    layers.append(Dense(inputs, 3))
    return random_net(layers, shape, rng, dtype), rng


@quick
@given(networks(), st.sampled_from(["filter", "channel", "column", "block:2", "unstructured"]), st.floats(0.05, 0.7))
def test_outputs_are_the_same_whatever_was_pruned(problem, scheme, keep):
    net, rng = problem
    hard_prune(net, Budget(net, keep, scheme=scheme))
    theta = net.theta.copy()
    small = shrink(net)
    np.testing.assert_array_equal(net.theta, theta)  # a new network
    says_the_same(net, small, rng)
    assert small.size <= net.size
    assert widths(small)[-1] == 3
    again = shrink(small)  # nothing more to take
    assert widths(again) == widths(small)
    np.testing.assert_allclose(again.theta, small.theta, rtol=1e-5)


@quick
@given(networks())
def test_unpruned_networks_are_unchanged(problem):
    net, _ = problem
    small = shrink(net)
    assert widths(small) == widths(net)
    np.testing.assert_array_equal(small.theta, net.theta)


@pytest.mark.parametrize("scheme", ["filter", "channel"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lenet5_shrinks_to_the_widths_that_were_kept(scheme, dtype):
    rng = np.random.default_rng(1)
    net = build(describe("lenet-5", (28, 1, 28), 10), 1, dtype)
    net.theta[...] = rng.standard_normal(net.theta.shape) / 10
    keep = {"filter": (0.5, 0.4, 0.1, 1.0), "channel": (1.0, 0.5, 1.0, 0.1)}[scheme]
    hard_prune(net, Budget(net, keep, scheme=scheme))
    small = shrink(net)
    # a channel of a dense layer is one feature of a pooled 4 x 4 image: the convolution's 50 all stay
    expected = {"filter": [10, 20, 50], "channel": [10, 50, 50]}[scheme]
    assert small.description == net.description | {"widths": expected}
    assert widths(small) == [*expected, 10]
    assert small.theta.dtype == net.theta.dtype
    says_the_same(net, small, rng)


def test_a_pruned_filter_is_a_constant_that_goes_into_the_next_bias():
    """By hand: W1 (2, 2) with its second row pruned, b1 = (1, 2); W2 (1, 2), b2 = 3; y = W2 tanh(W1 x + b1) + b2."""
    net = Network(Sequential(Dense(2, 2), Tanh(), Dense(2, 1)), (2,), 1, "float64")
    net.W[0] = [4.0, 5.0, 0.0, 0.0, 6.0, 7.0]
    net.theta[0, 6:] = [1.0, 2.0, 3.0]
    small = shrink(net)
    np.testing.assert_allclose(small.theta[0], [4.0, 5.0, 6.0, 1.0, 3.0 + 7.0 * np.tanh(2.0)], rtol=1e-15)


def test_constants_run_through_layers():
    """All that the second layer reads is constant, so it is constant too, and so on: one unit a layer is left."""
    net = Network(Sequential(Dense(2, 3), ReLU(), Dense(3, 4), Tanh(), Dense(4, 2)), (2,), 1, "float64")
    rng = np.random.default_rng(0)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    net.W[0, :6] = 0
    small = shrink(net)
    assert widths(small) == [1, 1, 2]
    says_the_same(net, small, rng)


@pytest.mark.parametrize("bias", [0.0, -1.0, 1.0])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_constant_channel_before_zero_padding_stays_unless_it_is_zero(bias, padding):
    rng = np.random.default_rng(2)
    layers = [Conv2D(1, 3, 3), ReLU(), Conv2D(3, 2, 3, padding=padding), Flatten()]
    inputs = Sequential(*layers).output_shape((7, 1, 7))[0]
    net = random_net([*layers, Dense(inputs, 2)], (7, 1, 7), rng)
    first = net.weights[0].value
    first[0, 1] = 0
    net.biases[0].value[0, 1] = bias
    small = shrink(net)
    stays = padding == 1 and bias > 0  # the rectified constant is 0 otherwise
    assert widths(small) == [3 if stays else 2, 2, 2]
    says_the_same(net, small, rng)


def test_unread_units_are_removed_with_the_units_that_only_they_read():
    net = Network(Sequential(Dense(3, 4), ReLU(), Dense(4, 5), ReLU(), Dense(5, 2)), (3,), 1, "float64")
    rng = np.random.default_rng(3)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    W1, W2, W3 = (p.value[0] for p in net.weights)
    W3[:, 4] = 0  # unit 4 of the second layer is not read
    W2[:4, 0] = 0  # unit 0 of the first layer is read by that one alone
    small = shrink(net)
    assert widths(small) == [3, 4, 2]
    np.testing.assert_array_equal(small.weights[0].value[0], W1[1:])
    np.testing.assert_array_equal(small.weights[1].value[0], W2[:4, 1:])
    says_the_same(net, small, rng)


def test_every_replica_has_its_own_support():
    rng = np.random.default_rng(4)
    net = random_net([Dense(6, 8), ReLU(), Dense(8, 2)], (6,), rng, R=3)
    hard_prune(net, Budget(net, (0.5, 1.0), scheme="filter"))
    small = shrink(net)
    assert widths(small) == [4, 2]
    supports = [tuple((net.weights[0].value[r] != 0).any(axis=1)) for r in range(3)]
    assert len(set(supports)) > 1
    says_the_same(net, small, rng)
    for r in range(3):
        np.testing.assert_array_equal(shrink(net.copy([r])).theta[0], small.theta[r])


def test_replicas_of_different_sizes_are_refused_by_name():
    net = random_net([Dense(6, 8), ReLU(), Dense(8, 2)], (6,), np.random.default_rng(5), R=2)
    hard_prune(net, Budget(net, [[0.5, 1.0], [0.25, 1.0]], scheme="filter"))
    with pytest.raises(ArgumentError, match=r"replica 1 shrinks to layers of \[2, 2\] units, replica 0 to \[4, 2\]"):
        shrink(net)


def test_an_unregistered_layer_is_refused_by_name():
    net = random_net([Branches((2, Dense(2, 2)), (1, Dense(1, 1))), Dense(3, 2)], (3,), np.random.default_rng(6))
    with pytest.raises(ArgumentError, match=r"Branches\(.*\) cannot lose units"):
        shrink(net)


def test_a_layer_takes_part_by_registering_three_functions():
    """A sum of two branches, like a residual block: three registered functions, no change in `shrink`."""

    class Sum(Layer):
        def __init__(self, left, right):
            self.left, self.right = left, right

        def layers(self):
            return [self.left, self.right]

        def output_shape(self, shape):
            return self.left.output_shape(shape)

        def forward(self, X, ws):
            return self.left.forward(X, ws) + self.right.forward(X, ws)

    @constants.register
    def _(layer: Sum, c, shape):
        return constants(layer.left, c, shape) + constants(layer.right, c, shape)

    @dependencies.register
    def _(layer: Sum, needed, c, shape):
        return dependencies(layer.left, needed, c, shape) | dependencies(layer.right, needed, c, shape)

    @narrowed.register
    def _(layer: Sum, kept, needed, c, shape):
        (left, a, units), (right, b, _) = (narrowed(of, kept, needed, c, shape) for of in layer.layers())
        return Sum(left, right), a + b, units

    rng = np.random.default_rng(7)
    layers = [Dense(4, 6), ReLU(), Sum(Sequential(Dense(6, 5), Tanh()), Dense(6, 5)), ReLU(), Dense(5, 2)]
    net = random_net(layers, (4,), rng)
    W1, _, _, last = (p.value[0] for p in net.weights)
    W1[2] = 0
    last[:, 3] = 0
    small = shrink(net)
    assert widths(small) == [5, 4, 4, 2]
    says_the_same(net, small, rng)
