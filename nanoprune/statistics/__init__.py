"""What is known and what is not: intervals, tests and bounds. They know numbers and nothing of networks."""

from nanoprune.statistics.delong import auc_interval, balanced_accuracy_interval
from nanoprune.statistics.epsilon import epsilon_lower_bound
from nanoprune.statistics.proportion import clopper_pearson
from nanoprune.statistics.seeds import paired_difference, summary
from nanoprune.statistics.share import positive_share
from nanoprune.statistics.shift import label_shift

__all__ = [
    "auc_interval",
    "balanced_accuracy_interval",
    "clopper_pearson",
    "epsilon_lower_bound",
    "label_shift",
    "paired_difference",
    "positive_share",
    "summary",
]
