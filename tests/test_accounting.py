"""Privacy accounting of DP-SGD against closed forms, published figures and each other."""

import json
import math

import pytest
from click.testing import CliRunner
from scipy.optimize import brentq
from scipy.stats import norm

import cli
from nanoprune.errors import ArgumentError
from nanoprune.lab.privacy.accounting import Phase, epsilon, epsilon_rdp, noise_for, phase, statement, summary_line

DELTA = 1e-5


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
    assert "Poisson" in found["mechanism"]
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
