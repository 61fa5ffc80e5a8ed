"""Masks before training: SynFlow against the sum over all paths, random ones against counting, SNIP and GraSP against
differences of the loss and the closed form of softmax regression."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from nanoprune.lab.experiment.saliency import grasp_scores, random_support, snip_scores, synflow, synflow_scores
from nanoprune.lab.layers import Tanh
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Dense, Network, Sequential, Workspace, cross_entropy
from nanoprune.prune import Budget
from nanoprune.records import Records


def mlp(sizes, replicas=1, seed=0):
    net = build(describe("mlp", (sizes[0],), sizes[-1], sizes[1:-1]), replicas)
    return net.initialise([np.random.default_rng([seed, r]) for r in range(replicas)])


def by_paths(net, r, sizes):
    """Each weight's score: the sum, over all paths from an input to an output through it, of the product of |w|."""
    weights = [np.abs(w.value[r].astype(np.float64)) for w in net.weights]
    scores = [np.zeros_like(w) for w in weights]
    for path in itertools.product(*(range(n) for n in sizes)):
        product = np.prod([w[b, a] for w, a, b in zip(weights, path[:-1], path[1:], strict=True)])
        for score, a, b in zip(scores, path[:-1], path[1:], strict=True):
            score[b, a] += product
    return np.concatenate([score.ravel() for score in scores])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=3, max_size=4), st.integers(0, 99))
def test_a_score_is_the_flow_through_the_weight(sizes, seed):
    net = mlp(sizes, 2, seed)
    found = synflow_scores(net)
    for r in range(2):
        np.testing.assert_allclose(found[r], by_paths(net, r, sizes), rtol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99), st.sampled_from([0.5, 0.25, 0.1]), st.sampled_from(["global", "layer"]))
def test_pruning_is_iterative_and_each_step_removes_the_least_flow(seed, keep, scope):
    sizes = [5, 4, 3]
    net, steps = mlp(sizes, 1, seed), 4
    ratios = [keep] if scope == "global" else [keep] * 2
    parts = [slice(0, 32)] if scope == "global" else [slice(0, 20), slice(20, 32)]
    found = synflow(net, ratios, scope, steps=steps)
    pruned, alive = net.copy(), np.ones(32, bool)
    for k in range(1, steps + 1):
        scores = by_paths(pruned, 0, sizes)
        for part in parts:
            size = part.stop - part.start
            count = max(1, int(round(keep ** (k / steps) * size, 9)))
            alive[part] &= np.isin(np.arange(size), np.lexsort((np.arange(size), -scores[part]))[:count])
        pruned.W[...] = net.W * alive
    np.testing.assert_array_equal(found[0], alive)


@pytest.mark.parametrize("name", ["mlp", "lenet-5"])
def test_flow_is_conserved_and_no_layer_is_disconnected(name):
    """The scores of every layer add up to R; at 1% of all weights an output can still be reached in every replica."""
    shape = (64,) if name == "mlp" else (28, 1, 28)
    net = build(describe(name, shape, 10, None), 2).initialise([np.random.default_rng(r) for r in range(2)])
    before = net.theta.copy()
    scores, start, sums = synflow_scores(net), 0, []
    for weight in net.weights:
        sums.append(scores[:, start : start + weight.size].sum(axis=1))
        start += weight.size
    np.testing.assert_allclose(sums, [sums[0]] * len(sums), rtol=1e-9)
    pruned = net.copy()
    pruned.W[...] *= synflow(net, [0.01], "global", steps=20)
    assert (synflow_scores(pruned).sum(axis=1) > 0).all()
    assert pruned.nonzero().tolist() == [int(0.01 * net.weight_count)] * 2
    np.testing.assert_array_equal(net.theta, before)


@pytest.mark.parametrize(("scheme", "keep"), [("2:4", 0.5), ("filter", 0.5), ("block:2", 0.25)])
def test_every_scheme_keeps_its_groups(scheme, keep):
    net = mlp([8, 6, 4])
    budget = Budget(net, keep, scheme=scheme)
    support = synflow(net, keep, scheme=scheme, steps=5)
    assert support.sum() == sum(budget.max_nonzero())
    np.testing.assert_array_equal(budget.project(support.astype(np.float32)) != 0, support)


def test_random_supports_are_uniform():
    """Each of the C(4, 2) supports of a layer of four weights as often, by 3,000 draws."""
    net = mlp([2, 2])
    budget = Budget(net, 0.5)
    counts: dict = {}
    generator = np.random.default_rng(0)
    for _ in range(3000):
        support = tuple(random_support(budget, (1, 4), [generator])[0])
        counts[support] = counts.get(support, 0) + 1
    assert len(counts) == 6
    assert all(sum(support) == 2 for support in counts)
    assert sum((n - 500) ** 2 / 500 for n in counts.values()) < 20.5  # chi-squared, 5 degrees of freedom: 0.1%


def problem(seed, features, classes, n, replicas=2):
    """Records, and indices (R, n) that differ by replica."""
    rng = np.random.default_rng(seed)
    records = Records(rng.normal(size=(2 * n, features)).astype(np.float32), rng.integers(0, classes, 2 * n))
    return records, np.stack([rng.permutation(2 * n)[:n] for _ in range(replicas)])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.sampled_from([7, 300]))
def test_snip_is_how_fast_the_loss_changes_with_the_scale_of_a_weight(seed, n):
    """Central differences of the loss where a weight is multiplied by 1 +- h; also more records than one chunk. Tanh
    has no kink that a difference could step over."""
    h, layers = 1e-4, Sequential(Dense(3, 4), Tanh(), Dense(4, 2))
    net = Network(layers, (3,), 2).initialise([np.random.default_rng([seed, r]) for r in range(2)])
    records, index = problem(seed, 3, 2, n)
    found, exact = snip_scores(net, records, index), Network(layers, (3,), 2, np.float64)
    X, y = records.batch(index, Workspace())

    def loss(theta):
        exact.theta[...] = theta
        return cross_entropy(exact.forward(X.astype(np.float64), Workspace(training=False)), y)[0]

    theta = net.theta.astype(np.float64)
    for j in range(net.weight_count):
        scale = np.zeros(theta.shape[1])
        scale[j] = h
        slope = (loss(theta * (1 + scale)) - loss(theta * (1 - scale))) / (2 * h)
        np.testing.assert_allclose(found[:, j], np.abs(slope), rtol=1e-5, atol=1e-8)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99), st.integers(2, 4), st.integers(2, 4))
def test_grasp_is_the_hessian_of_softmax_regression_on_its_gradient(seed, features, classes):
    """For a linear map H = mean over records of (diag(p) - p p^T) x x^T, as a Kronecker product."""
    net = Network(Dense(features, classes), (features,), 2).initialise(
        [np.random.default_rng([seed, r]) for r in (0, 1)]
    )
    records, index = problem(seed, features, classes, 9)
    found = grasp_scores(net, records, index)
    for r in range(2):
        W, b = (of[0].value[r].astype(np.float64) for of in (net.weights, net.biases))
        x, y = records.x[index[r]].astype(np.float64), records.y[index[r]]
        p = softmax(x @ W.T + b.ravel(), axis=1)
        g = ((p - np.eye(classes)[y])[:, :, None] * x[:, None, :]).mean(axis=0)  # (classes, features)
        H = np.mean([np.kron(np.diag(q) - np.outer(q, q), np.outer(v, v)) for q, v in zip(p, x, strict=True)], axis=0)
        expected = W.ravel() * (H @ g.ravel())
        np.testing.assert_allclose(found[r], expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
