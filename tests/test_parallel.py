"""Data parallelism: equal gradients for any division of the samples, equal bits for equal numbers of processes."""

import copy
from functools import partial

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.defend import DPSGD
from nanoprune.lab.engine.passes import LocalColumns, SharedPasses, default_threads, single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.layers import BatchNorm, Residual
from nanoprune.nn import SGD, Adam, Conv2D, Dense, Flatten, MaxPool, Network, ReLU, Sequential, Workspace, cross_entropy
from nanoprune.prune import ADMM, ADMMSettings, Budget, Mask
from nanoprune.schedule import Schedule

R, N = 2, 11


@pytest.fixture(autouse=True)
def _one_blas_thread():
    with single_threaded_blas():
        yield


def problem(samples: int = N):
    """A network, images X (R, 6, 1, 6, samples) and labels; an objective that looks both up by index."""
    body = Sequential(Conv2D(1, 3, 3), MaxPool(2), ReLU(), Flatten(), Dense(12, 4))
    net = Network(body, (6, 1, 6), R, np.float64).initialise([np.random.default_rng(r) for r in range(R)])
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((R, 6, 1, 6, samples)), rng.integers(0, 4, (R, samples))

    def objective(net, ws, index, count):
        x, labels = X[..., index[0]], np.take_along_axis(y, index, axis=1)
        loss, dlogits = cross_entropy(net.forward(x, ws), labels, count)
        net.backward(dlogits, ws)
        return loss

    return net, X, y, objective


def run(threads: int, samples: int = N, batches: int = 1):
    net, _, _, objective = problem(samples)
    with SharedPasses(net, ProcessGroup(threads)) as passes:
        for _ in range(batches):
            loss = passes.run(objective, np.tile(np.arange(samples), (R, 1)))
    return loss, net.grad


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 2, N])
def test_loss_and_gradient_are_those_of_the_whole_batch(threads, samples):
    """Also with more threads than samples, and on the second batch, when the copies have the gradients of the first."""
    net, X, y, _ = problem(samples)
    ws = Workspace()
    loss, dlogits = cross_entropy(net.forward(X, ws), y)
    net.backward(dlogits, ws)
    for batches in (1, 2):
        ours, gradient = run(threads, samples, batches)
        np.testing.assert_allclose(ours, loss, rtol=1e-13)
        np.testing.assert_allclose(gradient, net.grad, rtol=0, atol=1e-13 * np.abs(net.grad).max())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_number_of_threads_gives_the_same_bits(threads):
    (loss, gradient), (loss_again, gradient_again) = run(threads), run(threads)
    assert loss.tobytes() == loss_again.tobytes()
    assert gradient.tobytes() == gradient_again.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_each_process_gets_its_own_part_of_the_samples(threads):
    """Every sample belongs to one process, in order, with its weight; with too many processes some get no samples."""
    net, *_ = problem()
    group = ProcessGroup(threads)
    doer, times, weights = (group.zeros((R, N), np.float64) for _ in range(3))

    def objective(net, ws, index, weight, count):
        assert count == N
        net.grad[...] = 0
        doer[np.arange(R)[:, None], index] = group.rank
        times[np.arange(R)[:, None], index] += 1
        weights[np.arange(R)[:, None], index] = weight
        return len(index[0])

    index, weight = np.stack([np.arange(N), np.arange(N)[::-1]]), np.arange(R * N).reshape(R, N) / 2
    with SharedPasses(net, group) as passes:
        assert passes.run(objective, index, weight) == N
    assert (times == 1).all()
    for r in range(R):
        ranks = doer[r, index[r]]
        assert (np.diff(ranks) >= 0).all()
        assert len(set(ranks)) == min(threads, N)
        np.testing.assert_array_equal(weights[r, index[r]], weight[r])


@pytest.mark.parametrize("threads", [2, 3])
def test_processes_share_theta_and_state_and_each_updates_its_columns(threads):
    """At the end each column has the value that its process wrote."""
    net = Network(Sequential(BatchNorm(2), Flatten(), Dense(24, 4)), (3, 2, 4), R, np.float64)
    before, group = net.theta.copy(), ProcessGroup(threads)
    passes = SharedPasses(net, group)
    with passes:
        net.theta[:, passes.columns] += 1 + group.rank
        group.barrier()
        seen = net.theta - before  # in rank 0, what all have written
        net.state[...] = 5 if group.rank == threads - 1 else net.state
        group.barrier()
    added = np.empty(net.size)
    for rank in range(threads):
        added[rank * net.size // threads : (rank + 1) * net.size // threads] = 1 + rank
    np.testing.assert_allclose(seen, np.tile(added, (R, 1)))
    assert (net.state == 5).all()
    assert all(np.shares_memory(p.value, net.theta) for p in net.weights + net.biases)
    assert all(np.shares_memory(s.value, net.state) for s in net.statistics)


def normalised(threads: int, samples: int = N, dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Two steps of a network with BatchNorm between convolutions, in a residual block and on features."""
    block = Residual(Sequential(Conv2D(3, 3, 3, padding=1, bias=False), BatchNorm(3)))
    layers = [Conv2D(1, 3, 3, bias=False), BatchNorm(3), ReLU(), block, Flatten(), Dense(48, 4), BatchNorm(4)]
    net = Network(Sequential(*layers), (6, 1, 6), R, dtype).initialise([np.random.default_rng(r) for r in range(R)])
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((R, 6, 1, 6, samples)).astype(dtype), rng.integers(0, 4, (R, samples))

    def objective(net, ws, index, count):
        loss, dlogits = cross_entropy(net.forward(X[..., index[0]], ws), np.take_along_axis(y, index, axis=1), count)
        net.backward(dlogits, ws)
        return loss

    with SharedPasses(net, ProcessGroup(threads)) as passes:
        for _ in range(2):
            loss = passes.run(objective, np.tile(np.arange(samples), (R, 1)))
            net.theta[:, passes.columns] -= dtype(0.1) * net.grad[:, passes.columns]
    return {"loss": loss, "theta": net.theta, "gradient": net.grad, "state": net.state}


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("samples", [2, 3, N])
def test_batch_normalisation_is_of_the_whole_batch(threads, samples):
    """The number of threads changes only rounding, for any division, also where some threads get no samples."""
    expected, found = normalised(1, samples), normalised(threads, samples)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-11 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("threads", [2, 3])
def test_batch_normalisation_gives_the_same_bits_for_the_same_number_of_threads(threads):
    runs = [normalised(threads, dtype=np.float32) for _ in range(5)]
    for name in runs[0]:
        assert len({run[name].tobytes() for run in runs}) == 1, name


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_running_statistics_are_those_of_the_whole_batch(threads):
    X = np.random.default_rng(0).standard_normal((R, 3, 2, 4, N))
    net = Network(BatchNorm(2), (3, 2, 4), R, np.float64)

    def objective(net, ws, index, count):
        net.forward(X[..., index[0]], ws)
        return 0.0

    with SharedPasses(net, ProcessGroup(threads)) as passes:
        for _ in range(2):
            passes.run(objective, np.tile(np.arange(N), (R, 1)))
    mean, var = X.mean(axis=(1, 3, 4)), X.var(axis=(1, 3, 4), ddof=1)  # (R, C)
    expected = np.concatenate([0.19 * mean, 0.81 + 0.19 * var], axis=1)  # 1 - 0.9^2 of them after two batches
    np.testing.assert_allclose(net.state, expected, rtol=1e-12)


PARTS = {  # the updates of a step, as `train` calls them
    "SGD": lambda net: partial(SGD(0.9, 0.01).step, lr=[0.1, 0.2]),
    "Adam": lambda net: partial(Adam().step, lr=0.1),
    "penalty": lambda net: ADMM(net, Budget(net, 0.5), ADMMSettings(rho=0.3)).add_penalty_gradient,
    "mask": lambda net: Mask(net).apply,
    "noise": lambda net: with_noise(net).add_noise,
}


def with_noise(net):
    private = DPSGD(1.0, 0.5, seeds=[1, 2])
    private.begin(net, np.zeros((2, 9), int), Schedule(epochs=1, batch=3), [], None, None, None)
    return private


@pytest.mark.parametrize("part", PARTS)
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 23), max_size=3).map(sorted))
def test_steps_on_all_columns_in_turn_are_the_whole_step(part, seed, cuts):
    """To the last bit, for any division: before the biases, between them, and with empty parts."""
    whole, cut = (Network(Sequential(Dense(5, 3), ReLU(), Dense(3, 1)), (5,), 2) for _ in range(2))
    rng = np.random.default_rng(seed)
    theta, grad = rng.standard_normal((2, 2, whole.size)).astype(np.float32)
    theta[rng.random(theta.shape) < 0.3] = 0
    for net in (whole, cut):
        net.theta[...], net.grad[...] = theta, grad
    PARTS[part](whole)(whole)
    step = PARTS[part](cut)
    for start, stop in zip([0, *cuts], [*cuts, cut.size], strict=True):
        before, own = (cut.theta.copy(), cut.grad.copy()), LocalColumns(cut, slice(start, stop))
        copy.deepcopy(step)(own) if part in ("Adam", "noise") else step(own)  # which count, or draw: one per process
        for array, was in zip((cut.theta, cut.grad), before, strict=True):
            np.testing.assert_array_equal(
                np.delete(array, slice(start, stop), 1), np.delete(was, slice(start, stop), 1)
            )
    np.testing.assert_array_equal(cut.theta, whole.theta)
    np.testing.assert_array_equal(cut.grad, whole.grad)
    assert (whole.theta != theta).any() or (whole.grad != grad).any()


def test_blas_is_limited_to_one_thread():
    with single_threaded_blas():
        limits = {info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"}
    assert limits == {1}
    assert 1 <= default_threads() <= 4096
