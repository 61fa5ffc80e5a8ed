"""The recipes of further data sets, as fields of `recipes.Recipe`."""

from __future__ import annotations

from typing import Any

from nanoprune.lab.experiment.settings import Private
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule


def _text(members: int, width: float, epochs: tuple[int, int, int], lr: float) -> dict[str, Any]:
    """A small transformer. epochs: of dense training, of pruning and of retraining."""
    return {
        "network": "transformer-text",
        "widths": width,
        "members": members,
        "reference": members,
        "nonmembers": members,
        "seeds": 3,
        "keep": (0.1,),
        "dense": Schedule(epochs=epochs[0], lr=lr),
        "prune": Schedule(epochs=epochs[1], lr=lr, decay="cosine", weight_decay=1e-3),
        "retrain": Schedule(epochs=epochs[2], lr=round(lr / 5, 6), weight_decay=1e-3),
        "admm": ADMMSettings(rho=0.05),
        "scope": "global",
        "private": Private(batch=256),
    }


MORE: dict[str, dict[str, Any]] = {
    "pneumonia": {
        "network": "lenet-5",
        "widths": (20, 50, 500),
        "members": 1000,
        "reference": 1000,
        "nonmembers": 1000,
        "seeds": 3,
        "keep": (0.1, 0.05),
        "dense": Schedule(epochs=40, lr=0.02),
        "prune": Schedule(epochs=30, lr=0.02),
        "retrain": Schedule(epochs=10, lr=0.005),
        "admm": ADMMSettings(rho=0.1),
    },
    "names": _text(3000, 0.5, (30, 20, 10), 0.05),
    "agnews": _text(2500, 0.5, (15, 15, 5), 0.05),
}
