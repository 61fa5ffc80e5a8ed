"""What `reproduce` runs on each data set. The paper's own splits, rates and schedules could not be had: these are ours.

How they were found is told in docs/results.md.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nanoprune.data import Dataset
from nanoprune.errors import ArgumentError
from nanoprune.prune import ADMMSettings
from nanoprune.train import Schedule
from nanoprune.zoo import architecture

Keep = float | tuple[float, ...]  # one ratio for all layers, or one a layer


def keep_name(keep: Keep) -> str:
    """How a ratio is called in the names of methods: 0.05, or for ratios of each layer's own 0.2,0.08,0.009,0.07."""
    return ",".join(f"{ratio:g}" for ratio in (keep if isinstance(keep, tuple) else (keep,)))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on beside data, seeds and device.

    widths: of the hidden layers; of vgg16, mobilenetv2 and resnet18 the width multiplier.
    members: None for the whole official training set. dense: training of every dense network. prune: the W-steps of
    all ADMM iterations together. retrain: of the survivors. keep: the ratios to compare. scope: whether a ratio is of
    each layer's weights or of all weights together, see `prune.Budget`. via: ratios to prune to on the way, each by
    the whole of `prune` (Ye et al. 2018, arXiv 1810.07378, "progressive").
    minmax: lambda of the game, 0 for none. inner_steps: of the adversary before each step of the classifier.
    """

    network: str
    widths: tuple[int, ...] | float
    members: int | None
    reference: int
    nonmembers: int
    seeds: int
    keep: tuple[Keep, ...]
    dense: Schedule
    prune: Schedule
    retrain: Schedule
    admm: ADMMSettings = dataclasses.field(default_factory=ADMMSettings)
    minmax: float = 1.0
    inner_steps: int = 1
    scope: str = "layer"
    via: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.scope not in ("layer", "global"):
            raise ArgumentError(f"scope must be layer or global, got {self.scope!r}")
        if self.scope == "global" and any(isinstance(keep, tuple) for keep in self.keep):
            raise ArgumentError(f"keep must be one ratio where scope is global, got {keep_name(self.keep[0])}")
        if not 0.0 <= self.minmax < float("inf"):
            raise ArgumentError(f"minmax must be a lambda of at least 0, got {self.minmax}")
        for keep in self.keep:
            for ratio in keep if isinstance(keep, tuple) else (keep,):
                if not 0.0 < ratio <= 1.0:
                    raise ArgumentError(f"keep must lie in (0, 1], got {ratio:g}")
        if not all(0.0 < ratio <= 1.0 for ratio in self.via):
            raise ArgumentError(f"via must be ratios in (0, 1], got {' '.join(map(str, self.via))}")
        names = [keep_name(keep) for keep in self.keep]
        if not names or len(set(names)) < len(names):
            raise ArgumentError(f"keep must name at least one ratio, and each once, got {' '.join(names) or 'none'}")
        if self.seeds < 1:
            raise ArgumentError(f"seeds must be at least 1, got {self.seeds}")

    @property
    def pruning_epochs(self) -> int:
        """The epochs of pruning and retraining together."""
        return (len(self.via) + 1) * self.prune.epochs + self.retrain.epochs

    def train_step(self, lam: float, stop_after: int | None = None) -> dict[str, Any]:
        """How a dense network was made, as plain data: what a model file records, and shadow models repeat."""
        game = {"minmax": lam, "inner_steps": self.inner_steps}
        return {"step": "train", "stop_after": stop_after} | game | dataclasses.asdict(self.dense)

    def prune_step(self, keep: Keep, lam: float) -> dict[str, Any]:
        """How a dense network was pruned, as plain data."""
        done = {name: dataclasses.asdict(getattr(self, name)) for name in ("admm", "prune", "retrain")}
        game = {"minmax": lam, "inner_steps": self.inner_steps}
        return {"step": "prune", "keep": keep, "scope": self.scope, "via": list(self.via)} | game | done


RECIPES = {
    "digits": Recipe(
        network="mlp",
        widths=(256, 128),
        members=200,
        reference=200,
        nonmembers=1000,
        seeds=8,
        keep=(0.1,),
        dense=Schedule(epochs=50, batch=32, lr=0.05),
        prune=Schedule(epochs=30, batch=32, lr=0.05),
        retrain=Schedule(epochs=10, batch=32, lr=0.01),
        admm=ADMMSettings(rho=0.1),
    ),
    "location30": Recipe(
        network="mlp",
        widths=(512, 256, 128),
        members=1500,
        reference=1500,
        nonmembers=1500,
        seeds=5,
        keep=(0.1, 0.05, 0.02),
        dense=Schedule(epochs=50, lr=0.05),
        prune=Schedule(epochs=40, lr=0.05, decay="cosine", weight_decay=2e-3),
        retrain=Schedule(epochs=10, lr=0.01, weight_decay=2e-3),
        admm=ADMMSettings(rho=0.05),
        minmax=2.0,
        scope="global",
    ),
    "mnist": Recipe(
        network="lenet-5",
        widths=(20, 50, 500),
        members=1000,
        reference=1000,
        nonmembers=2000,
        seeds=3,
        keep=(0.1, 0.05),
        dense=Schedule(epochs=50, lr=0.05),
        prune=Schedule(epochs=30, lr=0.05),
        retrain=Schedule(epochs=10, lr=0.01),
        admm=ADMMSettings(rho=0.1),
    ),
}

FULL = {  # where the members are the whole official training set
    "mnist": dataclasses.replace(
        RECIPES["mnist"],
        members=None,
        reference=0,
        nonmembers=10_000,
        seeds=1,
        keep=(0.01405,),  # 6,048 of 430,500 weights; Zhang et al. 2018 keep 6,050
        scope="global",
        via=(0.05,),
        dense=Schedule(epochs=20, lr=0.02, decay="cosine", weight_decay=5e-4),
        prune=Schedule(epochs=20, lr=0.02, decay="cosine", weight_decay=5e-4),
        retrain=Schedule(epochs=25, lr=0.05, decay="cosine", weight_decay=5e-4),
        admm=ADMMSettings(rho=1e-2, iterations=20),
        minmax=0.0,
    ),
}


def recipe_for(dataset: Dataset, members: int | str | None = None, **changes: Any) -> Recipe:
    """The recipe of a data set, for `members` members ("all" for the official training set), with some changes.

    changes: fields of Recipe; None leaves a field as it is. Another network comes with its own widths. With all
    members, the game's reference set, if a game is asked for, is half of the official test set.
    Raises ArgumentError on values that cannot be used.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    if any(isinstance(keep, tuple) for keep in changes.get("keep", ())):
        changes.setdefault("scope", "layer")  # ratios of each layer's own
    recipe = RECIPES[dataset.name]
    if members == "all":
        if dataset.name not in FULL:
            raise ArgumentError(f"members all: {dataset.name} has no official training set; give a number")
        recipe = FULL[dataset.name]
        if changes.get("minmax"):
            half = recipe.nonmembers // 2
            recipe = dataclasses.replace(recipe, reference=half, nonmembers=half)
    elif members is not None:
        changes["members"] = members
    network = changes.get("network", recipe.network)
    if network != recipe.network:
        changes["widths"] = architecture(network).size.default
        changes.setdefault("keep", RECIPES[dataset.name].keep)  # ratios for each layer are for the recipe's network
    return dataclasses.replace(recipe, **changes)
