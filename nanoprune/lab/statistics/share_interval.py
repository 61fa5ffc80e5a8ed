r"""The share of records with a positive effect, from a few noisy measurements of each effect.

Each record's effect is the mean of P measurements, with Student's one-sided p-value for "at most 0". If no effect is
positive, the empirical distribution F_n of n independent p-values exceeds t by at most
$\beta = \sqrt{\log(1/\alpha) / 2n}$ over all t at once, with probability 1 - alpha (Dvoretzky, Kiefer & Wolfowitz;
constant of Massart 1990). An excess beyond that is due to records with a positive effect (Genovese & Wasserman 2004;
Meinshausen & Rice 2006, section 2):

    $\text{share} \ge \max_t (F_n(t) - t - \beta) / (1 - t)$.

The same for "at least 0" bounds the share from above. With few measurements the interval is wide: when nothing has an
effect, half of the records appear to have a positive one.

The records are not independent: each measurement uses the same models for all records, so it has an error that all
records share. Each measurement's mean over the records is therefore replaced by the mean of these means, and Student's
interval over the P means gives its uncertainty: effects are lowered to its lower end for the lower bound, and raised to
its upper end for the upper bound. Half of alpha is spent on that interval.
"""

import numpy as np
from scipy import stats

from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics.proportion import check_alpha


def positive_share(effects: np.ndarray, alpha: float = 0.05) -> dict[str, float]:
    """{"value", "low", "high"}: effects (P, n), P independent, approximately normal measurements of each of n effects.

    "value" is the share with a positive mean, "low" and "high" a conservative 1 - alpha interval of the share with a
    positive true effect. Raises ArgumentError on fewer than two measurements, or no record.
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
    """Student's one-sided p-values (n,) for "at most 0"; 1/2 where effect and standard error are both 0."""
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
