"""SGD, Adam and the schedules against the papers' formulas, one parameter at a time."""

import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.passes import share_moments
from nanoprune.nn import SGD, Adam, Dense, Network
from nanoprune.nn import formula as module
from nanoprune.schedule import learning_rate

SEEDS = st.integers(0, 2**32 - 1)
RATE = 0.05


def network(P: int, replicas: int, rng: np.random.Generator, dtype=np.float64) -> Network:
    """A network with P parameters a replica: P - 1 weights and a bias."""
    net = Network(Dense(P - 1, 1), (P - 1,), replicas, dtype)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    return net


def sgd_by_hand(theta: float, grads: list[float], lr: float, momentum: float, decay: float) -> float:
    """theta of one parameter after a step for each gradient (Sutskever et al. 2013 in PyTorch's convention)."""
    velocity = 0.0
    for g in grads:
        velocity = momentum * velocity + (g + decay * theta)
        theta = theta - lr * velocity
    return theta


def adam_by_hand(theta: float, grads: list[float], lr: float, b1=0.9, b2=0.999, eps=1e-8) -> float:
    """Algorithm 1 of Kingma & Ba 2015 on one parameter."""
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        theta = theta - lr * m_hat / (math.sqrt(v_hat) + eps)
    return theta


def check(optimizer, by_hand, P: int, replicas: int, steps: int, rng: np.random.Generator) -> None:
    net = network(P, replicas, rng)
    start, grads = net.theta.copy(), rng.standard_normal((steps, replicas, P))
    grads[:, :, 0] *= 1e-9  # so small that Adam's eps is felt
    for grad in grads:
        net.grad[...] = grad
        optimizer.step(net, RATE)
    for r, i in np.ndindex(replicas, P):
        assert net.theta[r, i] == pytest.approx(by_hand(start[r, i], grads[:, r, i].tolist()), rel=1e-10, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.0, 0.01]), st.integers(1, 3), st.integers(2, 9))
def test_sgd_equals_the_formula(seed, momentum, decay, replicas, P):
    by_hand = lambda theta, grads: sgd_by_hand(theta, grads, RATE, momentum, decay)  # noqa: E731
    check(SGD(momentum, decay), by_hand, P, replicas, steps=5, rng=np.random.default_rng(seed))


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 3), st.integers(2, 9))
def test_adam_equals_algorithm_1(seed, replicas, P):
    by_hand = lambda theta, grads: adam_by_hand(theta, grads, RATE)  # noqa: E731
    check(Adam(), by_hand, P, replicas, steps=5, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("P", [3, 4, 5, 8, 9])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_block_boundaries_fall_between_parameters(monkeypatch, P, name):
    """Blocks of 4: P below, at, above and at a multiple of it, with two replicas."""
    monkeypatch.setattr(module, "BLOCK", 4)
    rng = np.random.default_rng(P)
    if name == "sgd":
        check(SGD(0.9, 0.01), lambda theta, grads: sgd_by_hand(theta, grads, RATE, 0.9, 0.01), P, 2, 3, rng)
    else:
        check(Adam(), lambda theta, grads: adam_by_hand(theta, grads, RATE), P, 2, 3, rng)


def test_the_real_block_size_covers_every_parameter():
    net = network(2 * module.BLOCK + 3, 2, np.random.default_rng(0))
    start = net.theta.copy()
    net.grad[...] = 1.0
    SGD().step(net, 0.5)
    np.testing.assert_allclose(net.theta, start - 0.5, atol=1e-15)


def test_a_formula_is_its_function_on_every_block_and_replica(monkeypatch):
    """Made here, not when the module is loaded; one number for all replicas and one for each."""

    def scaled(A, B, *, a, b):
        """A doc."""
        A *= a
        A += b * B

    formula = module.Formula(scaled)
    assert (formula.__name__, formula.__doc__, formula.__wrapped__) == ("scaled", "A doc.", scaled)
    rng = np.random.default_rng(0)
    A, B, b = rng.standard_normal((2, 7)), rng.standard_normal((2, 7)), np.array([3.0, 4.0])
    expected = [[2.5 * A[r, i] + b[r] * B[r, i] for i in range(7)] for r in range(2)]
    monkeypatch.setattr(module, "BLOCK", 3)
    formula(A, B, a=2.5, b=b)
    np.testing.assert_allclose(A, expected, rtol=1e-15)


@pytest.mark.parametrize("make", [lambda: SGD(0.9, 0.01), Adam])
def test_replicas_together_equal_replicas_alone(make):
    rng = np.random.default_rng(0)
    net = network(7, 3, rng, np.float32)
    alone = [net.copy(slice(r, r + 1)) for r in range(3)]
    optimizer, optimizers = make(), [make() for _ in range(3)]
    rates = np.array([0.05, 0.01, 0.2])
    for _ in range(4):
        net.grad[...] = rng.standard_normal(net.grad.shape)
        for r in range(3):
            alone[r].grad[...] = net.grad[r]
            optimizers[r].step(alone[r], float(rates[r]))
        optimizer.step(net, rates)
    assert net.theta.dtype == np.float32
    np.testing.assert_array_equal(net.theta, np.concatenate([one.theta for one in alone]))


@pytest.mark.parametrize("make", [lambda: SGD(0.9), Adam], ids=["SGD", "Adam"])
def test_moments_are_moved_unchanged_into_shared_memory(make):
    """Moments are moved into shared memory, also after steps without a group."""
    nets, optimizers = [Network(Dense(2, 3), (2,)) for _ in range(2)], [make(), make()]
    made = []

    def zeros(shape, dtype):
        made.append(np.zeros(shape, dtype))
        return made[-1]

    for step in range(4):
        if step in (0, 2):
            share_moments(optimizers[1], nets[1], types.SimpleNamespace(zeros=zeros))
        for net, optimizer in zip(nets, optimizers, strict=True):
            net.grad[...] = np.random.default_rng(step).standard_normal(net.grad.shape)
            optimizer.step(net, 0.1)
    np.testing.assert_array_equal(*(net.theta for net in nets))
    held = [value for value in vars(optimizers[1]).values() if isinstance(value, np.ndarray)]
    assert len(made) == 2 * len(held) > 0
    assert all(any(value is array for array in made[len(held) :]) for value in held)


def test_schedules_by_hand():
    constant, step, cosine = (learning_rate(kind, 0.2, 8) for kind in ("constant", "step", "cosine"))
    assert [constant(epoch) for epoch in (0, 3.5, 7.9)] == [0.2] * 3
    assert [step(epoch) for epoch in (0, 3, 4, 5.9, 6, 7)] == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])
    assert [cosine(epoch) for epoch in (0, 2, 4, 8)] == pytest.approx([0.2, 0.1 * (1 + math.sqrt(0.5)), 0.1, 0.0])


@pytest.mark.parametrize("rate", [0.0, -0.1, math.inf, math.nan])
def test_rates_that_cannot_be_used_are_refused(rate):
    with pytest.raises(ArgumentError, match="learning rate must be positive and finite"):
        learning_rate("constant", rate, 3)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ArgumentError, match="schedule must be one of constant, step, cosine, got 'linear'"):
        learning_rate("linear", 0.1, 3)
