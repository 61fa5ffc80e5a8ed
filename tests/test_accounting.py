"""Privacy accounting of DP-SGD against closed forms, published figures and each other."""

import itertools
import json
import math

import pytest
from click.testing import CliRunner
from scipy.optimize import brentq
from scipy.stats import norm

import cli
from nanoprune.errors import ArgumentError
from nanoprune.lab.privacy import accounting
from nanoprune.lab.privacy.accounting import (
    Phase,
    delta_warning,
    epsilon,
    epsilon_rdp,
    noise_for,
    phase,
    statement,
    summary_line,
)

DELTA = 1e-5


@pytest.fixture(autouse=True)
def _nothing_is_cached():
    """Each test computes what it asserts: bounds that an earlier one left in the cache would hide wrong code."""
    accounting._epsilon.cache_clear()


def analytic_epsilon(sigma: float, delta: float) -> float:
    """Of one Gaussian mechanism of sensitivity 1, exactly: Balle & Wang 2018 (arXiv 1805.06530), theorem 8."""

    def missing(eps):
        left = norm.cdf(1 / (2 * sigma) - eps * sigma)
        return left - math.exp(eps) * norm.cdf(-1 / (2 * sigma) - eps * sigma) - delta

    return brentq(missing, 0, 100)


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (4.0, 1), (4.0, 9), (20.0, 100)])
def test_without_sampling_it_is_the_gaussian_mechanism(noise, steps):
    """k releases with noise sigma are one with sigma / sqrt(k): never below the exact value, and hardly above."""
    exact = analytic_epsilon(noise / math.sqrt(steps), DELTA)
    ours = epsilon([Phase(1.0, noise, steps)], DELTA)
    assert exact <= ours * (1 + 1e-9)
    assert ours == pytest.approx(exact, rel=2e-3)
    assert epsilon_rdp([Phase(1.0, noise, steps)], DELTA) > exact


def test_the_figures_of_the_mnist_example():
    """What dp-accounting 0.6 gives for 60,000 records in samples of 240."""
    first, second = phase(60_000, 240, 1.3, 15), phase(60_000, 240, 0.7, 45)
    assert (first.steps, second.steps, first.sampling) == (3750, 11_250, 0.004)
    assert epsilon([first], DELTA) == pytest.approx(0.834, abs=5e-4)
    assert epsilon_rdp([first], DELTA) == pytest.approx(0.922, abs=5e-4)
    assert epsilon([second], DELTA) == pytest.approx(5.431, abs=5e-4)
    assert epsilon_rdp([second], DELTA) == pytest.approx(6.094, abs=5e-4)


def renyi_epsilon(sigma: float, steps: int, delta: float) -> float:
    """Of `steps` Gaussian mechanisms by RDP, alpha / (2 sigma^2) each (Mironov 2017, corollary 3), converted at the
    best alpha by Canonne, Kamath & Steinke 2020 (arXiv 2004.00010, proposition 12)."""
    return min(
        steps * a / (2 * sigma**2) + math.log(1 - 1 / a) - math.log(delta * a) / (a - 1)
        for a in (1 + k / 100 for k in range(1, 10_000))
    )


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (4.0, 9), (20.0, 100)])
def test_the_bound_by_rdp_is_its_closed_form(noise, steps):
    assert epsilon_rdp([Phase(1.0, noise, steps)], DELTA) == pytest.approx(renyi_epsilon(noise, steps, DELTA), rel=0.01)


@pytest.fixture
def accounted(monkeypatch):
    """The calls of the library's accountants, replaced by a formula: RDP steps / noise^2, PLD 0.8 of it."""
    calls = []

    def of_formula(phases, delta, interval=None, orders=None):
        calls.append("pld" if interval else "rdp of chosen orders" if orders else "rdp")
        return (0.8 if interval else 1.0) * sum(of.steps / of.noise**2 for of in phases)

    monkeypatch.setattr(accounting, "_accounted", of_formula)
    yield calls
    accounting._epsilon.cache_clear()


def test_the_search_for_a_noise_takes_the_slow_bound_at_its_end_alone(accounted):
    for target in (0.01, 1.0, 40.0):
        accounted.clear()
        noise = noise_for(target, DELTA, [Phase(0.1, 0, 9), Phase(0.2, 0, 7)])
        assert noise == pytest.approx(math.sqrt(0.8 * 16 / target), rel=2e-3)
        assert accounted.count("pld") <= 2  # the first shows how the bounds compare, the second is right
        assert accounted.count("rdp") <= 2
        assert accounted.count("rdp of chosen orders") > 2


def test_a_noise_that_is_not_found_is_said(accounted, monkeypatch):
    bounds = itertools.cycle([4.0, 1.0])  # as no accountant gives them
    monkeypatch.setattr(accounting, "epsilon", lambda phases, delta: next(bounds))
    with pytest.raises(ArgumentError) as error:
        noise_for(2.0, DELTA, [Phase(0.1, 0, 9)])
    assert str(error.value) == "epsilon 2: no noise was found for it; choose one nearer to 1, or other steps"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (1e-9, "epsilon 1e-09 is too small at delta 1e-05: not reached with noise 10000; take fewer steps"),
        (1e5, "epsilon 100000 is too large at delta 1e-05: noise below 0.05 protects nothing"),
    ],
)
def test_a_noise_out_of_range_is_said(target, message, accounted):
    with pytest.raises(ArgumentError) as error:
        noise_for(target, DELTA, [Phase(0.1, 0, 9)])
    assert str(error.value) == message


def test_a_delta_of_one_record_is_warned_of():
    assert delta_warning(0.0009, 1000) is None
    for delta, text in ((1 / 512, "0.00195312"), (0.5, "0.5")):
        assert delta_warning(delta, 512) == (
            f"delta {text} is too large for 512 records: at 1 / records = 0.002 and above, publishing one record as it "
            "is counts as private; take 0.0002 or less"
        )
    assert "for 60,000 records" in delta_warning(0.1, 60_000)


def test_phases_add_up_to_the_whole():
    whole = epsilon([Phase(0.1, 2.0, 60)], DELTA)
    assert epsilon([Phase(0.1, 2.0, 10), Phase(0.1, 2.0, 20), Phase(0.1, 2.0, 0), Phase(0.1, 2.0, 30)], DELTA) == whole
    unlike = epsilon([Phase(0.1, 2.0, 30), Phase(0.2, 2.0, 30)], DELTA)
    assert whole < unlike < epsilon([Phase(0.2, 2.0, 60)], DELTA)
    assert epsilon([], DELTA) == 0
    assert epsilon([Phase(0.1, 2.0, 1), Phase(0.1, 0.0, 1)], DELTA) == math.inf


@pytest.mark.parametrize("target", [0.3, 2.0])
@pytest.mark.parametrize("phases", [[Phase(0.1, 0, 100)], [Phase(0.25, 0, 20), Phase(0.05, 0, 40)]])
def test_the_noise_for_a_target_never_spends_more(target, phases):
    noise = noise_for(target, DELTA, phases)
    spent = epsilon([Phase(of.sampling, noise, of.steps) for of in phases], DELTA)
    assert 0.998 * target <= spent <= target


def test_a_statement_has_everything_that_an_epsilon_must_be_stated_with():
    phases = [Phase(0.1, 2.0, 10)]
    found = json.loads(json.dumps(statement(phases, DELTA, 1.0, "flat", False, "reference")))
    assert found["epsilon"] == epsilon(phases, DELTA)
    assert found["epsilon_rdp"] == epsilon_rdp(phases, DELTA)
    assert (found["delta"], found["neighbours"]) == (DELTA, "add or remove one record")
    assert found["mechanism"] == "DP-SGD: Gaussian noise on the sum of clipped gradients of a Poisson sample"
    assert (found["clip"], found["clipping"]) == (1.0, "flat")
    assert found["phases"] == [{"sampling": 0.1, "noise": 2.0, "steps": 10}]
    assert "reference set, which is taken to be public" in found["covers"]
    assert "hyperparameters" in found["does_not_cover"]
    assert found["seeded"] is None
    seeded = statement([Phase(0.1, 0.0, 10)], DELTA, 1.0, "flat", True, "none")
    assert (seeded["epsilon"], seeded["epsilon_rdp"]) == (None, None)  # JSON has no infinity
    assert seeded["seeded"] == "seeded: not private"


@pytest.mark.parametrize(
    ("noise", "seeded", "mask", "spent", "end"),
    [
        (2.0, False, "none", "{:.4g}", "there is no mask"),
        (2.0, True, "private", "{:.4g}", "post-processing, and free; seeded: not private"),
        (0.0, False, "none", "infinite", "there is no mask"),
    ],
)
def test_a_statement_in_one_line_has_all_its_numbers(noise, seeded, mask, spent, end):
    phases = [Phase(0.1, noise, 1010)] if mask == "private" else [Phase(0.1, noise, 10), Phase(0.1, noise, 1000)]
    of = [spent.format(measure(phases, DELTA)) for measure in (epsilon, epsilon_rdp)]
    line = summary_line(statement(phases, DELTA, 0.5, "flat", seeded, mask))
    steps = f"1,010 steps on Poisson samples, noise {noise:g} x clip 0.5; "
    assert line.startswith(f"epsilon {of[0]} at delta 1e-05 (add or remove one record; by RDP {of[1]}), {steps}the")
    assert line.endswith(end)
    assert "\n" not in line
    assert "the network's parameters" not in line  # what epsilon covers is the same in every line


def test_the_bounds_of_what_can_be_accounted_are_accepted():
    assert phase(1, 1, 0.0, 1) == Phase(1.0, 0.0, 1)
    assert phase(7, 7, 1.0, 2) == Phase(1.0, 1.0, 2)
    assert phase(7, 1, 1.0, 2) == Phase(1 / 7, 1.0, 14)
    assert epsilon([Phase(0.5, 1.0, 0)], DELTA) == 0


def test_what_cannot_be_accounted_is_refused():
    for call, message in (
        (lambda: phase(100, 101, 1.0, 1), r"batch must lie in 1\.\.records .* 101 of 100 records"),
        (lambda: phase(100, 0, 1.0, 1), "batch must lie in"),
        (lambda: phase(0, 0, 1.0, 1), "batch must lie in"),
        (lambda: phase(100, 10, 1.0, 0), "epochs be at least 1"),
        (lambda: phase(100, 10, -1.0, 1), "noise must be finite and not negative"),
        (lambda: phase(100, 10, math.inf, 1), "noise must be finite and not negative"),
        (lambda: Phase(1.5, 1.0, 1), r"must lie in \(0, 1\]"),
        (lambda: Phase(0.0, 1.0, 1), r"must lie in \(0, 1\]"),
        (lambda: Phase(0.5, 1.0, -1), "steps must not be negative"),
        (lambda: epsilon([Phase(0.5, 1.0, 1)], 0.0), r"delta must lie in \(0, 1\)"),
        (lambda: noise_for(0.0, DELTA, [Phase(0.5, 1.0, 1)]), "epsilon must be positive"),
        (lambda: noise_for(math.inf, DELTA, [Phase(0.5, 1.0, 1)]), "epsilon must be positive"),
        (lambda: noise_for(1e-6, DELTA, [Phase(0.5, 1.0, 1000)]), "epsilon .* is too small"),
        (lambda: noise_for(1e6, DELTA, [Phase(0.5, 1.0, 1)]), "epsilon .* is too large"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


# The command


def run(*arguments):
    return CliRunner().invoke(cli.main, ["epsilon", *map(str, arguments)])


def test_the_command_prints_the_epsilon_last_and_what_it_covers():
    sizes = ("--records", 100, "--batch", 10, "--epochs", 3)
    result = run(*sizes, "--noise", 2, "--delta", 1e-6)
    assert result.exit_code == 0
    exact = epsilon([Phase(0.1, 2.0, 30)], 1e-6)
    assert float(result.stdout.splitlines()[-1]) == pytest.approx(exact, rel=1e-6)
    for words in ("add or remove one record", "Poisson", "30 steps", "does not cover: the choice of recipe", "by RDP"):
        assert words in result.stdout
    found = run(*sizes, "--epsilon", 1.0)
    noise = float(found.stdout.splitlines()[-1])
    assert 0.998 <= epsilon([Phase(0.1, noise, 30)], DELTA) <= 1.0
    assert run(*sizes, "--noise", 0).stdout.splitlines()[-1] == "inf"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "one of --noise and --epsilon"),
        (("--noise", 1, "--epsilon", 1), "one of --noise and --epsilon"),
        (("--noise", -1), "noise must be finite"),
        (("--noise", 1, "--delta", 0), "delta must lie"),
        (("--epsilon", -1), "epsilon must be positive"),
    ],
)
def test_the_command_refuses_in_one_line(more, message):
    result = run("--records", 100, "--batch", 10, "--epochs", 3, *more)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
