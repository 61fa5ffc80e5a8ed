"""The privacy budget (epsilon, delta) that all steps of DP-SGD spend together, by the dp-accounting library.

Neighbouring data sets differ by one record that is added or removed. A step is the Gaussian mechanism on a Poisson
sample, and steps compose. The library computes the privacy loss distribution (PLD: Koskela et al. 2020, Doroshenko et
al. 2022; rounded upwards, so that its epsilon is an upper bound) and, as a cross-check, the looser bound by Renyi
differential privacy (RDP: Mironov 2017). Epsilon means: whatever is done with the network, the odds that a record was a
member change by a factor of at most e^epsilon, except with probability delta.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

from scipy.optimize import brentq

from nanoprune.errors import ArgumentError

LEAST_NOISE, MOST_NOISE = 0.05, 1e4  # the range of noise multipliers that is searched
SMALLEST = 1e-12  # epsilon: a bound may be 0
LEAST_USED = 0.998  # share of a target that `noise_for` uses at least
TINY, LARGEST_NOISE = 1e-6, 1e6  # noise multipliers: below TINY epsilon is above 1e11; above the other squares overflow
INTERVAL, FINE = 1e-4, 50.0  # the grid of privacy losses up to epsilon FINE; beyond, it is coarser in proportion
PLD_MOST = 1e4  # an epsilon by RDP above this needs no tighter bound
# PLD convolves in double precision. Against the exact value of unsampled steps (Balle & Wang 2018) its delta was too
# small by up to 1.5e-17 per step: at 10,000 steps and delta 1e-12 its epsilon was 0.015 below the true one. Several
# times as much is therefore subtracted from delta first, and where little of delta would be left RDP gives the bound.
ROUNDING, LEAST_ROUNDING = 1e-16, 1e-14  # subtracted from delta: per step, and at least

NEIGHBOURS = "add or remove one record"
MASKS = {  # where the support of a network that is trained with DP-SGD came from, and what that costs
    "none": "there is no mask",
    "reference": "the mask comes from the reference set, which is taken to be public: its records have no protection",
    "data-free": "the mask depends on initial weights and random numbers alone: it sees no record and costs nothing",
    "private": "the mask is made of the iterates of DP-SGD alone: post-processing, and free",
}
COVERED = "the network's parameters, for every member: all steps of DP-SGD that made them, in all phases together"
NOT_COVERED = (
    "the choice of recipe and hyperparameters; losses and accuracies on members that are reported; stopping or "
    "choosing by such figures; other networks trained on the same members, such as the rest of a table"
)


@dataclasses.dataclass(frozen=True)
class Phase:
    """`steps` steps of DP-SGD: each samples every record with probability `sampling`; noise: sigma, in units of C."""

    sampling: float
    noise: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.sampling <= 1:
            raise ArgumentError(f"batch / records must lie in (0, 1], got {self.sampling:g}")
        if not 0 <= self.noise < math.inf:
            raise ArgumentError(f"noise must be finite and not negative, got {self.noise}")
        if self.steps < 0:
            raise ArgumentError(f"steps must not be negative, got {self.steps}")


def phase(records: int, batch: int, noise: float, epochs: int) -> Phase:
    """`epochs` of training by `DPSGD` on `records` records: round(records / batch) steps each."""
    if records < 1 or not 1 <= batch <= records or epochs < 1:
        raise ArgumentError(
            f"batch must lie in 1..records and epochs be at least 1, got {batch} of {records} records, {epochs} epochs"
        )
    return Phase(batch / records, noise, epochs * round(records / batch))


def epsilon(phases: Sequence[Phase], delta: float) -> float:
    """Epsilon at `delta` of all phases together, never below the true one. Infinite where noise is below TINY.

    The smaller one of the bounds by PLD and by RDP; by RDP alone where delta is near PLD's rounding, or above PLD_MOST.
    """
    return _epsilon(_together(phases), delta, "pld")


def epsilon_rdp(phases: Sequence[Phase], delta: float) -> float:
    """The same by RDP alone: a looser bound, computed independently."""
    return _epsilon(_together(phases), delta, "rdp")


def delta_warning(delta: float, records: int) -> str | None:
    """A warning about a delta of 1 / records or more, None below."""
    if delta * records < 1:
        return None
    return (
        f"delta {delta:g} is too large for {records:,} records: at 1 / records = {1 / records:.2g} and above, "
        f"publishing one record as it is counts as private; take {0.1 / records:.1g} or less"
    )


def noise_for(target: float, delta: float, phases: Sequence[Phase]) -> float:
    """The noise multiplier with which all phases together spend at most `target`, and over 0.998 of it.

    The phases' own noise is ignored. PLD takes seconds and RDP of integer orders a moment, and their ratio hardly
    depends on the noise: so RDP is searched, corrected by the last ratio. Raises ArgumentError where target is not
    positive and finite, or so small or large that no such noise is found.
    """
    if not 0 < target < math.inf:
        raise ArgumentError(f"epsilon must be positive and finite, got {target}")
    ratio = 1.0
    for _ in range(20):
        noise = _noise_by_rdp(target * (1 + LEAST_USED) / 2 / ratio, delta, phases, target)
        spent = epsilon(_with(noise, phases), delta)
        if LEAST_USED * target <= spent <= target:
            return noise
        ratio = max(spent, SMALLEST) / max(_quick(noise, delta, phases), SMALLEST)
    raise ArgumentError(f"epsilon {target:g}: no noise was found for it; choose one nearer to 1, or other steps")


def _noise_by_rdp(target: float, delta: float, phases: Sequence[Phase], asked: float) -> float:
    """The noise with which RDP gives `target`, to 5 digits. asked: the caller's epsilon, for error messages."""

    def above(noise: float) -> float:
        return math.log(max(_quick(noise, delta, phases), SMALLEST) / target)

    low = high = 1.0
    while above(high) > 0:
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise ArgumentError(
                f"epsilon {asked:g} is too small at delta {delta:g}: not reached with noise {MOST_NOISE:g}; "
                "take fewer steps"
            )
    while above(low) <= 0:
        low, high = low / 1.5, low
        if low < LEAST_NOISE:
            raise ArgumentError(
                f"epsilon {asked:g} is too large at delta {delta:g}: noise below {LEAST_NOISE:g} protects nothing"
            )
    return float(brentq(above, low, high, rtol=1e-5))


def _quick(noise: float, delta: float, phases: Sequence[Phase]) -> float:
    """A quick, looser bound on epsilon, which decreases with the noise as the others do."""
    return _epsilon(_together(_with(noise, phases)), delta, "rdp of whole orders")


def _with(noise: float, phases: Sequence[Phase]) -> list[Phase]:
    return [dataclasses.replace(phase, noise=noise) for phase in phases]


def statement(
    phases: Sequence[Phase], delta: float, clip: float, clipping: str, seeded: bool, mask: str
) -> dict[str, Any]:
    """The budget that was spent, for results and model files, with everything that an epsilon must be stated with.

    mask: a key of MASKS. epsilon is None without noise: JSON has no infinity.
    """
    spent, cross_check = epsilon(phases, delta), epsilon_rdp(phases, delta)
    return {
        "epsilon": spent if math.isfinite(spent) else None,
        "epsilon_rdp": cross_check if math.isfinite(cross_check) else None,
        "delta": delta,
        "neighbours": NEIGHBOURS,
        "mechanism": "DP-SGD: Gaussian noise on the sum of clipped gradients of a Poisson sample",
        "clip": clip,
        "clipping": clipping,
        "phases": [dataclasses.asdict(phase) for phase in phases],
        "covers": f"{COVERED}; {MASKS[mask]}",
        "does_not_cover": NOT_COVERED,
        "seeded": "seeded: not private" if seeded else None,
    }


def summary_line(privacy: dict[str, Any]) -> str:
    """A statement in one line, for tables."""
    (spent, by_rdp), phases = (privacy[name] for name in ("epsilon", "epsilon_rdp")), privacy["phases"]
    mask = privacy["covers"].removeprefix(f"{COVERED}; ")
    return (
        f"epsilon {_text(spent)} at delta {privacy['delta']:g} ({NEIGHBOURS}; by RDP {_text(by_rdp)}), "
        f"{sum(of['steps'] for of in phases):,} steps on Poisson samples, noise {phases[0]['noise']:.4g} x clip "
        f"{privacy['clip']:g}; {mask}" + (f"; {privacy['seeded']}" if privacy["seeded"] else "")
    )


def _text(epsilon: float | None) -> str:
    return "infinite" if epsilon is None else f"{epsilon:.4g}"


def _together(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases that have steps, with equal ones merged: the order of a composition does not matter."""
    steps: dict[tuple[float, float], int] = {}
    for of in phases:
        if of.steps:
            steps[of.sampling, of.noise] = steps.get((of.sampling, of.noise), 0) + of.steps
    return tuple(Phase(*key, count) for key, count in sorted(steps.items()))


@functools.lru_cache
def _epsilon(phases: tuple[Phase, ...], delta: float, by: str) -> float:
    if not 0 < delta < 1:
        raise ArgumentError(f"delta must lie in (0, 1), got {delta}")
    if not phases:
        return 0.0
    if any(phase.noise < TINY for phase in phases):
        return math.inf
    if by == "rdp":
        return _accounted(phases, delta)
    if by == "rdp of whole orders":
        return _accounted(phases, delta, orders=[*range(2, 64), 128, 256, 512, 1024])
    bound = _epsilon(phases, delta, "rdp")
    rounding = max(LEAST_ROUNDING, ROUNDING * sum(phase.steps for phase in phases))
    if bound > PLD_MOST or delta < 2 * rounding:
        return bound
    return min(bound, _accounted(phases, delta - rounding, interval=INTERVAL * max(1.0, bound / FINE)))


def _accounted(
    phases: tuple[Phase, ...], delta: float, interval: float | None = None, orders: Sequence[int] | None = None
) -> float:
    """Epsilon by PLD on a grid of losses with that interval, or by RDP of the orders (None: the library's)."""
    import dp_accounting as dp  # takes a second, so it is imported only where an epsilon is computed
    from absl import logging
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(orders) if interval is None else PLDAccountant(value_discretization_interval=interval)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # it warns of RDP orders that it skips; the bound holds without them
    try:
        for phase in phases:
            noise = min(phase.noise, LARGEST_NOISE)  # more noise never costs more
            step = dp.PoissonSampledDpEvent(phase.sampling, dp.GaussianDpEvent(noise))
            accountant.compose(dp.SelfComposedDpEvent(step, phase.steps))
        return max(0.0, float(accountant.get_epsilon(delta)))
    finally:
        logging.set_verbosity(verbosity)
