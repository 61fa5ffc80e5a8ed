"""Layer-wise pruning against enumeration, closed forms and loops."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_pruners import small

from nanoprune.errors import ArgumentError
from nanoprune.lab.data import load
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.methods import chosen, train_methods
from nanoprune.lab.kernels.winograd import WinogradConv2D
from nanoprune.lab.layers import DepthwiseConv2D, Embedding, Pointwise, Tanh, TokenDense, TokenMean
from nanoprune.lab.layerwise import ALGORITHMS, check_prunable, prune_layers, supports
from nanoprune.lab.layerwise.alps import alps
from nanoprune.lab.layerwise.inputs import gram
from nanoprune.lab.layerwise.quadratic import damped, error, refit
from nanoprune.lab.layerwise.sparsegpt import sparsegpt
from nanoprune.lab.layerwise.wanda import wanda
from nanoprune.lab.storage.checkpoint import Checkpoints
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.nn import Conv2D, Dense, Flatten, Network, Sequential, Workspace
from nanoprune.prune import Budget
from nanoprune.records import Records

O, I, M = 2, 4, 12
quick = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 10**6)


def problem(seed, outputs=O, inputs=I):
    """Weights, and the inputs (I, M) of a layer, correlated: one direction dominates."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((inputs, M)) + 2 * np.outer(rng.standard_normal(inputs), rng.standard_normal(M))
    return rng.standard_normal((outputs, inputs)), X


def fitted(W, X, support, damping):
    """Least squares by the records themselves, row by row; the damping is I further records."""
    X = np.concatenate([X, np.sqrt(damping) * np.eye(len(X))], axis=1)
    B = np.zeros_like(W)
    for row, dense, S in zip(B, W, support, strict=True):
        row[S] = np.linalg.lstsq(X[S].T, X.T @ dense, rcond=None)[0]
    return B, ((W @ X - B @ X) ** 2).sum()


def damping_of(X):
    return 0.01 * (X**2).sum(axis=1).mean()


def magnitude(W, k):
    order = sorted(np.ndindex(*W.shape), key=lambda at: -abs(W[at]))[:k]
    return np.array([[(i, j) in order for j in range(W.shape[1])] for i in range(W.shape[0])])


@quick
@given(seeds)
def test_the_error_is_that_of_the_outputs_and_refit_is_least_squares(seed):
    (W, X), rng = problem(seed), np.random.default_rng(seed + 1)
    support = rng.random((O, I)) < 0.6
    B, least = fitted(W, X, support, damping_of(X))
    H = damped(X @ X.T)
    np.testing.assert_allclose(refit(W, support, H), B, atol=1e-8)
    np.testing.assert_allclose(error(W, B, H), least, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(error(W, B, X @ X.T), ((W @ X - B @ X) ** 2).sum(), rtol=1e-8, atol=1e-10)


def test_alps_is_between_the_best_of_all_supports_and_the_largest_weights_with_least_squares():
    """Every support of k weights is tried: none is better. ALPS is nearer to the best than magnitudes are."""
    best, ours, others = [], [], []
    for seed, k in itertools.product(range(25), (2, 3, 5)):
        W, X = problem(seed)
        least = min(
            fitted(W, X, np.isin(np.arange(O * I), alive).reshape(O, I), damping_of(X))[1]
            for alive in itertools.combinations(range(O * I), k)
        )
        found = alps(W, X @ X.T, k)
        assert np.count_nonzero(found) <= k
        best.append(least)
        ours.append(error(W, found, damped(X @ X.T)))
        others.append(fitted(W, X, magnitude(W, k), damping_of(X))[1])
    best, ours, others = map(np.array, (best, ours, others))
    assert (ours >= best - 1e-9).all()
    hits = [(errors <= best * (1 + 1e-6) + 1e-9).sum() for errors in (ours, others)]
    assert hits[0] > hits[1]
    assert (ours - best).sum() < 0.5 * (others - best).sum()


@pytest.mark.parametrize("seed", range(5))
def test_in_a_larger_layer_alps_is_better_than_magnitudes_with_least_squares_and_than_sparsegpt(seed):
    W, X = problem(seed, outputs=20, inputs=30)
    H, k = X @ X.T, 150
    ours, greedy = (error(W, prune(W, H, k), damped(H)) for prune in (alps, sparsegpt))
    assert ours < greedy
    assert ours < 0.8 * fitted(W, X, magnitude(W, k), damping_of(X))[1]
    assert greedy < error(W, np.where(magnitude(W, k), W, 0.0), damped(H))


@quick
@given(seeds, st.sampled_from([1, 2, 128]))
def test_sparsegpt_that_prunes_nothing_changes_nothing(seed, block):
    W, X = problem(seed)
    np.testing.assert_array_equal(sparsegpt(W, X @ X.T, W.size, block), W)
    np.testing.assert_array_equal(alps(W, X @ X.T, W.size) != 0, W != 0)
    np.testing.assert_allclose(alps(W, X @ X.T, W.size), W, atol=1e-8)


@quick
@given(seeds)
def test_sparsegpt_prunes_one_weight_as_the_optimal_brain_surgeon_does(seed):
    """Of all columns j, with the earlier ones fixed: the least rise of the error, and the later weights that reach it,
    by least squares; where the first one is pruned it is OBS in closed form."""
    W, X = problem(seed, outputs=1)
    H = damped(X @ X.T)
    rises, solutions = [], []
    for j in range(I):
        later = list(range(j + 1, I))
        B = W.copy()
        B[0, j] = 0.0
        if later:  # (B - W)_later = H_ll^-1 H_lj w_j
            B[0, later] += np.linalg.lstsq(H[np.ix_(later, later)], H[later, j] * W[0, j], rcond=None)[0]
        rises.append(error(W, B, H))
        solutions.append(B)
    order = np.argsort(rises)
    assume(rises[order[1]] > rises[order[0]] * (1 + 1e-6))
    found = sparsegpt(W, X @ X.T, I - 1)
    np.testing.assert_allclose(found, solutions[order[0]], atol=1e-8)
    inverse = np.linalg.inv(H)
    if order[0] == 0:
        np.testing.assert_allclose(found[0], W[0] - W[0, 0] / inverse[0, 0] * inverse[:, 0], atol=1e-8)


@quick
@given(seeds, st.integers(1, 12), st.sampled_from([1, 2, 3, 128]))
def test_sparsegpt_keeps_k_weights_in_the_share_of_each_block(seed, k, block):
    W, X = problem(seed, outputs=3)
    found = sparsegpt(W, X @ X.T, k, block)
    assert np.count_nonzero(found) == k
    for end in range(block, I + 1, block):
        assert np.count_nonzero(found[:, :end]) == k * end // I


@quick
@given(seeds, st.integers(0, O * I))
def test_wanda_is_magnitude_pruning_for_orthonormal_inputs_and_ranks_by_their_norms_otherwise(seed, k):
    (W, X), rng = problem(seed), np.random.default_rng(seed)
    orthonormal = np.linalg.qr(rng.standard_normal((M, I)))[0].T  # (I, M)
    np.testing.assert_array_equal(wanda(W, orthonormal @ orthonormal.T, k) != 0, magnitude(W, k))
    scores = {(i, j): abs(W[i, j]) * np.sqrt(sum(x * x for x in X[j])) for i, j in np.ndindex(O, I)}
    kept = sorted(scores, key=lambda at: -scores[at])[:k]
    found = wanda(W, X @ X.T, k)
    assert {tuple(at) for at in np.argwhere(found).tolist()} == set(kept)
    assert all(found[at] == W[at] for at in kept)


# Networks


def images(N=7, side=6):
    rng = np.random.default_rng(3)
    return Records(rng.standard_normal((N, side, 2, side)), rng.integers(0, 3, N))


@pytest.mark.parametrize(
    "layer",
    [
        Conv2D(2, 3, 3),
        Conv2D(2, 3, 3, stride=2, padding=1),
        Conv2D(2, 3, 5, padding=2, bias=False),
        WinogradConv2D(2, 3, 3, padding=1),
        Pointwise(2, 3),
        Pointwise(2, 3, stride=2),
    ],
    ids=repr,
)
def test_the_gram_matrix_of_a_convolution_predicts_the_change_of_its_outputs(layer):
    """||(W - B) * x||^2, computed by two passes of the layer itself over all records, is tr (W - B) H (W - B)^T."""
    records, index = images(), np.array([[0, 2, 3, 6], [1, 1, 4, 5]])
    shape = layer.output_shape((6, 2, 6))
    net = Network(Sequential(layer, Flatten(), Dense(int(np.prod(shape)), 3)), (6, 2, 6), 2, "float64")
    net.initialise([np.random.default_rng(r) for r in range(2)])
    (inner, _) = net.weights
    H = gram(net, net.body.parts[0], records, index)
    before, W = net.body.parts[0], inner.value.copy()
    x, _ = records.batch(index, Workspace())
    first = before.forward(x.copy(), Workspace(training=False)).copy()
    inner.value[...] = np.random.default_rng(9).standard_normal(W.shape)
    change = before.forward(x.copy(), Workspace(training=False)) - first
    for r in range(2):
        expected = (change[r] ** 2).sum()
        np.testing.assert_allclose(error(W[r], inner.value[r], H[r]), expected, rtol=1e-9)


def test_the_gram_matrix_of_a_token_layer_is_that_of_all_positions():
    x = np.random.default_rng(4).standard_normal((6, 4, 3))  # records, positions, channels
    net = Network(Sequential(TokenDense(3, 2), TokenMean(), Dense(2, 2)), (4, 3), 2, "float64")
    index = np.array([[0, 2, 5], [1, 1, 4]])
    H = gram(net, net.body.parts[0], Records(x, np.zeros(6, int)), index)
    for r in range(2):
        every = x[index[r]].reshape(-1, 3)
        np.testing.assert_allclose(H[r], every.T @ every, rtol=1e-12)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_each_layer_is_pruned_for_the_inputs_that_the_pruned_layers_before_it_give(name, scope):
    rng, algorithm = np.random.default_rng(0), ALGORITHMS[name]
    x = rng.standard_normal((30, 5))
    net = Network(Sequential(Dense(5, 6), Tanh(), Dense(6, 3)), (5,), 2, "float64")
    net.theta[...] = rng.standard_normal(net.theta.shape)
    net.W[:, 30:] *= 3  # with one budget for all weights, the second layer keeps a larger share
    index = np.stack([rng.permutation(30)[:20] for _ in range(2)])
    theta, budget = net.theta.copy(), Budget(net, 0.4, scope)
    kept = budget.support(net.W)
    prune_layers(algorithm, net, budget, Records(x, np.zeros(30, int)), index)
    np.testing.assert_array_equal(net.theta[:, net.weight_count :], theta[:, net.weight_count :])
    for r in range(2):
        X = x[index[r]].T  # (5, 20)
        W1, W2 = theta[r, :30].reshape(6, 5), theta[r, 30:48].reshape(3, 6)
        b = theta[r, 48:54]
        found1 = algorithm(W1, X @ X.T, int(kept[r, :30].sum()))
        hidden = np.tanh(found1 @ X + b[:, None])
        found2 = algorithm(W2, hidden @ hidden.T, int(kept[r, 30:].sum()))
        np.testing.assert_allclose(net.W[r], np.concatenate([found1.ravel(), found2.ravel()]), atol=1e-8)
        assert np.count_nonzero(net.W[r]) <= 12 + 7 if scope == "layer" else 19


def test_what_cannot_be_pruned_layer_by_layer_is_refused_in_one_line():
    depthwise = Network(Sequential(DepthwiseConv2D(2, 3), Flatten(), Dense(32, 3)), (6, 2, 6), 1)
    dense = Network(Sequential(Dense(5, 3)), (5,), 1)
    with pytest.raises(ArgumentError, match=r"^DepthwiseConv2D\(2, 3.*\) has other inputs for each row of its weights"):
        check_prunable(depthwise, "unstructured", 4)
    with pytest.raises(ArgumentError, match=r"^scheme must be unstructured for layer-wise pruning, got 2:4"):
        check_prunable(dense, "2:4", 4)
    with pytest.raises(ArgumentError, match=r"^reference must be at least 1 for layer-wise pruning"):
        check_prunable(dense, "unstructured", 0)
    check_prunable(dense, "unstructured", 1)
    text = Network(Sequential(Embedding(9, 4), TokenMean(), Dense(4, 3)), (5,), 1)
    with pytest.raises(ArgumentError, match=r"^Embedding\(9, 4\) has an input for each word"):
        check_prunable(text, "unstructured", 4)
    assert [supports(name) for name in ("mlp", "lenet-5", "resnet18", "vgg16", "vit")] == [True] * 5
    assert [supports(name) for name in ("mobilenetv2", "transformer-text")] == [False] * 2


# In the comparison


@pytest.mark.parametrize("solver", list(ALGORITHMS))
def test_nothing_is_trained_and_only_reference_records_are_seen(solver):
    """Members and non-members may be anything: with other values of theirs the pruned network is the same."""
    data = load("digits")
    experiment = Experiment(data, small(keep=(0.25,)), [0], 1)
    dense = train_methods(experiment, "baseline")["baseline"]
    method = next(of for of in chosen(experiment.recipe, "all") if of.name == f"{solver}-0.25")
    (pruned,) = method.train(experiment, {"baseline": dense}, [0.25])
    assert pruned.net.nonzero().max() <= sum(size // 4 for size in (64 * 12, 12 * 8, 8 * 10))
    assert "loss" not in pruned.curves
    assert [step["step"] for step in pruned.steps[0]] == ["train", "prune"]
    for part, same in (("members", True), ("nonmembers", True), ("reference", False)):
        x = data.x.copy()
        x[experiment.indices(part)] = 0.5
        other = Experiment(dataclasses.replace(data, x=x), experiment.recipe, [0], 1, splits=experiment.splits)
        (again,) = method.train(other, {"baseline": dense}, [0.25])
        assert (again.net.theta == pruned.net.theta).all() == same


def test_a_finished_one_is_read_back_and_a_single_model_is_pruned(tmp_path):
    data, recipe, of = load("digits"), small(keep=(0.25,), solver="alps"), []
    for _ in range(2):
        experiment = Experiment(data, recipe, [0], 1, checkpoints=Checkpoints(tmp_path, {}))
        dense = experiment.dense("baseline")
        of.append(experiment.pruned(dense, [0.25])[0].net.theta)
    np.testing.assert_array_equal(*of)
    model = prune_model(train_model(data, recipe, 0, 1), data, recipe, 0.25, 1)
    np.testing.assert_array_equal(model.net.theta, of[0])


def test_without_reference_records_there_are_no_layer_wise_methods():
    names = {count: {of.name for of in chosen(small(reference=count, keep=(0.25,)), "all")} for count in (0, 5)}
    assert {"alps-0.25", "sparsegpt-0.25", "wanda-0.25"} <= names[5] - names[0]
