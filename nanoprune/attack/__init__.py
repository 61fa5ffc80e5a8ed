"""Membership inference: attacks use probabilities and labels, nothing else."""

from nanoprune.attack.metrics import auc as auc
from nanoprune.attack.metrics import balanced_accuracy as balanced_accuracy
from nanoprune.attack.metrics import roc as roc
from nanoprune.attack.metrics import tpr_at_fpr as tpr_at_fpr
from nanoprune.attack.network import fit_attack_network as fit_attack_network
from nanoprune.attack.scores import confidence as confidence
from nanoprune.attack.scores import correctness as correctness
from nanoprune.attack.scores import entropy as entropy
from nanoprune.attack.scores import modified_entropy as modified_entropy
from nanoprune.attack.threshold import Thresholds as Thresholds
