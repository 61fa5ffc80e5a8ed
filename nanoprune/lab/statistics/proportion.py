"""Exact confidence intervals of a proportion."""

from scipy.stats import beta

from nanoprune.errors import ArgumentError


def clopper_pearson(successes: int, trials: int, alpha: float = 0.05) -> tuple[float, float]:
    """The exact 1 - alpha interval of p, with at most alpha/2 on either side (Clopper & Pearson 1934).

    Raises ArgumentError unless 0 <= successes <= trials, trials >= 1 and 0 < alpha < 1.
    """
    if not (0 <= successes <= trials and trials >= 1):
        raise ArgumentError(f"successes must lie between 0 and trials >= 1, got {successes} of {trials}")
    check_alpha(alpha)
    low = beta.ppf(alpha / 2, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - alpha / 2, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def check_alpha(alpha: float) -> None:
    """ArgumentError unless 0 < alpha < 1."""
    if not 0 < alpha < 1:
        raise ArgumentError(f"alpha must lie between 0 and 1, got {alpha}")
