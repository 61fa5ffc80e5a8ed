"""Scores and thresholds against counting; attacks where the optimal attack is known."""

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scoring import rates, some_scores

from nanoprune.attack import network
from nanoprune.attack.metrics import auc, balanced_accuracy
from nanoprune.attack.network import attack_scores, balanced, fit_attack_network, held_out_share
from nanoprune.attack.scores import confidence, correctness, entropy, modified_entropy
from nanoprune.attack.threshold import Thresholds, best_threshold
from nanoprune.errors import ArgumentError, DivergenceError
from nanoprune.lab.engine.passes import SharedPasses, single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.experiment.evaluate import ATTACKS, Outcome, Outputs, evaluate, strongest
from nanoprune.nn import Passes, Workspace
from nanoprune.nn.formula import Formula

quick = settings(deadline=None, max_examples=100)


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread():
    with single_threaded_blas():
        yield


# --- scores ----------------------------------------------------------------------------------------------------------


@st.composite
def predictions(draw):
    """p (2, n, classes) and y (2, n): certain ones, ones with zeros, and nearly certain ones among them."""
    n, classes = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    p = np.empty((2, n, classes))
    for r in range(2):
        for i in range(n):
            kind = draw(st.sampled_from(["certain", "zeros", "nearly", "any"]))
            weights = np.array([draw(st.floats(0.01, 1.0)) for _ in range(classes)])
            first = draw(st.integers(0, classes - 1))
            if kind == "certain":
                weights = (np.arange(classes) == first).astype(float)
            elif kind == "zeros":
                weights[np.arange(classes) != first] *= draw(st.integers(0, 1))
                weights[(first + 1) % classes] = 0
            elif kind == "nearly":
                weights[np.arange(classes) != first] *= 10.0 ** -draw(st.integers(5, 12))
            p[r, i] = weights / weights.sum()
    return p, draw(hnp.arrays("int64", (2, n), elements=st.integers(0, classes - 1)))


def log(q: float) -> float:
    return math.log(max(q, 1e-30))


@quick
@given(predictions())
def test_scores_equal_their_formulas(outputs):
    p, y = outputs
    scores = {score: score(p, y) for score in (correctness, confidence, entropy, modified_entropy)}
    for r in range(2):
        for i, label in enumerate(y[r]):
            q = [float(value) for value in p[r, i]]
            expected = {
                correctness: float(q.index(max(q)) == label),
                confidence: q[label],
                entropy: math.fsum(v * log(v) for v in q),
                modified_entropy: math.fsum(
                    [(1 - q[label]) * log(q[label])] + [v * log(1 - v) for c, v in enumerate(q) if c != label]
                ),
            }
            for score, value in expected.items():
                np.testing.assert_allclose(scores[score][r, i], value, rtol=1e-9, atol=0, err_msg=score.__name__)
    assert (modified_entropy(p, y) <= 0).all()
    assert (entropy(p, y) <= 0).all()


def test_certain_predictions():
    p, right, wrong = np.array([[1.0, 0.0, 0.0]]), np.array([0]), np.array([1])
    assert [float(score(p, right)[0]) for score in (correctness, confidence, entropy, modified_entropy)] == [1, 1, 0, 0]
    assert [float(score(p, wrong)[0]) for score in (correctness, confidence, entropy)] == [0, 0, 0]
    np.testing.assert_allclose(modified_entropy(p, wrong), 2 * np.log(1e-30))  # the worst there is, and finite


def test_modified_entropy_distinguishes_nearly_certain_predictions():
    """p_y = 1 - e, two classes: about -2 e^2, which a term of size log e must not cancel."""
    e = 10.0 ** -np.arange(3, 12)
    p = np.stack([1 - e, e], axis=-1)
    score = modified_entropy(p, np.zeros(len(e), int))
    assert (np.diff(score) > 0).all()
    np.testing.assert_allclose(score, -2 * e**2, rtol=2e-3)


# --- thresholds ------------------------------------------------------------------------------------------------------


def best(members, nonmembers):
    """The best threshold, exactly; the first of the best from above."""
    return max(rates(members, nonmembers), key=lambda point: point[2] - point[1])[0]


@quick
@given(some_scores(), some_scores())
def test_best_threshold_is_the_largest_of_the_best(members, nonmembers):
    assert best_threshold(members, nonmembers) == best(members, nonmembers)


@quick
@given(some_scores(least=2, most=30), st.data())
def test_thresholds_per_class(scores, data):
    n, classes = len(scores), 4
    labels = data.draw(hnp.arrays("int64", n, elements=st.integers(0, classes - 2)))  # the last class never occurs
    member = data.draw(hnp.arrays(bool, n))
    member[0], member[-1] = True, False
    common = best(scores[member], scores[~member])
    np.testing.assert_array_equal(Thresholds.fit(scores, labels, member, classes, False).t, [common] * classes)
    rule = Thresholds.fit(scores, labels, member, classes, True)
    for c in range(classes):
        of_class = labels == c
        known = member[of_class].any() and not member[of_class].all()
        assert rule.t[c] == (best(scores[of_class & member], scores[of_class & ~member]) if known else common)

    right = {True: 0, False: 0}
    for i in range(n):
        right[bool(member[i])] += bool(scores[i] >= rule.t[labels[i]]) == bool(member[i])
    expected = Fraction(right[True], int(member.sum())) / 2 + Fraction(right[False], int((~member).sum())) / 2
    np.testing.assert_allclose(rule.accuracy(scores, labels, member), float(expected), rtol=1e-14)


# --- all attacks -----------------------------------------------------------------------------------------------------


def guesses(rng: np.random.Generator, shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.dirichlet(np.ones(classes), shape), rng.integers(0, classes, shape)


def outputs(rng: np.random.Generator, replicas: int, each: int, share: float, classes: int = 4) -> Outputs:
    """`each` members and non-members with random outputs; a `share` of the members is predicted confidently right."""
    p, y = guesses(rng, (replicas, 2 * each), classes)
    member = np.arange(2 * each) < each
    sure = 0.995 * np.eye(classes)[y] + 0.005 * p
    give_away = member & (rng.random((replicas, 2 * each)) < share)
    return Outputs(np.where(give_away[..., None], sure, p), y, member)


def seeded(replicas: int) -> list[np.random.Generator]:
    return [np.random.default_rng([11, r]) for r in range(replicas)]


@pytest.fixture
def few_epochs(monkeypatch):
    """For tests that do not depend on the quality of the attack network."""
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)


def test_attacks_come_near_the_optimum():
    """80% of the members are revealed: the optimal rule calls these members, and is right 90% of the time."""
    rng = np.random.default_rng(4)
    found = evaluate(outputs(rng, 1, 150, 0.8), outputs(rng, 1, 1000, 0.8), seeded(1))
    assert list(found) == [
        "network",
        "correctness",
        "confidence",
        "confidence, per class",
        "entropy",
        "entropy, per class",
        "modified_entropy",
        "modified_entropy, per class",
    ]
    for name in ("confidence", "modified_entropy", "network"):
        assert 0.87 < found[name].accuracy[0] < 0.93, name
        assert 0.86 < found[name].auc[0] < 0.94, name  # 0.8 + 0.2 / 2
        assert 0.7 < found[name].tpr_at_fpr[0.01][0] < 0.9, name
    # correctness: TPR 0.8 + 0.2 / 4, FPR 1 / 4
    assert abs(found["correctness"].accuracy[0] - 0.8) < 0.04
    assert strongest(found) != "correctness"


def test_uninformative_outputs_give_chance():
    """Within four standard errors of 1/2, for 1,000 members and as many non-members."""
    rng = np.random.default_rng(8)
    found = evaluate(outputs(rng, 2, 60, 0.0), outputs(rng, 2, 1000, 0.0), seeded(2))
    for name, outcome in found.items():
        assert outcome.accuracy.shape == outcome.own_accuracy.shape == outcome.auc.shape == (2,)
        assert outcome.scores.shape == (2, 2000)
        np.testing.assert_allclose(outcome.accuracy, 0.5, atol=4 * 0.5 / np.sqrt(2000), err_msg=name)
        np.testing.assert_allclose(outcome.auc, 0.5, atol=4 * np.sqrt(2001 / (12 * 1000 * 1000)), err_msg=name)
        assert (outcome.tpr_at_fpr[0.01] < 0.04).all()
        assert (outcome.tpr_at_fpr[0.001] < 0.02).all()


@pytest.mark.usefixtures("few_epochs")
def test_outcome_holds_the_metrics_of_the_scored_records():
    rng = np.random.default_rng(5)
    known, scored = outputs(rng, 2, 20, 0.5), outputs(rng, 2, 50, 0.5)
    found = evaluate(known, scored, seeded(2))
    m = scored.member
    np.testing.assert_array_equal(found["confidence"].scores, confidence(scored.p, scored.y))
    fitted = np.r_[0:15, 20:35]  # all but the last quarter of the members and of the non-members
    for r in range(2):
        own, others = confidence(known.p[r], known.y[r]), found["confidence"].scores[r]
        rule, trial = (Thresholds(np.full(4, best(own[:n], own[20 : 20 + n]))) for n in (20, 15))
        held_out = np.setdiff1d(np.arange(40), fitted)
        outcome = found["confidence"]
        assert outcome.accuracy[r] == rule.accuracy(others, scored.y[r], m)
        assert outcome.own_accuracy[r] == trial.accuracy(own[held_out], known.y[r, held_out], known.member[held_out])
        z = found["network"].scores[r]
        np.testing.assert_allclose(found["network"].accuracy[r], ((z[m] >= 0).mean() + (z[~m] < 0).mean()) / 2)
        for name in ATTACKS:
            assert found[name].auc[r] == auc(found[name].scores[r, m], found[name].scores[r, ~m])
    assert found["network"].tpr_at_fpr == {0.01: None, 0.001: None}  # 50 non-members cannot say


@pytest.mark.usefixtures("few_epochs")
def test_held_out_records_fit_no_ranked_threshold_and_scored_ones_choose_nothing():
    rng = np.random.default_rng(6)
    known, scored = outputs(rng, 1, 40, 0.5), outputs(rng, 1, 60, 0.5)
    found = evaluate(known, scored, seeded(1))

    p = known.p.copy()
    p[:, np.r_[30:40, 70:80]] = p[:, np.r_[70:80, 30:40]]  # the held-out records of both sides change places
    poisoned = evaluate(Outputs(p, known.y, known.member), scored, seeded(1))
    before, after = (of["entropy"].own_accuracy for of in (found, poisoned))
    np.testing.assert_allclose(after, 1 - before)  # by the same threshold: it never saw them
    assert before != 0.5

    flipped = evaluate(known, Outputs(scored.p, scored.y, ~scored.member), seeded(1))
    for name in found:
        np.testing.assert_array_equal(flipped[name].own_accuracy, found[name].own_accuracy)
        np.testing.assert_allclose(flipped[name].accuracy, 1 - found[name].accuracy, err_msg=name)
    assert strongest(flipped) == strongest(found)


def test_the_strongest_is_chosen_by_the_attackers_own_records():
    def outcome(accuracy, own):
        R = len(own)
        return Outcome(np.array(accuracy), np.array(own), np.ones(R), {}, np.zeros((R, 1)), [np.ones(1, bool)] * R)

    found = {
        "network": outcome([0.9, 0.9], [0.5, 0.6]),  # best on the scored records
        "confidence": outcome([0.6, 0.6], [0.9, 0.1]),  # best for one classifier
        "entropy": outcome([0.5, 0.5], [0.6, 0.6]),  # best in the mean
    }
    assert strongest(found) == "entropy"


@pytest.mark.parametrize(("members", "others"), [(3, 10), (10, 3), (0, 10)])
def test_an_attacker_that_knows_too_little_is_refused(members, others):
    p, y = guesses(np.random.default_rng(0), (1, members + others), 3)
    known = Outputs(p, y, np.arange(members + others) < members)
    with pytest.raises(ArgumentError, match=r"at least 4 members and 4 non-members, got [03]"):
        evaluate(known, known, seeded(1))


# --- attack network --------------------------------------------------------------------------------------------------


def losses_of(h, known: Outputs, r: int, held_out: np.ndarray) -> float:
    """Mean of the two sides' log-losses on the held-out records, from h's own forward pass."""
    x = np.concatenate([known.p[r], np.eye(known.p.shape[2])[known.y[r]]], axis=1)[held_out].T[None]
    z = h.forward(np.ascontiguousarray(x, np.float32), Workspace(training=False))[0, 0].astype(np.float64)
    member = known.member[held_out]
    return (np.log1p(np.exp(-z[member])).mean() + np.log1p(np.exp(z[~member])).mean()) / 2


def fit(known: Outputs, r: int, held_out: np.ndarray, batch: int = 64, **ends: float):
    return fit_attack_network(known.p[r], known.y[r], known.member, held_out, seeded(r + 1)[r], batch, **ends)


@pytest.mark.parametrize("gain", [0.0, 1e-3])
@pytest.mark.parametrize(("patience", "batch"), [(100, 64), (56, 8)])
def test_the_attack_network_is_kept_at_its_best_and_stops_when_it_stops_improving(patience, batch, gain, monkeypatch):
    monkeypatch.setattr(network, "PATIENCE", patience)
    rng = np.random.default_rng(9)
    known = outputs(rng, 2, 40, 0.5)
    known.p[1, 40:], known.y[1, 40:] = outputs(rng, 1, 40, 1.0).p[0, :40], known.y[1, :40]  # nothing to learn here
    held_out = np.arange(80) % 4 == 0
    epochs = max(5, int(np.ceil(patience / np.ceil(60 / batch))))  # of patience, in each stage
    for r in range(2):
        h, history = fit(known, r, held_out, batch, min_improvement=gain)
        assert history[0] == pytest.approx(np.log(2))  # undecided at the start
        assert losses_of(h, known, r, held_out) == pytest.approx(history.min(), rel=1e-4)
        mark, stale, ends = history[0], 0, []
        for epoch, loss in enumerate(history[1:], start=1):
            mark, stale = (loss, 0) if loss < (1 - gain) * mark else (mark, stale + 1)
            if stale == epochs:
                mark, stale, ends = min(history[: epoch + 1]), 0, [*ends, epoch]
        assert len(ends) == 3  # each stage ran out of patience
        assert ends[-1] == len(history) - 1


def test_a_network_that_separates_the_records_ends_where_nothing_is_left_to_gain():
    """Members are certain and right, the others are not: the loss falls towards 0, and without a bound for ever."""
    member, y = np.arange(80) % 2 == 0, np.arange(80) // 2 % 4
    p = np.where(member[:, None], 0.97 * np.eye(4)[y] + 0.01, 0.25)
    _, history = fit_attack_network(p, y, member, held_out_share(member), np.random.default_rng(0), target_loss=1e-3)
    assert history[-1] <= 1e-3 < min(history[:-1])


def test_no_training_takes_more_epochs_than_the_loss_left_to_gain_allows(monkeypatch):
    """A loss that falls only a little in every epoch ends each stage."""
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 4)
    losses = iter(0.6 + 0.05 * 0.9999 ** np.arange(10**6))
    monkeypatch.setattr(network, "held_out_loss", lambda z, member: next(losses))
    member, y = np.arange(40) % 2 == 0, np.zeros(40, int)
    p, held_out = np.full((40, 2), 0.5), held_out_share(member)
    _, history = fit_attack_network(p, y, member, held_out, np.random.default_rng(0), min_improvement=1e-3)
    assert len(history) == 1 + 3 * 4


@pytest.mark.parametrize(("target", "epochs"), [(0.0, 3), (0.5, 0)])
def test_of_networks_that_are_equally_good_the_first_is_kept(target, epochs, monkeypatch):
    """A held-out loss that never falls: each stage runs out of patience, or none begins where the target is met."""
    monkeypatch.setattr(network, "RATES", (1e-3, 1e-4, 1e-5))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)
    monkeypatch.setattr(network, "held_out_loss", lambda z, member: 0.5)
    known = outputs(np.random.default_rng(1), 1, 16, 0.5)
    h, history = fit(known, 0, np.arange(32) % 4 == 0, target_loss=target)
    assert history.tolist() == [0.5] * (1 + epochs)
    np.testing.assert_array_equal(h.theta, network.attacker(h.input_shape[0] // 2).initialise(seeded(1)).theta)


def test_gradients_that_overflow_are_no_warnings(monkeypatch):
    """Outputs of 1e30 are finite, and so is the untrained network's loss; the squares of Adam's gradients are not."""
    monkeypatch.setattr(Formula, "compilers", [])  # compiled formulas warn of nothing
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)
    known = outputs(np.random.default_rng(1), 1, 16, 0.5)
    known.p[0] *= 1e30
    with np.errstate(over="warn", invalid="warn"):
        _, history = fit(known, 0, np.arange(32) % 4 == 0)
    assert history[0] == pytest.approx(math.log(2))


def test_unbalanced_members_and_non_members_weigh_the_same():
    """One member to eight non-members: the network too predicts "member" where that is better for balanced classes."""
    rng = np.random.default_rng(12)
    member = np.arange(1800) % 9 == 0
    confidence = np.where(member, rng.beta(6, 2, 1800), rng.beta(2, 2, 1800))
    p, y = np.stack([confidence, 1 - confidence], axis=1), np.zeros(1800, int)
    held_out = held_out_share(member)
    h, _ = fit_attack_network(p, y, member, held_out, np.random.default_rng(0))
    z = attack_scores(h, p, y)
    best = best_threshold(confidence[member], confidence[~member])
    optimum = balanced_accuracy(confidence[member] >= best, confidence[~member] >= best)
    assert balanced_accuracy(z[member] >= 0, z[~member] >= 0) > optimum - 0.02 > 0.7


@pytest.mark.parametrize(("members", "others"), [(4, 4), (4, 9), (10, 4), (23, 6)])
def test_the_last_quarter_of_each_side_is_held_out_and_four_records_are_enough(members, others):
    member = np.random.default_rng(2).permutation(np.arange(members + others) < members)
    found = held_out_share(member)
    for side in (np.flatnonzero(member), np.flatnonzero(~member)):
        last = side[len(side) - max(1, round(len(side) / 4)) :]
        assert list(side[found[side]]) == list(last)
        assert list(side[held_out_share(member, 3)[side]]) == list(last[-3:])
    for few in (np.arange(12) < 3, np.arange(12) >= 3):
        with pytest.raises(
            ArgumentError, match=r"^the attacker must know at least 4 members and 4 non-members, got 3$"
        ):
            held_out_share(few)


@pytest.mark.parametrize(("members", "others"), [(3, 8), (8, 3), (5, 5), (1, 4)])
def test_every_record_of_the_smaller_side_is_repeated_equally_often(members, others):
    member = np.random.default_rng(1).permutation(np.arange(members + others) < members)
    counts = np.bincount(balanced(np.arange(len(member)), member))
    assert counts[member].sum() == counts[~member].sum() == max(members, others)
    for side in (member, ~member):
        assert np.ptp(counts[side]) <= 1


def test_held_out_records_train_no_network(monkeypatch):
    """With a held-out loss that falls once, the network is that of the first epoch, whatever was held out."""
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)

    def theta(p: np.ndarray) -> np.ndarray:
        said = iter([1.0, 0.5, 0.6])
        monkeypatch.setattr(network, "held_out_loss", lambda z, member: next(said))
        return fit(Outputs(p, known.y, known.member), 0, held_out)[0].theta

    known = outputs(np.random.default_rng(1), 1, 16, 0.5)
    held_out = np.arange(32) % 4 == 0
    first, p = theta(known.p), known.p.copy()
    p[0, held_out] = p[0, held_out][:, ::-1]
    np.testing.assert_array_equal(theta(p), first)
    p[0, ~held_out] = p[0, ~held_out][:, ::-1]
    assert (theta(p) != first).any()


def shared(threads, h):
    return SharedPasses(h, ProcessGroup(threads))


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_threads_share_the_batches_of_the_attack_network_and_change_rounding_alone(batch, monkeypatch):
    monkeypatch.setattr(network, "RATES", (1e-4,))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 2)
    p, y = guesses(np.random.default_rng(3), (60,), 3)
    member, held_out = np.arange(60) % 2 == 0, np.arange(60) % 5 == 0
    runs = [
        fit_attack_network(p, y, member, held_out, seeded(1)[0], batch, partial(shared, threads))
        for threads in (1, 2, 3)
    ]
    for _, history in runs[1:]:
        # the losses of the first epochs: later ones enlarge the rounding
        np.testing.assert_allclose(history[:3], runs[0][1][:3], rtol=1e-4)
    assert not np.array_equal(runs[0][1][:1], runs[0][1][1:2])


def test_a_share_of_a_batch_is_divided_by_the_whole_batch(monkeypatch):
    """As half of a batch the same records have half of the gradient: Adam would hide a constant factor."""
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)
    seen = []

    class Halved(Passes):
        def run(self, objective, *columns):
            half = objective(self.net, self.ws, *columns, 2 * columns[0].shape[1]), self.net.grad.copy()
            whole = super().run(objective, *columns), self.net.grad
            seen.extend(zip(half, whole, strict=True))
            for part, of_all in seen[-2:]:
                np.testing.assert_allclose(2 * part, of_all, rtol=1e-5, atol=1e-9)
            return whole[0]

    known = outputs(np.random.default_rng(1), 1, 16, 0.5)
    fit_attack_network(known.p[0], known.y[0], known.member, np.arange(32) % 4 == 0, seeded(1)[0], 8, Halved)
    assert len(seen) >= 6
    assert all((of_all != 0).any() for _, of_all in seen)


def test_attack_scores_are_the_networks_logits():
    p, y = guesses(np.random.default_rng(2), (300,), 3)
    h = network.attacker(3).initialise(seeded(1))
    h.theta += 0.01
    scores = network.attack_scores(h, p, y)
    for i in (0, 255, 256, 299):
        row = np.concatenate([p[i], np.eye(3)[y[i]]]).astype(np.float32)
        z = h.forward(row[None, :, None], Workspace(training=False))[0, 0, 0]
        np.testing.assert_allclose(scores[i], z, atol=1e-5)
    assert np.ptp(scores) > 0


def test_outputs_that_are_no_numbers_end_the_attack():
    known = outputs(np.random.default_rng(1), 1, 16, 0.5)
    known.p[0, 5] = np.nan
    message = r"attack network: held-out loss .*nan.* in epoch 1"
    with np.errstate(invalid="ignore"), pytest.raises(DivergenceError, match=message):
        fit(known, 0, np.arange(32) % 4 == 0)
