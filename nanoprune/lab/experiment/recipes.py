"""What `reproduce` runs on each data set. The paper's own splits, rates and schedules could not be had: these are ours.

How they were found is told in docs/results.md.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.data import Dataset
from nanoprune.lab.privacy.accounting import noise_for, phase, statement
from nanoprune.lab.zoo import architecture, build, describe
from nanoprune.lab.zoo.ratios import USUAL, layer_ratios
from nanoprune.lab.zoo.ratios import layer_names as names_of
from nanoprune.nn import Network
from nanoprune.prune import ADMMSettings, Budget, parse_scheme
from nanoprune.prune.budget import check_scope
from nanoprune.schedule import Schedule

Keep = float | tuple[float, ...]  # one ratio for all layers, or one a layer


def keep_name(keep: Keep) -> str:
    """How a ratio is called in the names of methods: 0.05, or for ratios of each layer's own 0.2,0.08,0.009,0.07."""
    return ",".join(f"{ratio:g}" for ratio in (keep if isinstance(keep, tuple) else (keep,)))


@dataclasses.dataclass(frozen=True)
class DefenceSettings:
    """What the simple defences of `defences.py` are told. docs/results.md says how they do.

    l2: weight decay of the dense training. dropout: rate. smoothing: the share of a label that all classes have in
    equal parts. relaxloss: alpha, the loss at which the members are held. temperature: T > 1, by which logits are
    divided. memguard: the budget, most of the expected L1 distance of an answer from the network's own; 2 and more is
    no limit.
    """

    l2: float = 5e-3
    dropout: float = 0.5
    smoothing: float = 0.1
    relaxloss: float = 0.5
    temperature: float = 4.0
    memguard: float = 1.0

    def __post_init__(self) -> None:
        if not 1.0 < self.temperature < float("inf"):
            raise ArgumentError(f"temperature must be above 1, got {self.temperature}")
        if not 0.0 <= self.memguard < float("inf"):
            raise ArgumentError(f"memguard must be a budget of at least 0, got {self.memguard}")


@dataclasses.dataclass(frozen=True)
class Private:
    """How networks are trained with DP-SGD, see `defend.DPSGD`: rows of a comparison, at each of the `epsilons`.

    epochs: of every row, so that all take as many steps and, at equal epsilon, the same noise; where a network is
    pruned on the way, a third each is dense training, the W-steps of ADMM and retraining. batch: expected size of a
    sample. rho: of ADMM, whose gradient of the loss is clipped.
    """

    epsilons: tuple[float, ...] = (8.0,)
    delta: float = 1e-5
    clip: float = 1.0
    clipping: str = "flat"
    epochs: int = 30
    batch: int = 128
    lr: float = 0.5
    momentum: float = 0.0
    rho: float = 0.01

    def __post_init__(self) -> None:
        if not all(0 < epsilon < float("inf") for epsilon in self.epsilons):
            raise ArgumentError(f"epsilon must be positive and finite, got {' '.join(map(str, self.epsilons))}")
        if not 0 < self.clip < float("inf"):
            raise ArgumentError(f"clip must be positive and finite, got {self.clip}")
        if not 0 < self.delta < 1:
            raise ArgumentError(f"delta must lie in (0, 1), got {self.delta}")
        if not isinstance(self.epochs, int) or self.epochs < 3:
            raise ArgumentError(f"epochs of DP-SGD must be at least 3, got {self.epochs}")

    @property
    def thirds(self) -> tuple[int, int, int]:
        """The epochs of dense training, of ADMM and of retraining."""
        third = self.epochs // 3
        return self.epochs - 2 * third, third, third

    def plan(self, epochs: int) -> Schedule:
        """The schedule of a phase."""
        return Schedule(epochs, self.batch, self.lr, self.momentum)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on beside data, seeds and device.

    widths: of the hidden layers; of vgg16, mobilenetv2 and resnet18 the width multiplier.
    members: None for the whole official training set. dense: training of every dense network. prune: the W-steps of
    all ADMM iterations together. retrain: of the survivors. keep: the ratios to compare. scope: whether a ratio is of
    each layer's weights, of all weights together, or of those and dealt out to the layers, see `prune.layer_ratios`.
    via: ratios to prune to on the way, each by the whole of `prune` (Ye et al. 2018, arXiv 1810.07378, "progressive").
    scheme: what is pruned together, see `prune.scheme`. exempt: layers that one ratio for all leaves whole, see
    `prune.layer_ratios`.
    minmax: lambda of the game, 0 for none. inner_steps: of the adversary before each step of the classifier.
    dropout: rate of the layers that `zoo.build.with_dropout` puts in. defences: what the simple defences are told.
    private: the training with DP-SGD.
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
    dropout: float = 0.0
    defences: DefenceSettings = dataclasses.field(default_factory=DefenceSettings)
    private: Private = dataclasses.field(default_factory=Private)

    def __post_init__(self) -> None:
        check_scope(self.scope)
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
        """The constraint set of `keep` for a network. Raises ArgumentError where the two do not fit."""
        return Budget(net, layer_ratios(net, keep, self.scope, self.exempt), self.scope, self.scheme)

    def stages(self, net: Network, keep: Keep) -> list[list[float]]:
        """The ratios (`layer_ratios`) of each pruning of a network: on the way to `keep`, and to `keep`."""

        def at_least(via: float) -> Keep:
            return tuple(max(via, ratio) for ratio in keep) if isinstance(keep, tuple) else max(via, keep)

        ways = [*(at_least(via) for via in self.via), keep]
        return [layer_ratios(net, way, self.scope, self.exempt) for way in ways]

    @property
    def pruning_epochs(self) -> int:
        """The epochs of pruning and retraining together."""
        return (len(self.via) + 1) * self.prune.epochs + self.retrain.epochs

    def train_step(self, lam: float, stop_after: int | None = None) -> dict[str, Any]:
        """How a dense network was made, as plain data: what a model file records, and shadow models repeat."""
        game = {"minmax": lam, "inner_steps": self.inner_steps}
        return {"step": "train", "stop_after": stop_after} | game | dataclasses.asdict(self.dense)

    def private_noise(self, members: int, epsilon: float) -> float:
        """The noise with which DP-SGD on so many members spends at most `epsilon`."""
        steps = phase(members, self.private.batch, 0.0, self.private.epochs)
        return noise_for(epsilon, self.private.delta, [steps])

    def private_step(self, members: int, noise: float, way: str, keep: Keep | None) -> dict[str, Any]:
        """How a network was trained with DP-SGD, as plain data, and what that spends; `Shard.private` has the ways."""
        of, mask = self.private, {"dense": "none", "mask": "reference"}.get(way, "private")
        steps = phase(members, of.batch, noise, of.epochs)
        privacy = statement([steps], of.delta, of.clip, of.clipping, seeded=False, mask=mask)
        own = {"noise": noise, "way": way, "private": dataclasses.asdict(of), "privacy": privacy}
        return self.prune_step(keep, 0.0) | {"step": "private", "dense": dataclasses.asdict(self.dense)} | own

    def prune_step(self, keep: Keep | None, lam: float) -> dict[str, Any]:
        """How a dense network was pruned, as plain data."""
        done = {name: dataclasses.asdict(getattr(self, name)) for name in ("admm", "prune", "retrain")}
        game = {"minmax": lam, "inner_steps": self.inner_steps}
        what = {"keep": keep, "scope": self.scope, "scheme": self.scheme, "exempt": list(self.exempt)}
        return {"step": "prune"} | what | {"via": list(self.via)} | game | done


def _tabular(members: int, reference: int, nonmembers: int) -> Recipe:
    """What is tried first on data sets of bits with 100 classes."""
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


def _cifar(epochs: tuple[int, int, int], augment: str = "none", **changes: Any) -> Recipe:
    """Small colour images: epochs of dense training, of pruning and of retraining, and changes for a larger run.

    No augmentation where few members are to show an effect: it is a defence itself, since the network never sees a
    member as the attacker does, and the comparison is of pruning. What the paper did is not known.
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
        seeds=3,
        keep=(0.1, 0.05),
        dense=Schedule(epochs=50, lr=0.05),
        prune=Schedule(epochs=30, lr=0.05),
        retrain=Schedule(epochs=10, lr=0.01),
        admm=ADMMSettings(rho=0.1),
        private=Private(epochs=60, batch=500, lr=1.0, clip=0.5),
    ),
    # The next two have not been run on the real data, which was not at hand: the network's sizes are usual in the
    # literature (Nasr et al. 2018, with Tanh), the rest is taken from Location-30.
    "purchase100": _tabular(members=10_000, reference=10_000, nonmembers=10_000),
    "texas100": _tabular(members=5_000, reference=5_000, nonmembers=5_000),
    # The epochs are chosen by the time of a step, for an hour or so on two cores. cifar100 has not been run.
    "cifar10": _cifar((15, 15, 8)),
    "cifar100": _cifar((15, 15, 8)),
}

# What another network changes in the recipe of a data set: "rates" multiplies learning rates, the others are fields of
# Recipe. docs/results.md says why.
OF_NETWORK: dict[str, dict[str, Any]] = {"vgg16": {"rates": 0.4}, "mobilenetv2": {"scope": "erk"}}

# At full width, as such networks are usually trained, for a GPU. It has not been run.
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


def layer_names(dataset: Dataset, members: int | str | None = None, network: str | None = None) -> list[str]:
    """The layers of the network that `recipe_for` says, by the names that ratios are given to."""
    recipe = recipe_for(dataset, members, network=network)
    net = build(describe(recipe.network, dataset.x.shape[1:], dataset.classes, recipe.widths), replicas=0)
    return names_of(net)


def one_ratio(keep: Keep | None, from_file: Keep | None, scheme: str | None) -> Keep:
    """The one ratio (or one a layer) of an option, a file or a scheme. Raises ArgumentError on two of them, or none."""
    of_scheme = parse_scheme(scheme).keep if scheme else None
    given = [ratio for ratio in (keep, from_file) if ratio is not None]
    if len(given) > 1:
        raise ArgumentError("keep comes from --keep or from --keep-file, got both; leave one out")
    if not given and of_scheme is None:
        raise ArgumentError("keep is missing: give --keep, --keep-file, or a --scheme N:M, which brings its ratio")
    return given[0] if given else of_scheme


def recipe_for(dataset: Dataset, members: int | str | None = None, **changes: Any) -> Recipe:
    """The recipe of a data set, for `members` members ("all" for the official training set), with some changes.

    changes: fields of Recipe; None leaves a field as it is. Another network comes with its own widths, or with the
    recipe's multiplier if both have one, with what OF_NETWORK says of it, and with the data set's ratios. With all
    members, the game's reference set, if a game is asked for, is half of the official test set. A structured scheme has
    a ratio for each layer, leaves the first convolution and the last layer whole unless `exempt` says otherwise, and
    N:M brings its ratio. `exempt` has nothing to say where every ratio is one layer's own.
    Raises ArgumentError on values that cannot be used.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    if any(isinstance(keep, tuple) for keep in changes.get("keep", ())):
        changes.setdefault("scope", "layer")  # ratios of each layer's own
    if dataset.name not in RECIPES:
        raise ArgumentError(f"{dataset.name} has no recipe yet; there is one for {', '.join(RECIPES)}")
    if changes.get("exempt") and all(isinstance(keep, tuple) for keep in changes.get("keep", (None,))):
        raise ArgumentError("exempt is for one ratio for all layers; give the layers a ratio of 1 instead")
    scheme = parse_scheme(changes.get("scheme", "unstructured"))
    if scheme.structured:
        changes = {"scope": "layer", "exempt": USUAL} | changes
    if scheme.keep:
        changes = {"keep": (scheme.keep,), "via": ()} | changes
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
        size, usual = architecture(network).size, architecture(recipe.network).size
        changes.setdefault("widths", recipe.widths if size.of_any_network and usual.of_any_network else size.default)
        changes.setdefault("keep", RECIPES[dataset.name].keep)  # ratios for each layer are for the recipe's network
        changes = _of_network(recipe, network) | changes
    return dataclasses.replace(recipe, **changes)
