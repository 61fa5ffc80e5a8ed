"""What the core does where an argument is left out: the same as with the documented value, to the bit."""

import numpy as np
import pytest

from nanoprune.attack import network
from nanoprune.attack.attack_network import attacker
from nanoprune.attack.network import fit_attack_network, held_out_share
from nanoprune.attack.shadow import samia
from nanoprune.attack.shadow.lira import lira_online
from nanoprune.attack.shadow.moments import Moments
from nanoprune.attack.shadow.versions import lira_versions
from nanoprune.defend import DPSGD, MinMax, minmax
from nanoprune.errors import DivergenceError
from nanoprune.nn import (
    SGD,
    Adam,
    Branches,
    Conv2D,
    Dense,
    MaxPool,
    Network,
    Passes,
    ReLU,
    Sequential,
    Workspace,
)
from nanoprune.nn.parameter import Parameter
from nanoprune.prune import Budget
from nanoprune.records import Records, predict
from nanoprune.run import Run
from nanoprune.schedule import Schedule
from nanoprune.train import train


def seeded(replicas: int) -> list[np.random.Generator]:
    return [np.random.default_rng([7, r]) for r in range(replicas)]


def small(replicas: int = 2, dtype: str = "float64") -> Network:
    body = Sequential(Dense(4, 5), ReLU(), Dense(5, 3))
    return Network(body, (4,), replicas, dtype).initialise(seeded(replicas))


def steps(optimizer) -> np.ndarray:
    """theta (3, 2, P) after each of three steps with the same random gradients."""
    net, rng, thetas = small(), np.random.default_rng(0), []
    for _ in range(3):
        net.grad[...] = rng.standard_normal(net.grad.shape)
        optimizer.step(net, 0.1)
        thetas.append(net.theta.copy())
    return np.array(thetas)


def game(monkeypatch, **options) -> np.ndarray:
    """theta of the classifier and of a small adversary after an epoch of the Min-Max game."""

    def adversary(classes: int, replicas: int = 1) -> Network:
        return Network(Dense(2 * classes, 1), (2 * classes,), replicas)

    monkeypatch.setattr(minmax, "attacker", adversary)
    rng, members = np.random.default_rng(0), np.arange(40).reshape(2, 20)
    records, net = Records(rng.standard_normal((40, 4)).astype(np.float32), rng.integers(0, 3, 40)), small(2, "float32")
    played = MinMax(records, 3, members, members[::-1], seeded(2), **options)
    train(net, records, members, Schedule(epochs=1, batch=8), seeded(2), game=played)
    return np.concatenate([net.theta, played.h.theta], axis=1)


def attack(monkeypatch, **options) -> np.ndarray:
    """The held-out losses of a short training of the attack network: one stage, of 70 records and more."""
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 2)
    rng = np.random.default_rng(0)
    member, y = np.arange(200) % 2 == 0, rng.integers(0, 3, 200)
    p = rng.dirichlet(np.ones(3), 200)
    p[member] = 0.5 * p[member] + 0.5 * np.eye(3)[y[member]]
    return fit_attack_network(p, y, member, held_out_share(member), seeded(1)[0], **options)[1]


def samia_scores(monkeypatch, **options) -> np.ndarray:
    """What SAMIA's network says of its own records after three steps."""
    monkeypatch.setattr(samia, "STEPS", 3)
    rng = np.random.default_rng(0)
    features, member = rng.standard_normal((30, 6)), np.arange(30) % 2 == 0
    return samia.fit_samia(features, member, **options).scores(features)


def clipped(**options) -> list:
    """DPSGD's factors of three records in two layers of a batch of 2."""
    private = DPSGD(0.5, 1.0, **options)
    private.batch = 2
    return private._factors([np.array([[1.0, 0.0, 4.0]]), np.array([[0.0, 0.1, 9.0]])])


def moments(seed: int) -> Moments:
    rng = np.random.default_rng(seed)
    return Moments.of(rng.standard_normal((8, 5, 2)), np.ones((8, 5), bool))


def parts(**options) -> list:
    net = small()
    budget = Budget(net, 0.3, **options)
    return [budget.parts, budget.k, budget.project(net.W).tolist()]


TARGET = np.linspace(-2, 2, 10).reshape(5, 2)
DEFAULTS = [  # what is called, the documented values
    (lambda monkeypatch, **options: steps(SGD(**options)), {"momentum": 0.0, "weight_decay": 0.0}),
    (lambda monkeypatch, **options: steps(Adam(**options)), {"b1": 0.9, "b2": 0.999, "eps": 1e-8}),
    (game, {"lam": 1.0, "inner_steps": 1, "batch": 64, "lr": 1e-3}),
    (samia_scores, {"seed": 0}),
    (lambda monkeypatch, **options: clipped(**options), {"clipping": "flat"}),
    (lambda monkeypatch, **options: parts(**options), {"scope": "layer", "scheme": "unstructured"}),
    (
        lambda monkeypatch, **options: lira_online(TARGET, moments(1), moments(2), **options),
        {"variance": "fixed"},
    ),
    (
        lambda monkeypatch, **options: lira_versions(TARGET, moments(1), moments(2), **options),
        {"variance": "fixed"},
    ),
    (
        lambda monkeypatch, **options: Network(Dense(2, 1), (2,), **options).initialise(seeded(1)).theta,
        {"replicas": 1, "dtype": np.float32},
    ),
    (
        lambda monkeypatch, **options: attacker(2, **options).initialise(seeded(1)).theta[:, :9],
        {"replicas": 1, "dtype": "float32"},
    ),
    (attack, {"batch": 64, "target_loss": 0.0, "min_improvement": 0.0}),
]


@pytest.mark.parametrize(("result", "values"), DEFAULTS, ids=[",".join(values) for _, values in DEFAULTS])
def test_an_argument_left_out_is_its_documented_value(result, values, monkeypatch):
    np.testing.assert_equal(result(monkeypatch), result(monkeypatch, **values))


def test_a_run_that_is_not_named_is_a_training():
    """Its losses would not be finite, and the error says of what."""
    x = np.full((4, 4), np.nan, np.float32)
    run = Run(small(1, "float32"), Records(x, np.zeros(4, int)), np.arange(4)[None], Schedule(1), seeded(1), SGD())
    run._steps = [(np.float32([np.nan]), 4)]
    with pytest.raises(DivergenceError, match=r"^training: the loss of replica 0 is nan"):
        run.end_epoch()


def test_parameters_start_at_zero_without_a_start_and_are_not_depthwise():
    net, parameter = small(1), Parameter("W", (2, 3), 0.0, True)
    assert (parameter.start, parameter.depthwise, parameter.window, parameter.heads) == (0.0, False, None, None)
    assert all((bias.value == 0).all() for bias in net.biases)


def test_passes_and_workspaces_train_and_defer_nothing_unless_they_are_asked_to():
    for ws in (Workspace(), Passes(small()).ws):
        assert (ws.training, ws.generators, ws.defer, ws.padding, ws.deferred) == (True, None, False, None, [])
        assert ws.all_reduce(3.0, 4.0) == (3.0, 4.0)
    assert not Workspace().evaluation.training


@pytest.mark.parametrize("body", [Dense(4, 3), Sequential(Dense(4, 3)), Branches((3, Dense(3, 2)), (1, Dense(1, 1)))])
def test_a_layer_gives_both_gradients_and_a_network_that_of_the_parameters_unless_they_are_asked_otherwise(body):
    net, rng = Network(body, (4,), 2, "float64").initialise(seeded(2)), np.random.default_rng(0)
    X, dY, ws = rng.standard_normal((2, 4, 5)), rng.standard_normal((2, 3, 5)), Workspace()

    def gradients(backward, **wanted):
        net.grad[...] = 7.0
        net.forward(X, ws)
        return backward(dY, ws, **wanted), net.grad.copy()

    dX, grad = gradients(net.body.backward, need_dX=True, need_dW=True)
    for found in (gradients(net.body.backward), gradients(net.backward, need_dX=True)):
        np.testing.assert_array_equal(found[0], dX)
        np.testing.assert_array_equal(found[1], grad)
    nothing, again = gradients(net.backward)
    assert nothing is None
    np.testing.assert_array_equal(again, grad)
    assert (gradients(net.body.backward, need_dW=False)[1] == 7.0).all()


def test_windows_without_stride_and_padding_are_side_by_side_or_one_apart():
    """A pool moves by its size, a convolution by one; neither frames the image, and a convolution has a bias."""
    assert MaxPool(2).output_shape((7, 3, 5)) == (3, 3, 2)
    assert Conv2D(3, 4, 2).output_shape((7, 3, 5)) == (6, 4, 4)
    assert [parameter.name for parameter in Conv2D(3, 4, 2).parameters()] == ["W", "b"]


def test_predictions_do_not_depend_on_the_batch_or_the_workspace():
    net, rng = small(1, "float32"), np.random.default_rng(0)
    records, index = Records(rng.standard_normal((300, 4)).astype(np.float32), np.zeros(300, int)), np.arange(300)[None]
    np.testing.assert_allclose(predict(net, records, index), predict(net, records, index, Workspace(), 7), atol=1e-6)
