"""Masked retraining: pruned weights stay exactly zero, the others are trained."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import DataError
from nanoprune.lab.engine.states import restore, state_of
from nanoprune.lab.layers import Tanh
from nanoprune.lab.storage.checkpoint import Saved, read_checkpoint, write_checkpoint
from nanoprune.nn import SGD, Adam, Dense, Network, Sequential, Workspace, cross_entropy
from nanoprune.prune import Budget, Mask, hard_prune

quick = settings(deadline=None, max_examples=50)
HIDDEN, WEIGHTS = slice(0, 30), 42  # 5 -> 6 -> 2: 30 + 12 weights, then 8 biases


def pruned_network(rng: np.random.Generator, keep: float, dtype: str) -> Network:
    """Two replicas, pruned to `keep`, with random biases."""
    net = Network(Sequential(Dense(5, 6), Tanh(), Dense(6, 2)), (5,), 2, dtype)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    hard_prune(net, Budget(net, keep))
    return net


def retrain(net: Network, optimizer, rng: np.random.Generator, steps: int, mask: Mask | None) -> None:
    ws = Workspace()
    for _ in range(steps):
        X = rng.standard_normal((2, 5, 16)).astype(net.theta.dtype)
        _, dlogits = cross_entropy(net.forward(X, ws), rng.integers(0, 2, (2, 16)))
        net.backward(dlogits, ws)
        if mask:
            mask.apply(net)
        optimizer.step(net, 0.05)


optimizers = st.one_of(st.builds(SGD, st.floats(0.0, 0.99), st.floats(0.0, 0.1)), st.builds(Adam))


@quick
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.9), optimizers, st.sampled_from(["float32", "float64"]))
def test_pruned_weights_stay_exactly_zero_and_the_others_move(seed, keep, optimizer, dtype):
    rng = np.random.default_rng(seed)
    net = pruned_network(rng, keep, dtype)
    pruned, before = net.W == 0, net.theta.copy()
    assert pruned.any()
    retrain(net, optimizer, rng, 12, Mask(net))
    np.testing.assert_array_equal(net.W[pruned], 0)
    moved = net.theta != before
    assert moved[:, 30:WEIGHTS][~pruned[:, 30:]].all()  # a survivor of the last layer always has a gradient
    assert moved[:, -2:].all()  # so have the biases of the last layer
    reached = (before[:, 30:WEIGHTS].reshape(2, 2, 6) != 0).any(axis=1)  # hidden units that the output depends on
    assert (moved[:, HIDDEN].reshape(2, 6, 5) | pruned[:, HIDDEN].reshape(2, 6, 5))[reached].all()
    assert moved[:, WEIGHTS : WEIGHTS + 6][reached].all()  # their biases are free, whatever was pruned


@pytest.mark.parametrize("optimizer", [SGD(0.9, 0.01), Adam()], ids=["SGD", "Adam"])
def test_without_a_mask_pruned_weights_come_back(optimizer):
    rng = np.random.default_rng(0)
    net = pruned_network(rng, 0.5, "float64")
    pruned = net.W == 0
    retrain(net, optimizer, rng, 2, None)
    assert (net.W[pruned] != 0).mean() > 0.5


def test_the_mask_is_the_support_when_it_is_made():
    net = Network(Dense(3, 1), (3,), 2, "float32")
    net.W[...] = [[1.0, 0.0, -2.0], [0.0, -0.0, 1e-45]]
    mask = Mask(net)
    assert mask.M.dtype == np.float32
    np.testing.assert_array_equal(mask.M, [[1, 0, 1], [0, 0, 1]])
    net.W[...] = 0.0  # a survivor that passes through zero is not pruned by it
    net.grad[...] = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    mask.apply(net)
    np.testing.assert_array_equal(net.grad, [[1, 0, 3, 4], [0, 0, 7, 8]])


def test_a_saved_mask_is_restored_although_a_survivor_has_become_zero(tmp_path):
    rng = np.random.default_rng(0)
    net = pruned_network(rng, 0.3, "float32")
    mask = Mask(net)
    write_checkpoint(tmp_path / "c.h5", {}, state_of(mask))
    net.W[0, np.flatnonzero(net.W[0])[0]] = 0
    again, state = Mask(net), read_checkpoint(tmp_path / "c.h5")[1]
    assert (again.M != mask.M).sum() == 1
    restore(again, Saved(state, 2, "here"), net)
    np.testing.assert_array_equal(again.M, mask.M)
    assert again.M.dtype == np.float32
    with pytest.raises(DataError, match="M"):
        restore(again, Saved({"M": mask.M[:, 1:] != 0}, 2, "here"), net)
    with pytest.raises(DataError, match="M"):
        restore(again, Saved({"M": mask.M}, 2, "here"), net)  # no bool
