"""The share of records with a positive effect, where each effect is measured a few times and so is rough.

Each record's effect is the mean of P measurements; its one-sided p-value of "no more than 0" is Student's. Were no
effect positive, a share of at most t of n independent p-values would lie below t, up to chance: by no more than
$beta = sqrt(log(1/alpha) / 2n)$ over all t at once (Dvoretzky, Kiefer & Wolfowitz; constant of Massart 1990). What is
beyond that are records with a positive effect (Genovese & Wasserman 2004; Meinshausen & Rice 2006, section 2):

    $share >= max over t of (F_n(t) - t - beta) / (1 - t)$.

The same for "no less than 0" bounds the share from above. Where measurements are few this is wide: the share that
looks positive is half of the records when nothing has an effect.

The records are not independent: a measurement of all records is made with the same models, and what those have in
common moves all effects of the measurement together. So each measurement's mean over the records is replaced by the
mean of these means; how uncertain that is, Student's interval over the P means tells, and the effects are lowered to
its lower end before the share is bounded from below, and raised to its upper end before it is bounded from above. Half
of alpha is spent on that interval.
"""

import numpy as np
from scipy import stats

from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics.proportion import check_alpha


def positive_share(effects: np.ndarray, alpha: float = 0.05) -> dict[str, float]:
    """{"value", "low", "high"}: effects (P, n), P independent measurements of each of n effects, about normal.

    "value" is the share whose mean is positive, "low" and "high" the 1 - alpha interval of the share whose true effect
    is; it is conservative (1 - alpha or more). Raises ArgumentError on fewer than two measurements, or no record.
    """
    check_alpha(alpha)
    P, n = effects.shape
    if P < 2 or not n:
        raise ArgumentError(f"effects must be of at least 2 measurements and 1 record, got {P} and {n}")
    common = effects.mean(axis=1)  # (P,)
    half = stats.t.ppf(1 - alpha / 4, P - 1) * common.std(ddof=1) / np.sqrt(P)
    mean = effects.mean(axis=0)  # (n,)
    error = (effects - common[:, None]).std(axis=0, ddof=1) / np.sqrt(P)  # (n,)
    low, off = (false_share(_p_values(side - half, error, P - 1), alpha / 4) for side in (mean, -mean))
    return {"value": float((mean > 0).mean()), "low": low, "high": 1 - off}


def _p_values(mean: np.ndarray, error: np.ndarray, freedom: int) -> np.ndarray:
    """Student's one-sided p-values (n,) of "no more than 0"; no effect without an error says nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return stats.t.sf(np.nan_to_num(mean / error, nan=0.0), freedom)


def false_share(p: np.ndarray, alpha: float) -> float:
    """A lower 1 - alpha bound on the share of false hypotheses, from independent p-values (n,) of all of them.

    Only t < 1/2 are tried: the bound then is no more than the share of p-values below 1/2.
    """
    beta = np.sqrt(np.log(1 / alpha) / (2 * len(p)))
    t = np.sort(p[p < 0.5])
    below = np.arange(1, len(t) + 1) / len(p)  # F_n(t)
    return float(np.max((below - t - beta) / (1 - t), initial=0.0))
