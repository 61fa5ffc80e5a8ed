"""DP-SGD against loops over records, and its sampling and noise against their distributions."""

import dataclasses
import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_training import train
from scipy import stats
from test_layers import Counting, conv_cases, depthwise_cases, group_cases, pointwise_cases

from nanoprune.defend import DPSGD, MinMax
from nanoprune.defend import place_norms as place_norms_module
from nanoprune.defend.dpsgd import trained_layers
from nanoprune.defend.place_norms import record_blocks, records_first
from nanoprune.defend.record_norms import record_norms
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.engine.passes import LocalColumns, SharedPasses, single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.states import restore, state_of
from nanoprune.lab.kernels import WinogradConv2D
from nanoprune.lab.layers import BatchNorm, DepthwiseConv2D, Dropout, GroupNorm, Pointwise, Residual, Tanh
from nanoprune.lab.privacy.accounting import Phase, epsilon
from nanoprune.lab.statistics.epsilon_bounds import epsilon_lower_bound
from nanoprune.lab.storage.checkpoint import Saved, read_checkpoint, write_checkpoint
from nanoprune.nn import Branches, Conv2D, Dense, Flatten, MaxPool, Network, ReLU, Sequential, Workspace, cross_entropy
from nanoprune.prune import ADMM, ADMMSettings, Budget, Mask, hard_prune
from nanoprune.records import Records, predict
from nanoprune.schedule import Schedule

gram = place_norms_module._gram
SEEDS = st.integers(0, 2**32 - 1)
SMALL = st.integers(1, 3)
CLASSES = 4


@pytest.fixture(autouse=True)
def _one_blas_thread():
    with single_threaded_blas():
        yield


@st.composite
def dense_cases(draw):
    inputs = draw(st.integers(1, 6))
    return Dense(inputs, draw(st.integers(1, 6))), (draw(SMALL), inputs, draw(SMALL))


def network(body, shape, rng, replicas):
    net = Network(body, shape, replicas, np.float64)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    return net


def single_gradients(net, X, dY):
    """The gradient of each record by itself, (N, R, P), from passes over one record."""
    ws, found = Workspace(), []
    for n in range(X.shape[-1]):
        net.forward(np.ascontiguousarray(X[..., n : n + 1]), ws)
        net.backward(np.ascontiguousarray(dY[..., n : n + 1]), ws)
        found.append(net.grad.copy())
    return np.stack(found)


def check_layer(layer, shape, masked, rng):
    """Per-record norms of a layer and a weighted sum of the gradients, against a loop."""
    net = network(layer, shape[1:-1], rng, shape[0])
    X = rng.standard_normal(shape)
    dY = rng.standard_normal((shape[0], *net.output_shape, shape[-1]))
    weight = rng.standard_normal((shape[0], shape[-1]))  # (R, N)
    single = single_gradients(net, X, dY)
    support = np.ones(net.theta.shape)
    if masked:
        support[:, : net.weight_count] = rng.random(net.W.shape) < 0.5
    ws = Workspace(defer=True)
    net.forward(X, ws)
    net.backward(dY, ws, need_dX=True)
    ((layer, kept, saved),) = ws.deferred
    of_weights = {p: support[:, : p.size].reshape(-1, *p.shape) for p in net.weights} if masked else {}
    close(record_norms(layer, kept, ws, saved, of_weights), ((single * support) ** 2).sum(axis=-1).T)
    layer.weight_gradient(kept * weight.reshape(len(weight), *[1] * (kept.ndim - 2), -1), ws, *saved)
    close(net.grad, np.einsum("nrp,rn->rp", single, weight))


def begin(private, net, members, batch, mask=None, game=None):
    private.begin(net, members, Schedule(epochs=1, batch=batch), [], None, mask, game)


def close(ours, oracle):
    np.testing.assert_allclose(ours, oracle, rtol=0, atol=1e-11 * max(1.0, np.abs(oracle).max()))


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(conv_cases(), depthwise_cases(), pointwise_cases(), group_cases(), dense_cases()), st.booleans(), SEEDS
)
def test_norms_and_weighted_sums_are_those_of_a_loop_over_records(case, masked, seed):
    check_layer(*case, masked, np.random.default_rng(seed))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("block", [1, 300, 1 << 20])
@pytest.mark.parametrize(
    ("layer", "side"),
    [
        (Conv2D(8, 8, 3), 4),  # 4 places: by their Gram matrices
        (Conv2D(8, 8, 3, 2, 1, bias=False), 4),
        (WinogradConv2D(8, 8, 3), 4),
        (Conv2D(2, 3, 3, 2, 1), 9),  # 25 places: by the gradients
        (WinogradConv2D(2, 3, 3, 1), 9),
        (Pointwise(8, 8), 1),
        (Pointwise(2, 3, 2), 9),
    ],
)
def test_both_forms_of_a_convolution_in_blocks_of_records(layer, side, block, masked, monkeypatch):
    monkeypatch.setattr("nanoprune.defend.place_norms.BLOCK", block)
    check_layer(layer, (3, side, layer.channels, side, 5), masked, np.random.default_rng(0))


ANOTHER = types.SimpleNamespace(_module=None)  # an array library that is not NumPy


@pytest.mark.parametrize("on_gpu", [False, True])
@given(st.integers(1, 40), st.integers(1, 30))
def test_blocks_have_every_record_once_and_no_more_elements_than_asked(on_gpu, N, elements):
    most = 20 if on_gpu else 12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanoprune.defend.place_norms.BLOCK", 12)
        patch.setattr("nanoprune.defend.place_norms.BLOCK_GPU", 20)
        if on_gpu:
            patch.setattr("nanoprune.defend.place_norms.xp", ANOTHER)
        found = [range(N)[of] for of in record_blocks(N, elements)]
    assert [n for of in found for n in of] == list(range(N))
    assert all(len(of) == 1 or len(of) * elements <= most for of in found)
    assert len(found) == math.ceil(N / max(1, most // elements))  # as few as that takes


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 5, 4), (1, 2, 3, 5, 4)])
def test_records_first_is_the_same_numbers_in_another_order(shape, on_gpu, monkeypatch):
    if on_gpu:
        monkeypatch.setattr("nanoprune.defend.place_norms.xp", ANOTHER)
    A = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = records_first(A, "A", Workspace())
    assert found.dtype == np.float64
    assert found.shape == (shape[0], shape[-1], shape[1], *shape[2:-1][::-1])
    for r, row, *between, n in np.ndindex(*shape):
        assert found[(r, n, row, *between[::-1])] == A[(r, row, *between, n)]


@pytest.mark.parametrize("side", [4, 9])  # by the Gram matrices and by the gradients
def test_norms_of_float32_are_float64(side):
    rng, layer = np.random.default_rng(0), Conv2D(8, 8, 3)
    net = Network(layer, (side, 8, side), 2)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    X = rng.standard_normal((2, side, 8, side, 3)).astype(np.float32)
    dY = rng.standard_normal((2, *net.output_shape, 3)).astype(np.float32)
    single = single_gradients(net, X, dY)
    ws = Workspace(defer=True)
    net.forward(X, ws)
    net.backward(dY, ws, need_dX=True)
    ((layer, kept, saved),) = ws.deferred
    norms = record_norms(layer, kept, ws, saved, {})
    assert norms.dtype == np.float64
    np.testing.assert_allclose(norms, (single.astype(np.float64) ** 2).sum(axis=-1).T, rtol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [1e-4, 1.0])
@pytest.mark.parametrize(
    ("T", "widths", "O"), [(2, [5], 5), (2, [4], 4), (2, [3, 4], 9), (3, [4, 2, 1], 3), (1, [1], 9), (9, [2, 2], 3)]
)
def test_norms_of_places_are_those_of_loops_in_the_form_of_fewer_multiplications(
    T, widths, O, scale, bias, monkeypatch
):
    """Gram matrices of T places take T^2 (K + O) multiplications, the gradient T K O."""
    formed = []
    monkeypatch.setattr(place_norms_module, "_gram", lambda A, *of: formed.append(A.shape[-1]) or gram(A, *of))
    rng, R, b = np.random.default_rng(0), 2, 3
    A, D = [scale * rng.standard_normal((R, b, T, K)) for K in widths], scale * rng.standard_normal((R, b, T, O))
    found = place_norms_module.place_norms(A, D, bias, None, Workspace())
    for r, n in np.ndindex(R, b):
        gradients = [sum(np.outer(D[r, n, t], of[r, n, t]) for t in range(T)) for of in A]
        gradients += [sum(D[r, n, t] for t in range(T))] if bias else []
        assert found[r, n] == pytest.approx(sum((of**2).sum() for of in gradients), rel=1e-9)
    K = sum(widths)
    assert sorted(formed) == (sorted([*widths, O]) if T * T * (K + O) < T * K * O else [])


def test_the_norm_of_a_gradient_that_vanishes_is_not_negative():
    """<A A^T, D D^T> of places whose contributions cancel, up to rounding."""
    rng = np.random.default_rng(0)
    A, D = np.repeat(rng.standard_normal((1, 200, 1, 30)), 2, axis=2), rng.standard_normal((1, 200, 1, 30))
    found = place_norms_module.place_norms([A], np.concatenate([D, -D], axis=2), True, None, Workspace())
    assert (found >= 0).all()
    np.testing.assert_allclose(found, 0, atol=1e-10)


def image_network():
    """Every layer with parameters that DP-SGD supports, in parallel and in sequence, for images (8, 2, 8)."""
    block = Residual(Sequential(WinogradConv2D(4, 4, 3, 1), GroupNorm(2, 4), ReLU()))
    reduced = Residual(Conv2D(4, 4, 3, 2, 1, bias=False), Pointwise(4, 4, 2))
    layers = [Conv2D(2, 3, 3, 2, 1), Tanh(), DepthwiseConv2D(3, 3, 1, 1), Pointwise(3, 4), block, reduced, MaxPool(2)]
    heads = Branches((2, Dense(2, 3)), (2, Sequential(Dense(2, 5), ReLU(), Dense(5, 3))))
    return Sequential(*layers, Flatten(), heads, Dense(6, CLASSES)), (8, 2, 8)


def feature_network():
    return Sequential(Dense(6, 8), ReLU(), Dense(8, CLASSES)), (6,)


def deep_network():
    return Sequential(Dense(6, 5), ReLU(), Dense(5, 3), ReLU(), Dense(3, 7), ReLU(), Dense(7, CLASSES)), (6,)


def clipped_sum(net, X, y, private, threads=1):
    """The clipped sum of `private` over the records X, y in one step without noise, and the per-record gradients."""

    def objective(net, ws, index, count):
        labels = np.take_along_axis(y, index, axis=1)
        _, dlogits = cross_entropy(net.forward(X[..., index[0]], ws), labels, private.batch, index >= 0)
        net.backward(dlogits, ws)
        private.clip(net, ws)
        return 0

    with SharedPasses(net, ProcessGroup(threads), defer=True) as passes:
        passes.run(objective, np.tile(np.arange(X.shape[-1]), (len(X), 1)))
    return net.grad.copy()


def loop(net, X, y, C, batch, clipping="flat", support=None):
    """1/L sum of g / max(1, |g| / C), record by record; "layer": of each layer's part of g, with C / sqrt(layers)."""
    ws, total = Workspace(), np.zeros_like(net.grad)
    layers = [layer.parameters() for layer in trained_layers(net)]
    for n in range(X.shape[-1]):
        _, dlogits = cross_entropy(net.forward(np.ascontiguousarray(X[..., n : n + 1]), ws), y[:, n : n + 1])
        net.backward(dlogits, ws)
        if support is not None:
            net.dW[...] *= support
        for of in layers if clipping == "layer" else [net.body.parameters()]:
            norm = np.sqrt(sum((p.grad**2).sum(axis=(1, 2)) for p in of))  # (R,)
            bound = C / np.sqrt(len(layers)) if clipping == "layer" else C
            for p in of:
                p.grad[...] /= np.maximum(1, norm / bound)[:, None, None]
        total += net.grad / batch
    return total


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("clipping", ["flat", "layer"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [image_network, feature_network, deep_network])
def test_the_clipped_sum_of_a_network_is_that_of_a_loop(kind, masked, clipping, threads):
    rng, (body, shape), R, N = np.random.default_rng(0), kind(), 2, 7
    net = network(body, shape, rng, R)
    if masked:
        net.W[...] *= rng.random(net.W.shape) < 0.5
    X, y = rng.standard_normal((R, *shape, N)), rng.integers(0, CLASSES, (R, N))
    norms = np.linalg.norm(loop(net, X[..., :1], y[:, :1], np.inf, 1), axis=1)
    private, mask = DPSGD(clip := float(norms.mean()), 0.0, clipping), Mask(net) if masked else None
    begin(private, net, np.zeros((R, 50), int), 4, mask)
    ours = clipped_sum(net, X, y, private, threads)
    if mask:
        ours[:, : net.weight_count] *= mask.M
    expected = loop(net, X, y, clip, 4, clipping, mask and mask.M)
    close(ours, expected)
    assert np.abs(expected - loop(net, X, y, np.inf, 4)).max() > 1e-3  # something was clipped


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([image_network, feature_network]), st.floats(1e-3, 1e3), st.sampled_from(["flat", "layer"]), SEEDS
)
def test_one_record_moves_the_sum_by_at_most_the_clip(kind, scale, clipping, seed):
    rng, (body, shape), N, C, L = np.random.default_rng(seed), kind(), 4, 0.7, 3
    net = network(body, shape, rng, 2)
    X, y = scale * rng.standard_normal((2, *shape, N)), rng.integers(0, CLASSES, (2, N))
    private = DPSGD(C, 0.0, clipping)
    begin(private, net, np.zeros((2, 50), int), L)
    whole, without = (clipped_sum(net, X[..., :n], y[:, :n], private) for n in (N, N - 1))
    assert (np.linalg.norm(whole - without, axis=1) <= C / L * (1 + 1e-9)).all()


def test_clipping_a_float32_network_takes_no_memory_of_twice_the_size():
    """But for the norms of layers with many places, which are computed in float64."""
    body, shape = feature_network()
    net, ws, private = Network(body, shape), Counting(defer=True), DPSGD(1.0, 0.0)
    begin(private, net, np.zeros((1, 9), int), 3)
    logits = net.forward(np.ones((1, *shape, 3), np.float32), ws)
    net.backward(np.ones_like(logits), ws)
    private.clip(net, ws)
    assert ws.dtypes == {np.dtype(np.float32)}


def test_padding_without_a_record_has_no_gradient():
    rng, (body, shape) = np.random.default_rng(0), feature_network()
    net = network(body, shape, rng, 1)
    ws = Workspace(defer=True)
    private = DPSGD(1.0, 0.0)
    begin(private, net, np.zeros((1, 9), int), 3)
    X, y = rng.standard_normal((1, *shape, 3)), rng.integers(0, CLASSES, (1, 3))
    found = []
    for weight in (np.array([[True, True, False]]), np.array([[True, True]])):
        n = weight.shape[1]
        loss, dlogits = cross_entropy(net.forward(X[..., :n], ws), y[:, :n], 3, weight)
        net.backward(dlogits, ws)
        private.clip(net, ws)
        found.append((loss, net.grad.copy()))
    for ours, oracle in zip(*found, strict=True):
        close(ours, oracle)


# Sampling and noise


def sampler(M, batch, replicas=2):
    private, (body, shape) = DPSGD(1.0, 1.0, seeds=list(range(replicas))), feature_network()
    begin(
        private, network(body, shape, np.random.default_rng(0), replicas), np.tile(np.arange(M), (replicas, 1)), batch
    )
    return private


def test_every_record_is_sampled_independently():
    """Inclusions are binomial for each record, sizes for each sample, and pairs are independent. One chance in 1e9."""
    M, batch, epochs = 40, 10, 200
    private, q = sampler(M, batch), 10 / 40
    seen = []
    for _ in range(epochs):
        for index in private.batches():
            inside = np.zeros((2, M + 1), int)
            for r in range(2):
                assert len(set(index[r][index[r] >= 0])) == (index[r] >= 0).sum()  # nobody twice
                inside[r, index[r]] = 1  # -1 is the last place
            seen.append(inside[:, :M])
    seen = np.concatenate(seen, axis=1).reshape(2, -1, M)  # (R, steps, M)
    steps = epochs * round(M / batch)
    assert seen.shape[1] == steps
    low, high = stats.binom.interval(1 - 1e-9 / 80, steps, q)
    assert ((low <= seen.sum(axis=1)) & (seen.sum(axis=1) <= high)).all()
    spread = seen.sum(axis=2).var(axis=1) / (M * q * (1 - q))  # of the sizes, which a shuffled epoch does not vary
    assert (np.abs(spread - 1) < 6 * np.sqrt(2 / steps)).all()
    together = (seen[:, :, 0] & seen[:, :, 1]).sum(axis=1)
    low, high = stats.binom.interval(1 - 1e-9, steps, q**2)
    assert ((low <= together) & (together <= high)).all()
    assert (seen[0] != seen[1]).any()  # replicas draw their own


def test_samples_may_be_empty_and_then_a_step_is_noise_alone():
    private = sampler(M=3, batch=1, replicas=1)
    empty = [index for _ in range(20) for index in private.batches() if (index == -1).all()]
    assert empty
    assert {index.shape for index in empty} == {(1, 1)}
    net, records = fresh(), problem()
    private = DPSGD(1.0, 2.0, seeds=[5])
    train(net, records, np.full((1, 8), -1), Schedule(epochs=1, batch=8, momentum=0.0, lr=1.0), [], private=private)
    again = np.random.default_rng(5)
    again.random(8)  # the sample
    close(net.theta - fresh().theta, -2.0 / 8 * again.standard_normal(net.size)[None])


def test_noise_has_the_standard_deviation_sigma_c_over_l_in_each_replica():
    net = Network(Dense(200, 100), (200,), 3)
    private = DPSGD(1.5, 0.8, seeds=[0, 1, 2])
    begin(private, net, np.zeros((3, 100), int), 10)
    private.add_noise(net)
    assert private.steps == 1
    squares = (net.grad.astype(np.float64) ** 2).sum(axis=1) / (0.8 * 1.5 / 10) ** 2  # chi-squared, P degrees
    low, high = stats.chi2.interval(1 - 1e-9, net.size)
    assert ((low < squares) & (squares < high)).all()
    correlation = np.corrcoef(net.grad)[np.triu_indices(3, 1)]
    assert (np.abs(correlation) < 6 / np.sqrt(net.size)).all()


def test_noise_is_drawn_in_the_type_of_the_network():
    """A generator gives other numbers in float64: a run of a network in float32 is repeated in float32."""
    net, private = Network(Dense(4, 3), (4,), 2), DPSGD(2.0, 3.0, seeds=[8, 9])
    begin(private, net, np.zeros((2, 100), int), 10)
    private.add_noise(net)
    for r in range(2):
        drawn = np.random.default_rng(8 + r).standard_normal(net.size, dtype=np.float32)
        np.testing.assert_array_equal(net.grad[r], np.float32(0.6) * drawn)


def test_noise_on_some_columns_is_part_of_the_noise_of_all():
    """Each of two processes draws all of the noise and adds its columns: together the noise of one process."""
    noise = []
    for columns in (slice(None), slice(0, 30), slice(30, None)):
        net = Network(Dense(7, 9), (7,), 2)
        private = DPSGD(1.5, 0.8, seeds=[0, 1])
        begin(private, net, np.zeros((2, 100), int), 10)
        private.add_noise(LocalColumns(net, columns))
        noise.append(net.grad)
    whole, left, right = noise
    np.testing.assert_array_equal(left + right, whole)
    assert not left[:, 30:].any()
    assert not right[:, :30].any()
    assert whole.all()


def test_without_seeds_two_runs_differ_and_with_them_they_do_not():
    def run(seeds):
        net = fresh()
        private = DPSGD(1.0, 1.0, seeds=seeds)
        train(net, problem(), np.arange(20)[None], Schedule(epochs=2, batch=5), [], private=private)
        return net.theta

    assert (run(None) != run(None)).any()
    np.testing.assert_array_equal(run([3]), run([3]))


def test_a_restored_state_draws_the_same_samples_and_noise(tmp_path):
    private, again = sampler(40, 10), sampler(40, 10)
    net = network(*feature_network(), np.random.default_rng(0), 2)
    list(private.batches())
    private.add_noise(net)
    write_checkpoint(tmp_path / "c.h5", {}, state_of(private))
    saved = Saved(read_checkpoint(tmp_path / "c.h5")[1], 2, "here")
    list(again.batches())
    restore(again, saved, net)
    assert again.steps == 1
    for ours, oracle in zip(again.batches(), private.batches(), strict=True):
        np.testing.assert_array_equal(ours, oracle)
    noise = []
    for of in (private, again):
        net.grad[...] = 0
        of.add_noise(net)
        noise.append(net.grad.copy())
    np.testing.assert_array_equal(*noise)
    restore(again, Saved(state_of(sampler(40, 10)), 2, "here"), net)
    assert again.steps == 0  # before the first step
    for wrong in ({"steps": -1}, {"steps": None}, {"generators": []}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            restore(again, Saved(state_of(private) | wrong, 2, "here"), net)


# Training


def problem(count=30):
    rng = np.random.default_rng(7)
    return Records(rng.standard_normal((count, 6)), rng.integers(0, CLASSES, count))


def fresh(replicas=1, body=None):
    rng = np.random.default_rng(1)
    return network(body or feature_network()[0], (6,), rng, replicas)


def test_without_noise_and_clipping_a_sample_of_all_is_gradient_descent():
    """Sampling with probability 1: the same as ordinary training in one batch, momentum, decay and rates included."""
    members = np.stack([np.arange(20), np.arange(10, 30)])
    plan = Schedule(epochs=5, batch=20, lr=0.1, weight_decay=0.01, decay="cosine")
    nets = [fresh(2), fresh(2)]
    generators = [np.random.default_rng(r) for r in range(2)]
    losses = [
        train(net, problem(), members, plan, generators, private=private)
        for net, private in zip(nets, (None, DPSGD(1e6, 0.0)), strict=True)
    ]
    close(nets[1].theta, nets[0].theta)
    close(losses[1], losses[0])


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing_but_rounding(threads):
    members = np.stack([np.arange(20), np.arange(10, 30)])
    found = []
    for workers in (1, threads):
        net = fresh(2)
        private = DPSGD(0.5, 1.0, seeds=[1, 2])
        train(net, problem(), members, Schedule(epochs=3, batch=6), [], private=private, group=ProcessGroup(workers))
        found.append(net.theta)
    close(found[1], found[0])


def test_a_mask_holds_and_admm_prunes_in_private():
    net, members = fresh(2), np.tile(np.arange(20), (2, 1))
    plan, private = Schedule(epochs=4, batch=5), DPSGD(1.0, 0.5, seeds=[0, 1])
    budget = Budget(net, 0.25)
    admm = ADMM(net, budget, ADMMSettings(rho=0.1, iterations=2))
    train(net, problem(), members, plan, [], admm=admm, private=private)
    hard_prune(net, budget)
    zeros, before = net.W == 0, net.theta.copy()
    train(net, problem(), members, plan, [], mask=Mask(net), private=private)
    assert len(admm.history) == 2
    assert (net.W[zeros] == 0).all()
    assert (net.theta != before).any(axis=1).all()
    assert private.steps == 2 * 4 * 4
    assert private.support is not None
    train(net, problem(), members, plan, [], private=private)
    assert private.support is None  # all weights are trained again, and all count


def test_dropout_and_augmentation_draw_in_secret():
    """They draw from the generators of DP-SGD: public ones would reveal positions in a batch."""
    body = Sequential(Dense(6, 8), Dropout(0.5), Dense(8, CLASSES))
    members, plan = np.arange(20)[None], Schedule(epochs=1, batch=20, lr=1.0)
    thetas = []
    for seed in (1, 2):
        net = fresh(body=body)
        train(net, problem(), members, plan, [np.random.default_rng(0)], private=DPSGD(1.0, 0.0, seeds=[seed]))
        thetas.append(net.theta)
    assert (thetas[0] != thetas[1]).any()


def test_settings_that_cannot_be_private_are_refused_by_name():
    members, plan, records = np.arange(20)[None], Schedule(epochs=1, batch=5), problem()
    net = fresh(body=Sequential(Dense(6, 8), BatchNorm(8), ReLU(), Dense(8, CLASSES)))
    with pytest.raises(ArgumentError, match=r"BatchNorm\(8\) mixes the records .* use GroupNorm"):
        train(net, records, members, plan, [], private=DPSGD(1.0, 1.0))
    game = MinMax(records, CLASSES, members, members, [np.random.default_rng(0)])
    with pytest.raises(ArgumentError) as error:
        train(fresh(), records, members, plan, [], game=game, private=DPSGD(1.0, 1.0))
    assert str(error.value) == (
        "DP-SGD cannot be combined with the Min-Max game, whose adversary sees members without clipping; leave out one"
    )
    with pytest.raises(ArgumentError, match=r"^loss must be cross-entropy with DP-SGD, got ppb:1$"):
        train(fresh(), records, members, dataclasses.replace(plan, loss="ppb:1"), [], private=DPSGD(1.0, 1.0))
    with pytest.raises(ArgumentError, match=r"batch must lie in 1\.\.20"):
        train(fresh(), records, members, Schedule(epochs=1, batch=21), [], private=DPSGD(1.0, 1.0))
    with pytest.raises(ArgumentError, match="seeds must be one for each of 1 replicas, got 2"):
        train(fresh(), records, members, plan, [], private=DPSGD(1.0, 1.0, seeds=[1, 2]))
    for arguments, message in (
        ((0.0, 1.0), "clip must be positive"),
        ((float("inf"), 1.0), "clip must be positive and finite"),
        ((1.0, -1.0), "noise must be finite"),
        ((1.0, float("inf")), "noise must be finite"),
        ((1.0, 1.0, "none"), "clipping must be one of flat, layer"),
    ):
        with pytest.raises(ArgumentError, match=message):
            DPSGD(*arguments)


# The claim against an attack


def audited(monkeypatch, broken):
    """The claimed epsilon, and a lower bound from an attack on 500 networks, half of them with a canary."""
    R, others, steps = 500, 11, 6
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((others, 6)), 100 * np.eye(6)[:1]])  # the canary is large, and alone
    y = np.concatenate([rng.integers(0, CLASSES, others), [0]])
    is_in = rng.random(R) < 0.5
    members = np.tile(np.arange(others + 1), (R, 1))
    members[~is_in, -1] = -1  # no record
    net = Network(Dense(6, CLASSES), (6,), R)
    if broken == "clip":
        monkeypatch.setattr(DPSGD, "_factor", lambda self, squares, bound: np.ones_like(squares))
    sigma = 4.0
    private = DPSGD(1.0, sigma / (others + 1) if broken == "noise" else sigma, seeds=list(range(R)))
    train(net, Records(x.astype(np.float32), y), members, Schedule(steps, others + 1, 0.1, 0.0), [], private=private)
    logits = predict(net, Records(x.astype(np.float32), y), np.full((R, 1), others))[:, 0]  # (R, classes)
    score = logits[:, 0] - logits[:, 1:].mean(axis=1)
    claimed = epsilon([Phase(1.0, sigma, steps)], 1e-5)
    return claimed, epsilon_lower_bound(score[is_in], score[~is_in])


def test_an_attack_stays_below_the_claimed_epsilon(monkeypatch):
    claimed, bound = audited(monkeypatch, None)
    assert 0 < bound < claimed  # the attack sees something, and no more than it may


@pytest.mark.parametrize("broken", ["clip", "noise"])
def test_an_attack_finds_a_clip_or_noise_that_is_broken(broken, monkeypatch):
    claimed, bound = audited(monkeypatch, broken)
    assert bound > claimed


def patches_gradient(X, dY, k):
    """Of one record in float64 by loops over the kernel: dW[o, i, c, j] = sum_yx dY[y, o, x] X[y + i, c, x + j]."""
    OH, _, OW = dY.shape
    X, dY = X.astype(np.float64), dY.astype(np.float64)
    dW = [[np.einsum("yox,ycx->oc", dY, X[i : i + OH, :, j : j + OW]) for j in range(k)] for i in range(k)]
    return np.array(dW), dY.sum(axis=(0, 2))


@pytest.mark.parametrize(
    "make", [Conv2D, WinogradConv2D, lambda C, O, k: Pointwise(C, O)], ids=["plain", "fast", "1x1"]
)
@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([1.0, 1e-2, 1e-3, 1e-5, 1e-6]),
    st.floats(0.01, 3.0),
    st.sampled_from([(8, 16, 4), (2, 3, 9)]),
    SEEDS,
)
def test_no_record_exceeds_the_clip_however_little_its_inputs_vary(make, contrast, C, sizes, seed):
    """GroupNorm's gradient sums to about 0 over the positions of a convolution, so the gradient of a record with nearly
    equal pixels is a small difference of large sums. Sizes: by the Gram matrices, and by the gradients."""
    channels, kernels, side = sizes
    rng, k = np.random.default_rng(seed), 3
    layer = make(channels, kernels, k)
    k = getattr(layer, "size", 1)
    net = Network(Sequential(layer, GroupNorm(1, kernels)), (side, channels, side), 1)
    net.initialise([rng])
    X = (1 + contrast * rng.standard_normal((1, side, channels, side, 4))).astype(np.float32)
    dY = rng.standard_normal((1, *net.output_shape, 4)).astype(np.float32)
    ws = Workspace(defer=True)
    net.forward(X, ws)
    net.backward(dY, ws)
    ((_, _, _), (layer, kept, saved)) = ws.deferred  # GroupNorm's, then the convolution's
    norms = np.sqrt(record_norms(layer, kept, ws, saved, {}))[0]  # (N,)
    assert np.isfinite(norms).all()
    for n in range(4):
        dW, db = patches_gradient(X[0, ..., n], kept[0, ..., n], k)
        exact = math.sqrt((dW**2).sum() + (db**2).sum())
        assert exact / max(1.0, norms[n] / C) <= C * (1 + 1e-5) or exact <= C * (1 + 1e-5)
        assert norms[n] == pytest.approx(exact, rel=1e-6, abs=1e-12)
