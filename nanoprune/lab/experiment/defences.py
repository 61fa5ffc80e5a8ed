"""The simple defences that are compared with pruning: one function each, from the experiment and its baseline.

Their hyperparameters are in `DefenceSettings` of the recipe. A defence of the training changes the recipe, so that a
model file records how the network was made and shadow models can repeat it. A defence of the outputs keeps the
baseline's networks and must keep the predicted class.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.memguard import memguard as fit_memguard
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.experiment.shard import generators
from nanoprune.lab.experiment.temperature import temperature as divide_logits


def validation_stop(experiment: Experiment, baseline: Trained) -> Trained:
    """Early stopping at the epoch of the best accuracy on the reference set D', whose records are not scored."""
    return experiment.validated("validation-stop")


def l2(experiment: Experiment, baseline: Trained) -> Trained:
    """L2 regularisation: $d/2 ||theta||^2$ is added to the loss, as weight decay d in the optimiser."""
    return _trained("l2", experiment, weight_decay=experiment.recipe.defences.l2)


def dropout(experiment: Experiment, baseline: Trained) -> Trained:
    """Dropout before every dense layer that does not read the records themselves (Srivastava et al. 2014);
    `nn.Dropout`."""
    recipe = dataclasses.replace(experiment.recipe, dropout=experiment.recipe.defences.dropout)
    return experiment.with_recipe(recipe).dense("dropout")


def label_smoothing(experiment: Experiment, baseline: Trained) -> Trained:
    """Label smoothing (Szegedy et al. 2016); `defend.label_smoothing`."""
    smoothing = experiment.recipe.defences.smoothing
    return _trained("label-smoothing", experiment, loss=f"label-smoothing:{smoothing}")


def relaxloss(experiment: Experiment, baseline: Trained) -> Trained:
    """RelaxLoss holds the loss of the members near alpha (Chen, Yu & Fritz 2022); `defend.relaxloss`."""
    alpha, upper = experiment.recipe.defences.relaxloss, experiment.recipe.defences.relaxloss_upper
    loss = f"relaxloss:{alpha}" if upper is None else f"relaxloss-code:{alpha}:{upper}"
    return _trained("relaxloss", experiment, loss=loss)


def memguard(experiment: Experiment, baseline: Trained) -> Trained:
    """Noise on the outputs that misleads an attack network (Jia et al. 2019); `memguard`."""
    known = (experiment.logits(baseline.net, part) for part in ("members", "reference"))
    budget, sources = experiment.recipe.defences.memguard, generators(experiment.seeds, "memguard")
    experiment.progress.start("fit memguard", len(experiment.seeds))
    with single_threaded_blas():
        outputs = fit_memguard(budget, *known, sources, experiment.threads, experiment.progress.advance)
    return dataclasses.replace(baseline, curves=dict(baseline.curves), outputs=outputs)


def temperature(experiment: Experiment, baseline: Trained) -> Trained:
    """Outputs softmax(z / T) (Guo et al. 2017); `temperature`."""
    outputs = divide_logits(experiment.recipe.defences.temperature)
    return dataclasses.replace(baseline, curves=dict(baseline.curves), outputs=outputs)


def with_ppb(recipe: Recipe, strength: float) -> Recipe:
    """Gradual magnitude pruning with pair-based posterior balancing in its loss (Yuan & Zhang 2022); `defend.ppb`."""
    plans = {of: dataclasses.replace(getattr(recipe, of), loss=f"ppb:{strength:g}") for of in ("prune", "retrain")}
    return dataclasses.replace(recipe, solver="gradual", **plans)


TRAINING = {
    "validation-stop": validation_stop,
    "l2": l2,
    "dropout": dropout,
    "label-smoothing": label_smoothing,
    "relaxloss": relaxloss,
}
OUTPUTS = {"memguard": memguard, "temperature": temperature}
REFERENCE = {"validation-stop": 1, "memguard": 4}  # the fewest reference records that they need


def _trained(method: str, experiment: Experiment, **changes: Any) -> Trained:
    """The baseline's training with a changed schedule."""
    recipe = experiment.recipe
    return experiment.with_recipe(
        dataclasses.replace(recipe, dense=dataclasses.replace(recipe.dense, **changes))
    ).dense(method)
