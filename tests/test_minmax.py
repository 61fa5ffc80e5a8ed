"""The Min-Max game: its gradient, its adversary, and what it refuses."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import log_expit
from scipy.special import softmax as scipy_softmax

from nanoprune.attack.attack_network import attacker
from nanoprune.defend import MinMax, minmax
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.passes import SharedPasses, share_moments, single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.layers import Tanh
from nanoprune.nn import Branches, Dense, Network, ReLU, Sequential, Workspace
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train

LOG2 = np.log(2.0)


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread():
    with single_threaded_blas():
        yield


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, r]) for r in range(count)]


def identity(classes: int, replicas: int = 1, dtype: str = "float32") -> Network:
    """A classifier whose logits are its inputs."""
    net = Network(Dense(classes, classes), (classes,), replicas, dtype)
    net.W[...] = np.eye(classes).ravel()
    return net


def game_on(x: np.ndarray, y: np.ndarray, members: np.ndarray, reference: np.ndarray, **options) -> MinMax:
    R = len(members)
    return MinMax(Records(x.astype(np.float32), y), 3, members, reference, generators(R, seed=7), **options)


def smooth_attacker(classes: int, replicas: int) -> Network:
    """As the attack network, smaller, and with tanh, which has no kinks."""
    branches = Branches(
        (classes, Sequential(Dense(classes, 5), Tanh())), (classes, Sequential(Dense(classes, 4), Tanh()))
    )
    body = Sequential(branches, Dense(9, 6), Tanh(), Dense(6, 1))
    return Network(body, (2 * classes,), replicas, "float64")


@pytest.fixture
def small_adversary(monkeypatch):
    """A small adversary: for tests that do not depend on its quality."""

    def small(classes: int, replicas: int = 1) -> Network:
        branches = Branches((classes, Dense(classes, 5)), (classes, Dense(classes, 5)))
        return Network(Sequential(branches, Tanh(), Dense(10, 1)), (2 * classes,), replicas)

    monkeypatch.setattr(minmax, "attacker", small)


def gain_of_members(h: Network, logits: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """1/2 1/count sum_i log h(softmax(logits_i), y_i), one record after another; (R,)."""
    R, classes, N = logits.shape
    gain = np.zeros(R)
    for i in range(N):
        rows = [
            np.concatenate([scipy_softmax(logits[r, :, i]), [float(c == y[r, i]) for c in range(classes)]])
            for r in range(R)
        ]
        z = h.forward(np.stack(rows)[:, :, None], Workspace(training=False))  # (R, 1, 1)
        gain += 0.5 * log_expit(z[:, 0, 0]) / count
    return gain


def check_gain_gradient(h: Network, seed: int, classes: int, samples: int, others: int) -> None:
    rng = np.random.default_rng(seed)
    R = h.replicas
    h.theta[...] = rng.standard_normal(h.theta.shape) * (1.5 if h.size < 1000 else 0.05)
    four = np.arange(4).reshape(1, 4).repeat(R, axis=0)
    game = MinMax(Records(np.zeros((4, classes)), np.zeros(4, int)), classes, four, four, generators(R))
    game.h = h
    logits, y = 2 * rng.standard_normal((R, classes, samples)), rng.integers(0, classes, (R, samples))
    h.grad[...] = 3.0
    gradient = game.gain_gradient(logits, y, Workspace(), samples + others)
    np.testing.assert_array_equal(h.grad, 3.0)  # the adversary does not learn from the classifier's step
    V, eps = rng.standard_normal(logits.shape), 1e-5
    up, down = (gain_of_members(h, logits + sign * eps * V, y, samples + others) for sign in (1, -1))
    np.testing.assert_allclose((gradient * V).sum(axis=(1, 2)), (up - down) / (2 * eps), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-12)  # adding a constant to the logits changes nothing


@pytest.mark.usefixtures("small_adversary")
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 4), st.integers(1, 5), st.sampled_from([0, 1, 7]))
def test_gain_gradient_is_the_slope_of_the_gain(seed, replicas, classes, samples, others):
    check_gain_gradient(smooth_attacker(classes, replicas), seed, classes, samples, others)


def test_gain_gradient_through_the_attack_network():
    check_gain_gradient(attacker(3, 2, "float64"), 0, 3, 4, 2)


def test_a_step_by_hand():
    """All members alike and all reference records alike, so each batch is the same whatever is drawn."""
    x, y = np.array([[4.0, 0.0, 0.0]] * 2 + [[0.0, 1.0, 0.0]] * 2), np.array([0, 0, 2, 2])
    game = game_on(x, y, np.array([[0, 1]]), np.array([[2, 3]]), batch=5)
    game.h.theta += 0.01 * np.random.default_rng(0).standard_normal(game.h.theta.shape).astype(np.float32)

    def logit(i):
        row = np.concatenate([scipy_softmax(x[i]), np.eye(3)[y[i]]]).astype(np.float32)
        return float(game.h.forward(row[None, :, None], Workspace(training=False))[0, 0, 0])

    expected = []
    for _ in range(4):
        member, other = logit(0), logit(2)
        expected.append((-0.5 * log_expit(member) - 0.5 * log_expit(-other), ((member > 0) + (other <= 0)) / 2))
        game.maximise(identity(3))
        game.end_epoch()
    np.testing.assert_allclose(np.array(game.history)[:, :, 0], expected, rtol=1e-4)
    assert all(after[0] < before[0] for before, after in pairwise(expected))  # ascent on the gain
    assert logit(0) > logit(2)  # the members are the ones called members


def test_the_adversary_learns_an_existing_difference():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 400)
    x = rng.standard_normal((400, 3))
    x[:200] += 5 * np.eye(3)[y[:200]]  # members: confidently right; the others: guesses
    records = np.arange(400).reshape(1, 2, 200)
    game = game_on(x, y, records[:, 0], records[:, 1], batch=32)
    for _ in range(3):
        for _ in range(10):
            game.maximise(identity(3))
        game.end_epoch()
    losses, accuracies = (np.array(column)[:, 0] for column in zip(*game.history, strict=True))
    assert len(losses) == 3
    assert losses[-1] < losses[0] - 0.15
    assert losses[-1] < 0.4
    assert accuracies[-1] > 0.85


def test_the_adversary_stays_at_chance_without_a_difference():
    """The same outputs and labels for both sets: for any h the loss is -1/2 log h - 1/2 log(1 - h) >= log 2, and one
    of two decisions is right."""
    game = game_on(
        np.tile([2.0, 0.0, 1.0], (20, 1)), np.ones(20, int), np.arange(10)[None], np.arange(10, 20)[None], batch=8
    )
    for _ in range(2):
        for _ in range(10):
            game.maximise(identity(3))
        game.end_epoch()
    losses, accuracies = (np.array(column) for column in zip(*game.history, strict=True))
    assert (losses >= LOG2 - 1e-6).all()
    np.testing.assert_allclose(losses[-1], LOG2, atol=0.01)
    np.testing.assert_allclose(accuracies, 0.5)


@pytest.mark.usefixtures("small_adversary")
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_inner_steps_and_epochs_are_honoured(inner_steps):
    rng = np.random.default_rng(0)
    x, y, records = rng.standard_normal((24, 3)), rng.integers(0, 3, 24), np.arange(24).reshape(2, 12)
    game = game_on(x, y, records, records[::-1], inner_steps=inner_steps, batch=4)
    net = identity(3, replicas=2)
    members = records  # of 12 in batches of 5: 3 steps an epoch
    train(net, game.records, members, Schedule(epochs=2, batch=5), generators(2), game=game)
    assert game.adam.t == 2 * 3 * inner_steps
    assert len(game.history) == 2
    for loss, right in game.history:
        assert loss.shape == right.shape == (2,)
        assert (loss > 0).all()
        tried = 3 * inner_steps * 8  # decisions in an epoch
        np.testing.assert_allclose(right * tried, np.round(right * tried), atol=1e-4)


@pytest.mark.usefixtures("small_adversary")
def test_members_and_reference_are_not_mixed_up():
    """Each set is drawn from its own list: the indices say which."""

    seen = []

    class Spy(Records):
        def batch(self, index, ws):
            seen.append(np.array(index))
            return super().batch(index, ws)

    rng = np.random.default_rng(0)
    records = Spy(rng.standard_normal((40, 3)).astype(np.float32), rng.integers(0, 3, 40))
    members, reference = np.arange(20).reshape(2, 10), np.arange(20, 40).reshape(2, 10)
    game = MinMax(records, 3, members, reference, generators(2), batch=200)
    game.maximise(identity(3, replicas=2))
    (index,) = seen
    assert index.shape == (2, 400)
    for r in range(2):
        drawn, times = np.unique(index[r], return_counts=True)
        assert sorted(drawn) == sorted([*members[r], *reference[r]])
        assert times[drawn < 20].sum() == times[drawn >= 20].sum() == 200


@pytest.mark.usefixtures("small_adversary")
def test_two_threads_do_what_one_does():
    rng = np.random.default_rng(0)
    x, y, records = rng.standard_normal((24, 3)), rng.integers(0, 3, 24), np.arange(24).reshape(2, 12)
    one, two, two_again = (game_on(x, y, records, records[::-1], batch=5) for _ in range(3))
    for game, threads in ((one, 1), (two, 2), (two_again, 2)):
        group = ProcessGroup(threads)
        game.passes = SharedPasses(game.h, group)
        share_moments(game.adam, game.h, group)
        with group:
            for _ in range(4):
                game.maximise(identity(3, replicas=2))
            game.end_epoch()
    np.testing.assert_allclose(two.h.theta, one.h.theta, atol=1e-5)
    np.testing.assert_allclose(two.history, one.history, atol=1e-5)
    np.testing.assert_array_equal(two_again.h.theta, two.h.theta)


def small_problem():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((40, 3)).astype(np.float32), rng.integers(0, 3, 40)
    net = Network(Sequential(Dense(3, 6), ReLU(), Dense(6, 3)), (3,), 2).initialise(generators(2, seed=1))
    return Records(x, y), net, np.arange(40).reshape(2, 20)


def trained(lam, **options):
    records, net, members = small_problem()
    game = MinMax(records, 3, members, members[::-1], generators(2, seed=2), lam=lam) if lam is not None else None
    losses = train(net, records, members, Schedule(epochs=2, batch=8), generators(2, seed=3), game=game, **options)
    return net.theta, losses


@pytest.mark.usefixtures("small_adversary")
def test_lambda_zero_is_training_without_a_game():
    plain, losses = trained(None)
    theta, losses_0 = trained(0.0)
    np.testing.assert_array_equal(theta, plain)
    np.testing.assert_array_equal(losses_0, losses)


@pytest.mark.usefixtures("small_adversary")
def test_lambda_may_differ_between_replicas():
    plain, _ = trained(None)
    everywhere, _ = trained(2.0)
    mixed, _ = trained(np.array([0.0, 2.0]).reshape(2, 1, 1))
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(mixed[0], plain[0])
    np.testing.assert_allclose(mixed[1], everywhere[1], atol=1e-6)
    assert np.abs(everywhere - plain).max() > 1e-4


@pytest.mark.usefixtures("small_adversary")
def test_one_lambda_for_each_replica_is_used_in_the_networks_precision():
    """0.3 is no float32: in float64 its products would round differently."""
    everywhere, _ = trained(0.3)
    each, _ = trained(np.full((2, 1, 1), 0.3))
    np.testing.assert_array_equal(each, everywhere)


@pytest.mark.usefixtures("small_adversary")
def test_the_classifier_takes_gain_from_the_adversary():
    """One step of plain descent with a large lambda, h fixed: G falls by about lr lambda ||dG/dtheta||^2."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((10, 3)), rng.integers(0, 3, 10)
    net, game = identity(3, dtype="float64"), game_on(x, y, np.arange(10)[None], np.arange(10)[None])
    game.h = smooth_attacker(3, 1)
    game.h.theta[...] = rng.standard_normal(game.h.theta.shape)
    game.maximise = lambda net: game.steps.append(np.zeros((2, 1)))
    game.lam = 1e6
    records = Records(x, y)

    def gain():
        logits = np.moveaxis(x[None] @ net.W.reshape(1, 3, 3).swapaxes(1, 2) + net.theta[:, None, 9:], 1, 2)
        return gain_of_members(game.h, logits, y[None], 10)[0]

    before, theta = gain(), net.theta.copy()
    lr = 1e-9
    train(net, records, np.arange(10)[None], Schedule(1, batch=10, lr=lr, momentum=0.0), generators(1), game=game)
    step = net.theta - theta
    np.testing.assert_allclose(gain() - before, -(step**2).sum() / (lr * game.lam), rtol=0.01)
    assert (step**2).sum() > 0


@pytest.mark.parametrize("inner_steps", [0, -1])
def test_an_adversary_without_steps_is_refused(inner_steps):
    with pytest.raises(ArgumentError, match=f"inner_steps must be at least 1, got {inner_steps}"):
        game_on(np.zeros((4, 3)), np.zeros(4, int), np.arange(2)[None], np.arange(2, 4)[None], inner_steps=inner_steps)


@pytest.mark.parametrize("lam", [-0.5, np.inf, -np.inf, np.nan, np.array([1.0, -1.0]), np.array([np.inf, 1.0])])
def test_a_lambda_that_is_negative_or_not_finite_is_refused(lam):
    with pytest.raises(ArgumentError) as error:
        game_on(np.zeros((4, 3)), np.zeros(4, int), np.arange(2)[None], np.arange(2, 4)[None], lam=lam)
    assert str(error.value) == f"lam must be finite and not negative, got {lam}"


@pytest.mark.parametrize("size", [0, 1])
def test_a_game_without_a_reference_set_is_refused(size):
    with pytest.raises(ArgumentError, match=f"reference must be at least 2 records, got {size}"):
        game_on(np.zeros((4, 3)), np.zeros(4, int), np.arange(2)[None], np.arange(2, 2 + size)[None])
