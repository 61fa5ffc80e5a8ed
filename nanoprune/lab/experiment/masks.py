"""Pruning at initialisation: masks from the initial weights; two of the methods use no record.

Each takes a shard (`Shard`) and ratios as `Budget` takes them, and gives the support (R, n), bool.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from nanoprune.lab.experiment.saliency import grasp_scores, random_support, snip_scores, synflow


def random_mask(shard: Any, ratios: Any) -> Any:
    """Uniform among the supports of that size: what any other mask has to be better than."""
    return random_support(shard.budget(ratios), shard.net.W.shape, shard.sources("random mask"))


def synflow_mask(shard: Any, ratios: Any) -> Any:
    """SynFlow; `saliency.synflow`."""
    return synflow(shard.net, ratios, shard.recipe.scope, shard.recipe.scheme)


def snip_mask(shard: Any, ratios: Any) -> Any:
    """SNIP, in one step, with the gradient of all members; `saliency.snip_scores`."""
    return shard.budget(ratios).support(snip_scores(shard.net, shard.records, shard.members))


def grasp_mask(shard: Any, ratios: Any) -> Any:
    """GraSP, in one step, with the gradient of all members; `saliency.grasp_scores`."""
    scores = grasp_scores(shard.net, shard.records, shard.members)
    lowest = scores.min(axis=1, keepdims=True)
    return shard.budget(ratios).support(scores - lowest)  # a budget ranks magnitudes


def masked_step(recipe: Any, variant: str, keep: Any) -> dict[str, Any]:
    """How a network with such a mask is made, as plain data: a model file records it, shadow models repeat it."""
    own = {"step": "masked", "variant": variant, "dense": dataclasses.asdict(recipe.dense)}
    return recipe.prune_step(keep, 0.0) | own


MASKS: dict[str, Callable[[Any, Any], Any]] = {
    "random": random_mask,
    "synflow": synflow_mask,
    "snip": snip_mask,
    "grasp": grasp_mask,
}
