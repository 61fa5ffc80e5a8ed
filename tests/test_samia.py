"""SAMIA: the sensitivity of outputs against the derivative, what its network is given and learns, old files."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import norm

from nanoprune.attack.metrics import auc
from nanoprune.attack.shadow.samia import fit_samia, samia_features
from nanoprune.lab.audit import samia_attention
from nanoprune.lab.audit.samia_attention import attention_network, fit_samia_attention, tokens_of
from nanoprune.lab.audit.sensitivity import sensitivity
from nanoprune.lab.audit.shadow_attacks import left_out, shadow_attacks
from nanoprune.lab.audit.views import Views
from nanoprune.lab.data import Dataset
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.layers import Attention
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Dense
from nanoprune.nn.sequential import leaves
from nanoprune.records import Records, predict

quick = settings(deadline=None, max_examples=40)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with single_threaded_blas():
        yield


def softmax_regression(replicas: int, seed: int = 0):
    """Networks without a hidden layer, so that dp/dx is known: p = softmax(W x + b)."""
    net = build(describe("mlp", (5,), 3, []), replicas).initialise(
        [np.random.default_rng([seed, r]) for r in range(replicas)]
    )
    net.theta[...] *= 3
    return net


def records(n: int, seed: int = 1) -> Dataset:
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, [9, 9, 2, 5, 1], (n, 5)).astype(np.uint8)  # the last feature never changes
    return Dataset.of("levels", levels, np.arange(n) % 3, 3, scale=8)


def test_sensitivity_is_the_mean_size_of_the_derivative_along_the_noise():
    """|J D u| of normal u is half-normal: its mean is sqrt(2/pi) |J D|, J = dp/dx, D the features' deviations."""
    net, data, index = softmax_regression(2), records(1200), np.arange(40)
    spread = data.x[index].std(axis=0, dtype=np.float64)
    found = sensitivity(net, data, np.tile(index, 60), 1).reshape(2, 60, 40, 3).mean(axis=1)  # 600 draws of the noise
    W = net.weights[0].value.astype(np.float64)
    b = net.biases[0].value.astype(np.float64)
    for r in range(2):
        p = softmax(data.x[index] @ W[r].T + b[r].T, axis=1)
        for i, c in np.ndindex(40, 3):
            gradient = p[i, c] * (W[r, c] - p[i] @ W[r])
            expected = math.sqrt(2 / math.pi) * np.linalg.norm(gradient * spread)
            assert found[r, i, c] == pytest.approx(expected, rel=0.15), (r, i, c)  # 600 draws: 3% standard error


def test_the_noise_depends_on_neither_the_replicas_nor_the_threads():
    net, data, index = softmax_regression(3), records(60), np.arange(60)[::-1].copy()
    whole = sensitivity(net, data, index, 1)
    np.testing.assert_array_equal(sensitivity(net, data, index, 2), whole)
    np.testing.assert_allclose(sensitivity(net.shard(slice(1, 2)), data, index, 1)[0], whole[1], rtol=1e-3, atol=1e-4)


def test_outputs_that_do_not_change_have_no_sensitivity():
    net, data = softmax_regression(1), records(30)
    net.weights[0].value[...] = 0
    assert (sensitivity(net, data, np.arange(30), 1) == 0).all()
    net.weights[0].value[..., 4] = 5  # of the feature that never changes
    assert (sensitivity(net, data, np.arange(30), 1) == 0).all()


@quick
@given(st.integers(0, 10_000))
def test_the_features_are_log_p_log_s_and_the_label(seed):
    rng = np.random.default_rng(seed)
    logits, s, y = (
        rng.normal(0, 3, (2, 4, 3)).astype(np.float32),
        rng.exponential(1, (2, 4, 3)) + 0.01,
        rng.integers(0, 3, 4),
    )
    found = samia_features(logits, s, y)
    for k, i, c in np.ndindex(2, 4, 3):
        total = math.fsum(math.exp(float(z)) for z in logits[k, i])
        assert found[k, i, c] == pytest.approx(float(logits[k, i, c]) - math.log(total), abs=1e-9)
        assert found[k, i, 3 + c] == pytest.approx(math.log(s[k, i, c]), abs=1e-9)
        assert found[k, i, 6 + c] == (c == y[i])


def test_features_of_certain_predictions_are_finite():
    assert np.isfinite(samia_features(np.float32([[1e4, -1e4]]), np.zeros((1, 2)), np.array([1]))).all()


def known_outputs(seed: int, n: int):
    """Features of which the label's sensitivity alone tells members: log s N(1.5, 1) of members, N(0, 1) of others."""
    rng = np.random.default_rng(seed)
    y, member = rng.integers(0, 3, n), rng.random(n) < 0.5
    log_s = rng.standard_normal((n, 3))
    log_s[np.arange(n), y] += 1.5 * member
    return samia_features(rng.normal(0, 2, (n, 3)), np.exp(log_s), y), member


@pytest.mark.parametrize(("learn", "seen"), [(fit_samia, np.asarray), (fit_samia_attention, tokens_of)])
def test_the_network_learns_what_sensitivity_and_label_say_together(learn, seen):
    """The optimum is Phi(1.5 / sqrt 2); without the label the three sensitivities say less."""
    known, is_member = known_outputs(0, 20_000)
    h = learn(seen(known), is_member)
    features, member = known_outputs(1, 8000)
    best = norm.cdf(1.5 / math.sqrt(2))
    scores = h.scores(seen(features))
    assert best - 0.04 < auc(scores[member], scores[~member]) < best + 0.015
    largest = features[:, 3:6].sum(axis=1)
    assert auc(largest[member], largest[~member]) < best - 0.06


def test_a_token_is_what_is_known_of_one_class():
    features = np.arange(2 * 5 * 12).reshape(2, 5, 12)
    tokens = tokens_of(features)
    assert tokens.shape == (2, 5, 4, 3)
    for k, i, c in np.ndindex(2, 5, 4):
        assert list(tokens[k, i, c]) == [features[k, i, c], features[k, i, 4 + c], features[k, i, 8 + c]]


@pytest.mark.parametrize("classes", [2, 7])
def test_the_network_of_the_authors_has_the_parameters_of_its_shapes(classes):
    """3 to 64; three encoder layers of width 64, 4 heads and 128 hidden units; all classes to 64; 64 to 1."""
    affine = lambda a, b: (a + 1) * b  # noqa: E731
    block = affine(64, 3 * 64) + affine(64, 64) + affine(64, 128) + affine(128, 64) + 2 * 2 * 64
    net = attention_network(classes)
    assert net.size == affine(3, 64) + 3 * block + affine(64 * classes, 64) + affine(64, 1)
    assert (net.input_shape, net.output_shape) == ((classes, 3), (1,))
    assert [layer.heads for layer in leaves(net.body) if isinstance(layer, Attention)] == [4, 4, 4]


def test_the_last_layers_of_the_attention_network_know_the_classes_apart():
    """Records whose classes change places are the same to attention, not to the layers that see all of them."""
    net = attention_network(4).initialise([np.random.default_rng(0)])
    x = np.random.default_rng(1).standard_normal((50, 4, 3)).astype(np.float32)
    rows, order = np.arange(50)[None], [2, 0, 3, 1]
    one, other = (predict(net, Records(records, np.zeros(50)), rows)[0, :, 0] for records in (x, x[:, order]))
    assert np.abs(one - other).max() > 0.01
    dense = next(layer for layer in net.body.layers() if isinstance(layer, Dense))
    W = dense.W.value.reshape(1, 64, 4, 64)
    W[...] = W[:, :, order].copy()  # channels of class c move with it
    np.testing.assert_allclose(predict(net, Records(x[:, order], np.zeros(50)), rows)[0, :, 0], one, atol=1e-4)


def test_the_attention_network_is_fitted_to_at_most_so_many_pairs_and_is_repeatable(monkeypatch):
    monkeypatch.setattr(samia_attention, "STEPS", 2)
    rng = np.random.default_rng(6)
    tokens, member = rng.standard_normal((60, 3, 3)), np.arange(60) % 3 == 0
    once, again, other = (fit_samia_attention(tokens, member, *seed) for seed in ((), (0,), (1,)))
    np.testing.assert_array_equal(once.scores(tokens), again.scores(tokens))
    assert (once.scores(tokens) != other.scores(tokens)).any()
    np.testing.assert_allclose(once.mean, tokens.mean(axis=0))
    monkeypatch.setattr(samia_attention, "MOST", 20)
    assert np.abs(fit_samia_attention(tokens, member).mean - tokens.mean(axis=0)).max() > 1e-3


def views(seed: int, gap: float, shadows: int = 8, n: int = 600) -> tuple[Views, np.ndarray]:
    rng = np.random.default_rng(seed)
    half = np.stack([rng.permutation(n) < n // 2 for _ in range(shadows // 2)])
    inside = np.stack([half, ~half], axis=1).reshape(shadows, n)
    member, y = rng.permutation(n) < n // 2, rng.integers(0, 3, n)
    log_s = rng.standard_normal((shadows + 1, n, 3))
    log_s[:, np.arange(n), y] += gap * np.vstack([inside, member])
    logits = {"train": rng.normal(0, 1, log_s.shape).astype(np.float32)}
    none = np.empty((shadows + 1, 0, 3), np.float32), None, y, np.empty(0, np.int64)
    return Views(inside, logits, *none, sensitivity=np.exp(log_s).astype(np.float32)), member


@pytest.mark.parametrize("name", ["samia", "samia_attention"])
@pytest.mark.parametrize("gap", [0.0, 1.5])
def test_a_target_is_attacked_by_what_its_shadows_teach(gap, name, monkeypatch):
    monkeypatch.setattr(samia_attention, "STEPS", 150)
    of, member = views(2, gap)
    scores = shadow_attacks(of, {name})[name](8, np.arange(8))
    tolerance = 4 * math.sqrt(601 / (12 * 300**2))
    assert auc(scores[member], scores[~member]) == pytest.approx(norm.cdf(gap / math.sqrt(2)), abs=tolerance)


def test_shadows_of_an_older_file_are_named_as_the_reason():
    of = dataclasses.replace(views(3, 0.0)[0], sensitivity=None)
    assert shadow_attacks(of, {"samia"}) == {}
    (said,) = left_out(of, {"samia"})
    assert said.startswith("samia: needs outputs for noisy copies")
    assert left_out(of, {"lira_online"}) == {}
