"""Audits of models and predictions: attacks, shadow models, intervals, validity checks, comparisons, verdicts."""

from nanoprune.lab.audit.audit import Audited, audit, audit_predictions, write_audit
from nanoprune.lab.audit.compare import Comparison, compare, compare_predictions
from nanoprune.lab.audit.predictions import Predictions, read_predictions
from nanoprune.lab.audit.target import attack_model

__all__ = [
    "Audited",
    "Comparison",
    "Predictions",
    "attack_model",
    "audit",
    "audit_predictions",
    "compare",
    "compare_predictions",
    "read_predictions",
    "write_audit",
]
