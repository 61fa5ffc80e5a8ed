"""The recipe of each data set. The paper's splits, learning rates and schedules are not published: these are ours.

docs/results.md says how they were chosen.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.data import Dataset
from nanoprune.lab.data.groups import cut_at_most
from nanoprune.lab.experiment.more_recipes import MORE
from nanoprune.lab.experiment.settings import DefenceSettings, Private
from nanoprune.lab.experiment.solvers import SOLVERS, WITHOUT_TRAINING
from nanoprune.lab.privacy.accounting import noise_for, phase, statement
from nanoprune.lab.zoo import NETWORKS, architecture, size_of
from nanoprune.lab.zoo.keep_ratios import USUAL, layer_ratios
from nanoprune.nn import Network
from nanoprune.prune import ADMMSettings, Budget, parse_scheme
from nanoprune.prune.budget import check_scope
from nanoprune.schedule import Schedule

Keep = float | tuple[float, ...]  # one ratio for all layers, or one per layer
MASK_SOURCES = {"dense": "none", "mask": "reference", "synflow": "data-free", "random": "data-free"}  # else private


def keep_name(keep: Keep) -> str:
    """A ratio as it appears in the names of methods: 0.05, or 0.2,0.08,0.009,0.07 for one ratio per layer."""
    return ",".join(f"{ratio:g}" for ratio in (keep if isinstance(keep, tuple) else (keep,)))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on besides data, seeds and device.

    widths: of the hidden layers; for vgg16, mobilenetv2 and resnet18 the width multiplier.
    members: None for the whole official training set. dense: schedule of every dense network. prune: schedule of the
    W-steps of all ADMM iterations together. retrain: schedule of the masked retraining. keep: the ratios to compare.
    scope: a ratio applies to each layer ("layer"), to all weights together ("global"), or to all weights, allocated
    across layers by fan-in and fan-out ("erk"); see `prune.layer_ratios`.
    via: intermediate ratios, each reached by all of `prune` (Ye et al. 2018, arXiv 1810.07378, "progressive").
    scheme: pruning granularity, see `prune.scheme`. exempt: layers that a single ratio does not apply to, see
    `prune.layer_ratios`. solver: "admm", or a way of pruning that it is compared with, see `solvers`.
    minmax: lambda of the game, 0 for none. inner_steps: steps of the adversary before each step of the classifier.
    dropout: rate of the layers that `zoo.build.with_dropout` inserts. defences: hyperparameters of the simple defences.
    private: hyperparameters of DP-SGD.
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
    scheme: str = "unstructured"
    exempt: tuple[str, ...] = ()
    solver: str = "admm"
    dropout: float = 0.0
    defences: DefenceSettings = dataclasses.field(default_factory=DefenceSettings)
    private: Private = dataclasses.field(default_factory=Private)

    def __post_init__(self) -> None:
        check_scope(self.scope)
        if self.solver not in SOLVERS:
            raise ArgumentError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")
        if self.scope != "layer" and any(isinstance(keep, tuple) for keep in self.keep):
            found = next(keep_name(keep) for keep in self.keep if isinstance(keep, tuple))
            raise ArgumentError(f"keep must be one ratio where scope is {self.scope}, got {found}")
        if not 0.0 <= self.minmax < float("inf"):
            raise ArgumentError(f"minmax must be a lambda of at least 0, got {self.minmax}")
        for keep in self.keep:
            for ratio in keep if isinstance(keep, tuple) else (keep,):
                if not 0.0 < ratio <= 1.0:
                    raise ArgumentError(f"keep must lie in (0, 1], got {ratio:g}")
        if not all(0.0 < ratio <= 1.0 for ratio in self.via):
            raise ArgumentError(f"via must be ratios in (0, 1], got {' '.join(map(str, self.via))}")
        self._check_scheme()
        names = [keep_name(keep) for keep in self.keep]
        if not names or len(set(names)) < len(names):
            raise ArgumentError(f"keep must name at least one ratio, and each once, got {' '.join(names) or 'none'}")
        if self.seeds < 1:
            raise ArgumentError(f"seeds must be at least 1, got {self.seeds}")

    def _check_scheme(self) -> None:
        scheme = parse_scheme(self.scheme)
        if self.scope != "layer" and scheme.structured:
            raise ArgumentError(f"scope must be layer where scheme is {self.scheme}, got {self.scope}")
        if self.scope != "layer" and self.exempt:
            raise ArgumentError(f"exempt must be none where scope is {self.scope}, got {','.join(self.exempt)}")
        for keep in self.keep:
            for ratio in keep if isinstance(keep, tuple) else (keep,):
                scheme.check(ratio)
        if scheme.keep and self.via:
            raise ArgumentError(f"via must be empty where scheme is {self.scheme}, got {' '.join(map(str, self.via))}")

    def budget(self, net: Network, keep: Keep) -> Budget:
        """The constraint set of `keep` for a network. Raises ArgumentError where `keep` does not fit the network."""
        return Budget(net, layer_ratios(net, keep, self.scope, self.exempt), self.scope, self.scheme)

    def stages(self, net: Network, keep: Keep) -> list[list[float]]:
        """The ratios (`layer_ratios`) of each pruning stage: the intermediate ones of `via`, then `keep`."""

        def at_least(via: float) -> Keep:
            return tuple(max(via, ratio) for ratio in keep) if isinstance(keep, tuple) else max(via, keep)

        ratios = [*(at_least(via) for via in self.via), keep]
        return [layer_ratios(net, ratio, self.scope, self.exempt) for ratio in ratios]

    @property
    def pruning_epochs(self) -> int:
        """Epochs of pruning and retraining together; 1 where a solver trains nothing."""
        return 1 if self.solver in WITHOUT_TRAINING else (len(self.via) + 1) * self.prune.epochs + self.retrain.epochs

    def train_step(self, lam: float, stop_after: int | None = None) -> dict[str, Any]:
        """How a dense network is trained, as plain data: a model file records it, shadow models repeat it."""
        game = {"minmax": lam, "inner_steps": self.inner_steps}
        return {"step": "train", "stop_after": stop_after} | game | dataclasses.asdict(self.dense)

    def private_noise(self, members: int, epsilon: float) -> float:
        """The noise multiplier sigma with which DP-SGD on `members` records spends at most `epsilon`."""
        steps = phase(members, self.private.batch, 0.0, self.private.epochs)
        return noise_for(epsilon, self.private.delta, [steps])

    def private_step(self, members: int, noise: float, variant: str, keep: Keep | None) -> dict[str, Any]:
        """How a network is trained with DP-SGD, as plain data, and what that spends; see `Shard.private`."""
        of, mask = self.private, MASK_SOURCES.get(variant, "private")
        planned = phase(members, of.batch, noise, of.epochs)
        privacy = statement([planned], of.delta, of.clip, of.clipping, seeded=False, mask=mask)
        own = {"noise": noise, "variant": variant, "private": dataclasses.asdict(of), "privacy": privacy}
        return self.prune_step(keep, 0.0) | {"step": "private", "dense": dataclasses.asdict(self.dense)} | own

    def prune_step(self, keep: Keep | None, lam: float) -> dict[str, Any]:
        """How a dense network is pruned, as plain data."""
        done = {name: dataclasses.asdict(getattr(self, name)) for name in ("admm", "prune", "retrain")}
        game = {"minmax": lam, "inner_steps": self.inner_steps}
        what = {"keep": keep, "scope": self.scope, "scheme": self.scheme, "exempt": list(self.exempt)}
        what |= {"via": list(self.via), "solver": self.solver}
        return {"step": "prune"} | what | game | done


def _tabular(members: int, reference: int, nonmembers: int) -> Recipe:
    """The first recipe to try on binary data sets with 100 classes."""
    return Recipe(
        network="mlp",
        widths=(1024, 512, 256, 128),
        members=members,
        reference=reference,
        nonmembers=nonmembers,
        seeds=3,
        keep=(0.1, 0.05),
        dense=Schedule(epochs=30, lr=0.05),
        prune=Schedule(epochs=30, lr=0.05, decay="cosine", weight_decay=1e-3),
        retrain=Schedule(epochs=10, lr=0.01, weight_decay=1e-3),
        admm=ADMMSettings(rho=0.05),
        scope="global",
    )


def _table(members: int, epochs: tuple[int, int, int], lr: float, **changes: Any) -> Recipe:
    """Tables with numbers and categories. epochs: of dense training, of pruning and of retraining."""
    recipe = Recipe(
        network="mlp",
        widths=(128, 64),
        members=members,
        reference=members,
        nonmembers=members,
        seeds=5,
        keep=(0.1,),
        dense=Schedule(epochs=epochs[0], lr=lr),
        prune=Schedule(epochs=epochs[1], lr=lr, decay="cosine", weight_decay=1e-3),
        retrain=Schedule(epochs=epochs[2], lr=round(lr / 5, 6), weight_decay=1e-3),
        admm=ADMMSettings(rho=0.05),
        scope="global",
        private=Private(batch=min(256, members // 4)),
    )
    return dataclasses.replace(recipe, **changes)


def _cifar(epochs: tuple[int, int, int], augment: str = "none", **changes: Any) -> Recipe:
    """Small colour images. epochs: of dense training, of pruning and of retraining.

    The members are not augmented by default: augmentation is a defence itself, since the network never sees a member as
    the attacker does, and the comparison is about pruning. What the paper did is not known.
    """
    usual = {"decay": "cosine", "weight_decay": 5e-4, "augment": augment}
    dense, prune, retrain = epochs
    recipe = Recipe(
        network="resnet18",
        widths=0.25,
        members=5000,
        reference=5000,
        nonmembers=5000,
        seeds=2,
        keep=(0.1,),
        dense=Schedule(epochs=dense, lr=0.05, **usual),
        prune=Schedule(epochs=prune, lr=0.05, **usual),
        retrain=Schedule(epochs=retrain, lr=0.02, **usual),
        admm=ADMMSettings(rho=0.05),
        scope="global",
    )
    return dataclasses.replace(recipe, **changes)


def usual_recipe(dataset: Dataset) -> Recipe:
    """The recipe of a data set by its name, or one to try first by its shape and size: a third of the records, at most
    10,000, are members, a third the reference set, a third non-members; of data with groups a few records are left out.

    Colour images of 32 x 32 and more get resnet18, other images of 16 x 16 and more lenet-5, the rest an mlp. Of a
    table with columns at most 5,000 are members, and the epochs are few: such networks learn their members by heart.
    """
    if dataset.name in RECIPES:
        return RECIPES[dataset.name]
    lost = 0 if dataset.groups is None else cut_at_most(dataset.groups)
    third, shape = min((len(dataset.y) - lost) // 3, 10_000), dataset.x.shape[1:]
    sizes = {"members": third, "reference": third, "nonmembers": third}
    side = min(shape[0], shape[2]) if len(shape) == 3 else 0
    if side >= 32 and shape[1] == 3:
        return dataclasses.replace(_cifar((15, 15, 8)), **sizes)
    if side >= 16:
        return dataclasses.replace(RECIPES["mnist"], **sizes)
    if dataset.table:
        return _table(min(third, 5000), (15, 15, 5) if third >= 1000 else (40, 30, 10), 0.02, keep=(0.1, 0.05))
    of = "digits" if third < 500 else "location30" if third < 5000 else "purchase100"
    return dataclasses.replace(RECIPES[of], **sizes, seeds=3, keep=(0.1, 0.05), scope="global", minmax=1.0)


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
        private=Private(epochs=30, batch=40, lr=0.25),
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
        private=Private(epochs=100, batch=750, lr=2.0, clip=0.3),
    ),
    "mnist": Recipe(
        network="lenet-5",
        widths=(20, 50, 500),
        members=1000,
        reference=1000,
        nonmembers=2000,
        seeds=5,
        keep=(0.1, 0.05),
        dense=Schedule(epochs=50, lr=0.05),
        prune=Schedule(epochs=30, lr=0.05),
        retrain=Schedule(epochs=10, lr=0.01),
        admm=ADMMSettings(rho=0.1),
        private=Private(epochs=60, batch=500, lr=1.0, clip=0.5),
    ),
    # The next two have not been run on the real data. The widths are usual (Nasr et al. 2018, with Tanh).
    "purchase100": _tabular(members=10_000, reference=10_000, nonmembers=10_000),
    "texas100": _tabular(members=5_000, reference=5_000, nonmembers=5_000),
    # Epochs for about an hour on two cores; cifar100 was run with LeNet-5 alone.
    "cifar10": _cifar((15, 15, 8)),
    "cifar100": _cifar((15, 15, 8)),
    "diabetes130": _table(
        3000, (20, 15, 5), 0.02, widths=(256, 128), dense=Schedule(epochs=20, lr=0.02, decay="cosine"), minmax=0.0
    ),
    "thyroid": _table(2000, (40, 40, 10), 0.05, widths=(256, 128), minmax=0.0),
    "adult": _table(3000, (20, 20, 5), 0.02, widths=(256, 128)),
}

# Changes for another network: "rates" multiplies learning rates, the others are fields of Recipe; see docs/results.md.
OF_NETWORK: dict[str, dict[str, Any]] = {
    "lenet-5": {"rates": 0.4},
    "vgg16": {"rates": 0.4},
    "mobilenetv2": {"scope": "erk"},
}

RECIPES |= {name: Recipe(**fields) for name, fields in MORE.items()}

# Full width and the usual training, for a GPU. It has not been run.
FULL_CIFAR = _cifar(
    (100, 60, 40), "crop-flip", widths=1.0, members=None, reference=0, nonmembers=10_000, seeds=1, minmax=0.0
)

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
    "cifar10": FULL_CIFAR,
    "cifar100": FULL_CIFAR,
}


def _of_network(recipe: Recipe, network: str) -> dict[str, Any]:
    """The fields of a recipe that `network` changes."""
    fields = dict(OF_NETWORK.get(network, {}))
    factor = fields.pop("rates", 1.0)
    plans = {name: getattr(recipe, name) for name in ("dense", "prune", "retrain")}
    return fields | {name: dataclasses.replace(plan, lr=round(plan.lr * factor, 6)) for name, plan in plans.items()}


def recipe_for(
    dataset: Dataset, members: int | str | None = None, usual: Recipe | None = None, **changes: Any
) -> Recipe:
    """The recipe of a data set, for `members` members ("all" for the official training set), with some changes.

    usual: in place of `usual_recipe`. changes: fields of Recipe; None leaves a field as it is. Another network has its
    own widths, or the recipe's multiplier if both have one, the changes of OF_NETWORK, and the data set's ratios. With
    all members, the game's reference set, if there is a game, is half of the official test set. A structured scheme has
    a ratio for each layer and exempts the first convolution and the last layer unless `exempt` says otherwise; N:M
    brings its ratio. `exempt` is refused where there is one ratio per layer.
    Raises ArgumentError on values that cannot be used.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    if any(isinstance(keep, tuple) for keep in changes.get("keep", ())):
        changes.setdefault("scope", "layer")  # one ratio per layer
    if changes.get("exempt") and all(isinstance(keep, tuple) for keep in changes.get("keep", (None,))):
        raise ArgumentError("exempt is for one ratio for all layers; give the layers a ratio of 1 instead")
    scheme = parse_scheme(changes.get("scheme", "unstructured"))
    if scheme.structured:
        changes = {"scope": "layer", "exempt": USUAL} | changes
    if scheme.keep:
        changes = {"keep": (scheme.keep,), "via": ()} | changes
    recipe = default = usual or usual_recipe(dataset)
    if members == "all":
        held_out = len(dataset.y) - dataset.train
        if dataset.name not in FULL and not held_out:
            raise ArgumentError(f"members all: {dataset.name} has no official training set; give a number")
        whole = dataclasses.replace(recipe, members=None, reference=0, nonmembers=held_out, seeds=1, minmax=0.0)
        recipe = FULL.get(dataset.name, whole)
        if changes.get("minmax"):
            half = recipe.nonmembers // 2
            recipe = dataclasses.replace(recipe, reference=half, nonmembers=half)
    elif members is not None:
        changes["members"] = members
    network = changes.get("network", recipe.network)
    if network != recipe.network:
        size, usual = architecture(network).size, architecture(recipe.network).size
        changes.setdefault("widths", recipe.widths if size.of_any_network and usual.of_any_network else size.default)
        changes.setdefault("keep", default.keep)  # ratios for each layer are for the recipe's network
        changes = _of_network(recipe, network) | changes
    return dataclasses.replace(recipe, **changes)


def recipe_of(
    description: dict[str, Any], dataset: Dataset, members: int | None, usual: Recipe | None = None, **changes: Any
) -> Recipe:
    """The recipe of a data set for a network that there is, of which `members` records, None for the official training
    set, are members. A network without a name has the schedules of the data set's usual one. Otherwise `recipe_for`."""
    if description["network"] in NETWORKS:
        size = {"network": description["network"], "widths": size_of(description)}
        changes = size | changes
    return recipe_for(dataset, "all" if members is None else members, usual, **changes)
