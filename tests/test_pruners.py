"""Rewinding, the straight-through estimator, and ADMM in another order and with momentum, against transcriptions."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_training import train

import nanoprune.lab.experiment.shard as shards
from nanoprune.errors import ArgumentError
from nanoprune.lab.audit.shadows import recipe_steps, train_shadows, undefended
from nanoprune.lab.data import load
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.experiment.admm_variants import FastADMM, OrderZWU
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.methods import RIVALS, chosen, train_methods
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.experiment.rewind import Rest
from nanoprune.lab.experiment.solvers import SOLVERS
from nanoprune.lab.experiment.straight_through import StraightThroughRun
from nanoprune.lab.experiment.sweep import chosen_sweeps
from nanoprune.lab.layerwise import ALGORITHMS
from nanoprune.lab.models import steps
from nanoprune.lab.models.model import Model
from nanoprune.lab.models.steps import check_steps
from nanoprune.nn import Dense, Network, Sequential
from nanoprune.prune import ADMMSettings, Budget
from nanoprune.records import Records
from nanoprune.schedule import Schedule

SIZES = (64 * 12, 12 * 8, 8 * 10)


def small(**changes):
    """A recipe that takes a moment."""
    plan = Schedule(epochs=2, batch=16)
    recipe = recipe_for(load("digits"), members=40, reference=10, nonmembers=40, minmax=0.0)
    quick = {"dense": plan, "prune": plan, "retrain": plan, "admm": ADMMSettings(rho=0.1, iterations=2)}
    return dataclasses.replace(recipe, widths=(12, 8), **(quick | changes))


def largest(W, count):
    """The indices of the `count` largest magnitudes of a list."""
    return set(sorted(range(len(W)), key=lambda i: (-abs(W[i]), i))[:count])


# Rewinding


def test_each_round_trains_the_largest_survivors_from_their_values_of_the_early_epoch(monkeypatch):
    N, k, T, keep = 3, 2, 5, 0.2
    recipe = small(dense=Schedule(epochs=T, batch=16), keep=(keep,), admm=ADMMSettings(iterations=N))
    began, ended, plans = [], [], []
    real = shards.Shard.train

    def watched(self, plan, epochs=None, **others):
        began.append(self.net.theta.copy())
        plans.append((plan, epochs))
        real(self, plan, epochs=epochs, **others)
        ended.append(self.net.theta.copy())

    monkeypatch.setattr(shards.Shard, "train", watched)
    experiment = Experiment(load("digits"), recipe, [0, 1], 1)
    trained = experiment.rewound("rewind", keep, early=k)
    monkeypatch.undo()
    at_k, n = experiment.dense("dense", epochs=k).net.theta, sum(SIZES)
    np.testing.assert_array_equal(ended[0], at_k)
    assert [epochs for _, epochs in plans] == [k] + [None] * (N + 1)
    np.testing.assert_array_equal(began[1], at_k)
    for r in range(2):
        alive = set(range(n))
        for round_ in range(1, N + 1):
            survivors, start = set(), 0
            for size in SIZES:
                left = [i for i in range(start, start + size) if i in alive]
                count = math.floor(size * keep ** (round_ / N) + 1e-9)
                survivors |= {left[i] for i in largest([ended[round_][r, j] for j in left], count)}
                start += size
            alive = survivors
            rewound = np.array([at_k[r, i] if i in alive or i >= n else 0.0 for i in range(at_k.shape[1])])
            np.testing.assert_array_equal(began[round_ + 1][r], rewound)
        assert set(np.flatnonzero(trained.net.W[r]).tolist()) == alive
    assert trained.curves["loss"].shape == (2, k + (N + 1) * (T - k))


@pytest.mark.parametrize("decay", ["constant", "step", "cosine"])
@pytest.mark.parametrize("lr", [0.1, (0.1, 0.2)])
def test_the_rest_of_a_schedule_has_its_later_rates(decay, lr):
    plan = Schedule(epochs=8, lr=lr, decay=decay)
    whole, rest = plan.rate(2), Rest(epochs=5, lr=lr, decay=decay, begun=3).rate(2)
    for epoch in range(5):
        np.testing.assert_array_equal(rest(epoch), whole(3 + epoch))


def test_a_rewound_network_is_a_method_that_shadows_repeat():
    data, recipe = load("digits"), small(keep=(0.25,), dense=Schedule(epochs=3, batch=16))
    trained = train_methods(Experiment(data, recipe, [0, 1], 1), "rewind-0.25")["rewind-0.25"]
    assert trained.net.nonzero().tolist() == [sum(size // 4 for size in SIZES)] * 2
    ((step,), _) = trained.steps
    assert (step["step"], step["early"], step["keep"]) == ("rewound", 1, 0.25)
    split = (data.name, data.sha256, 40, recipe.reference, 40, 0)
    model = Model(trained.net.shard(slice(1)), *split, [json.loads(json.dumps(step))])
    check_steps(model.steps, "x")
    ((_, repeated),) = recipe_steps(model, data)
    assert (repeated.dense, repeated.admm) == (recipe.dense, recipe.admm)
    assert train_shadows(model, data, 6, 1, Progress()).logits["rewound"].shape == (6, 80, 10)
    assert [of["step"] for of in undefended(model).steps] == ["train"]


# The straight-through estimator


@pytest.mark.parametrize("threads", [1, 2])
def test_straight_through_steps_follow_the_gradient_of_the_projected_weights(threads):
    """A linear classifier and batches of all records: plain loops with momentum and weight decay."""
    rng, F, C, N, k = np.random.default_rng(0), 5, 3, 12, 4
    x, y = rng.standard_normal((N, F)), rng.integers(0, C, N)
    net = Network(Sequential(Dense(F, C)), (F,), 1, "float64")
    net.theta[...] = rng.standard_normal(net.theta.shape)
    W, b, plan = net.theta[0, : F * C].copy(), net.theta[0, F * C :].copy(), Schedule(6, N, 0.3, weight_decay=0.01)
    velocity, supports = [np.zeros(F * C), np.zeros(C)], []
    for _ in range(plan.epochs):
        supports.append(largest(W, k))
        Z = np.array([W[i] if i in supports[-1] else 0.0 for i in range(F * C)]).reshape(C, F)
        dW, db = np.zeros((C, F)), np.zeros(C)
        for n in range(N):
            e = np.exp(Z @ x[n] + b)
            d = e / e.sum() - np.eye(C)[y[n]]
            dW, db = dW + np.outer(d, x[n]) / N, db + d / N
        for v, gradient, of in zip(velocity, (dW.ravel(), db), (W, b), strict=True):
            v[...] = 0.9 * v + gradient + 0.01 * of
            of -= 0.3 * v
    assert len({tuple(sorted(support)) for support in supports}) > 1  # pruned weights come back
    run = functools.partial(StraightThroughRun, budget=Budget(net, k / (F * C)))
    rows = np.arange(N)[None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab_training.LabRun", run)
        train(net, Records(x, y), rows, plan, [np.random.default_rng(1)], group=ProcessGroup(threads))
    np.testing.assert_allclose(net.theta[0], np.concatenate([W, b]), atol=1e-12)


# Variants of ADMM


def problem(seed, n=6):
    """min 1/2 ||A w - b||^2, its Hessian, its gradient and its largest curvature."""
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((10, n)), rng.standard_normal(10)
    return A, b, float(np.linalg.eigvalsh(A.T @ A)[-1])


def solve(admm, net, problems, rounds, watch=lambda: None):
    """ADMM with exact W-steps, replica by replica."""
    for _ in range(rounds):
        for r, (A, b, _) in enumerate(problems):
            rho = admm.rho[r]
            net.W[r] = np.linalg.solve(A.T @ A + rho * np.eye(A.shape[1]), A.T @ b + rho * admm.target[r])
        admm.update(net, np.zeros(len(problems)))
        watch()


def a_solver(kind, problems, k, rho):
    net = Network(Dense(6, 1), (6,), len(problems), "float64")
    net.W[...] = np.random.default_rng(1).standard_normal(net.W.shape)
    return net, kind(net, Budget(net, k / 6), ADMMSettings(rho=rho))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_in_the_order_z_w_u_the_dual_is_the_gradient_and_the_lagrangian_falls(seed, k):
    problems = [problem(seed), problem(seed + 1)]
    net, admm = a_solver(OrderZWU, problems, k, 2.5 * max(l for _, _, l in problems))
    values = []

    def watch():
        for r, (A, b, _) in enumerate(problems):
            np.testing.assert_allclose(admm.rho[r] * admm.U[r], -A.T @ (A @ net.W[r] - b), atol=1e-8)
        assert (np.count_nonzero(admm.Z, axis=1) <= k).all()
        gap = net.W - admm.Z + admm.U
        fit = [0.5 * ((A @ w - b) ** 2).sum() for (A, b, _), w in zip(problems, net.W, strict=True)]
        values.append(fit + admm.rho / 2 * ((gap**2).sum(axis=1) - (admm.U**2).sum(axis=1)))

    solve(admm, net, problems, 20, watch)
    assert (np.diff(values, axis=0) < 1e-9).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0.1, 30))
def test_admm_with_momentum_is_goldsteins_algorithm_8(seed, k, rho):
    """With the dual variable lambda = rho U not scaled, and one problem at a time; some rounds restart."""
    problems, rounds = [problem(seed), problem(seed + 1)], 12
    net, admm = a_solver(FastADMM, problems, k, rho)
    start, found = net.W.copy(), []
    solve(admm, net, problems, rounds, lambda: found.append((net.W.copy(), admm.Z.copy())))

    def project(v):
        return np.array([v[i] if i in largest(v, k) else 0.0 for i in range(6)])

    for r, (A, b, _) in enumerate(problems):
        z = z_hat = project(start[r])
        lam = lam_hat = np.zeros(6)
        a, c = 1.0, math.inf
        for step in range(rounds):
            w = np.linalg.solve(A.T @ A + rho * np.eye(6), A.T @ b + rho * z_hat - lam_hat)
            z_next = project(w + lam_hat / rho)
            lam_next = lam_hat + rho * (w - z_next)
            c_next = ((lam_next - lam_hat) ** 2).sum() / rho + rho * ((z_next - z_hat) ** 2).sum()
            if abs(c_next - 0.999 * c) < 1e-6 * c:
                return  # a tie, which rounding decides
            if c_next < 0.999 * c:
                a_next = (1 + math.sqrt(1 + 4 * a * a)) / 2
                z_hat = z_next + (a - 1) / a_next * (z_next - z)
                lam_hat = lam_next + (a - 1) / a_next * (lam_next - lam)
            else:
                a_next, z_hat, lam_hat, c_next = 1.0, z, lam, c / 0.999
            a, c, z, lam = a_next, c_next, z_next, lam_next
            np.testing.assert_allclose(found[step][0][r], w, atol=1e-7)
            np.testing.assert_allclose(found[step][1][r], z, atol=1e-7)


def test_momentum_reaches_the_least_squares_solution_sooner_than_plain_admm():
    """Nothing is pruned, so that the problem is convex."""
    problems = [problem(seed) for seed in range(8)]
    exact = np.array([np.linalg.lstsq(A, b, rcond=None)[0] for A, b, _ in problems])
    errors = []
    for kind in (FastADMM, OrderZWU):
        net, admm = a_solver(kind, problems, 6, 20.0)
        solve(admm, net, problems, 60)
        errors.append(np.abs(net.W - exact).max(axis=1))
    assert (errors[0] < 0.5 * errors[1]).all()


def test_momentum_with_an_adaptive_rho_is_refused():
    net = Network(Dense(6, 1), (6,), 1, "float64")
    with pytest.raises(ArgumentError, match=r"^adaptive must be False for ADMM with momentum"):
        FastADMM(net, Budget(net, 0.5), ADMMSettings(adaptive=True))


# In the comparison


def test_a_model_file_may_name_every_solver():
    assert set(SOLVERS) == set(steps.SOLVERS)


@pytest.mark.parametrize("solver", [*RIVALS, *ALGORITHMS])
def test_each_rival_is_a_method_and_a_family_that_prunes_to_its_ratio_and_is_repeated_by_its_shadows(solver):
    data, recipe = load("digits"), small(keep=(0.25,))
    experiment = Experiment(data, recipe, [0], 1)
    trained = train_methods(experiment, f"{solver}-0.25")
    kept = sum(size // 4 for size in SIZES)
    assert 0.98 * kept <= trained[f"{solver}-0.25"].net.nonzero()[0] <= kept  # least squares may leave zeros
    made = json.loads(json.dumps(trained[f"{solver}-0.25"].steps[0]))
    assert [step["step"] for step in made] == ["train", "prune"]
    assert made[1]["solver"] == solver
    check_steps(made, "x")
    split = (data.name, data.sha256, 40, recipe.reference, 40, 0)
    model = Model(trained[f"{solver}-0.25"].net, *split, made)
    assert recipe_steps(model, data)[1][1].solver == solver
    assert train_shadows(model, data, 6, 1, Progress()).logits["prune"].shape == (6, 80, 10)
    (family,) = chosen_sweeps(recipe, [solver], [0.25])
    again = family.train(experiment, trained["baseline"], 0.25)
    np.testing.assert_array_equal(again.net.theta, trained[f"{solver}-0.25"].net.theta)


def test_rivals_are_compared_with_admm_and_with_what_they_differ_in():
    methods = {method.name: method for method in chosen(small(keep=(0.25,)), "all")}
    for solver in RIVALS:
        assert {name for name, _ in methods[f"{solver}-0.25"].controls} == {"prune-1", "prune-0.25", "magnitude-0.25"}
        assert not methods[f"{solver}-0.25"].default
    assert {name for name, _ in methods["rewind-0.25"].controls} == {"baseline", "prune-0.25"}
