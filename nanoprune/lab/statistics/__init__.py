"""Confidence intervals, tests and bounds, from numbers alone."""

from nanoprune.lab.statistics.delong import auc_interval, balanced_accuracy_interval
from nanoprune.lab.statistics.epsilon import epsilon_lower_bound, epsilon_of_runs, gaussian_lower_bound
from nanoprune.lab.statistics.proportion import clopper_pearson
from nanoprune.lab.statistics.seeds import paired_difference, summary
from nanoprune.lab.statistics.share import positive_share
from nanoprune.lab.statistics.shift import label_shift

__all__ = [
    "auc_interval",
    "balanced_accuracy_interval",
    "clopper_pearson",
    "epsilon_lower_bound",
    "epsilon_of_runs",
    "gaussian_lower_bound",
    "label_shift",
    "paired_difference",
    "positive_share",
    "summary",
]
