"""Confidence intervals, tests and bounds, from numbers alone."""

from nanoprune.lab.statistics.advantage import compression_advantage, dp_advantage
from nanoprune.lab.statistics.agreement import members_in_common, members_over_seeds
from nanoprune.lab.statistics.delong import auc_interval, balanced_accuracy_interval
from nanoprune.lab.statistics.discovery import benjamini_hochberg, conformal_p_values
from nanoprune.lab.statistics.epsilon_bounds import epsilon_lower_bound, epsilon_of_runs, gaussian_lower_bound
from nanoprune.lab.statistics.paired import accuracy_difference, auc_difference, tpr_difference
from nanoprune.lab.statistics.proportion import clopper_pearson
from nanoprune.lab.statistics.seeds import paired_difference, summary
from nanoprune.lab.statistics.share_interval import positive_share
from nanoprune.lab.statistics.shift_test import label_shift

__all__ = [
    "accuracy_difference",
    "auc_difference",
    "auc_interval",
    "balanced_accuracy_interval",
    "benjamini_hochberg",
    "clopper_pearson",
    "compression_advantage",
    "conformal_p_values",
    "dp_advantage",
    "epsilon_lower_bound",
    "epsilon_of_runs",
    "gaussian_lower_bound",
    "label_shift",
    "members_in_common",
    "members_over_seeds",
    "paired_difference",
    "positive_share",
    "summary",
    "tpr_difference",
]
