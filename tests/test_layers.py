"""Every layer against naive loops and central differences, over shapes, strides, paddings, replicas and dtypes."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag
from scipy.signal import correlate

from nanoprune.errors import ArgumentError, WorkspaceError
from nanoprune.lab.kernels import BandedDepthwise, CompiledDepthwise, WinogradConv2D, depthwise_convolution
from nanoprune.lab.kernels.winograd import minimal_filter
from nanoprune.lab.layers import (
    AvgPool,
    BatchNorm,
    DepthwiseConv2D,
    Dropout,
    GlobalAvgPool,
    GroupNorm,
    Pointwise,
    ReLU6,
    Residual,
    Standardise,
    Tanh,
)
from nanoprune.lab.verify import reference
from nanoprune.lab.verify.gradient import apart, gradients, network
from nanoprune.nn import Branches, Conv2D, Dense, Flatten, Layer, MaxPool, Network, ReLU, Sequential, Workspace
from nanoprune.records import Records

TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}
DTYPES = st.sampled_from([np.float64, np.float32])
SEEDS = st.integers(0, 2**32 - 1)
SMALL = st.integers(1, 3)


@st.composite
def conv_cases(draw):
    """A layer, plain or Winograd, and an input shape (R, H, C, W, N); often the last rows or columns fill no window."""
    size, padding = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    sides = st.integers(max(1, size - 2 * padding), 6)
    R, C, N = draw(SMALL), draw(SMALL), draw(SMALL)
    if draw(st.booleans()):
        layer = Conv2D(C, draw(SMALL), size, stride=draw(SMALL), padding=padding)
    else:
        layer = WinogradConv2D(C, draw(SMALL), size, padding)
    return layer, (R, draw(sides), C, draw(sides), N)


@st.composite
def depthwise_cases(draw):
    """A layer of each kind; images of up to 6 rows: more than one tile of the banded one, often a partial one."""
    size, padding, C = draw(st.integers(1, 4)), draw(st.integers(0, 3)), draw(SMALL)
    sides = st.integers(max(1, size - 2 * padding), 6)
    if draw(st.booleans()):
        layer = DepthwiseConv2D(C, size, stride=draw(SMALL), padding=padding, bias=draw(st.booleans()))
    else:
        kind = draw(st.sampled_from([BandedDepthwise, CompiledDepthwise]))
        layer = kind(C, size, min(padding, size - 1), bias=draw(st.booleans()))
    return layer, (draw(SMALL), draw(sides), C, draw(sides), draw(SMALL))


@st.composite
def pointwise_cases(draw):
    C, sides = draw(SMALL), st.integers(1, 6)
    layer = Pointwise(C, draw(SMALL), stride=draw(SMALL), bias=draw(st.booleans()))
    return layer, (draw(SMALL), draw(sides), C, draw(sides), draw(SMALL))


@st.composite
def pool_cases(draw):
    """Windows that touch, overlap, or leave gaps, with and without padding."""
    size = draw(st.integers(1, 4))
    padding, sides = draw(st.integers(0, size // 2)), st.integers(size, 9)
    layer = MaxPool(size, draw(st.one_of(st.none(), st.integers(1, 5))), padding)
    return layer, (draw(SMALL), draw(sides), draw(SMALL), draw(sides), draw(SMALL))


@st.composite
def norm_cases(draw):
    """Images or features with at least two values per channel."""
    R, C, N = draw(SMALL), draw(SMALL), draw(st.integers(2, 6))
    return BatchNorm(C), draw(st.sampled_from([(R, C, N), (R, draw(SMALL), C, draw(SMALL), N)]))


@st.composite
def group_cases(draw):
    R, groups, N = draw(SMALL), draw(SMALL), draw(SMALL)
    C = groups * draw(st.integers(2, 3))
    return GroupNorm(groups, C), draw(st.sampled_from([(R, C, N), (R, draw(SMALL), C, draw(SMALL), N)]))


def filled(layer: Layer, shape: tuple[int, ...], dtype: type, rng: np.random.Generator) -> Network:
    """A network of one layer for inputs of `shape` (R, ..., N), with normal parameters."""
    net = Network(layer, shape[1:-1], shape[0], dtype)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    return net


def close(actual, expected, dtype=np.float64):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE[dtype] * max(1.0, np.abs(expected).max()))


def check_gradients(body: Layer, shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = gradients(network(body, shape[1:-1], rng, replicas=shape[0]), apart(rng, shape), rng)
    for what, (ours, oracle) in pairs.items():
        assert ours == pytest.approx(oracle, rel=1e-6, abs=1e-7), what


# Forward


@settings(deadline=None, max_examples=60)
@given(conv_cases(), DTYPES, SEEDS)
def test_convolution_equals_nested_loops(case, dtype, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    net, X = filled(layer, shape, dtype, rng), rng.standard_normal(shape).astype(dtype)
    W, b = (p.value for p in net.body.parameters())
    Y = net.forward(X, Workspace())
    assert Y.dtype == dtype
    assert Y.shape == (shape[0], *net.output_shape, shape[-1])
    close(Y, reference.convolution(X, W, b, layer.size, layer.stride, layer.padding), dtype)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), SEEDS)
def test_minimal_filter_equals_the_sum_over_the_taps(m, k, seed):
    assume(2 <= m + k - 1 <= 8)
    rng = np.random.default_rng(seed)
    w, x = rng.standard_normal(k), rng.standard_normal(m + k - 1)
    A, G, B = minimal_filter(m, k)
    assert A.shape == (m + k - 1, m)  # m + k - 1 products
    close(A.T @ ((G @ w) * (B @ x)), [sum(w[r] * x[i + r] for r in range(k)) for i in range(m)])


def test_nested_loops_equal_scipy():
    """The reference itself, against an independent library."""
    rng = np.random.default_rng(0)
    X, W, b = rng.standard_normal((1, 7, 2, 8, 1)), rng.standard_normal((1, 1, 3, 2, 3)), rng.standard_normal((1, 1, 1))
    image, kernel = X[0, ..., 0].transpose(1, 0, 2), W[0, 0].transpose(1, 0, 2)  # (C, H, W), (C, kh, kw)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    expected = correlate(padded, kernel, mode="valid", method="direct")[0, ::2, ::2] + b[0, 0]
    Y = reference.convolution(X, W.reshape(1, 1, 18), b, size=3, stride=2, padding=1)
    close(Y[0, :, 0, :, 0], expected)


@settings(deadline=None, max_examples=60)
@given(pool_cases(), st.booleans(), DTYPES, SEEDS)
def test_pooling_and_its_gradient_equal_loops(case, ties, dtype, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    X = (rng.integers(-2, 3, shape) if ties else rng.standard_normal(shape)).astype(dtype)
    Y, first = reference.max_pool(X, layer.size, layer.stride, layer.padding)
    dY = rng.integers(-9, 10, Y.shape).astype(dtype)  # integers, so that sums are exact
    expected = np.zeros(shape)
    for output, source in first.items():
        expected[source] += dY[output]
    ws = Workspace()
    np.testing.assert_array_equal(layer.forward(X, ws), Y)
    dX = layer.backward(dY, ws)
    assert dX.dtype == dtype
    np.testing.assert_array_equal(dX, expected)


@settings(deadline=None, max_examples=40)
@given(depthwise_cases(), DTYPES, SEEDS)
def test_depthwise_convolution_equals_nested_loops(case, dtype, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    net, X = filled(layer, shape, dtype, rng), rng.standard_normal(shape).astype(dtype)
    W, *b = (p.value for p in net.body.parameters())
    b = b[0] if b else np.zeros((*W.shape[:2], 1))
    Y = net.forward(X, Workspace())
    assert Y.dtype == dtype
    assert Y.shape == (shape[0], *net.output_shape, shape[-1])
    close(Y, reference.depthwise(X, W, b, layer.size, layer.stride, layer.padding), dtype)


def test_depthwise_convolution_uses_the_faster_layer_where_possible():
    assert type(depthwise_convolution(3, 3, 1, 1, bias=False)) is CompiledDepthwise
    assert type(depthwise_convolution(3, 3, 2, 1)) is DepthwiseConv2D
    assert type(depthwise_convolution(3, 3, 1, 3)) is DepthwiseConv2D


def test_depthwise_convolution_is_the_same_in_blocks_of_rows(monkeypatch):
    rng = np.random.default_rng(0)
    X, dY = rng.standard_normal((2, 8, 3, 5, 2)), rng.standard_normal((2, 4, 3, 3, 2))
    net = filled(DepthwiseConv2D(3, 3, stride=2, padding=1), X.shape, np.float64, rng)
    whole = passes(net, X, dY, Workspace())
    for rows in (1, 3):
        monkeypatch.setattr("nanoprune.lab.layers.channels.BLOCK", rows * 2 * 3 * 3 * 2)
        for ours, expected in zip(passes(net, X, dY, Workspace()), whole, strict=True):
            close(ours, expected)


@settings(deadline=None, max_examples=40)
@given(pointwise_cases(), DTYPES, SEEDS)
def test_pointwise_equals_a_convolution_of_size_one(case, dtype, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    net, X = filled(layer, shape, dtype, rng), rng.standard_normal(shape).astype(dtype)
    W, *b = (p.value for p in net.body.parameters())
    b = b[0] if b else np.zeros((*W.shape[:2], 1))
    Y = net.forward(X, Workspace())
    assert Y.dtype == dtype
    close(Y, reference.convolution(X, W, b, 1, layer.stride, 0), dtype)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), SMALL, st.integers(4, 9), st.integers(4, 9), SMALL, DTYPES, SEEDS)
def test_average_pools_equal_loops(size, R, H, W, N, dtype, seed):
    X = np.random.default_rng(seed).standard_normal((R, H, 2, W, N)).astype(dtype)
    Y = AvgPool(size).forward(X, Workspace())
    assert Y.dtype == dtype
    close(Y, reference.average_pool(X, size), dtype)
    Y = GlobalAvgPool().forward(X, Workspace())
    assert Y.dtype == dtype
    for r, c, n in np.ndindex(R, 2, N):
        close(Y[r, c, n], sum(float(x) for x in X[r, :, c, :, n].ravel()) / (H * W), dtype)


def test_convolution_without_bias():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 5, 2, 4, 3))
    net = filled(Conv2D(2, 3, 3, padding=1, bias=False), X.shape, np.float64, rng)
    assert net.size == net.weight_count == 3 * 2 * 9
    expected = reference.convolution(X, net.weights[0].value, np.zeros((2, 3, 1)), 3, 1, 1)
    close(net.forward(X, Workspace()), expected)
    check_gradients(Conv2D(2, 3, 3, padding=1, bias=False), X.shape, 0)


@settings(deadline=None, max_examples=30)
@given(SMALL, st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), DTYPES, SEEDS)
def test_dense_equals_loops(R, inputs, outputs, N, dtype, seed):
    rng = np.random.default_rng(seed)
    shape = (R, inputs, N)
    net, X = filled(Dense(inputs, outputs), shape, dtype, rng), rng.standard_normal(shape).astype(dtype)
    W, b = (p.value for p in net.body.parameters())
    expected = np.empty((R, outputs, N))
    for r, o, n in np.ndindex(expected.shape):
        expected[r, o, n] = float(b[r, o, 0]) + sum(float(W[r, o, i]) * float(X[r, i, n]) for i in range(inputs))
    Y = net.forward(X, Workspace())
    assert Y.dtype == dtype
    close(Y, expected, dtype)


def test_activations_and_their_gradients_by_hand():
    X, dY = np.array([-2.0, -0.0, 0.0, 0.5, 3.0]).reshape(1, 5, 1), np.array([1.0, 2, 3, 4, 5]).reshape(1, 5, 1)
    ws, relu, tanh = Workspace(), ReLU(), Tanh()
    np.testing.assert_array_equal(relu.forward(X, ws).ravel(), [0, 0, 0, 0.5, 3])
    np.testing.assert_array_equal(relu.backward(dY, ws).ravel(), [0, 0, 0, 4, 5])  # the derivative at 0 is 0
    relu6 = ReLU6()
    np.testing.assert_array_equal(relu6.forward(3 * X, ws).ravel(), [0, 0, 0, 1.5, 6])
    np.testing.assert_array_equal(relu6.backward(dY, ws).ravel(), [0, 0, 0, 4, 0])
    np.testing.assert_array_equal(relu6.forward(2 * X, ws).ravel(), [0, 0, 0, 1, 6])
    np.testing.assert_array_equal(relu6.backward(dY, ws).ravel(), [0, 0, 0, 4, 0])  # the derivative at 6 is 0
    t = (np.exp(2 * X) - 1) / (np.exp(2 * X) + 1)
    close(tanh.forward(X, ws), t)
    close(tanh.backward(dY, ws), dY / np.cosh(X) ** 2)


def test_flatten_keeps_the_order_rows_channels_columns():
    X = np.arange(2 * 3 * 2 * 4 * 5).reshape(2, 3, 2, 4, 5)
    ws, flatten = Workspace(), Flatten()
    Y = flatten.forward(X, ws)
    for r, h, c, w, n in np.ndindex(X.shape):
        assert Y[r, (h * 2 + c) * 4 + w, n] == X[r, h, c, w, n]
    np.testing.assert_array_equal(flatten.backward(Y, ws), X)


def test_branches_see_their_own_features():
    rng = np.random.default_rng(0)
    first, second = Dense(2, 3), Sequential(Dense(1, 2), Tanh())
    X = rng.standard_normal((2, 3, 4))
    net = filled(Branches((2, first), (1, second)), X.shape, np.float64, rng)
    Wa, Wb, ba, bb = (p.value for p in net.weights + net.biases)
    a = np.einsum("roi,rin->ron", Wa, X[:, :2]) + ba
    b = np.tanh(np.einsum("roi,rin->ron", Wb, X[:, 2:]) + bb)
    assert net.output_shape == (5,)
    close(net.forward(X, Workspace()), np.concatenate([a, b], axis=1))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=5), SEEDS)
def test_branches_are_one_layer_of_a_block_diagonal_matrix(sizes, seed):
    rng, R, N = np.random.default_rng(seed), 2, 4
    F = sum(inputs for inputs, _ in sizes)
    net = filled(Branches(*((inputs, Dense(inputs, outputs)) for inputs, outputs in sizes)), (R, F, N), np.float64, rng)
    W = np.stack([block_diag(*(p.value[r] for p in net.weights)) for r in range(R)])  # (R, outputs, F)
    X, dY, ws = rng.standard_normal((R, F, N)), rng.standard_normal((R, W.shape[1], N)), Workspace()
    close(net.forward(X, ws), W @ X + np.concatenate([p.value for p in net.biases], axis=1))
    close(net.backward(dY, ws, need_dX=True), W.swapaxes(1, 2) @ dY)
    dW, rows, columns = dY @ X.swapaxes(1, 2), 0, 0
    for p, (inputs, outputs) in zip(net.weights, sizes, strict=True):
        close(p.grad, dW[:, rows : rows + outputs, columns : columns + inputs])
        rows, columns = rows + outputs, columns + inputs
    net.forward(X, ws)
    assert net.backward(dY, ws) is None


def test_standardise_is_of_each_channel():
    X, layer, ws = (
        np.random.default_rng(0).standard_normal((2, 4, 2, 3, 5)),
        Standardise([0.5, -1.0], [0.25, 4.0]),
        Workspace(),
    )
    close(layer.forward(X, ws)[:, :, 0], (X[:, :, 0] - 0.5) / 0.25)
    close(layer.backward(X, ws)[:, :, 1], X[:, :, 1] / 4.0)


def test_residual_adds_the_shortcut():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 3, 4))
    net = filled(Residual(Sequential(Dense(3, 3), Tanh())), X.shape, np.float64, rng)
    W, b = (p.value for p in net.body.parameters())
    close(net.forward(X, Workspace()), X + np.tanh(W @ X + b))
    net = filled(Residual(Dense(3, 2), Dense(3, 2)), X.shape, np.float64, rng)
    close(net.forward(X, Workspace()), net.W.reshape(2, 2, 2, 3).sum(axis=1) @ X + sum(p.value for p in net.biases))


# Batch normalisation


@settings(deadline=None, max_examples=40)
@given(norm_cases(), DTYPES, SEEDS)
def test_batch_norm_in_training_equals_loops(case, dtype, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    net, X = filled(layer, shape, dtype, rng), (3 * rng.standard_normal(shape) + 1).astype(dtype)
    state = net.state.copy()
    Y = net.forward(X, Workspace())
    gamma, beta = (p.value for p in net.body.parameters())
    expected, statistics = reference.batch_norm(X, gamma, beta, 1e-5)
    assert Y.dtype == dtype
    close(Y, expected, dtype)
    close(net.batch_state, np.concatenate(statistics, axis=1), dtype)
    np.testing.assert_array_equal(net.state, state)  # a forward pass alone updates no running statistic


@settings(deadline=None, max_examples=30)
@given(norm_cases(), SEEDS)
def test_batch_norm_in_evaluation_is_an_affine_map_of_each_sample(case, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    net, X, dY = filled(layer, shape, np.float64, rng), rng.standard_normal(shape), rng.standard_normal(shape)
    net.state[...] = rng.uniform(0.2, 3, net.state.shape)
    state, ws = net.state.copy(), Workspace(training=False)
    gamma, beta = (p.value for p in net.body.parameters())
    mean, var = (s.value for s in net.statistics)
    of = (slice(None), None, slice(None), None) if len(shape) == 5 else slice(None)  # (R, C, 1) beside X
    slope = gamma / np.sqrt(var + 1e-5)
    close(net.forward(X, ws), (slope[of] * X) + (beta - slope * mean)[of])
    close(net.backward(dY, ws, need_dX=True), slope[of] * dY)
    alone = np.concatenate([net.forward(X[..., n : n + 1], ws).copy() for n in range(shape[-1])], axis=-1)
    np.testing.assert_array_equal(alone, net.forward(X, ws))  # no sample sees another
    np.testing.assert_array_equal(net.state, state)


@settings(deadline=None, max_examples=30)
@given(group_cases(), DTYPES, SEEDS)
def test_group_norm_equals_loops_in_both_modes(case, dtype, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    net, X = filled(layer, shape, dtype, rng), (3 * rng.standard_normal(shape) + 1).astype(dtype)
    gamma, beta = (p.value for p in net.body.parameters())
    expected = reference.group_norm(X, gamma, beta, layer.groups, 1e-5)
    for training in (True, False):
        Y = net.forward(X, Workspace(training))
        assert Y.dtype == dtype
        close(Y, expected, dtype)
    assert net.state.shape[1] == 0


@settings(deadline=None, max_examples=30)
@given(group_cases(), SEEDS)
def test_gradient_of_group_norm(case, seed):
    check_gradients(*case, seed)


def test_running_statistics_are_those_of_pytorch():
    """By hand: 0.9 of the old and 0.1 of the batch's mean and unbiased variance, from 0 and 1."""
    net = Network(BatchNorm(1), (1,), 1, np.float64)
    first, second = np.array([1.0, 3.0]).reshape(1, 1, 2), np.array([4.0, 4.0, 10.0]).reshape(1, 1, 3)
    for X in (first, second):
        net.forward(X, Workspace())
        net.update_statistics()
    mean = 0.9 * (0.1 * 2) + 0.1 * 6
    var = 0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 12
    close(net.state, np.array([[mean, var]]))


def test_a_single_value_per_channel_cannot_be_normalised():
    net = Network(BatchNorm(3), (3,), 2)
    with pytest.raises(ArgumentError, match=r"BatchNorm\(3\) needs at least 2 values per channel in training, got 1"):
        net.forward(np.ones((2, 3, 1), np.float32), Workspace())
    net.forward(np.ones((2, 3, 1), np.float32), Workspace(training=False))


# Gradients


@settings(deadline=None, max_examples=60)
@given(conv_cases(), SEEDS)
def test_gradient_of_convolution(case, seed):
    check_gradients(*case, seed)


@settings(deadline=None, max_examples=60)
@given(st.one_of(depthwise_cases(), pointwise_cases()), SEEDS)
def test_gradient_of_depthwise_and_pointwise_convolution(case, seed):
    check_gradients(*case, seed)


@settings(deadline=None, max_examples=30)
@given(norm_cases(), st.booleans(), SEEDS)
def test_gradient_of_batch_norm(case, training, seed):
    layer, shape = case
    rng = np.random.default_rng(seed)
    net = network(layer, shape[1:-1], rng, replicas=shape[0])
    net.state[...] = rng.uniform(0.5, 2, net.state.shape)
    for what, (ours, oracle) in gradients(net, apart(rng, shape), rng, training).items():
        assert ours == pytest.approx(oracle, rel=1e-5, abs=1e-6), what


@settings(deadline=None, max_examples=30)
@given(SMALL, st.integers(2, 5), SMALL, st.booleans(), SEEDS)
def test_gradient_of_residual(R, side, N, identity, seed):
    body = Sequential(Conv2D(2, 2, 3, padding=1), Tanh())
    layer = Residual(body) if identity else Residual(body, Sequential(Pointwise(2, 2), Tanh()))
    check_gradients(layer, (R, side, 2, side, N), seed)


@settings(deadline=None, max_examples=30)
@given(pool_cases(), SEEDS)
def test_gradient_of_pooling(case, seed):
    check_gradients(Sequential(case[0]), case[1], seed)


@settings(deadline=None, max_examples=30)
@given(SMALL, st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), SEEDS)
def test_gradient_of_dense_layers(R, inputs, outputs, N, seed):
    check_gradients(Dense(inputs, outputs), (R, inputs, N), seed)
    check_gradients(Sequential(Dense(inputs, outputs), Tanh(), Dense(outputs, 2)), (R, inputs, N), seed)
    branches = Branches((inputs, Dense(inputs, 2)), (2, Sequential(Dense(2, outputs), Tanh())))
    check_gradients(branches, (R, inputs + 2, N), seed)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([ReLU(), ReLU6(), Tanh(), Flatten(), Dropout(0.3), AvgPool(1), GlobalAvgPool()]),
    SMALL,
    st.integers(1, 5),
    SMALL,
    SEEDS,
)
def test_gradient_of_layers_without_parameters(layer, R, side, N, seed):
    check_gradients(Sequential(layer), (R, side, 2, side, N), seed)


def test_only_requested_gradients_are_computed():
    rng = np.random.default_rng(0)
    body = Sequential(Flatten(), Dense(12, 4), Tanh(), Dense(4, 3))
    X, dY = rng.standard_normal((2, 2, 3, 2, 5)), rng.standard_normal((2, 3, 5))
    net, ws = filled(body, X.shape, np.float64, rng), Workspace()
    net.forward(X, ws)
    full = net.backward(dY, ws, need_dX=True).copy()
    gradient = net.grad.copy()
    net.grad[...] = 7.0
    net.forward(X, ws)
    assert net.backward(dY, ws) is None
    close(net.grad, gradient)
    net.grad[...] = 7.0
    net.forward(X, ws)
    close(net.backward(dY, ws, need_dX=True, need_dW=False), full)
    assert (net.grad == 7.0).all()


# Replicas, buffers, dtypes


def everything(dtype=np.float64, replicas=3) -> Network:
    """A small network with a layer of every kind that needs no generator."""
    block = Sequential(DepthwiseConv2D(3, 3, padding=1), BatchNorm(3), ReLU6(), Pointwise(3, 3, bias=False))
    layers = [Conv2D(2, 3, 3, padding=1), MaxPool(2), ReLU(), Residual(block, Pointwise(3, 3)), MaxPool(3, 1, 1)]
    layers += [Conv2D(3, 8, 2, bias=False), BatchNorm(8), Tanh(), AvgPool(1), GlobalAvgPool()]
    body = Sequential(*layers, Branches((4, Dense(4, 5)), (4, Sequential(Dense(4, 3), ReLU()))), Dense(8, 3))
    net = Network(body, (5, 2, 8), replicas, dtype)
    return net.initialise([np.random.default_rng(r) for r in range(replicas)])


def passes(net: Network, X, dY, ws: Workspace):
    Y = net.forward(X, ws).copy()
    return Y, net.backward(dY, ws, need_dX=True).copy(), net.grad.copy()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_replicas_together_equal_replicas_alone(dtype):
    rng = np.random.default_rng(0)
    net = everything(dtype)
    X, dY = (rng.standard_normal(shape).astype(dtype) for shape in ((3, 5, 2, 8, 6), (3, 3, 6)))
    together = passes(net, X, dY, Workspace())
    for r in range(3):
        one = slice(r, r + 1)
        for whole, alone in zip(together, passes(net.copy(one), X[one], dY[one], Workspace()), strict=True):
            close(whole[one], alone, dtype)


def test_a_workspace_serves_batches_of_changing_size_and_dtype():
    """The last batch of an epoch is smaller; remains of a larger one in the buffers must have no effect."""
    rng = np.random.default_rng(0)
    nets, ws = {dtype: everything(dtype) for dtype in (np.float64, np.float32)}, Workspace()
    for N, dtype in ((7, np.float64), (3, np.float64), (8, np.float32), (1, np.float32), (7, np.float64)):
        X, dY = (rng.standard_normal(shape).astype(dtype) for shape in ((3, 5, 2, 8, N), (3, 3, N)))
        for reused, fresh in zip(passes(nets[dtype], X, dY, ws), passes(nets[dtype], X, dY, Workspace()), strict=True):
            assert reused.dtype == dtype
            close(reused, fresh, dtype)


def test_buffers_are_reused_and_grow():
    ws = Workspace()
    large = ws.buffer("layer", "Y", (2, 6), np.float32)
    assert np.shares_memory(large, ws.buffer("layer", "Y", (3, 2), np.float32))
    assert not np.shares_memory(large, ws.buffer("layer", "dX", (2, 6), np.float32))
    assert not np.shares_memory(large, ws.buffer("layer", "Y", (2, 6), np.float64))
    assert ws.buffer("layer", "Y", (5, 7), np.float64).shape == (5, 7)


LAYERS = [
    (Dense(4, 3), (2, 4, 5)),
    (Conv2D(2, 3, 2), (2, 4, 2, 4, 5)),
    (DepthwiseConv2D(2, 2), (2, 4, 2, 4, 5)),
    (Pointwise(2, 3), (2, 4, 2, 4, 5)),
    (BatchNorm(2), (2, 4, 2, 4, 5)),
    (GroupNorm(1, 2), (2, 4, 2, 4, 5)),
    (MaxPool(2), (2, 4, 2, 4, 5)),
    (AvgPool(2), (2, 4, 2, 4, 5)),
    (GlobalAvgPool(), (2, 4, 2, 4, 5)),
    (Standardise([0.0, 1.0], [1.0, 1.0]), (2, 4, 2, 4, 5)),
    (Residual(Dense(4, 4)), (2, 4, 5)),
    (ReLU(), (2, 4, 5)),
    (ReLU6(), (2, 4, 5)),
    (Tanh(), (2, 4, 5)),
    (Flatten(), (2, 4, 2, 4, 5)),
    (Dropout(0.5), (2, 4, 5)),
    (Branches((4, Dense(4, 3))), (2, 4, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: repr(value))
def test_backward_without_forward_or_twice_is_refused(layer, shape):
    net = Network(Sequential(layer), shape[1:-1], shape[0], np.float64)
    X, dY = np.ones(shape), np.ones((shape[0], *net.output_shape, shape[-1]))
    ws = Workspace(generators=[np.random.default_rng(r) for r in range(shape[0])])
    with pytest.raises(WorkspaceError, match=type(layer).__name__):
        net.backward(dY, ws, need_dX=True)
    net.forward(X, ws)
    with pytest.raises(WorkspaceError, match="call forward with this workspace first"):
        net.backward(dY, Workspace(), need_dX=True)  # another pass in flight is another workspace
    net.backward(dY, ws, need_dX=True)
    with pytest.raises(WorkspaceError, match="twice"):
        net.backward(dY, ws, need_dX=True)


def test_two_passes_in_flight_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    net, first, second = everything(), Workspace(), Workspace()
    A, B, dY = (rng.standard_normal(shape) for shape in ((3, 5, 2, 8, 4), (3, 5, 2, 8, 4), (3, 3, 4)))
    alone = passes(net, A, dY, Workspace())
    YA = net.forward(A, first)
    net.forward(B, second)
    net.backward(dY, second, need_dX=True)
    close(YA, alone[0])
    close(net.backward(dY, first, need_dX=True), alone[1])
    close(net.grad, alone[2])


def step_by_step(layers: list[Layer], X, dY):
    """Each layer with a workspace of its own, and copies between them: output, dX, gradients of the parameters."""
    spaces, kept = [Workspace() for _ in layers], []
    for layer, ws in zip(layers, spaces, strict=True):
        kept.append(X)
        X = layer.forward(X, ws).copy()
    for layer, ws in reversed(list(zip(layers, spaces, strict=True))):
        dY = layer.backward(dY, ws).copy()
    return X, dY, [p.grad.copy() for layer in layers for p in layer.parameters()]


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Dense(5, 5), (5,)),
        (lambda: Conv2D(2, 2, 3, padding=1), (4, 2, 5)),
        (lambda: MaxPool(3, 1, 1), (4, 2, 5)),
        (lambda: Sequential(Conv2D(2, 2, 3, padding=1), MaxPool(3, 1, 1)), (4, 2, 5)),
        (lambda: Sequential(Conv2D(2, 2, 3, padding=1), MaxPool(2, 1), MaxPool(2, 1, 1)), (4, 2, 5)),
        (lambda: Sequential(Dense(5, 5), ReLU()), (5,)),
        (lambda: Branches((2, Dense(2, 2)), (3, Sequential(Dense(3, 3), ReLU()))), (5,)),
    ],
)
def test_layers_of_one_kind_share_no_memory_that_is_still_needed(make, shape, defer):
    """Three alike, one after another in one workspace: what the first one saved is read last."""
    rng, R, N = np.random.default_rng(0), 2, 3
    net = Network(Sequential(make(), make(), make()), shape, R, np.float64)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    X, dY = (rng.standard_normal((R, *of, N)) for of in (shape, net.output_shape))
    expected = step_by_step(net.body.layers(), X, dY)
    net.grad[...] = np.nan
    ws = Workspace(defer=defer)
    Y, dX = net.forward(X, ws), net.backward(dY, ws, need_dX=True)
    for layer, kept, saved in ws.deferred:
        layer.weight_gradient(kept, ws, *saved)
    np.testing.assert_array_equal(Y, expected[0])
    np.testing.assert_array_equal(dX, expected[1])
    for p, gradient in zip(net.body.parameters(), expected[2], strict=True):
        np.testing.assert_array_equal(p.grad, gradient)


class Counting(Workspace):
    """Notes the types of the buffers."""

    def buffer(self, owner, name, shape, dtype):
        self.dtypes = getattr(self, "dtypes", set()) | {np.dtype(dtype)}
        return super().buffer(owner, name, shape, dtype)


def test_a_float32_network_takes_no_memory_of_twice_the_size():
    """Numbers are float32, and comparisons one byte each: a float64 buffer would take twice the memory and time."""
    layers = [Conv2D(2, 3, 3, 2, 1), ReLU(), MaxPool(3, 2, 1), Conv2D(3, 4, 1, bias=False), MaxPool(2), Flatten()]
    body = Sequential(*layers, Branches((2, Dense(2, 3)), (2, Sequential(Dense(2, 3), ReLU()))), Dense(6, 2))
    net, ws = Network(body, (7, 2, 8)), Counting()
    X = np.ones((1, 7, 2, 8, 3), np.float32)
    Y = net.forward(X, ws)
    assert Y.dtype == net.backward(np.ones_like(Y), ws, need_dX=True).dtype == np.float32
    assert ws.dtypes == {np.dtype(np.float32), np.dtype(bool)}


@pytest.mark.parametrize(
    "layer",
    [ReLU(), MaxPool(2), MaxPool(2, 1), MaxPool(3, 2, 1), Conv2D(2, 3, 2), Conv2D(2, 3, 3, 2, 1), Dense(5, 4)],
    ids=lambda layer: repr(layer),
)
def test_a_pass_that_finds_its_buffers_allocates_no_array_of_the_size_of_its_images(layer):
    """By Python's own count of what NumPy allocates: small arrays alone, as for the elements of one ufunc call."""
    shape = (5,) if isinstance(layer, Dense) else (6, 2, 7)
    net, N = Network(layer, shape), 12_000
    net.theta[...] = 0.5
    records = Records(np.random.default_rng(1).standard_normal((N, *shape)).astype(np.float32), np.zeros(N, int))
    index, dY, ws = np.arange(N)[None], np.ones((1, *net.output_shape, N), np.float32), Workspace()

    def once():
        X = ws.buffer("test", "X", (1, *shape, N), np.float32)
        X[...] = 1
        net.forward(X, ws)
        net.backward(dY, ws, need_dX=True)

    for _ in range(3):  # two gradients, in turn
        once()
    held = ws.nbytes
    tracemalloc.start()
    try:
        once()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ws.nbytes == held
    assert most < dY.nbytes / 4
    first, again = (records.batch(index, ws)[0] for _ in range(2))
    assert np.shares_memory(first, again)


# Dropout


def test_dropout_draws_each_replica_from_its_own_generator():
    X, layer = np.ones((3, 20, 50), np.float32), Dropout(0.3)
    whole = layer.forward(X, Workspace(generators=[np.random.default_rng(r) for r in range(3)])).copy()
    assert set(np.unique(whole)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (whole == 0).mean() == pytest.approx(0.3, abs=0.05)  # 3000 draws: six standard deviations
    for r in range(3):
        ws = Workspace(generators=[np.random.default_rng(r)])
        np.testing.assert_array_equal(layer.forward(X[r : r + 1], ws), whole[r : r + 1])
        dY = np.full((1, 20, 50), 2.0, np.float32)
        np.testing.assert_array_equal(layer.backward(dY, ws), 2 * whole[r : r + 1])  # the same mask


def test_dropout_is_the_identity_in_evaluation_and_asks_for_generators_in_training():
    X, layer = np.random.default_rng(0).standard_normal((2, 3, 4)), Dropout(0.9)
    ws = Workspace(training=False)
    np.testing.assert_array_equal(layer.forward(X, ws), X)
    np.testing.assert_array_equal(layer.backward(X, ws), X)
    np.testing.assert_array_equal(layer.forward(X, Workspace().evaluation), X)
    for generators in (None, [np.random.default_rng(0)]):
        with pytest.raises(WorkspaceError, match="2 generators"):
            layer.forward(X, Workspace(generators=generators))


# What is shown and refused


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Dense(4, 3), "Dense(4, 3)"),
        (Conv2D(2, 3, 5, stride=4, padding=1), "Conv2D(2, 3, 5, stride=4, padding=1)"),
        (Conv2D(2, 3, 5, bias=False), "Conv2D(2, 3, 5, stride=1, padding=0, bias=False)"),
        (MaxPool(2), "MaxPool(2)"),
        (MaxPool(3, 3, 1), "MaxPool(3, stride=3, padding=1)"),
        (MaxPool(3, 2), "MaxPool(3, stride=2, padding=0)"),
        (ReLU(), "ReLU"),
        (Flatten(), "Flatten"),
        (Sequential(Dense(4, 3), ReLU()), "Sequential(Dense(4, 3), ReLU)"),
        (Branches((4, Dense(4, 3)), (1, ReLU())), "Branches(Dense(4, 3), ReLU)"),
    ],
)
def test_a_layer_is_shown_as_it_is_made(layer, text):
    assert repr(layer) == text


def test_a_layer_without_a_pass_is_refused_by_name():
    class Half(Layer):
        """Defines no pass."""

    for call, message in (
        (lambda: Half().forward(None, Workspace()), "Half defines no forward pass"),
        (lambda: Half().weight_gradient(None, Workspace()), "Half has no parameters"),
        (lambda: Half().input_gradient(None, Workspace()), "Half defines no backward pass"),
    ):
        with pytest.raises(TypeError) as error:
            call()
        assert str(error.value) == message


def test_padding_of_windows_is_at_most_half_of_them():
    """More would make windows of padding alone; for odd sizes half is rounded down."""
    for size, most in ((1, 0), (2, 1), (3, 1), (6, 3), (7, 3)):
        assert MaxPool(size, padding=most).padding == most
        with pytest.raises(ArgumentError) as error:
            MaxPool(size, padding=most + 1)
        assert str(error.value) == f"padding must be an integer from 0 to size // 2 = {most}, got {most + 1}"


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Dense(4, 3), (5,)),
        (Dense(4, 3), (2, 2, 1)),
        (Conv2D(3, 2, 3), (5, 2, 5)),
        (Conv2D(3, 2, 3), (2, 3, 5)),
        (Conv2D(3, 2, 3), (5, 3, 2)),
        (Conv2D(1, 2, 5, padding=1), (2, 1, 9)),
        (Conv2D(3, 2, 3), (9,)),
        (MaxPool(3), (2, 1, 5)),
        (MaxPool(3), (5, 1, 2)),
        (MaxPool(3), (9,)),
        (MaxPool(5, padding=2), (5, 1, 0)),
        (AvgPool(3), (2, 1, 5)),
        (AvgPool(3), (9,)),
        (GlobalAvgPool(), (9,)),
        (Standardise([0.5], [1.0]), (4, 2, 4)),
        (Standardise([0.5], [1.0]), (1,)),
        (DepthwiseConv2D(3, 3), (5, 2, 5)),
        (DepthwiseConv2D(3, 3), (2, 3, 5)),
        (DepthwiseConv2D(3, 3), (9,)),
        (Pointwise(3, 2), (5, 2, 5)),
        (Pointwise(3, 2), (3,)),
        (GroupNorm(1, 3), (4,)),
        (BatchNorm(3), (4,)),
        (BatchNorm(3), (3, 4, 3)),
        (BatchNorm(3), (3, 3)),
        (Residual(Dense(4, 3)), (4,)),
        (Residual(Dense(4, 3), Dense(4, 2)), (4,)),
        (Sequential(Dense(4, 3), Dense(4, 3)), (4,)),
        (Branches((2, Dense(3, 1))), (2,)),
        (Branches((2, Dense(2, 1)), (2, Dense(2, 1))), (5,)),
    ],
)
def test_input_shapes_that_do_not_fit_are_refused(layer, shape):
    with pytest.raises(ArgumentError, match="takes"):
        Network(layer, shape)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 7), st.integers(0, 3), st.integers(1, 7), st.integers(1, 7), st.booleans())
def test_images_are_refused_where_no_window_fits_and_the_message_says_from_which_size_one_does(k, p, H, W, pool):
    """By counting the windows of the padded image."""
    p = min(p, k // 2) if pool else p
    layer = MaxPool(k, padding=p) if pool else Conv2D(2, 1, k, padding=p)
    rows, columns = (len([i for i in range(side + 2 * p) if i + k <= side + 2 * p]) for side in (H, W))
    if rows and columns:
        assert len(layer.output_shape((H, 2, W))) == 3
        return
    least = next(side for side in range(1, 9) if k <= side + 2 * p)
    size = f"{least} x {least}" if pool else f"{least} rows and columns"
    with pytest.raises(ArgumentError) as error:
        layer.output_shape((H, 2, W))
    assert f"of at least {size}, got ({H}, 2, {W})" in str(error.value)


@pytest.mark.parametrize(
    "layer", [Dense(3, 2), Conv2D(2, 1, 3), Pointwise(2, 3), DepthwiseConv2D(2, 3)], ids=lambda layer: repr(layer)
)
def test_the_parameters_of_a_map_are_its_weights_and_its_bias(layer):
    assert [(p.name, p.prunable) for p in layer.parameters()] == [("W", True), ("b", False)]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Dense(0, 3), "inputs"),
        (lambda: Dense(3, 2.0), "outputs"),
        (lambda: Conv2D(0, 1, 1), "channels"),
        (lambda: Conv2D(1, -1, 1), "kernels"),
        (lambda: Conv2D(1, 1, 0), "size"),
        (lambda: Conv2D(1, 1, 1, stride=0), "stride"),
        (lambda: Conv2D(1, 1, 1, padding=-1), "padding"),
        (lambda: Conv2D(1, 1, 1, padding=0.5), "padding"),
        (lambda: WinogradConv2D(1, 1, 6), "size"),
        (lambda: minimal_filter(5, 5), r"m \+ k"),
        (lambda: MaxPool(True), "size"),
        (lambda: MaxPool(2, stride=0), "stride"),
        (lambda: MaxPool(3, padding=2), "padding"),
        (lambda: MaxPool(3, padding=-1), "padding"),
        (lambda: AvgPool(0), "size"),
        (lambda: Standardise([], []), "mean"),
        (lambda: Standardise([0.5], [1.0, 1.0]), "mean"),
        (lambda: Standardise([float("nan")], [1.0]), "mean"),
        (lambda: Standardise([0.5], [0.0]), "std"),
        (lambda: Standardise([0.5], [float("inf")]), "std"),
        (lambda: BatchNorm(0), "channels"),
        (lambda: GroupNorm(2, 3), "channels"),
        (lambda: GroupNorm(0, 3), "groups"),
        (lambda: Pointwise(0, 1), "channels"),
        (lambda: Pointwise(1, 0), "kernels"),
        (lambda: Pointwise(1, 1, stride=0), "stride"),
        (lambda: DepthwiseConv2D(0, 1), "channels"),
        (lambda: DepthwiseConv2D(1, 0), "size"),
        (lambda: DepthwiseConv2D(1, 1, stride=0), "stride"),
        (lambda: DepthwiseConv2D(1, 1, padding=-1), "padding"),
        (lambda: BandedDepthwise(1, 2, padding=2), "padding"),
        (lambda: Dropout(1.0), "rate"),
        (lambda: Dropout(-0.1), "rate"),
        (lambda: Dropout(float("nan")), "rate"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, name):
    with pytest.raises(ArgumentError, match=f"^{name} must"):
        make()
