"""The simple defences that people ask for beside pruning: one function each, from the experiment and its baseline.

What they are told is in `DefenceSettings` of the recipe. Those of the training change the recipe, so that a model file
says how the network was made, and shadow models repeat it. Those of the answers keep the baseline's networks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nanoprune.defend.temperature import temperature as divide_logits
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.memguard import memguard as fit_memguard
from nanoprune.lab.experiment.shard import generators


def validation_stop(experiment: Experiment, baseline: Trained) -> Trained:
    """Early stopping: the epoch of the best accuracy on the reference set D', which no attack is scored on."""
    return experiment.validated("validation-stop")


def l2(experiment: Experiment, baseline: Trained) -> Trained:
    """L2: + d/2 ||theta||^2, as weight decay d in the optimiser."""
    return _trained("l2", experiment, weight_decay=experiment.recipe.defences.l2)


def dropout(experiment: Experiment, baseline: Trained) -> Trained:
    """Dropout before every dense layer that does not read the records themselves (Srivastava et al. 2014);
    `nn.Dropout`."""
    recipe = dataclasses.replace(experiment.recipe, dropout=experiment.recipe.defences.dropout)
    return experiment.by(recipe).dense("dropout")


def label_smoothing(experiment: Experiment, baseline: Trained) -> Trained:
    """Targets that no record can reach with certainty (Szegedy et al. 2016); `defend.label_smoothing`."""
    smoothing = experiment.recipe.defences.smoothing
    return _trained("label-smoothing", experiment, loss=f"label-smoothing:{smoothing}")


def relaxloss(experiment: Experiment, baseline: Trained) -> Trained:
    """The loss of the members is held at alpha (Chen, Yu & Fritz 2022); `defend.relaxloss`."""
    return _trained("relaxloss", experiment, loss=f"relaxloss:{experiment.recipe.defences.relaxloss}")


def memguard(experiment: Experiment, baseline: Trained) -> Trained:
    """Noise on the answers that fools an attack network (Jia et al. 2019); `memguard`."""
    known = (experiment.outputs(baseline.net, part) for part in ("members", "reference"))
    budget, sources = experiment.recipe.defences.memguard, generators(experiment.seeds, "memguard")
    experiment.progress.start("fit memguard", len(experiment.seeds))
    with single_threaded_blas():
        answer = fit_memguard(budget, *known, sources, experiment.threads, experiment.progress.advance)
    return dataclasses.replace(baseline, curves=dict(baseline.curves), answer=answer)


def temperature(experiment: Experiment, baseline: Trained) -> Trained:
    """Answers softmax(z / T) (Guo et al. 2017); `defend.temperature`."""
    answer = divide_logits(experiment.recipe.defences.temperature)
    return dataclasses.replace(baseline, curves=dict(baseline.curves), answer=answer)


TRAINING = {
    "validation-stop": validation_stop,
    "l2": l2,
    "dropout": dropout,
    "label-smoothing": label_smoothing,
    "relaxloss": relaxloss,
}
ANSWERS = {"memguard": memguard, "temperature": temperature}
REFERENCE = {"validation-stop": 1, "memguard": 4}  # the fewest reference records that they can do with


def _trained(method: str, experiment: Experiment, **changes: Any) -> Trained:
    """The baseline's training with some changes of its schedule."""
    recipe = experiment.recipe
    return experiment.by(dataclasses.replace(recipe, dense=dataclasses.replace(recipe.dense, **changes))).dense(method)
