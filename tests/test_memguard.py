"""MemGuard: the constraints on its noise, and its effect."""

import dataclasses
import math

import numpy as np
import pytest
from differences import central
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from nanoprune.attack import network
from nanoprune.attack.attack_network import attack_input
from nanoprune.attack.network import attack_scores
from nanoprune.errors import ArgumentError
from nanoprune.lab.experiment import memguard as module
from nanoprune.lab.experiment.memguard import MemGuard, memguard, noise_gradient
from nanoprune.nn import Dense, Network, ReLU, Sequential, Workspace


def guard(classes=4, budget=0.6):
    """The defence of two classifiers, with small random attack networks that call about every second output a
    member's."""
    body = Sequential(Dense(2 * classes, 32), ReLU(), Dense(32, 1))
    h = Network(body, (2 * classes,), 2).initialise([np.random.default_rng(r) for r in range(2)])
    p = softmax(6 * np.random.default_rng(9).standard_normal((2, classes, 200)), axis=1).astype(np.float32)
    member = h.forward(attack_input(p, p.argmax(axis=1)), Workspace(training=False))  # (2, 1, 200)
    h.biases[-1].value[...] -= np.median(member, axis=2, keepdims=True)
    return MemGuard(h, budget, [b"a", b"b"])


GUARD = guard()
ROWS = st.lists(st.lists(st.floats(-15, 15, width=32), min_size=4, max_size=4), min_size=1, max_size=8)


@settings(deadline=None, max_examples=12)
@given(ROWS)
def test_memguard_keeps_label_and_budget_and_fools_its_attack_network(rows):
    logits = np.tile(np.float32(rows), (2, 1, 1))  # (R, n, classes)
    p, q, odds = GUARD.perturbed(logits)
    np.testing.assert_allclose(p, softmax(logits.astype(float), axis=2))
    np.testing.assert_allclose(q.sum(axis=2), 1)
    np.testing.assert_array_equal(q.argmax(axis=2), p.argmax(axis=2))
    distortion = np.abs(q - p).sum(axis=2)
    assert (odds * distortion <= GUARD.budget + 1e-12).all()
    assert ((odds == 1) | (np.abs(odds * distortion - GUARD.budget) < 1e-12)).all()  # no less than it may
    for r in range(2):
        named = logits[r].argmax(axis=1)
        before, after = (attack_scores(GUARD.h.shard(slice(r, r + 1)), side[r], named) for side in (p, q))
        moved = distortion[r] > 0
        assert (before[moved] * after[moved] <= 1e-4).all()  # the other side, up to rounding in float32
        assert (np.abs(after[moved]) <= np.abs(before[moved]) + 1e-4).all()
    defended = GUARD(logits)
    chosen = (defended == q).all(axis=2)
    np.testing.assert_array_equal(defended[~chosen], p[~chosen])
    np.testing.assert_array_equal(GUARD(logits), defended)  # the same query, the same output


def test_memguard_finds_noise_where_some_exists_and_applies_it_with_the_right_probability():
    """Noise is found for at least three quarters of the outputs for which one of 20,000 random draws succeeds."""
    logits = 4 * np.random.default_rng(3).standard_normal((2, 400, 4)).astype(np.float32)
    p, q, odds = GUARD.perturbed(logits)
    moved = (q != p).any(axis=2)
    random = np.random.default_rng(0).dirichlet(np.full(4, 0.5), 20_000)
    possible = np.zeros_like(moved)
    for r in range(2):
        h, named = GUARD.h.shard(slice(r, r + 1)), p[r].argmax(axis=1)
        before, others = attack_scores(h, p[r], named), attack_scores(h, random, random.argmax(axis=1))
        for c in range(4):
            of_class = others[random.argmax(axis=1) == c]
            possible[r, named == c] = np.where(before > 0, of_class.min() < 0, of_class.max() > 0)[named == c]
    assert 0.3 < possible.mean() < 0.8
    assert moved[possible].mean() > 0.75
    noisy = (GUARD(logits) != p).any(axis=2)
    expected = np.where(moved, odds, 0.0)
    assert abs(noisy.sum() - expected.sum()) < 5 * math.sqrt((expected * (1 - expected)).sum() + 1)
    one = dataclasses.replace(GUARD, budget=2.0)
    np.testing.assert_array_equal(one(logits), q)  # no L1 distance is larger
    np.testing.assert_array_equal(dataclasses.replace(GUARD, budget=0.0)(logits), p)


def test_the_gradient_of_memguards_objective():
    h = GUARD.h.copy(slice(0, 1))
    wide = Network(h.template, h.input_shape, 1, "float64")
    wide.theta[...] = h.theta
    z = np.random.default_rng(4).standard_normal((1, 4, 5)) * 2
    named, p = z.argmax(axis=1), softmax(z, axis=1)
    e = np.random.default_rng(5).standard_normal(z.shape)

    def objective(e):
        """Of each record (1, N), which the differences take one by one."""
        u, q = z + e, softmax(z + e, axis=1)
        member = wide.forward(attack_input(q, named), Workspace(training=False))[:, 0]
        ours = np.take_along_axis(u, named[:, None], axis=1)[:, 0]
        others = np.where(np.arange(4)[:, None] == named[0], -np.inf, u[0]).max(axis=0)[None]
        penalty = np.maximum(0, others - ours)
        return np.abs(member) + module.C2 * penalty + 0.7 * np.abs(q - p).sum(axis=1)

    assert (np.argmax(z + e, axis=1) != named).any()  # so that the penalty is in it
    ws = Workspace(training=False)
    u, q = z + e, softmax(z + e, axis=1)
    now = wide.forward(attack_input(q, named), ws)
    found = noise_gradient(wide, now, u, q, p, named, 0.7, ws)
    np.testing.assert_allclose(found, central(lambda e: objective(e).sum(axis=1), e, 1e-6), rtol=1e-4, atol=1e-6)


def test_a_fitted_memguard_lowers_its_attack_networks_accuracy(monkeypatch):
    """Outputs of members are sharp, others flat: h separates them, but not after noise is added."""
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 5)
    monkeypatch.setattr(module, "STEPS", 40)
    rng = np.random.default_rng(6)
    members, reference = ((scale * rng.standard_normal((1, 60, 5))).astype(np.float32) for scale in (8, 1))
    defence = memguard(2.0, members, reference, [np.random.default_rng(0)])
    both = np.concatenate([members, reference], axis=1)
    named, member = both[0].argmax(axis=1), np.repeat([True, False], 60)

    def accuracy(p):
        return ((attack_scores(defence.h, p[0], named) > 0) == member).mean()

    assert accuracy(softmax(both.astype(float), axis=2)) > 0.8
    assert accuracy(defence(both)) < 0.5
    with pytest.raises(ArgumentError, match="at least 4 members and 4 non-members, got 3"):
        memguard(1.0, members, reference[:, :3], [np.random.default_rng(0)])
