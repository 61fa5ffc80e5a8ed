"""Losses against the formula in plain floats, at ordinary logits and where exp overflows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.defend.log_softmax import log_softmax
from nanoprune.lab.verify.gradient import difference, direction
from nanoprune.nn import cross_entropy, log_loss, sigmoid, softmax
from nanoprune.nn.loss import one_hot

LOGIT = st.floats(-1e4, 1e4) | st.floats(-3, 3) | st.sampled_from([-1e4, 0.0, 1e4])
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def logits_and_labels(draw):
    R, classes, N = draw(st.integers(1, 3)), draw(st.integers(2, 5)), draw(st.integers(1, 4))
    flat = draw(st.lists(LOGIT, min_size=R * classes * N, max_size=R * classes * N))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=R * N, max_size=R * N))
    return np.array(flat).reshape(R, classes, N), np.array(labels).reshape(R, N)


def log_sum_exp(values: list[float]) -> float:
    largest = max(values)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def log1p_exp(z: float) -> float:
    return z + math.log1p(math.exp(-z)) if z > 0 else math.log1p(math.exp(z))


@settings(deadline=None, max_examples=60)
@given(logits_and_labels())
def test_cross_entropy_equals_the_formula(case):
    logits, y = case
    R, classes, N = logits.shape
    loss, gradient = cross_entropy(logits, y)
    for r in range(R):
        columns = [logits[r, :, n].tolist() for n in range(N)]
        expected = math.fsum(log_sum_exp(z) - z[y[r, n]] for n, z in enumerate(columns)) / N
        assert loss[r] == pytest.approx(expected, rel=1e-12, abs=1e-11)
        for n, z in enumerate(columns):
            for c in range(classes):
                p = math.exp(z[c] - log_sum_exp(z))
                assert gradient[r, c, n] == pytest.approx((p - (c == y[r, n])) / N, rel=1e-9, abs=1e-11)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(LOGIT, st.floats(0, 1) | st.sampled_from([0.0, 1.0])), min_size=1, max_size=6))
def test_log_loss_equals_the_formula(samples):
    z, t = (np.array(side)[None, None] for side in zip(*samples, strict=True))
    loss, gradient = log_loss(z, t)
    # -t log h - (1 - t) log(1 - h), with -log h = log(1 + exp(-z)) and -log(1 - h) = log(1 + exp(z))
    expected = math.fsum(ti * log1p_exp(-zi) + (1 - ti) * log1p_exp(zi) for zi, ti in samples) / len(samples)
    assert loss[0] == pytest.approx(expected, rel=1e-11, abs=1e-11)
    for n, (zi, ti) in enumerate(samples):
        assert gradient[0, 0, n] == pytest.approx((math.exp(-log1p_exp(-zi)) - ti) / len(samples), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_keep_the_dtype_and_are_finite_at_large_logits(dtype):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [0, 0]], dtype)[None]  # (1, 3, 2)
    loss, gradient = cross_entropy(logits, np.array([[0, 0]]))
    assert loss.dtype == gradient.dtype == dtype
    assert loss[0] == (0 + 2e4) / 2
    np.testing.assert_array_equal(gradient[0], [[0, -0.5], [0, 0.5], [0, 0]])
    z, t = np.array([1e4, -1e4, 1e4, -1e4], dtype), np.array([1, 0, 0, 1], dtype)
    loss, gradient = log_loss(z[None, None], t[None, None])
    assert loss.dtype == gradient.dtype == dtype
    assert loss[0] == 2e4 / 4
    np.testing.assert_array_equal(gradient[0, 0], [0, 0, 0.25, -0.25])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_and_sigmoid_at_ordinary_and_large_logits(dtype):
    z = np.array([1.0, -2.0, 0.5], dtype)
    total = sum(math.exp(v) for v in (1.0, -2.0, 0.5))
    np.testing.assert_allclose(softmax(z[None, :, None])[0, :, 0], [math.exp(v) / total for v in z], rtol=1e-6)
    np.testing.assert_array_equal(softmax(1e4 * z[None, :, None])[0, :, 0], [1, 0, 0])
    np.testing.assert_allclose(sigmoid(z), [1 / (1 + math.exp(-v)) for v in z], rtol=1e-6)
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 0, 1e4], dtype)), [0, 0.5, 1])
    assert softmax(z[None, :, None]).dtype == sigmoid(z).dtype == dtype


@settings(deadline=None, max_examples=60)
@given(logits_and_labels())
def test_softmax_equals_the_formula_sample_by_sample(case):
    """A sample with far larger logits, in the same replica or in another, changes nothing of the others."""
    logits, _ = case
    logits = np.concatenate([logits, logits + 1000], axis=-1)  # (R, classes, 2 N)
    p, log_p = softmax(logits), log_softmax(logits)
    assert p.shape == log_p.shape == logits.shape
    for r, c, n in np.ndindex(*logits.shape):
        of_sample = logits[r, :, n].tolist()
        assert p[r, c, n] == pytest.approx(math.exp(of_sample[c] - log_sum_exp(of_sample)), rel=1e-9, abs=1e-12)
        assert log_p[r, c, n] == pytest.approx(of_sample[c] - log_sum_exp(of_sample), rel=1e-9, abs=1e-9)


def test_one_hot_puts_a_one_at_each_label():
    y = np.array([[2, 0], [1, 1]])
    encoded = one_hot(y, 3, np.float32)
    assert encoded.dtype == np.float32
    for r, c, n in np.ndindex(2, 3, 2):
        assert encoded[r, c, n] == (1 if y[r, n] == c else 0)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 3), st.integers(2, 5), st.integers(1, 5))
def test_gradients_equal_central_differences(seed, R, classes, N):
    rng = np.random.default_rng(seed)
    logits, z, t = rng.standard_normal((R, classes, N)), rng.standard_normal((R, 1, N)), rng.random((R, 1, N))
    y, c = rng.integers(0, classes, (R, N)), rng.standard_normal(R)  # c weighs the replicas
    for x, loss in ((logits, lambda: cross_entropy(logits, y)), (z, lambda: log_loss(z, t))):
        v = direction(rng, x.shape)
        ours = float((c[:, None, None] * v * loss()[1]).sum())
        assert ours == pytest.approx(difference(lambda f=loss: float((c * f()[0]).sum()), x, v), rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(2, 9), st.data())
def test_shards_with_the_count_of_the_batch_add_up_to_the_batch(seed, N, data):
    rng = np.random.default_rng(seed)
    cut = data.draw(st.integers(1, N - 1))
    parts = (slice(0, cut), slice(cut, N))
    logits, z, t = rng.standard_normal((2, 4, N)), rng.standard_normal((2, 1, N)), rng.random((2, 1, N))
    y = rng.integers(0, 4, (2, N))
    for loss, a, b in ((cross_entropy, logits, y), (log_loss, z, t)):
        whole, gradient = loss(a, b)
        losses, gradients = zip(*(loss(a[..., part], b[..., part], N) for part in parts), strict=True)
        np.testing.assert_allclose(sum(losses), whole, rtol=1e-13)
        np.testing.assert_allclose(np.concatenate(gradients, axis=-1), gradient, rtol=1e-13)
