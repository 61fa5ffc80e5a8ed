"""Audits of models and predictions: attacks, shadow models, intervals, validity checks."""

from nanoprune.lab.audit.audit import audit, write_audit
from nanoprune.lab.audit.predictions import Predictions, read_predictions
from nanoprune.lab.audit.target import attack_model

__all__ = ["Predictions", "attack_model", "audit", "read_predictions", "write_audit"]
