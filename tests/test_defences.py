"""The simple defences against closed forms, central differences and enumeration."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
from differences import central
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax

from nanoprune.attack import network
from nanoprune.defend.label_smoothing import label_smoothing
from nanoprune.defend.losses import loss_function
from nanoprune.defend.ppb import ppb
from nanoprune.defend.relaxloss import flattening, relaxloss, relaxloss_code
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.shadows import recipe_steps, train_shadows, undefended
from nanoprune.lab.data import load
from nanoprune.lab.engine.passes import SharedPasses
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.shards import sample_threads
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.methods import BASELINE, RIVALS, check_repeatable, chosen, train_methods
from nanoprune.lab.experiment.recipes import DefenceSettings, recipe_for
from nanoprune.lab.experiment.solvers import WITHOUT_TRAINING
from nanoprune.lab.experiment.temperature import temperature
from nanoprune.lab.layers import Dropout
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.lab.workflow.single_model import train_model
from nanoprune.lab.zoo import build, describe, narrowed
from nanoprune.nn import Dense, Network, Sequential, Workspace, cross_entropy
from nanoprune.nn import softmax as our_softmax
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

LOGIT = st.floats(-30, 30) | st.floats(-2, 2)
PLAN = Schedule(epochs=4, batch=16)


@st.composite
def cases(draw):
    """Logits (R, classes, N) and labels (R, N)."""
    R, classes, N = draw(st.integers(1, 3)), draw(st.integers(2, 5)), draw(st.integers(1, 4))
    flat = draw(st.lists(LOGIT, min_size=R * classes * N, max_size=R * classes * N))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=R * N, max_size=R * N))
    return np.array(flat).reshape(R, classes, N), np.array(labels).reshape(R, N)


def small(**changes):
    """A recipe that takes a moment."""
    recipe = recipe_for(load("digits"), members=40, reference=12, nonmembers=40, minmax=0.0)
    quick = {"dense": PLAN, "prune": PLAN, "retrain": PLAN, "admm": ADMMSettings(rho=0.1, iterations=2)}
    return dataclasses.replace(recipe, widths=(12, 8), **(quick | changes))


def run(text, threads=1, **changes):
    experiment = Experiment(load("digits"), small(**changes), [0, 1], threads)
    return experiment, train_methods(experiment, text)


# Losses


@settings(deadline=None, max_examples=60)
@given(cases(), st.floats(0, 1))
def test_label_smoothing_is_the_cross_entropy_against_smoothed_unit_vectors(case, smoothing):
    logits, y = case
    _, classes, N = logits.shape

    def expected(z):
        t = (1 - smoothing) * np.eye(classes)[y].swapaxes(1, 2) + smoothing / classes  # (R, classes, N)
        return -(t * log_softmax(z, axis=1)).sum(axis=(1, 2)) / N

    loss, gradient = label_smoothing(logits, y, N, smoothing)
    np.testing.assert_allclose(loss, expected(logits), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, central(expected, logits), atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(cases(), st.floats(0, 8), st.integers(0, 3))
def test_ppb_adds_the_divergence_of_sorted_outputs_in_pairs(case, strength, others):
    """Against SciPy's relative entropy and central differences, where no two outputs of a record are equal. `others`:
    records of the batch that another worker has."""
    logits, y = case
    N, count = logits.shape[2], logits.shape[2] + others
    ranks = np.argsort(np.argsort(logits, axis=1, kind="stable"), axis=1)
    logits = np.clip(logits, -8, 8) + 0.01 * ranks  # in the same order, and a step of the differences changes none

    def expected(z):
        p = -np.sort(-softmax(z, axis=1), axis=1)
        half = N // 2
        divergence = rel_entr(p[..., half : 2 * half], p[..., :half]).sum(axis=(1, 2)) / max(count // 2, 1)
        return cross_entropy(z, y, count)[0] + strength * divergence

    loss, gradient = ppb(logits, y, count, strength)
    np.testing.assert_allclose(loss, expected(logits), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, central(expected, logits), atol=2e-5)


@given(cases(), st.randoms(use_true_random=False))
def test_ppb_does_not_depend_on_the_names_of_the_classes_and_vanishes_for_equal_outputs(case, random):
    logits, y = case
    _, classes, N = logits.shape
    order = np.array(random.sample(range(classes), classes))
    np.testing.assert_allclose(
        ppb(logits[:, order], np.argsort(order)[y], N, 3.0)[0], ppb(logits, y, N, 3.0)[0], atol=1e-12
    )
    same = np.stack([np.roll(logits[..., 0], k, axis=1) for k in range(N)], axis=2)  # one record, its classes renamed
    for found, plain in zip(ppb(same, y, N, 3.0), cross_entropy(same, y, N), strict=True):
        np.testing.assert_allclose(found, plain, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(cases(), st.floats(0, 4), st.integers(0, 5))
def test_relaxloss_descends_above_alpha_and_below_ascends_or_flattens_by_the_epochs_parity(case, alpha, epoch):
    logits, y = case
    R, classes, N = logits.shape

    def entropy(z):
        return -np.take_along_axis(log_softmax(z, axis=1), y[:, None], axis=1).sum(axis=(1, 2)) / N

    p = softmax(logits, axis=1)
    t = np.empty_like(p)  # the flat target, entry by entry
    for r, c, n in np.ndindex(p.shape):
        of_label = p[r, y[r, n], n]
        t[r, c, n] = of_label if c == y[r, n] else (1 - of_label) / (classes - 1)
    np.testing.assert_allclose(t.sum(axis=1), 1)
    up = central(entropy, logits)
    flat = central(lambda z: -(t * log_softmax(z, axis=1)).sum(axis=(1, 2)) / N, logits)
    loss, direction = relaxloss(logits, y, N, Workspace(), epoch, alpha)
    np.testing.assert_allclose(loss, entropy(logits), rtol=1e-9, atol=1e-9)
    for r in range(R):
        if abs(loss[r] - alpha) > 1e-6:
            expected = up[r] if loss[r] > alpha else -up[r] if epoch % 2 == 0 else flat[r]
            np.testing.assert_allclose(direction[r], expected, atol=1e-7)


def test_relaxloss_by_hand():
    """p = (0.5, 0.25, 0.25) and (0.2, 0.2, 0.6), both of class 0: L = (ln 2 + ln 5) / 2 = 1.1513."""
    logits, y = np.log([[[0.5, 0.2], [0.25, 0.2], [0.25, 0.6]]]), np.zeros((1, 2), int)
    down = np.array([[[-0.5, -0.8], [0.25, 0.2], [0.25, 0.6]]]) / 2
    flat = np.array([[[0, 0], [0, -0.2], [0, 0.2]]]) / 2  # the others of the first are even already: 0.25, 0.25
    for epoch, alpha, expected in [(0, 1.1, down), (1, 1.1, down), (0, 1.2, -down), (1, 1.2, flat), (2, 1.2, -down)]:
        loss, direction = relaxloss(logits, y, 2, Workspace(), epoch, alpha)
        assert loss[0] == pytest.approx(math.log(10) / 2)
        np.testing.assert_allclose(direction, expected, atol=1e-15)
    np.testing.assert_allclose(flattening(logits, y, 2), flat, atol=1e-15)
    for epoch in (0, 1):  # at alpha itself it descends
        np.testing.assert_allclose(relaxloss(logits, y, 2, Workspace(), epoch, float(loss[0]))[1], down, atol=1e-15)


def test_relaxloss_of_the_authors_code_where_the_confidence_is_the_bound():
    """torch.clamp passes the gradient there: p = (1/2, 1/4, 1/4) of class 1, p_y = t_y = upper, t = (3/8, 1/4, 3/8)."""
    logits = np.log([[[0.5], [0.25], [0.25]]])
    upper = float(our_softmax(logits)[0, 1, 0])
    _, direction = relaxloss_code(logits, np.array([[1]]), 1, Workspace(), 1, 9.0, upper)
    slope = 0.25 * (math.log(1 / 4) - (math.log(1 / 2) + math.log(1 / 4)) / 2)
    soft = np.array([1 / 2 - 3 / 8, 0, 1 / 4 - 3 / 8]) - slope * np.array([-1 / 2, 3 / 4, -1 / 4])
    np.testing.assert_allclose(direction[0, :, 0], soft - [1 / 2, -3 / 4, 1 / 4], atol=1e-15)


@settings(deadline=None, max_examples=60)
@given(cases(), st.floats(0, 4), st.integers(0, 5), st.floats(0.1, 1))
def test_relaxloss_of_the_authors_code_is_the_gradient_of_its_loss(case, alpha, epoch, upper):
    """The loss as their code computes it: soft labels with a bound, through which the gradient passes."""
    logits, y = case
    R, classes, N = logits.shape

    def record_losses(z):
        log_p = log_softmax(z, axis=1)
        p, hard = np.exp(log_p), -np.take_along_axis(log_p, y[:, None], axis=1)[:, 0]  # (R, N)
        soft = np.empty_like(hard)
        for r, n in np.ndindex(R, N):
            label = min(p[r, y[r, n], n], upper)
            t = [label if c == y[r, n] else (1 - label) / (classes - 1) for c in range(classes)]
            soft[r, n] = -sum(t[c] * log_p[r, c, n] for c in range(classes))
        return hard, soft

    hard, _ = record_losses(logits)
    wrong = logits.argmax(axis=1) != y
    top = np.sort(logits, axis=1)
    p_y = np.exp(-hard)
    assume((top[:, -1] - top[:, -2] > 1e-3).all() and (np.abs(p_y - upper) > 1e-3).all())  # where it has a gradient

    def odd(z):
        hard, soft = record_losses(z)
        return (wrong * soft - hard).sum(axis=1) / N

    def even(z):
        return np.abs(record_losses(z)[0].sum(axis=1) / N - alpha)

    loss, direction = relaxloss_code(logits, y, N, Workspace(), epoch, alpha, upper)
    np.testing.assert_allclose(loss, hard.sum(axis=1) / N, rtol=1e-9, atol=1e-9)
    expected = {"even": central(even, logits), "odd": central(odd, logits)}
    for r in range(R):
        if loss[r] < alpha - 1e-4 or loss[r] > alpha + 1e-4:
            descent = central(lambda z: record_losses(z)[0].sum(axis=1) / N, logits)[r]
            below = expected["even" if epoch % 2 == 0 else "odd"][r]
            np.testing.assert_allclose(direction[r], below if loss[r] < alpha else descent, atol=1e-6)


def test_relaxloss_depends_on_the_whole_batch_for_any_number_of_workers():
    """Half of the batch is far above alpha, the other half far below, the mean above: all records descend."""
    rng = np.random.default_rng(0)
    X = np.concatenate([np.full((1, 2, 8), 0.1), rng.standard_normal((1, 2, 8))], axis=2)
    y = np.repeat([[0, 1]], 8, axis=1)
    net = Network(Sequential(Dense(2, 2)), (2,), dtype="float64")
    net.theta[...] = [[4.0, 4.0, -4.0, -4.0, 6.0, 0.0]]
    entropy = cross_entropy(net.forward(X, Workspace()), y)[0][0]
    first = cross_entropy(net.forward(X[..., :8], Workspace()), y[:, :8])[0][0]
    alpha = (first + entropy) / 2
    assert first < alpha < entropy

    def objective(net, ws, columns, count):
        loss, direction = loss_function(f"relaxloss:{alpha}")(net.forward(X[..., columns[0]], ws), y[:, columns[0]],
                                                              count, ws, 0)  # fmt: skip
        net.backward(direction, ws)
        return loss

    gradients = []
    for threads in (1, 2):
        with SharedPasses(net, ProcessGroup(threads)) as passes:
            passes.run(objective, np.arange(16)[None])
        gradients.append(net.grad.copy())
    np.testing.assert_allclose(*gradients, atol=1e-12)
    _, down = cross_entropy(net.forward(X, ws := Workspace()), y)
    net.backward(down, ws)
    np.testing.assert_allclose(net.grad, gradients[0], atol=1e-12)


NAMES = ("cross-entropy", "label-smoothing:0.3", "relaxloss:9", "relaxloss-code:9:0.4", "ppb:2")


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_losses_by_name_keep_the_dtype(name, epoch):
    """9 is above the loss, so that RelaxLoss does not descend."""
    logits, y = np.random.default_rng(0).standard_normal((2, 3, 4)), np.array([[0, 1, 2, 0], [1, 1, 0, 2]])
    for dtype in (np.float32, np.float64):
        loss, gradient = loss_function(name)(logits.astype(dtype), y, 4, Workspace(), epoch)
        assert loss.dtype == gradient.dtype == dtype


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("name", NAMES[:-1])  # PPB pairs the records of a shard
def test_losses_of_shards_with_the_count_of_the_batch_add_up_to_the_batch(name, epoch):
    logits, y = np.random.default_rng(0).standard_normal((2, 3, 7)), np.array([[0, 1, 2, 0, 1, 2, 2]] * 2)
    of, ws = loss_function(name), Workspace()
    whole, gradient = of(logits, y, 7, ws, epoch)
    ws.all_reduce = lambda loss: (whole,)
    parts = [of(logits[..., part], y[:, part], 7, ws, epoch) for part in (slice(0, 3), slice(3, 7))]
    np.testing.assert_allclose(parts[0][0] + parts[1][0], whole, rtol=1e-12)
    np.testing.assert_allclose(np.concatenate([part[1] for part in parts], axis=-1), gradient, atol=1e-14)


@pytest.mark.parametrize(
    "name",
    [
        "relaxloss",
        "relaxloss:-1",
        "relaxloss-code:1",
        "relaxloss-code:1:0",
        "relaxloss-code:-1:1",
        "relaxloss:inf",
        "relaxloss:nan",
        "relaxloss-code:inf:1",
        "relaxloss-code:1:1.01",
        "ppb:-0.1",
        "ppb:inf",
        "label-smoothing:1.5",
        "label-smoothing:-0.1",
        "label-smoothing:",
        "hinge",
        "",
    ],
)
def test_an_unknown_loss_is_refused(name):
    with pytest.raises(ArgumentError, match=r"^loss must be one of cross-entropy, label-smoothing:E, relaxloss:ALPHA"):
        Schedule(epochs=1, loss=name)
    with pytest.raises(ArgumentError) as error:
        loss_function(name)
    ranges = "E in [0, 1], ALPHA and LAMBDA at least 0, UPPER in (0, 1]"
    assert str(error.value).endswith(f", ppb:LAMBDA, {ranges}, got {name!r}")


@settings(deadline=None, max_examples=20)
@given(cases(), st.integers(0, 3))
def test_the_ends_of_the_ranges_are_in_them(case, epoch):
    """At 0 each defence is the cross-entropy; all smoothed, the target is uniform; strengths below 1 and a bound of 1
    are those of the functions."""
    logits, y = case
    N = logits.shape[-1]

    def of(name):
        return loss_function(name)(logits, y, N, Workspace(), epoch)

    plain = cross_entropy(logits, y, N)
    for name in ("cross-entropy", "label-smoothing:0", "ppb:0", "relaxloss:0", "relaxloss-code:0:0.5"):
        for found, expected in zip(of(name), plain, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    uniform = -log_softmax(logits, axis=1).mean(axis=1).sum(axis=-1) / N
    np.testing.assert_allclose(of("label-smoothing:1")[0], uniform, rtol=1e-9)
    for name, expected in (
        ("ppb:0.5", ppb(logits, y, N, 0.5)),
        ("relaxloss:0.5", relaxloss(logits, y, N, Workspace(), epoch, 0.5)),
        ("relaxloss-code:0.5:1", relaxloss_code(logits, y, N, Workspace(), epoch, 0.5, 1.0)),
    ):
        for found, value in zip(of(name), expected, strict=True):
            np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("name", ["relaxloss:{}", "relaxloss-code:{}:0.5"])
def test_a_loss_of_exactly_alpha_descends(name, epoch):
    logits, y = np.zeros((1, 4, 2)), np.array([[1, 3]])
    loss, descent = cross_entropy(logits, y, 2)
    _, found = loss_function(name.format(repr(float(loss[0]))))(logits, y, 2, Workspace(), epoch)
    np.testing.assert_array_equal(found, descent)


# Dropout


def test_dropout_precedes_every_dense_layer_but_the_first():
    for name, shape, layers in (("mlp", (6,), 3), ("lenet-5", (28, 1, 28), 2), ("resnet18", (32, 3, 32), 1)):
        description = describe(name, shape, 4, [5, 4, 3] if name == "mlp" else None, dropout=0.3)
        body = build(description, replicas=0).body.parts
        places = [i for i, layer in enumerate(body) if isinstance(layer, Dropout)]
        assert [type(body[i + 1]) for i in places] == [Dense] * layers
        assert {body[i].rate for i in places} == {0.3}
        assert sum(isinstance(layer, Dense) for layer in body) == layers + (name == "mlp")


def test_dropout_is_exact_in_evaluation_and_right_in_the_mean_in_training():
    """The mean over all 2^5 masks of the hidden layer, each as likely as the rate says, is the network itself."""
    plain, dropping = (build(describe("mlp", (3,), 2, [5], dropout=rate), dtype="float64") for rate in (0.0, 0.25))
    for net in (plain, dropping):
        net.initialise([np.random.default_rng(0)])
    X = np.random.default_rng(1).standard_normal((1, 3, 1))
    expected = plain.forward(X, Workspace(training=False)).copy()
    np.testing.assert_array_equal(dropping.forward(X, Workspace(training=False)), expected)
    hidden = np.maximum(plain.weights[0].value @ X + plain.biases[0].value, 0)[0, :, 0]  # (5,)
    second = plain.weights[1].value[0]  # (2, 5); initial biases are 0
    outcomes = {}
    for mask in np.ndindex(*(2,) * 5):
        kept = sum(mask)
        outcomes[tuple(np.round(second @ (hidden * mask / 0.75), 9))] = 0.75**kept * 0.25 ** (5 - kept)
    ws = Workspace(generators=[np.random.default_rng(2)])
    seen = Counter(tuple(np.round(dropping.forward(X, ws)[0, :, 0], 9)) for _ in range(4000))
    assert set(seen) <= set(outcomes)
    mean = sum(count / 4000 * np.array(value) for value, count in seen.items())
    spread = sum(p * (np.array(value) - expected[0, :, 0]) ** 2 for value, p in outcomes.items())
    np.testing.assert_array_less(np.abs(mean - expected[0, :, 0]), 5 * np.sqrt(spread / 4000) + 1e-9)


def test_dropout_does_not_depend_on_threads():
    net = build(describe("lenet-5", (28, 1, 28), 10, None, dropout=0.5))
    assert sample_threads(net, 64, 4) == 1 < sample_threads(build(describe("lenet-5", (28, 1, 28), 10)), 64, 4)
    alone, shared = (run("dropout", threads)[1]["dropout"] for threads in (1, 2))
    np.testing.assert_array_equal(alone.net.theta, shared.net.theta)


def test_a_description_keeps_its_rate_when_it_is_narrowed():
    description = describe("mlp", (6,), 4, [50, 40], dropout=0.3)
    assert narrowed(description, 200)["dropout"] == 0.3
    assert "dropout" not in describe("mlp", (6,), 4, [5])
    for rate in (1.0, -0.1, "0.5", True, None):
        with pytest.raises(ArgumentError, match=r"rate must lie in \[0, 1\)"):
            describe("mlp", (6,), 4, [5], dropout=rate)


# Answers


@settings(deadline=None, max_examples=60)
@given(cases(), st.floats(1.01, 50))
def test_temperature_flattens_and_keeps_the_order_of_the_classes(case, T):
    logits = case[0].swapaxes(1, 2)  # (R, N, classes)
    before, after = softmax(logits, axis=2), temperature(T)(logits)
    np.testing.assert_allclose(after.sum(axis=2), 1)
    rows = (array.reshape(-1, logits.shape[2]) for array in (logits, before, after))
    for z, p, q in zip(*rows, strict=True):
        for i, j in np.ndindex(len(z), len(z)):
            if z[i] > z[j] + 1e-6:
                assert q[i] > q[j]
                assert q[i] / q[j] == pytest.approx(math.exp((z[i] - z[j]) / T))
        assert q.max() <= p.max() + 1e-12
    np.testing.assert_allclose(temperature(1.0)(logits), before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 1.0}, "temperature must be above 1, got 1.0"),
        ({"temperature": float("nan")}, "temperature must be above 1"),
        ({"memguard": -0.1}, "memguard must be a budget of at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ArgumentError, match=message):
        DefenceSettings(**changes)


# In the comparison


def test_the_best_epoch_on_the_reference_set_is_kept():
    """The curve of the reference accuracy is that of dense training epoch by epoch; the first of its best is kept."""
    experiment, trained = run("validation-stop")
    of = trained["validation-stop"]
    reference = [
        experiment.accuracies(experiment.dense("dense", epochs=epoch).net, "reference")
        for epoch in range(1, PLAN.epochs + 1)
    ]  # (epochs, seeds)
    np.testing.assert_array_equal(of.curves["validation_accuracy"], np.transpose(reference))
    for r, accuracies in enumerate(np.transpose(reference)):
        epoch = 1 + next(i for i, a in enumerate(accuracies) if a == max(accuracies))
        assert of.curves["stopped_after"][r, 0] == epoch == of.steps[r][0]["stop_after"]
        np.testing.assert_array_equal(of.net.theta[r], experiment.dense("dense", epochs=epoch).net.theta[r])


def test_every_defence_is_a_method_and_none_is_a_default():
    names = [method.name for method in chosen(small(), "all") if "dp-" not in method.name]
    simple = ["validation-stop", "l2", "dropout", "label-smoothing", "relaxloss", "memguard", "temperature"]
    assert names[-len(simple) :] == simple
    rivals = (
        *(f"{solver}-" for solver in (*RIVALS, *WITHOUT_TRAINING)),
        "rewind-",
        "distil-",
        "selena",
        "past",
        "ppb-",
        "random-",
        "synflow-",
        "snip-",
        "grasp-",
    )
    others = [name for name in names[: -len(simple)] if not name.startswith(rivals)]
    assert others == [method.name for method in chosen(small())]


def test_what_a_defence_changes_is_in_the_step_that_made_it():
    settings = DefenceSettings(l2=0.03, smoothing=0.2, relaxloss=2.2, dropout=0.4)
    _, trained = run("l2,dropout,label-smoothing,relaxloss,temperature", defences=settings)
    plain = trained[BASELINE].steps[0][0]
    assert plain["loss"] == "cross-entropy"
    assert "dropout" not in trained[BASELINE].net.description
    expected = {
        "l2": {"weight_decay": 0.03},
        "dropout": {},
        "label-smoothing": {"loss": "label-smoothing:0.2"},
        "relaxloss": {"loss": "relaxloss:2.2"},
        "temperature": {},
    }
    for name, changes in expected.items():
        assert trained[name].steps == [[plain | changes]] * 2
    assert trained["dropout"].net.description == trained[BASELINE].net.description | {"dropout": 0.4}
    thetas = {name: of.net.theta.tobytes() for name, of in trained.items()}
    assert thetas["temperature"] == thetas[BASELINE]
    assert len(set(thetas.values())) == len(thetas) - 1


def test_adaptive_shadow_models_repeat_loss_and_dropout_and_non_adaptive_ones_do_not(tmp_path):
    data = load("digits")
    recipe = small(dropout=0.4, dense=dataclasses.replace(PLAN, loss="relaxloss:2.2"))
    save_model(train_model(data, recipe, 0, 1), tmp_path / "model.h5")
    model = load_model(tmp_path / "model.h5")
    assert model.net.description["dropout"] == 0.4
    for of, rate, loss in ((model, 0.4, "relaxloss:2.2"), (undefended(model), 0.0, "cross-entropy")):
        ((_, repeated),) = recipe_steps(of, data)
        assert (repeated.dropout, repeated.dense) == (rate, dataclasses.replace(PLAN, loss=loss))
    found = [train_shadows(of, data, 6, 1, Progress()).logits["train"] for of in (model, undefended(model))]
    assert (found[0] != found[1]).any()
    plain = train_model(data, small(), 0, 1)
    twice = [train_shadows(of, data, 6, 1, Progress()).logits["train"] for of in (plain, undefended(model))]
    np.testing.assert_array_equal(*twice)  # as if there had never been a defence


def test_a_rate_of_dropout_in_a_file_is_checked(tmp_path):
    model = train_model(load("digits"), small(), 0, 1)
    model.net.description["dropout"] = 1.5
    save_model(model, tmp_path / "model.h5")
    with pytest.raises(DataError, match=r"model.h5: rate must lie in \[0, 1\), got 1.5"):
        load_model(tmp_path / "model.h5")


def test_relaxloss_holds_the_loss_of_the_members_near_alpha():
    long = Schedule(epochs=100, batch=10, lr=0.02)
    _, trained = run("relaxloss", dense=long, defences=DefenceSettings(relaxloss=1.0))
    last = trained["relaxloss"].curves["loss"][:, -20:]
    assert (trained[BASELINE].curves["loss"][:, -1] < 0.5).all()
    assert (np.abs(last.mean(axis=1) - 1.0) < 0.3).all()


def test_attacks_see_the_defended_outputs_and_not_the_networks(monkeypatch):
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 2)
    experiment, trained = run("temperature")
    flat = dataclasses.replace(trained["temperature"], outputs=lambda z: np.full(z.shape, 1 / z.shape[2]))
    outcomes = experiment.attack({BASELINE: trained[BASELINE], "temperature": trained["temperature"], "flat": flat})
    assert (outcomes["flat"]["confidence"].auc == 0.5).all()
    for name in ("baseline", "temperature"):  # label-only attacks are as they were
        np.testing.assert_array_equal(outcomes[name]["correctness"].auc, outcomes["baseline"]["correctness"].auc)
    index = experiment.indices("scored_members")
    logits = experiment.logits(trained["temperature"].net, "scored_members")
    y = load("digits").y[index]
    p_y = np.take_along_axis(softmax(logits.astype(float) / 4, axis=2), y[..., None], axis=2)[..., 0]
    n = index.shape[1]
    np.testing.assert_allclose(outcomes["temperature"]["confidence"].scores[:, :n], p_y)


def test_defences_of_outputs_are_refused_where_shadow_models_would_repeat_them():
    with pytest.raises(ArgumentError, match=r"^attacks full cannot repeat memguard and temperature with shadow models"):
        check_repeatable(chosen(small(), "all"))
    check_repeatable(chosen(small(), "default,validation-stop,l2,dropout,label-smoothing,relaxloss"))


def test_without_reference_records_defences_that_need_them_are_left_out():
    names = {count: {method.name for method in chosen(small(reference=count), "simple")} for count in (0, 1, 4)}
    assert names[4] - names[1] == {"memguard"}
    assert names[1] - names[0] == {"validation-stop"}
    with pytest.raises(ArgumentError, match=r"reference must be at least 1 for validation-stop"):
        Experiment(load("digits"), small(reference=0), [0], 1).validated("validation-stop")
