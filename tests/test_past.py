"""PAST against central differences of the loss gap, and as a method that shadow models repeat."""

import functools
import json

import numpy as np
import pytest
from lab_training import train
from scipy.special import log_softmax
from test_pruners import small

from nanoprune.errors import ArgumentError
from nanoprune.lab.audit.shadows import recipe_steps, train_shadows, undefended
from nanoprune.lab.data import load
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.methods import chosen, train_methods
from nanoprune.lab.experiment.past import PastRun, past
from nanoprune.lab.experiment.sweep import chosen_sweeps
from nanoprune.lab.layers import Tanh
from nanoprune.lab.models.model import Model
from nanoprune.lab.models.steps import check_steps
from nanoprune.nn import Dense, Network, Sequential
from nanoprune.records import Records
from nanoprune.schedule import Schedule

F, H, C = 4, 3, 3


def loss(theta, x, y):
    """The mean cross-entropy of a network of two dense layers with Tanh between them, whose weights come first."""
    W1, W2 = theta[: H * F].reshape(H, F), theta[H * F : H * (F + C)].reshape(C, H)
    b1, b2 = theta[H * (F + C) : H * (F + C) + H], theta[H * (F + C) + H :]
    z = np.tanh(x @ W1.T + b1) @ W2.T + b2
    return -log_softmax(z, axis=1)[np.arange(len(y)), y].mean()


def gradient(theta, x, y, step=1e-6):
    sides = [[loss(theta + s * step * e, x, y) for e in np.eye(len(theta))] for s in (1, -1)]
    return (np.array(sides[0]) - np.array(sides[1])) / (2 * step)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_steps_follow_the_loss_and_the_penalty_with_the_weights_of_each_epoch(threads):
    """Batches of all members, so that each epoch is one step, in float64."""
    rng, M, strength, lr = np.random.default_rng(0), 6, 0.05, 0.2
    x, y = rng.standard_normal((16, F)), rng.integers(0, C, 16)
    members, reference = np.arange(M)[None], np.arange(M, 16)[None]
    net = Network(Sequential(Dense(F, H), Tanh(), Dense(H, C)), (F,), 1, "float64")
    net.theta[...] = rng.standard_normal(net.theta.shape)
    theta, n = net.theta[0].copy(), H * (F + C)
    plan = Schedule(epochs=3, batch=M, lr=lr, momentum=0.0)
    for _ in range(plan.epochs):
        assert np.abs(theta[:n]).min() > 1e-3  # no sign is in doubt
        own = gradient(theta, x[:M], y[:M])
        gap = np.abs(gradient(theta, x[M:], y[M:]) - own)
        w = np.concatenate([gap[: H * F] / gap[: H * F].mean(), gap[H * F : n] / gap[H * F : n].mean()])
        theta = theta - lr * own
        theta[:n] -= lr * strength * w * np.sign(theta[:n] + lr * own[:n])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab_training.LabRun", functools.partial(PastRun, reference=reference, strength=strength))
        train(net, Records(x, y), members, plan, [np.random.default_rng(1)], group=ProcessGroup(threads))
    np.testing.assert_allclose(net.theta[0], theta, atol=1e-7)


def test_without_a_penalty_it_is_the_baseline():
    experiment = Experiment(load("digits"), small(keep=(0.25,)), [0, 1], 1)
    np.testing.assert_array_equal(past(experiment, "past", 0.0).net.theta, experiment.dense("dense").net.theta)


def test_it_is_a_method_and_a_family_that_shadows_repeat():
    data = load("digits")
    experiment = Experiment(data, small(keep=(0.25,)), [0, 1], 1)
    trained = train_methods(experiment, "past")["past"]
    made = json.loads(json.dumps(trained.steps[0]))
    assert [(step["step"], step["strength"]) for step in made] == [("past", 3e-4)]
    check_steps(made, "x")
    model = Model(trained.net.shard(slice(1)), data.name, data.sha256, 40, experiment.recipe.reference, 40, 0, made)
    assert recipe_steps(model, data)[0][1].dense == experiment.recipe.dense
    assert train_shadows(model, data, 6, 1, Progress()).logits["past"].shape == (6, 80, 10)
    assert [of["step"] for of in undefended(model).steps] == ["train"]
    (family,) = chosen_sweeps(experiment.recipe, ["past"], [0.25])
    np.testing.assert_array_equal(family.train(experiment, None, 3e-4).net.theta, trained.net.theta)


def test_without_reference_records_there_is_no_gap():
    experiment = Experiment(load("digits"), small(reference=0, keep=(0.25,)), [0], 1)
    assert "past" not in {of.name for of in chosen(experiment.recipe, "all")}
    with pytest.raises(ArgumentError, match=r"^reference must be at least 1 for past, which"):
        past(experiment, "past", 0.1)
