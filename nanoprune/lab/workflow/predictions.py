"""A model's predictions for the records that an attack scores: its members, and equally many non-members."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from nanoprune.lab.audit import Predictions
from nanoprune.lab.audit.shadows import make_pool, outputs
from nanoprune.lab.data import Dataset
from nanoprune.lab.models.model import Model


def scored_predictions(model: Model, dataset: Dataset, threads: int = 1) -> Predictions:
    """Predictions for n records, the members first. `dataset` must be what the model was trained on.

    Two models of the same split get the same records in the same order, so that an audit can pair them. Raises
    ArgumentError where there are fewer than four members, or others.
    """
    pool = make_pool(model, dataset)
    logits = outputs(model.net, dataset, pool.scored, threads)[0].astype(np.float64)  # (n, classes)
    return Predictions(softmax(logits, axis=1), dataset.y[pool.scored], pool.member, logits=logits, group=pool.group)
