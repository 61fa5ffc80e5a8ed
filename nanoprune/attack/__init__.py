"""Membership inference: it sees probabilities and labels, nothing else."""

from nanoprune.attack.metrics import auc, balanced_accuracy, roc, tpr_at_fpr
from nanoprune.attack.network import fit_attack_network
from nanoprune.attack.scores import confidence, correctness, entropy, modified_entropy
from nanoprune.attack.threshold import Thresholds

__all__ = [
    "Thresholds",
    "auc",
    "balanced_accuracy",
    "confidence",
    "correctness",
    "entropy",
    "fit_attack_network",
    "modified_entropy",
    "roc",
    "tpr_at_fpr",
]
