"""Membership inference: it sees probabilities and labels, nothing else."""

from nanoprune.attack.evaluate import ATTACKS, Outcome, Outputs, evaluate, strongest
from nanoprune.attack.metrics import auc, balanced_accuracy, roc, tpr_at_fpr
from nanoprune.attack.network import fit_attack_network
from nanoprune.attack.scores import confidence, correctness, entropy, modified_entropy
from nanoprune.attack.threshold import Thresholds

__all__ = [
    "ATTACKS",
    "Outcome",
    "Outputs",
    "Thresholds",
    "auc",
    "balanced_accuracy",
    "confidence",
    "correctness",
    "entropy",
    "evaluate",
    "fit_attack_network",
    "modified_entropy",
    "roc",
    "strongest",
    "tpr_at_fpr",
]
