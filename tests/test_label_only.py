"""The label-only attack: its queries pixel by pixel, its model against another optimiser, and what it can detect."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from nanoprune.attack import network
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.experiment import defences
from nanoprune.lab.experiment.evaluate import LABEL_ONLY, Outputs, evaluate
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.label_only import DRAWS, FLIPS, NOISE, SHIFTS, Logistic, perturbations
from nanoprune.lab.experiment.methods import train_methods
from nanoprune.lab.experiment.queries import label_queries
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule


def generator():
    return np.random.default_rng(0)


def test_images_are_shifted_by_a_pixel_and_mirrored():
    X = np.random.default_rng(1).random((2, 4, 3, 5, 6)).astype(np.float32)  # (R, H, C, W, N)
    same, *shifted, mirrored = (change(X) for change in perturbations((4, 3, 5), False, generator()))
    np.testing.assert_array_equal(same, X)
    np.testing.assert_array_equal(mirrored, X[:, :, :, ::-1])
    for (down, right), view in zip(SHIFTS, shifted, strict=True):
        for h, w in np.ndindex(4, 5):
            inside = 0 <= h - down < 4 and 0 <= w - right < 5
            expected = X[:, h - down, :, w - right] if inside else 0
            np.testing.assert_array_equal(view[:, h, :, w], np.broadcast_to(expected, view[:, h, :, w].shape))
    assert same is not X


@pytest.mark.parametrize(("binary", "strengths"), [(True, FLIPS), (False, NOISE)])
def test_features_get_flips_where_they_are_bits_and_else_noise(binary, strengths):
    x = np.random.default_rng(2).random((1, 4000, 2))
    X = (np.round(x) if binary else 0.4 + 0.2 * x).astype(np.float32)
    same, *views = (change(X) for change in perturbations((4000,), binary, generator()))
    np.testing.assert_array_equal(same, X)
    assert len(views) == len(strengths) * DRAWS
    for i, view in enumerate(views):
        strength = strengths[i // DRAWS]
        assert view.dtype == np.float32
        moved = view - X
        np.testing.assert_allclose(moved[..., 0] != 0, moved[..., 1] != 0)  # the same query for every record
        if binary:
            assert set(np.unique(view)) <= {0, 1}
            share = (moved[..., 0] != 0).mean()
            assert abs(share - strength) < 5 * np.sqrt(strength * (1 - strength) / 4000)
        else:
            assert view.min() >= 0
            assert view.max() <= 1
            assert abs(np.std(moved[..., 0]) / strength - 1) < 0.1
    assert any((a != b).any() for a, b in itertools.pairwise(views))


def test_binary_data_sets_are_recognised():
    x = np.random.default_rng(3).integers(0, 2, (20, 6))
    bits = Dataset.of("bits", x, np.arange(20) % 2, 2)
    grey = Dataset.of("grey", x + (np.arange(20)[:, None] == 3) * 0.5 * (x == 0), np.arange(20) % 2, 2)
    ones = np.ones((1, 6, 1), np.float32)
    assert all(np.isin(change(ones), (0, 1)).all() for change in label_queries(bits))
    assert not all(np.isin(change(ones), (0, 1)).all() for change in label_queries(grey))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 40), st.integers(2, 40))
def test_the_logistic_model_is_the_minimum_that_another_optimiser_finds(seed, d, members, others):
    rng = np.random.default_rng(seed)
    member = np.arange(members + others) < members
    X = (rng.random((len(member), d)) < 0.4 + 0.3 * member[:, None]).astype(float)

    def objective(w):
        z = X @ w[:-1] + w[-1]
        sides = [np.log1p(np.exp(-z[member])).mean(), np.log1p(np.exp(z[~member])).mean()]
        return len(member) / 2 * sum(sides) + 0.5 * (w[:-1] ** 2).sum()

    found = Logistic.fit(X, member)
    best = minimize(objective, np.zeros(d + 1), method="BFGS", options={"gtol": 1e-7})
    assert objective(found.w) <= best.fun + 1e-7
    np.testing.assert_allclose(found.w, best.x, atol=2e-3)
    np.testing.assert_allclose(found.scores(X), X @ found.w[:-1] + found.w[-1])


@pytest.fixture
def few_epochs(monkeypatch):
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)


def hidden(rng, n, gap):
    """Outputs that are the same for every record, and copies on which members are right more often, by `gap`."""
    member = np.arange(2 * n) < n
    p = np.full((2, 2 * n, 4), 0.25)
    right = rng.random((2, 2 * n, 10)) < 0.5 + gap * member[:, None]
    return Outputs(p, np.zeros((2, 2 * n), int), member, right)


@pytest.mark.usefixtures("few_epochs")
def test_it_finds_leaks_that_outputs_hide_and_no_others():
    rng = np.random.default_rng(5)
    for gap in (0.3, 0.0):
        found = evaluate(hidden(rng, 200, gap), hidden(rng, 1000, gap), [generator(), generator()])
        for name, outcome in found.items():
            if name == LABEL_ONLY and gap:  # the best rule: more than 6 of 10 right; 0.879 by the binomial distribution
                assert (outcome.accuracy > 0.8).all()
            else:
                np.testing.assert_allclose(outcome.accuracy, 0.5, atol=4 * 0.5 / np.sqrt(2000), err_msg=name)
    known, scored = hidden(rng, 50, 0.3), hidden(rng, 50, 0.3)
    without = evaluate(dataclasses.replace(known, right=None), scored, [generator(), generator()])
    assert LABEL_ONLY not in without


@pytest.mark.usefixtures("few_epochs")
def test_no_scored_record_fits_the_model():
    rng = np.random.default_rng(6)
    known, scored = hidden(rng, 60, 0.3), hidden(rng, 60, 0.3)
    found, flipped = (
        evaluate(known, of, [generator(), generator()])[LABEL_ONLY]
        for of in (scored, dataclasses.replace(scored, member=~scored.member))
    )
    np.testing.assert_array_equal(found.scores, flipped.scores)
    np.testing.assert_allclose(flipped.accuracy, 1 - found.accuracy)


@pytest.mark.usefixtures("few_epochs")
def test_defences_of_the_outputs_change_no_label_and_so_nothing_for_the_label_only_attack(monkeypatch):
    """Every defence of the outputs keeps the predicted class, on perturbed copies too; the attack is the baseline's."""
    monkeypatch.setattr("nanoprune.lab.experiment.memguard.STEPS", 20)
    plan = Schedule(epochs=8, batch=16)
    recipe = recipe_for(load("digits"), members=60, reference=20, nonmembers=60, minmax=0.0)
    quick = {"dense": plan, "prune": plan, "retrain": plan, "admm": ADMMSettings(rho=0.1, iterations=2)}
    experiment = Experiment(load("digits"), dataclasses.replace(recipe, widths=(12, 8), **quick), [0, 1], 1)
    trained = train_methods(experiment, ",".join(defences.OUTPUTS))
    outcomes = experiment.attack(trained)
    logits = experiment.logits(trained["baseline"].net, "nonmembers")
    noisy = logits + np.random.default_rng(0).normal(size=logits.shape).astype(logits.dtype)
    for name in defences.OUTPUTS:
        for z in (logits, noisy):
            np.testing.assert_array_equal(trained[name].outputs(z).argmax(axis=2), z.argmax(axis=2))
        np.testing.assert_array_equal(outcomes[name][LABEL_ONLY].scores, outcomes["baseline"][LABEL_ONLY].scores)
        assert (outcomes[name]["confidence"].scores != outcomes["baseline"]["confidence"].scores).any()
