"""Canaries: which records, labels and coins, training on them, and the coverage of the bound on epsilon."""

import dataclasses
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

import cli
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.canaries import audit_canaries, bounds, canaries_of
from nanoprune.lab.audit.shadows import outputs, repeated
from nanoprune.lab.data import Dataset, load, make_split
from nanoprune.lab.data.canaries import draw_canaries, kept_canaries
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.experiment.shard import generators
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.lab.zoo import build
from nanoprune.prune import ADMMSettings
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train

quick = settings(deadline=None, max_examples=40)
COUNT = 200


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with single_threaded_blas():
        yield


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def split_of(dataset: Dataset, seed: int = 0):
    return make_split(dataset, 120, 40, 100, seed)


# --- the draw --------------------------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 10_000), st.integers(16, 400))
def test_canaries_are_mislabelled_records_outside_the_split(seed, count):
    dataset = load("digits")
    split = split_of(dataset, seed)
    found = draw_canaries(dataset, split, count, seed)
    assert len(set(found.rows)) == count
    assert not set(found.rows) & {*split.members, *split.reference, *split.nonmembers}
    assert (found.labels != dataset.y[found.rows]).all()
    assert set(found.labels) <= set(range(10))
    again = draw_canaries(dataset, split, count, seed)
    assert (again.sha256, again.record()) == (found.sha256, found.record())
    assert kept_canaries(dataset, split, seed, json.loads(json.dumps(found.record()))).sha256 == found.sha256


def test_coins_are_fair_and_labels_uniform_and_both_independent_of_the_records(digits):
    """Over 300 seeds; within 5 standard errors."""
    all_coins, shifts, by_label = [], [], []
    for seed in range(300):
        found = draw_canaries(digits, split_of(digits, seed), COUNT, seed)
        all_coins.append(found.inserted)
        shifts.append((found.labels - digits.y[found.rows]) % 10)
        by_label.append(found.inserted[digits.y[found.rows] < 5])
    coins = np.array(all_coins)
    assert abs(coins.mean() - 0.5) < 5 * 0.5 / math.sqrt(coins.size)
    assert abs(np.concatenate(by_label).mean() - 0.5) < 5 * 0.5 / math.sqrt(len(np.concatenate(by_label)))
    assert coins.sum(axis=1).var() == pytest.approx(COUNT / 4, rel=5 * math.sqrt(2 / 300))  # independent of each other
    counts = np.bincount(np.concatenate(shifts), minlength=10)
    assert counts[0] == 0
    assert np.abs(counts[1:] - coins.size / 9).max() < 5 * math.sqrt(coins.size / 9)


def test_the_inserted_ones_are_trained_on_and_nothing_else_changes(digits):
    split = split_of(digits)
    found = draw_canaries(digits, split, COUNT, 0)
    data, trained = found.trained_on(digits, split)
    assert set(trained.members) == set(split.members) | set(found.rows[found.inserted])
    assert len(trained.members) == 120 + found.inserted.sum()
    for name in ("reference", "nonmembers", "known_members", "scored_nonmembers"):
        np.testing.assert_array_equal(getattr(trained, name), getattr(split, name))
    np.testing.assert_array_equal(data.y[found.rows], found.labels)
    others = np.setdiff1d(np.arange(1797), found.rows)
    np.testing.assert_array_equal(data.y[others], digits.y[others])
    assert data.x is digits.x
    assert not np.array_equal(data.y, load("digits").y)


def test_what_cannot_be_drawn_is_refused(digits):
    split = split_of(digits)
    for count in (0, 15, 40_001):
        with pytest.raises(ArgumentError, match=f"canaries must be 16 to 40,000, got {count}"):
            draw_canaries(digits, split, count, 0)
    with pytest.raises(ArgumentError, match="of which there are 1,537, got 1,538"):
        draw_canaries(digits, split, 1538, 0)
    groups = dataclasses.replace(digits, groups=np.arange(1797) // 2)
    groups = dataclasses.replace(groups, groups=np.unique(groups.groups, return_inverse=True)[1].astype(np.int64))
    with pytest.raises(ArgumentError, match="come in groups"):
        draw_canaries(groups, split, COUNT, 0)


def test_other_canaries_than_the_model_has_are_refused(digits):
    split = split_of(digits)
    record = draw_canaries(digits, split, COUNT, 0).record()
    flipped = f"{int(record['inserted'][0], 16) ^ 8:x}" + record["inserted"][1:]
    for wrong in (record | {"inserted": flipped}, record | {"sha256": "0" * 64}, record | {"count": COUNT - 1}):
        with pytest.raises(DataError, match="other ones are drawn here"):
            kept_canaries(digits, split, 0, wrong)
    with pytest.raises(DataError, match="not those of this data set"):
        kept_canaries(digits, split, 0, record | {"count": 5})


# --- the bound -------------------------------------------------------------------------------------------------------


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Of the Gaussian mechanism with sensitivity / noise = mu (Balle & Wang 2018)."""

    def excess(epsilon: float) -> float:
        return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - delta

    return brentq(excess, 0, 100)


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.5])
def test_the_bound_is_at_most_the_epsilon_of_the_mechanism(mu):
    """The Gaussian mechanism, each canary in a direction of its own: at most 5% of the runs may exceed its epsilon."""
    rng, runs, count, delta, alpha = np.random.default_rng(int(10 * mu)), 200, 200, 1e-5, 0.05
    epsilon, exceeded = gaussian_epsilon(mu, delta), dict.fromkeys(("any", "gaussian"), 0)
    for _ in range(runs):
        inserted = rng.random(count) < 0.5
        found = bounds(mu * inserted + rng.standard_normal(count), inserted, alpha, delta)
        for name in exceeded:
            exceeded[name] += found["epsilon_with_delta"][name] > epsilon
    assert max(exceeded.values()) <= binom.ppf(0.999, runs, alpha), exceeded


def test_randomised_response_is_bounded_at_delta_0():
    """Each coin is published, and with probability 1 / (1 + e^epsilon) the other side of it; the bound is near it."""
    rng, epsilon, runs, exceeded, found = np.random.default_rng(0), 1.5, 80, 0, []
    for _ in range(runs):
        inserted = rng.random(1000) < 0.5
        flipped = rng.random(1000) < 1 / (1 + math.exp(epsilon))
        scores = (inserted ^ flipped) + 1e-6 * rng.random(1000)  # no ties
        found.append(bounds(scores, inserted, 0.05, 1e-5)["epsilon_lower_bound"])
        exceeded += found[-1] > epsilon
    assert exceeded <= binom.ppf(0.999, runs, 0.05)
    assert np.median(found) > 1.1


def test_coins_that_are_known_give_the_limit_of_all_right():
    """The largest set of guesses, half of M of one kind, all right: q >= (alpha / 12)^(1/100), of 2 x 5 sets or so."""
    inserted = np.arange(COUNT) % 2 == 0
    found = bounds(inserted + np.linspace(0, 0.1, COUNT), inserted, 0.05, 1e-5)
    sets = 2 * len([100, 50, 25, 12])
    q = (0.05 / sets) ** (1 / 100)
    assert found["epsilon_lower_bound"] == pytest.approx(math.log(q / (1 - q)), rel=1e-6)
    assert found["auc"]["value"] == 1


def test_the_odds_of_a_coin_are_even_however_many_fell_heads():
    """With 70 of 100 heads a constant guess is right in 70%: that excludes fair odds at epsilon 0, as it must."""
    inserted = np.arange(100) < 70
    scores = np.where(inserted, 1.0, 0.0) + np.linspace(0, 0.1, 100)
    q = (0.05 / (2 * 3)) ** (1 / 50)  # 50, 25 and 12 guesses of either kind
    assert bounds(scores, inserted, 0.05, 1e-5)["epsilon_lower_bound"] == pytest.approx(math.log(q / (1 - q)), rel=1e-6)


def test_coins_that_all_fell_alike_bound_nothing():
    for coin in (True, False):
        found = bounds(np.arange(20.0), np.full(20, coin), 0.05, 1e-5)
        assert (found["epsilon_lower_bound"], found["epsilon_with_delta"]) == (0, {"any": 0, "gaussian": 0})
        assert found["auc"] is None


# --- models ----------------------------------------------------------------------------------------------------------


def recipe(dataset: Dataset, **changes):
    fields = {
        "widths": (128,),
        "minmax": 0.0,
        "keep": (0.5,),
        "dense": Schedule(epochs=60, batch=32, lr=0.1),
        "prune": Schedule(epochs=10, batch=32, lr=0.05),
        "retrain": Schedule(epochs=10, batch=32, lr=0.05),
        "admm": ADMMSettings(rho=0.1, iterations=5),
    }
    return dataclasses.replace(recipe_for(dataset, members=120, reference=40, nonmembers=100), **(fields | changes))


@pytest.fixture(scope="module")
def model(digits):
    return train_model(digits, recipe(digits), 0, 1, canaries=COUNT)


def test_it_is_trained_on_the_members_and_the_inserted_canaries(digits, model):
    """Against `train` itself, on arrays put together by hand."""
    split = split_of(digits)
    found = canaries_of(model, digits)
    y = digits.y.copy()
    y[found.rows] = found.labels
    members = np.concatenate([split.members, found.rows[found.inserted]])
    net = build(model.net.description).initialise(generators([0], "initial"))
    train(net, Records(digits.x, y), members[None], recipe(digits).dense, generators([0], "train"))
    index = np.arange(400)
    np.testing.assert_allclose(outputs(model.net, digits, index, 1), outputs(net, digits, index, 1), atol=2e-3)
    right = outputs(model.net, digits, split.members, 1)[0].argmax(axis=1) == digits.y[split.members]
    assert model.steps[-1]["accuracy"]["train"] == pytest.approx(right.mean())  # of the members alone


def test_a_model_without_privacy_gives_a_positive_bound_and_so_does_the_pruned_one(digits, model):
    pruned = prune_model(model, digits, recipe(digits), 0.5, 1)
    for of in (model, pruned):
        found = audit_canaries(of, digits)
        assert found["canaries"] == COUNT
        assert found["auc"]["low"] > 0.9
        assert found["epsilon_lower_bound"] > 1.5
        assert found["epsilon_with_delta"]["any"] > 1.5
        assert found["claimed"] is found["refuted"] is None
    assert audit_canaries(model, digits, alpha=1e-6)["epsilon_lower_bound"] < found["epsilon_lower_bound"]


def test_a_model_that_was_trained_on_none_of_them_gives_none(digits, model):
    """The same file with the weights of a network that only saw the members."""
    without = train_model(digits, recipe(digits), 0, 1)
    found = audit_canaries(dataclasses.replace(model, net=without.net), digits, alpha=0.001)
    assert found["epsilon_lower_bound"] == 0
    assert found["auc"]["low"] < 0.5 < found["auc"]["high"]


def test_dp_sgd_keeps_its_promise(digits):
    private = dataclasses.replace(recipe(digits).private, epochs=6, batch=64, lr=0.5)
    plan = dataclasses.replace(recipe(digits), private=private)
    for seed in range(3):
        made = train_model(digits, plan, seed, 1, epsilon=1.0, canaries=COUNT)
        found = audit_canaries(made, digits, alpha=0.01)
        assert found["claimed"]["epsilon"] <= 1.0
        assert found["delta"] == found["claimed"]["delta"] == private.delta
        assert found["refuted"] is False
        assert found["epsilon_with_delta"]["any"] <= 1.0
    broken = made.steps[0] | {"canaries": canaries_of(made, digits).record()}
    scores_leak = dataclasses.replace(made, steps=[broken])
    leaky = train_model(digits, recipe(digits), seed, 1, canaries=COUNT)  # without noise, under the same claim
    assert audit_canaries(dataclasses.replace(scores_leak, net=leaky.net), digits)["refuted"] is True


def test_shadow_models_repeat_no_canaries_and_a_model_without_any_is_refused(digits, model):
    without = train_model(digits, recipe(digits), 0, 1)
    assert repeated(model) == repeated(without)
    assert canaries_of(without, digits) is None
    with pytest.raises(DataError, match="trained without canaries"):
        audit_canaries(without, digits)


# --- files and commands ----------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def test_a_stored_model_is_audited_and_its_exports_do_not_have_the_coins(digits, model, tmp_path):
    save_model(model, tmp_path / "model.h5")
    again = load_model(tmp_path / "model.h5")
    assert audit_canaries(again, digits) == audit_canaries(model, digits)
    done = run("canaries", tmp_path / "model.h5", "--json", tmp_path / "found.json", "--threads", 1)
    assert done.exit_code == 0, done.output
    assert f"{COUNT} canaries, " in done.stdout
    assert "epsilon is at least" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["epsilon_lower_bound"] == audit_canaries(model, digits)["epsilon_lower_bound"]
    record = model.steps[0]["canaries"]
    for to in ("safetensors", "c", "onnx"):
        assert run("export", tmp_path / "model.h5", "--to", to, "--out", tmp_path / f"out.{to}").exit_code == 0
    exported = [path for path in tmp_path.iterdir() if path.name.startswith("out")]
    assert len(exported) >= 3
    coins = bytes.fromhex(record["inserted"])
    for path in exported:
        data = path.read_bytes()
        for secret in (record["inserted"].encode(), coins, record["sha256"].encode(), b"canar", b"inserted"):
            assert secret not in data, path.name


def test_the_commands(tmp_path):
    sizes = ["--members", 100, "--reference", 0, "--nonmembers", 100, "--epochs", 2, "--threads", 1]
    done = run("train", "digits", *sizes, "--canaries", 64, "--out", tmp_path / "model.h5")
    assert done.exit_code == 0, done.output
    model = load_model(tmp_path / "model.h5")
    assert model.steps[0]["canaries"]["count"] == 64
    again = run("train", "digits", *sizes, "--canaries", 64, "--out", tmp_path / "model.h5", "--resume")
    assert again.exit_code == 0, again.output  # finished: the same
    other = run("train", "digits", *sizes, "--canaries", 65, "--out", tmp_path / "model.h5", "--resume")
    assert other.exit_code == 2
    assert "made in another way" in other.stderr
    many = run("train", "digits", *sizes, "--canaries", 1598, "--out", tmp_path / "other.h5")
    assert many.exit_code == 2
    assert "there are 1,597, got 1,598" in many.stderr
    assert run("train", "digits", *sizes, "--out", tmp_path / "plain.h5").exit_code == 0
    none = run("canaries", tmp_path / "plain.h5")
    assert none.exit_code == 2
    assert "train it with `train --canaries`" in none.stderr
    assert run("info", tmp_path / "model.h5").exit_code == 0
