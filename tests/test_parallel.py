"""Worker threads: the same gradients however the samples are split, the same bits for the same number of threads."""

import time

import numpy as np
import pytest
import threadpoolctl

from nanoprune.nn import (
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    MaxPool,
    Network,
    ReLU,
    Residual,
    Sequential,
    Workspace,
    cross_entropy,
)
from nanoprune.run.parallel import Passes, default_threads, single_threaded_blas

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
    with Passes(net, threads) as passes:
        for _ in range(batches):
            loss = passes.run(objective, np.tile(np.arange(samples), (R, 1)))
    return loss, net.grad


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 2, N])
def test_loss_and_gradient_are_those_of_the_whole_batch(threads, samples):
    """Also with more threads than samples, and on the second batch, when the twins hold the gradients of the first."""
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


def test_each_worker_gets_its_own_part_workspace_and_gradient():
    net, *_ = problem()
    seen = []

    def objective(net, ws, index, weight, count):
        net.grad[...] = 0
        seen.append((net, ws, index.tolist(), weight.tolist(), count))
        return len(index[0])

    index, weight = np.arange(R * N).reshape(R, N), np.arange(R * N).reshape(R, N) / 2
    with Passes(net, 3) as passes:
        assert passes.run(objective, index, weight) == N
    assert len({id(ws) for _, ws, *_ in seen}) == len({id(part.grad) for part, *_ in seen}) == 3
    assert all(np.shares_memory(part.theta, net.theta) for part, *_ in seen)
    assert {count for *_, count in seen} == {N}
    by_start = sorted(seen, key=lambda job: job[2][0][0])
    for r in range(R):
        assert np.concatenate([job[2][r] for job in by_start]).tolist() == index[r].tolist()
        assert np.concatenate([job[3][r] for job in by_start]).tolist() == weight[r].tolist()


def normalised(threads: int, samples: int = N, dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Two steps of a network with BatchNorm between convolutions, beside a shortcut and on features."""
    block = Residual(Sequential(Conv2D(3, 3, 3, padding=1, bias=False), BatchNorm(3)))
    layers = [Conv2D(1, 3, 3, bias=False), BatchNorm(3), ReLU(), block, Flatten(), Dense(48, 4), BatchNorm(4)]
    net = Network(Sequential(*layers), (6, 1, 6), R, dtype).initialise([np.random.default_rng(r) for r in range(R)])
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((R, 6, 1, 6, samples)).astype(dtype), rng.integers(0, 4, (R, samples))

    def objective(net, ws, index, count):
        loss, dlogits = cross_entropy(net.forward(X[..., index[0]], ws), np.take_along_axis(y, index, axis=1), count)
        net.backward(dlogits, ws)
        return loss

    with Passes(net, threads) as passes:
        for _ in range(2):
            loss = passes.run(objective, np.tile(np.arange(samples), (R, 1)))
            net.theta -= dtype(0.1) * net.grad
    return {"loss": loss, "theta": net.theta, "gradient": net.grad, "state": net.state}


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("samples", [2, 3, N])
def test_batch_normalisation_is_of_the_whole_batch(threads, samples):
    """The number of threads changes nothing but rounding, whatever parts they get, also where some get none."""
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

    with Passes(net, threads) as passes:
        for _ in range(2):
            passes.run(objective, np.tile(np.arange(N), (R, 1)))
    mean, var = X.mean(axis=(1, 3, 4)), X.var(axis=(1, 3, 4), ddof=1)  # (R, C)
    expected = np.concatenate([0.19 * mean, 0.81 + 0.19 * var], axis=1)  # 1 - 0.9^2 of them after two batches
    np.testing.assert_allclose(net.state, expected, rtol=1e-12)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_in_one_worker_ends_those_that_wait_for_it(threads, failing):
    """Before its first sum, when the others are waiting for it; the next batch runs as if nothing had been."""
    net, expected = Network(BatchNorm(1), (1,), 1, np.float64), Network(BatchNorm(1), (1,), 1, np.float64)
    X, index = np.arange(9.0).reshape(1, 1, 9), np.arange(9)[None]
    fail = True

    def objective(net, ws, index, count):
        if fail and ws.place == min(failing, threads - 1):
            time.sleep(0.02)
            raise ZeroDivisionError("before the meeting")
        net.forward(X[..., index[0]], ws)
        return 0.0

    with Passes(net, threads) as passes:
        with pytest.raises(ZeroDivisionError, match="before the meeting"):
            passes.run(objective, index)
        fail = False
        passes.run(objective, index)
    with Passes(expected) as passes:
        passes.run(objective, index)
    np.testing.assert_allclose(net.state, expected.state, rtol=1e-14)


def test_an_error_in_a_worker_is_raised():
    net, *_ = problem()

    def objective(net, ws, index, count):
        net.grad[...] = 0
        if index[0, -1] == N - 1:  # the last part only
            raise ZeroDivisionError("in a worker")
        return 0.0

    with Passes(net, 2) as passes, pytest.raises(ZeroDivisionError, match="in a worker"):
        passes.run(objective, np.tile(np.arange(N), (R, 1)))


def test_blas_is_held_at_one_thread():
    with single_threaded_blas():
        limits = {info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"}
    assert limits == {1}
    assert 1 <= default_threads() <= 4096
