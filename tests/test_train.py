"""Algorithm 1: against training by hand, repeated, alone and in a fleet, and all of its parts together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_training import train

from nanoprune.defend import MinMax, minmax
from nanoprune.errors import ArgumentError, DivergenceError
from nanoprune.lab.engine.evaluation import accuracy
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.layers import Tanh
from nanoprune.nn import SGD, Branches, Dense, Network, ReLU, Sequential
from nanoprune.prune import ADMM, ADMMSettings, Budget, Mask, Status, hard_prune
from nanoprune.records import Records
from nanoprune.run import Run
from nanoprune.schedule import Schedule, update_epochs
from nanoprune.train import train as core_train


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread():
    with single_threaded_blas():
        yield


def seeded(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, r]) for r in range(count)]


def blobs(count: int, features: int = 6, classes: int = 3, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Records x (count, features), y (count,) around one corner a class, far apart."""
    rng = np.random.default_rng(21)
    y = np.arange(count) % classes
    corners = 3 * np.eye(features)[:classes] - 1
    return (corners[y] + 0.4 * rng.standard_normal((count, features))).astype(dtype), y


def mlp(replicas: int, features: int = 6, hidden: int = 16, dtype: str = "float32", seed: int = 1) -> Network:
    layers = Sequential(Dense(features, hidden), ReLU(), Dense(hidden, 3))
    return Network(layers, (features,), replicas, dtype).initialise(seeded(replicas, seed))


class Spy(Records):
    """Keeps the indices of all batches."""

    def __init__(self, x, y):
        super().__init__(x, y)
        self.seen: list[np.ndarray] = []

    def batch(self, index, ws):
        self.seen.append(np.array(index))
        return super().batch(index, ws)


@pytest.fixture
def small_adversary(monkeypatch):
    """A small adversary: for tests that do not depend on its quality."""

    def small(classes: int, replicas: int = 1) -> Network:
        branches = Branches((classes, Dense(classes, 8)), (classes, Dense(classes, 8)))
        return Network(Sequential(branches, Tanh(), Dense(16, 1)), (2 * classes,), replicas)

    monkeypatch.setattr(minmax, "attacker", small)


# --- by hand ---------------------------------------------------------------------------------------------------------


def keep_largest(v: np.ndarray, k: int) -> np.ndarray:
    z = np.zeros_like(v)
    kept = sorted(range(len(v)), key=lambda i: (-abs(v[i]), i))[:k]
    z[kept] = v[kept]
    return z


def softmax_regression(W, b, x, y, batches, plan, rates, k=None, rho=0.0, mask=None):
    """One replica in plain NumPy, a record at a time: SGD with momentum and weight decay on the cross-entropy, with
    the penalty rho/2 ||W - Z + U||^2 where k is given. batches: those of each epoch. Returns W, b, losses, Z, U."""
    W, b = W.copy(), b.copy()
    VW, Vb = np.zeros_like(W), np.zeros_like(b)
    Z, U = (keep_largest(W.ravel(), k).reshape(W.shape), np.zeros_like(W)) if k else (W, W)
    losses = []
    for epoch, lr in zip(batches, rates, strict=True):
        of_epoch = []
        for batch in epoch:
            dW, db, loss = np.zeros_like(W), np.zeros_like(b), 0.0
            for i in batch:
                e = np.exp(W @ x[i] + b)
                p = e / e.sum()
                loss -= np.log(p[y[i]]) / len(batch)
                d = (p - (np.arange(len(b)) == y[i])) / len(batch)
                dW += np.outer(d, x[i])
                db += d
            if k:
                dW += rho * (W - Z + U)
            if mask is not None:
                dW *= mask
            VW = plan.momentum * VW + dW + plan.weight_decay * W
            Vb = plan.momentum * Vb + db + plan.weight_decay * b
            W, b = W - lr * VW, b - lr * Vb
            of_epoch += [loss] * len(batch)
        losses.append(np.mean(of_epoch))  # over the records, not over the steps
        if k:
            Z = keep_largest((W + U).ravel(), k).reshape(W.shape)
            U = U + W - Z
    return W, b, losses, Z, U


@pytest.mark.parametrize("part", ["plain", "admm", "mask"])
@pytest.mark.parametrize(
    ("decay", "factors"), [("constant", [1, 1]), ("step", [1, 0.1]), ("cosine", [1, 0.5])], ids=lambda v: str(v)
)
def test_training_equals_softmax_regression_by_hand(part, decay, factors):
    x, y = blobs(20, features=4, dtype="float64")
    records = Spy(x, y)
    net = Network(Dense(4, 3), (4,), 2, "float64").initialise(seeded(2, seed=3))
    net.theta[:, 12:] = [[0.1, 0.2, -0.3], [0.0, 0.5, 0.4]]
    if part == "mask":
        hard_prune(net, Budget(net, 0.5))
    start = net.theta.copy()
    members = np.stack([np.arange(11), np.arange(20)[::-1][:11]])
    plan = Schedule(epochs=2, batch=4, lr=0.1, momentum=0.8, weight_decay=0.01, decay=decay)
    admm = ADMM(net, Budget(net, 0.5), ADMMSettings(rho=0.3, iterations=2)) if part == "admm" else None
    mask = Mask(net) if part == "mask" else None
    losses = train(net, records, members, plan, seeded(2), admm=admm, mask=mask)
    for r in range(2):
        batches = [[index[r] for index in records.seen[3 * epoch : 3 * epoch + 3]] for epoch in range(2)]
        W, b, by_hand, Z, U = softmax_regression(
            start[r, :12].reshape(3, 4),
            start[r, 12:],
            x,
            y,
            batches,
            plan,
            [0.1 * factor for factor in factors],
            k=6 if admm else None,
            rho=0.3,
            mask=start[r, :12].reshape(3, 4) != 0 if mask else None,
        )
        np.testing.assert_allclose(net.theta[r], np.concatenate([W.ravel(), b]), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(losses[r], by_hand, rtol=1e-10)
        if admm:
            np.testing.assert_allclose(admm.Z[r], Z.ravel(), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(admm.U[r], U.ravel(), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose([row.loss[r] for row in admm.history], by_hand, rtol=1e-10)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 25), st.integers(1, 30), st.integers(1, 3), st.integers(1, 3))
def test_each_member_is_used_once_in_each_epoch(replicas, count, batch, epochs, threads):
    x, y = blobs(30)
    rng = np.random.default_rng(0)
    members = np.stack([rng.choice(30, count, replace=False) for _ in range(replicas)])
    net, group = Network(Dense(6, 3), (6,), replicas), ProcessGroup(threads)
    used = group.zeros((replicas, 30), np.int64)  # how often each record was
    calls = group.zeros((threads,), np.int64)  # of each process

    class Counted(Records):
        def batch(self, index, ws):
            np.add.at(used, (np.arange(replicas)[:, None], index), 1)
            calls[group.rank] += 1
            return super().batch(index, ws)

    expected = np.stack([np.isin(np.arange(30), row) for row in members])  # (replicas, 30)
    snapshots = []
    train(
        net,
        Counted(x, y),
        members,
        Schedule(epochs, batch=batch),
        seeded(replicas),
        group=group,
        on_epoch=lambda epoch, losses: snapshots.append(used.copy()),
    )
    assert len(snapshots) == epochs
    for epoch, so_far in enumerate(snapshots, 1):
        np.testing.assert_array_equal(so_far, epoch * expected)
    sizes = np.array([min(batch, count - start) for start in range(0, count, batch)])
    assert calls.tolist() == [epochs * (sizes > rank).sum() for rank in range(threads)]  # of one sample, one's alone


# --- reproducible, alone and together --------------------------------------------------------------------------------


def run(part: str, replicas: slice = slice(0, 3), threads: int = 1, epochs: int = 4):
    """One small training of some of three replicas: theta, losses, and the states of the parts."""
    x, y = blobs(60)
    records, members = Records(x, y), np.stack([np.arange(60)[r::2][:25] for r in range(3)])[replicas]
    reference = np.stack([np.arange(60)[1 - r % 2 :: 2] for r in range(3)])[replicas]
    net = mlp(3).copy(replicas)
    options, kept = {}, []
    if part in ("game", "all"):
        lam = np.array([0.5, 1.0, 2.0])[replicas].reshape(-1, 1, 1)
        options["game"] = MinMax(records, 3, members, reference, seeded(3, 4)[replicas], lam=lam, batch=9)
    if part in ("admm", "all"):
        keep = np.array([[0.5], [0.25], [0.125]])[replicas]
        s = ADMMSettings(rho=0.05, iterations=2, adaptive=True, ratio=1.5)
        options["admm"] = ADMM(net, Budget(net, keep), s)
    if part == "mask":
        hard_prune(net, Budget(net, 0.3))
        options["mask"] = Mask(net)
    losses = train(
        net,
        records,
        members,
        Schedule(epochs, batch=8, lr=(0.05, 0.02, 0.1)[replicas], weight_decay=1e-3),
        seeded(3, 5)[replicas],
        **options,
        group=ProcessGroup(threads),
    )
    if "game" in options:
        kept += [options["game"].h.theta, np.moveaxis(np.array(options["game"].history), 2, 0)]
    if "admm" in options:
        kept += [options["admm"].Z, options["admm"].U, options["admm"].rho]
    return [net.theta, losses, *kept]


PARTS = ["plain", "admm", "game", "mask", "all"]


@pytest.mark.usefixtures("small_adversary")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("part", PARTS)
def test_the_same_seeds_give_the_same_bits(part, threads):
    for first, second in zip(run(part, threads=threads), run(part, threads=threads), strict=True):
        assert np.isfinite(first).all()
        np.testing.assert_array_equal(first, second)


@pytest.mark.usefixtures("small_adversary")
@pytest.mark.parametrize("part", PARTS)
def test_two_threads_equal_one(part):
    for one, two in zip(run(part), run(part, threads=2), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=2e-5)


@pytest.mark.usefixtures("small_adversary")
@pytest.mark.parametrize("part", PARTS)
def test_a_fleet_equals_its_replicas_alone(part):
    together = run(part)
    for r in range(3):
        for fleet, alone in zip(together, run(part, slice(r, r + 1)), strict=True):
            np.testing.assert_allclose(fleet[r], alone[0], rtol=1e-3, atol=2e-5)


def test_generators_matter():
    x, y = blobs(30)
    thetas = []
    for seed in (0, 1):
        net = mlp(1)
        train(net, Records(x, y), np.arange(30)[None], Schedule(1, batch=5), seeded(1, seed))
        thetas.append(net.theta)
    assert (thetas[0] != thetas[1]).any()


# --- epochs ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_admm_iterations_are_spread_evenly_over_the_epochs(epochs, data):
    iterations = data.draw(st.integers(1, epochs))
    updates = sorted(update_epochs(epochs, iterations))
    assert len(updates) == iterations
    assert updates[-1] == epochs - 1
    rounds = np.diff([-1, *updates])  # epochs of each W-step
    assert rounds.min() >= 1
    assert rounds.max() - rounds.min() <= 1


def test_admm_is_updated_when_its_epochs_have_passed():
    x, y = blobs(12)
    net = Network(Dense(6, 3), (6,), 1).initialise(seeded(1))
    admm = ADMM(net, Budget(net, 0.5), ADMMSettings(iterations=3))
    at, seen = [], []

    def on_epoch(epoch, losses):
        seen.append((epoch, losses.copy()))
        at.append(len(admm.history))

    losses = train(net, Records(x, y), np.arange(12)[None], Schedule(7), seeded(1), admm=admm, on_epoch=on_epoch)
    assert losses.shape == (1, 7)
    assert [epoch for epoch, _ in seen] == list(range(7))
    for epoch, so_far in seen:
        np.testing.assert_array_equal(so_far, losses[:, : epoch + 1])
    assert at == [0, 1, 1, 2, 2, 2, 3]
    assert [row.loss[0] for row in admm.history] == list(losses[0, [1, 3, 6]])
    assert admm.status[0] in (Status.CONVERGED, Status.MAX_ITERATIONS)


def test_stopping_early_is_the_beginning_of_the_whole():
    x, y = blobs(30)
    plan, at = Schedule(6, batch=8, decay="cosine"), {}
    whole, part = mlp(1), mlp(1)
    losses = train(
        whole,
        Records(x, y),
        np.arange(30)[None],
        plan,
        seeded(1),
        on_epoch=lambda epoch, _: at.update({epoch: whole.theta.copy()}),
    )
    first = train(part, Records(x, y), np.arange(30)[None], plan, seeded(1), stop_after=2)
    np.testing.assert_array_equal(first, losses[:, :2])
    np.testing.assert_array_equal(part.theta, at[1])
    assert (part.theta != whole.theta).any()


@pytest.mark.parametrize(("shift", "found"), [(1, "1 to 3"), (-1, "-1 to 1"), (7, "7 to 9")])
def test_labels_that_no_output_has_are_refused(shift, found):
    """Labels from 1, such as 1 .. 3 for three outputs, would train without a target, and without a word."""
    x, y = blobs(12)
    net = mlp(1)
    before = net.theta.copy()
    with pytest.raises(ArgumentError, match=f"labels y must be 0 to 2, one for each output, got {found}"):
        train(net, Records(x, y + shift), np.arange(12)[None], Schedule(2), seeded(1))
    np.testing.assert_array_equal(net.theta, before)


def test_more_iterations_than_epochs_are_refused():
    x, y = blobs(12)
    net = mlp(1)
    admm = ADMM(net, Budget(net, 0.5), ADMMSettings(iterations=5))
    before = net.theta.copy()
    with pytest.raises(ArgumentError, match="epochs must be at least the 5 ADMM iterations, got 4"):
        train(net, Records(x, y), np.arange(12)[None], Schedule(4), seeded(1), admm=admm)
    np.testing.assert_array_equal(net.theta, before)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"epochs": -1}, "epochs must be"),
        ({"epochs": 2.0}, "epochs must be an integer of at least 1, got 2.0"),
        ({"epochs": None}, "epochs must be"),
        ({"batch": 0}, "batch must be an integer of at least 1, got 0"),
        ({"batch": 1.5}, "batch must be"),
        ({"lr": 0.0}, "learning rate must be positive and finite, got 0.0"),
        ({"lr": -0.1}, "learning rate must be"),
        ({"lr": np.nan}, "learning rate must be"),
        ({"lr": np.inf}, "learning rate must be"),
        ({"lr": (0.1, 0.0)}, "learning rate must be"),
        ({"decay": "linear"}, "schedule must be one of constant, step, cosine, got 'linear'"),
    ],
)
def test_an_invalid_schedule_is_refused(bad, message):
    with pytest.raises(ArgumentError, match=message.replace(".", r"\.")):
        Schedule(**{"epochs": 3} | bad)


@pytest.mark.parametrize(
    ("momentum", "decay"),
    [(1.0, 0.0), (1.5, 0.0), (-0.1, 0.0), (0.5, -1e-3), (0.5, np.inf), (0.5, np.nan), (2.0, -1.0)],
)
def test_momentum_and_decay_out_of_range_are_refused_and_zero_is_in_it(momentum, decay):
    with pytest.raises(ArgumentError) as error:
        Schedule(3, momentum=momentum, weight_decay=decay)
    found = f"{momentum} and {decay}"
    assert str(error.value) == f"momentum must lie in [0, 1) and weight_decay be at least 0, got {found}"
    assert Schedule(3, momentum=0.0, weight_decay=0.0).batch == 64


def test_rates_of_replicas_decay_alike():
    rates = Schedule(8, lr=(0.1, 0.2), decay="step").rate(2)
    np.testing.assert_allclose([rates(epoch) for epoch in (3, 4, 6)], [[0.1, 0.2], [0.01, 0.02], [0.001, 0.002]])


def test_one_rate_per_replica():
    x, y = blobs(12)
    with pytest.raises(ArgumentError, match="lr must be one number or one for each of 2 replicas, got 3"):
        train(mlp(2), Records(x, y), np.tile(np.arange(12), (2, 1)), Schedule(1, lr=(0.1, 0.1, 0.1)), seeded(2))


# --- divergence ------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_nan_names_method_replica_and_iteration():
    x, y = blobs(40)
    x[33] = np.nan
    records = Spy(x, y)
    members = np.stack([np.arange(20), np.arange(20, 40)])  # record 33 is replica 1's
    with np.errstate(invalid="ignore"), pytest.raises(DivergenceError) as error:
        train(mlp(2), records, members, Schedule(3, batch=4), seeded(2), name="MIA-Pruning")
    first = next(i for i, index in enumerate(records.seen) if 33 in index[1]) + 1
    assert f"MIA-Pruning: the loss of replica 1 is nan at iteration {first} (epoch 1)" in str(error.value)
    assert len(records.seen) == 5  # at the end of the epoch, not later
    assert error.value.replicas == (1,)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_learning_rate_that_is_too_high_ends_in_an_error(threads):
    """In a group all processes see the error, and rank 0 raises it."""
    (x, y), members, plan = blobs(40), np.arange(40).reshape(2, 20), Schedule(3, lr=1e20)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match=r"unprotected: the loss of replica [01] is"):
        train(mlp(2), Records(x, y), members, plan, seeded(2), name="unprotected", group=ProcessGroup(threads))


def test_numbers_that_overflow_are_an_error_and_no_warnings():
    """Warnings are errors here: the first to see an infinity or a NaN is the end of the epoch."""
    (x, y), members = blobs(40), np.arange(40).reshape(2, 20)
    with np.errstate(over="warn", invalid="warn"):
        with pytest.raises(DivergenceError, match=r"^training: the loss of replica 0 is nan at iteration "):
            core_train(mlp(2), Records(x, y), members, Schedule(3, lr=1e30, batch=4), seeded(2))
        assert np.geterr()["over"] == "warn"  # as before


def a_run(epochs: int) -> Run:
    (x, y), plan = blobs(12), Schedule(epochs, batch=4)
    return Run(mlp(3), Records(x, y), np.tile(np.arange(12), (3, 1)), plan, seeded(3), SGD())


@pytest.mark.parametrize("epoch", [0, 2])
def test_the_end_of_an_epoch_names_what_is_not_finite(epoch):
    run = a_run(3)
    assert run.epoch == 0
    run.epoch = epoch
    run._steps = [(np.float32([1, 2, 3]), 4), (np.float32([1, 2, np.inf]), 4), (np.float32([np.nan, 2, np.inf]), 4)]
    with pytest.raises(DivergenceError) as error:
        run.end_epoch()
    assert error.value.replicas == (0, 2)
    assert str(error.value) == (
        f"training: the loss of replica 2 is inf at iteration {3 * epoch + 2} (epoch {epoch + 1}); "
        "lower the learning rate, lambda or rho"
    )
    run._steps = [(np.float32([1, 2, 3]), 4)]
    run.net.theta[1, 5] = np.nan
    with pytest.raises(DivergenceError) as error:
        run.end_epoch()
    assert error.value.replicas == (1,)
    assert str(error.value) == (f"training: a parameter is not finite after epoch {epoch + 1}; lower the learning rate")


def test_the_loss_of_an_epoch_is_the_mean_over_its_records():
    """The last batch of an epoch may be smaller."""
    run = a_run(2)
    for run.epoch, last in ((0, 4), (1, 1)):
        run._steps = [(np.float32([1, 2, 3]), 4), (np.float32([5, 2, 0]), last)]
        expected = [(4 * 1 + last * 5) / (4 + last), 2, 4 * 3 / (4 + last)]
        np.testing.assert_allclose(run.end_epoch(), expected)
        np.testing.assert_allclose(run.losses[:, run.epoch], expected)
        assert run._steps == []


def test_the_iteration_counts_the_epochs_before():
    x, y = blobs(12)
    records = Spy(x, y)

    def break_the_second_epoch(epoch, losses):
        records.x[:] = np.nan

    with np.errstate(invalid="ignore"), pytest.raises(DivergenceError, match=r"at iteration 4 \(epoch 2\)"):
        train(mlp(1), records, np.arange(12)[None], Schedule(3, batch=5), seeded(1), on_epoch=break_the_second_epoch)


def test_the_core_trains_without_augmentation():
    (x, y), plan = blobs(8), Schedule(1, batch=4, augment="flip-crop")
    with pytest.raises(ArgumentError) as error:
        core_train(mlp(1), Records(x, y), np.arange(8)[None], plan, seeded(1))
    assert str(error.value) == "augment must be none in the core, got 'flip-crop'; train with lab.engine.LabRun"


# --- the whole -------------------------------------------------------------------------------------------------------


def test_separable_blobs_are_learnt():
    x, y = blobs(300)
    net, records = mlp(2), Records(x, y)
    losses = train(net, records, np.tile(np.arange(200), (2, 1)), Schedule(10, batch=20), seeded(2))
    assert (accuracy(net, records, np.tile(np.arange(200, 300), (2, 1))) >= 0.99).all()
    assert (losses[:, -1] < 0.1 * losses[:, 0]).all()


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_mia_pruning_and_min_max_then_pruning_and_retraining(scope):
    x, y = blobs(300)
    records, R = Records(x, y), 2
    members, reference = np.tile(np.arange(100), (R, 1)), np.tile(np.arange(100, 150), (R, 1))
    held_out = np.tile(np.arange(150, 300), (R, 1))
    net = mlp(R)
    keep = np.array([[0.3], [0.15]])
    budget = Budget(net, keep, scope)
    admm = ADMM(net, budget, ADMMSettings(rho=0.05, iterations=4))
    game = MinMax(records, 3, members, reference, seeded(R, 6), lam=0.5, batch=20)
    train(net, records, members, Schedule(8, batch=25), seeded(R, 7), game=game, admm=admm)
    assert len(game.history) == 8
    assert len(admm.history) == 4
    hard_prune(net, budget)
    mask, support = Mask(net), net.W != 0
    train(net, records, members, Schedule(5, batch=25), seeded(R, 8), mask=mask)
    for r, ratio in enumerate(keep[:, 0]):
        if scope == "layer":
            assert np.count_nonzero(net.W[r, :96]) <= int(ratio * 96)
            assert np.count_nonzero(net.W[r, 96:]) <= int(ratio * 48)
        else:
            assert np.count_nonzero(net.W[r]) <= int(ratio * 144)
    assert not (net.W != 0)[~support].any()
    assert (accuracy(net, records, held_out) > 0.9).all()
