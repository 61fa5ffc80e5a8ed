"""The certificate passes, and fails for a package with a mistake."""

import dataclasses
import math

import numpy as np
import pytest

from nanoprune.lab.verify import Check, certificate, reference, run, theory
from nanoprune.lab.verify.certificate import compare
from nanoprune.lab.verify.gradient import apart
from nanoprune.nn import Conv2D, Dense, MaxPool, ReLU
from nanoprune.prune import ADMM


@pytest.fixture(scope="module")
def checks() -> list[Check]:
    return list(run())


def failed() -> list[str]:
    return [check.name for check in run() if not check.passed]


def test_every_check_passes(checks):
    assert [check.line() for check in checks if not check.passed] == []


def test_names_are_unique_and_cover_every_subject(checks):
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    layers = ("Dense", "Conv2D", "MaxPool", "ReLU", "Tanh", "Flatten", "Dropout", "Branches", "Sequential", "LeNet-5")
    for word in (*layers, "attack network", "cross_entropy", "log_loss", "gain", "penalty", "nested loops"):
        assert any(word in name for name in names), word
    for word in ("projection", "ADMM", "AUC", "ROC", "TPR", "balanced accuracy", "threshold", "modified entropy"):
        assert any(word in name for name in names), word


def test_each_line_is_one_line_with_both_numbers(checks):
    for check in checks:
        line = check.line()
        assert "\n" not in line
        for part in (check.name, f"ours {check.ours:>17.10g}", f"oracle {check.oracle:>17.10g}", "ok"):
            assert part in line


def test_the_certificate_is_the_same_on_every_run(checks):
    for check, again in zip(checks[:10], run(), strict=False):
        assert dataclasses.asdict(check) == dataclasses.asdict(again)


def test_a_wrong_derivative_is_reported(monkeypatch):
    backward = ReLU.backward
    monkeypatch.setattr(ReLU, "backward", lambda self, dY, ws: (backward(self, dY, ws), dY)[1])
    names = failed()
    assert "gradient of ReLU, input" in names
    assert "gradient of LeNet-5, parameters" in names
    assert "gradient of Tanh, input" not in names


def test_a_bias_gradient_that_is_slightly_off_is_reported(monkeypatch):
    backward = Dense.backward

    def off(self, dY, ws, need_dX=True, need_dW=True):
        dX = backward(self, dY, ws, need_dX, need_dW)
        self.b.grad *= 1.001
        return dX

    monkeypatch.setattr(Dense, "backward", off)
    names = failed()
    assert "gradient of Dense, parameters" in names
    assert "gradient of Dense, input" not in names


def test_mixed_up_replicas_are_reported(monkeypatch):
    backward = Conv2D.weight_gradient

    def swapped(self, dY, ws, *saved):
        backward(self, dY, ws, *saved)
        self.W.grad[...] = self.W.grad[::-1].copy()

    monkeypatch.setattr(Conv2D, "weight_gradient", swapped)
    assert "gradient of Conv2D stride 2 padding 1, parameters" in failed()


def test_a_penalty_without_the_dual_variable_is_reported(monkeypatch):
    def add_penalty_gradient(self, net):
        net.dW[...] += self._rho * (net.W - self.Z)

    monkeypatch.setattr(ADMM, "add_penalty_gradient", add_penalty_gradient)
    assert failed() == ["gradient of the ADMM penalty"]


def test_a_projection_with_reversed_ties_is_reported(monkeypatch):
    project = certificate.project
    monkeypatch.setattr(certificate, "project", lambda W, k: project(W[::-1], k)[::-1])
    assert failed() == ["projection with ties, every k, all supports"]


def test_a_check_that_raises_is_reported_and_the_others_continue(monkeypatch, checks):
    def forward(self, X, ws):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(MaxPool, "forward", forward)
    broken = list(run())
    assert [check.name for check in broken] == [check.name for check in checks]
    lines = [check.line() for check in broken if not check.passed]
    assert any("MaxPool(2), input" in line for line in lines)
    assert all(line.startswith("FAILED") and "ZeroDivisionError: broken" in line for line in lines)


@pytest.mark.parametrize(
    ("ours", "oracle", "passed"),
    [
        (1.0, 1.0, True),
        (1.0 + 1e-7, 1.0, True),
        (1.0 + 1e-5, 1.0, False),
        (1e6 + 0.1, 1e6, True),
        (1e-5, 0.0, False),
        (1e-7, 0.0, True),
        (math.nan, 1.0, False),
        (1.0, math.nan, False),
        (math.inf, 1.0, False),
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.0], [2.0, 1.0], False),
        ([1.0, 1.0], 1.0, False),
    ],
)
def test_compare(ours, oracle, passed):
    check = compare("name", 1e-6, ours, oracle)
    assert check.passed is passed
    assert ("ok" if passed else "FAILED") in check.line()


def test_references_by_hand():
    """The oracles themselves, on cases that are easy to compute by hand."""
    image, kernel = np.arange(9.0).reshape(1, 3, 1, 3, 1), np.array([[[1.0, 0, 0, -1]]])  # 1 0 / 0 -1
    np.testing.assert_array_equal(
        reference.convolution(image, kernel, np.ones((1, 1, 1)), 2, 1, 0).ravel(), [0 - 4 + 1, 1 - 5 + 1, 3 - 7 + 1, -3]
    )
    np.testing.assert_array_equal(reference.max_pool(image, 2)[0].ravel(), [4])
    np.testing.assert_array_equal(reference.projection(np.array([1.0, -3, 3, 2]), 2), [0, -3, 3, 0])
    np.testing.assert_array_equal(reference.projection(np.array([1.0, -1, 1]), 2), [1, -1, 0])
    np.testing.assert_allclose(reference.sparse_least_squares(np.eye(3), np.array([1.0, -5, 2]), 1), [0, -5, 0])
    members, nonmembers = np.array([3, 2, 2]), np.array([2, 1])
    assert reference.auc(members, nonmembers) == (2 + 1.5 + 1.5) / 6
    assert reference.roc(members, nonmembers) == [(0, 0), (0, 1 / 3), (1 / 2, 1), (1, 1)]
    assert reference.tpr_at_fpr(members, nonmembers, 0.5) == 1
    assert reference.tpr_at_fpr(members, nonmembers, 0.4) == 1 / 3
    assert reference.best_balanced_accuracy(members, nonmembers) == 0.75
    p = np.array([[0.5, 0.25, 0.25]])
    expected = -0.75 * math.log(0.25) - 0.5 * math.log(0.5) - 0.25 * math.log(0.75)
    np.testing.assert_allclose(reference.modified_entropy(p, np.array([1])), [expected])


@pytest.mark.parametrize("shape", [(1,), (2,), (5, 3), (2, 3, 4)])
def test_apart_is_away_from_zero_and_from_ties(shape):
    values = np.sort(apart(np.random.default_rng(0), shape).ravel())
    n = len(values)
    assert np.abs(values).min() >= 1 / n - 1e-12
    assert n == 1 or np.diff(values).min() >= 4 / n - 1e-12


@pytest.mark.parametrize(
    ("name", "wrong", "check"),
    [
        ("dp_advantage", lambda epsilon, delta=0.0: math.tanh(epsilon / 4), theory.dp_bound),
        ("dp_advantage", lambda epsilon, delta=0.0: math.tanh(epsilon), theory.dp_randomised_response),
        ("compression_advantage", lambda bits, records: 0.5 * math.sqrt(bits * math.log(2) / (2 * records)), None),
        ("project", lambda v, k: np.where(np.abs(v) <= np.sort(np.abs(v))[k - 1], v, 0), theory.admm_descent),
        ("quad", lambda *a, **k: (1.0, 0.0), theory.gibbs),
    ],
)
def test_a_theorem_that_is_wrong_is_reported(monkeypatch, name, wrong, check):
    """A bound that is too small, a projection on the smallest weights, a threshold that is not the record's own."""
    check = check or theory.compression
    assert compare("as it is", 1e-9, *check()).passed
    monkeypatch.setattr(theory, name, wrong)
    assert not compare("wrong", 1e-9, *check()).passed


def test_an_admm_whose_dual_variable_is_off_is_reported(monkeypatch):
    update = ADMM.update

    def off(self, net, loss):
        row = update(self, net, loss)
        self.U *= 0.99
        self.target = self.Z - self.U
        return row

    monkeypatch.setattr(ADMM, "update", off)
    assert not compare("dual", 1e-9, *theory.admm_dual()).passed
    assert not compare("fixed points", 1e-9, *theory.admm_fixed_points()).passed
