"""The solver against a plain transcription of scaled ADMM, and on problems whose solution is known."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.engine.states import restore, solver_history, state_of
from nanoprune.lab.report.admm_lines import HEADER, admm_line
from nanoprune.lab.storage.checkpoint import Saved, read_checkpoint, write_checkpoint
from nanoprune.nn import Dense, Network, ReLU, Sequential
from nanoprune.prune import ADMM, ADMMSettings, Budget, Status, hard_prune

quick = settings(deadline=None, max_examples=50)
seeds = st.integers(0, 2**32 - 1)


def one_layer(W: np.ndarray, dtype: str = "float64") -> Network:
    """A network of one Dense layer with the weights W (R, n)."""
    net = Network(Dense(W.shape[1], 1), (W.shape[1],), len(W), dtype)
    net.W[...] = W
    return net


def two_layers(replicas: int, rng: np.random.Generator, dtype: str = "float64") -> Network:
    """12 + 6 weights and 5 biases, all random."""
    net = Network(Sequential(Dense(4, 3), ReLU(), Dense(3, 2)), (4,), replicas, dtype)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    return net


# --- against a transcription -----------------------------------------------------------------------------------------


def keep_largest(v, groups, k):
    z = [0.0] * len(v)
    for group, k_i in zip(groups, k, strict=True):
        for i in sorted(group, key=lambda i: (-abs(v[i]), i))[:k_i]:
            z[i] = v[i]
    return np.array(z)


def boyd(W_start, W_steps, groups, k, s):
    """Scaled ADMM for one replica (Boyd et al. 2011): (3.5) to (3.7) as in section 9.1, 3.3.1, 3.4.1."""
    rho = s.rho
    z, u = keep_largest(W_start, groups, k), np.zeros(len(W_start))
    rows = []
    for x in W_steps:
        z_old = z
        z = keep_largest(x + u, groups, k)
        u = u + x - z
        r, dual = np.sqrt(np.sum((x - z) ** 2)), rho * np.sqrt(np.sum((z - z_old) ** 2))
        n = len(x)
        row = {
            "primal": r,
            "dual": dual,
            "eps_primal": np.sqrt(n) * s.eps_abs + s.eps_rel * max(np.sqrt(np.sum(x**2)), np.sqrt(np.sum(z**2))),
            "eps_dual": np.sqrt(n) * s.eps_abs + s.eps_rel * np.sqrt(np.sum((rho * u) ** 2)),
            "rho": rho,
            "nonzero": sum(1 for value in z if value != 0),
            "changed": len({i for i in range(n) if z[i] != 0} ^ {i for i in range(n) if z_old[i] != 0}),
        }
        if s.adaptive and r > s.ratio * dual:
            rho, u = rho * s.factor, u / s.factor
        elif s.adaptive and dual > s.ratio * r:
            rho, u = rho / s.factor, u * s.factor
        rows.append((row, z, u, rho))
    return rows


@quick
@given(
    seeds,
    st.integers(1, 3),
    st.sampled_from(["layer", "global"]),
    st.booleans(),
    st.floats(1e-3, 1e3),
    st.floats(1.0, 20.0),
    st.floats(1.0, 4.0),
)
def test_updates_and_residuals_equal_the_transcription(seed, replicas, scope, adaptive, rho, ratio, factor):
    rng = np.random.default_rng(seed)
    net = two_layers(replicas, rng)
    s = ADMMSettings(rho=rho, iterations=6, eps_abs=0.01, eps_rel=0.1, adaptive=adaptive, ratio=ratio, factor=factor)
    groups = [range(12), range(12, 18)] if scope == "layer" else [range(18)]
    k = [[int(rng.integers(1, len(group) + 1)) for group in groups] for _ in range(replicas)]
    keep = [[k_i / len(group) for k_i, group in zip(row, groups, strict=True)] for row in k]
    start = net.W.copy()
    scales = 10.0 ** rng.uniform(-2, 1, (6, 1, 1))
    W_steps = start + scales * rng.standard_normal((6, replicas, 18))  # what the W-steps are taken to return
    biases = net.theta[:, 18:].copy()

    admm = ADMM(net, Budget(net, keep, scope), s)
    expected = [boyd(start[r], W_steps[:, r], groups, k[r], s) for r in range(replicas)]
    for i, W in enumerate(W_steps):
        net.W[...] = W
        row = admm.update(net, rng.random(replicas))
        assert row.iteration == i + 1
        assert admm.history[-1] is row
        np.testing.assert_array_equal(net.W, W)  # the W-step is the caller's
        for r in range(replicas):
            numbers, z, u, rho_next = expected[r][i]
            for name, value in numbers.items():
                np.testing.assert_allclose(getattr(row, name)[r], value, rtol=1e-10, atol=1e-12, err_msg=name)
            np.testing.assert_array_equal(admm.Z[r] != 0, z != 0)
            np.testing.assert_allclose(admm.Z[r], z, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(admm.U[r], u, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(admm.rho[r], rho_next, rtol=1e-12)
            within = numbers["primal"] <= numbers["eps_primal"] and numbers["dual"] <= numbers["eps_dual"]
            last = Status.MAX_ITERATIONS if i == 5 else Status.RUNNING
            assert admm.status[r] is (Status.CONVERGED if within else last)
    np.testing.assert_array_equal(net.theta[:, 18:], biases)


@quick
@given(seeds, st.integers(1, 3), st.floats(1e-3, 1e2), st.booleans())
def test_penalty_gradient_is_the_slope_of_the_penalty(seed, replicas, rho, adaptive):
    rng = np.random.default_rng(seed)
    net = two_layers(replicas, rng)
    admm = ADMM(net, Budget(net, 0.4), ADMMSettings(rho=rho, iterations=9, adaptive=adaptive))
    for _ in range(rng.integers(0, 3)):
        net.W[...] = rng.standard_normal(net.W.shape)
        admm.update(net, np.zeros(replicas))
    net.W[...] = rng.standard_normal(net.W.shape)
    net.grad[...] = rng.standard_normal(net.grad.shape)
    before = net.grad.copy()
    admm.add_penalty_gradient(net)
    np.testing.assert_array_equal(net.grad[:, 18:], before[:, 18:])  # no penalty on biases
    gradient = net.dW - before[:, :18]

    def penalty(W):  # (R,)
        return admm.rho / 2 * ((W - admm.Z + admm.U) ** 2).sum(axis=1)

    V, eps = rng.standard_normal(net.W.shape), 1e-3  # quadratic: central differences are exact for any eps
    slope = (penalty(net.W + eps * V) - penalty(net.W - eps * V)) / (2 * eps)
    np.testing.assert_allclose((gradient * V).sum(axis=1), slope, rtol=1e-7, atol=1e-7 * rho)


# --- problems with known solutions -----------------------------------------------------------------------------------


@quick
@given(seeds, st.floats(0.1, 2.0))
def test_without_a_constraint_it_ends_at_the_least_squares_solution(seed, rho):
    """keep = 1, L = 1/2 ||A w - b||^2: ADMM is the proximal point method, whose error shrinks by rho / (rho + s_i^2)
    along the i-th right singular vector of A at each iteration."""
    rng = np.random.default_rng(seed)
    n, iterations = 5, 30
    Q, V = np.linalg.qr(rng.standard_normal((12, n)))[0], np.linalg.qr(rng.standard_normal((n, n)))[0]
    singular = np.linspace(1.0, 2.0, n)
    A, b = Q * singular @ V.T, rng.standard_normal(12)
    net = one_layer(rng.standard_normal((1, n)))
    start = net.W[0].copy()
    admm = ADMM(net, Budget(net, 1.0), ADMMSettings(rho=rho, iterations=iterations, eps_abs=1e-3, eps_rel=1e-3))
    for _ in range(iterations):
        net.W[0] = np.linalg.solve(A.T @ A + rho * np.eye(n), A.T @ b + rho * (admm.Z[0] - admm.U[0]))
        admm.update(net, np.zeros(1))

    solution = np.linalg.lstsq(A, b, rcond=None)[0]
    factor = (rho / (rho + singular**2)) ** iterations
    np.testing.assert_allclose(V.T @ (net.W[0] - solution), factor * (V.T @ (start - solution)), atol=1e-9)
    assert admm.status == [Status.CONVERGED]
    dual = np.array([row.dual[0] for row in admm.history])
    assert (np.diff(dual) < 1e-12).all()  # the residual falls in each iteration
    assert dual[-1] < 1e-3 * dual[0]
    assert max(row.primal[0] for row in admm.history) < 1e-12


@quick
@given(seeds, st.integers(2, 8), st.data(), st.floats(1.0, 4.0))
def test_with_an_orthonormal_design_it_ends_at_the_best_subset(seed, n, data, rho):
    """L = 1/2 ||Q w - b||^2 with Q^T Q = I is 1/2 ||w - c||^2 plus a constant, c = Q^T b: the minimum with k entries
    keeps the k largest |c_i|. From w = 0 and rho >= 1 the support is right from the first Z-step on, and stays so."""
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n))
    Q = np.linalg.qr(rng.standard_normal((n + 3, n)))[0]
    c = rng.permutation(np.linspace(0.5, 2.0, n)) * rng.choice([-1, 1], n)
    b = Q @ c
    net = one_layer(np.zeros((1, n)))
    admm = ADMM(net, Budget(net, k / n), ADMMSettings(rho=rho, iterations=200))
    for _ in range(200):
        net.W[0] = (Q.T @ b + rho * (admm.Z[0] - admm.U[0])) / (1 + rho)
        admm.update(net, np.zeros(1))
    weakest = np.sort(np.abs(c))[n - k]
    solution = np.where(np.abs(c) >= weakest, c, 0)
    np.testing.assert_allclose(admm.Z[0], solution, atol=1e-8)
    np.testing.assert_allclose(net.W[0], solution, atol=1e-8)
    np.testing.assert_allclose(rho * admm.U[0], c - solution, atol=1e-8)  # the multiplier: -dL/dw at the solution
    assert admm.status == [Status.CONVERGED]
    assert [row.changed[0] for row in admm.history] == [k] + [0] * 199
    assert admm.history[-1].primal[0] < 1e-8
    hard_prune(net, admm.budget)
    assert np.count_nonzero(net.W) == k


# --- status, adaptation, replicas ------------------------------------------------------------------------------------


def test_status_of_each_replica():
    net = one_layer(np.array([[3.0, 0.0], [3.0, 0.0]]))
    admm = ADMM(net, Budget(net, 0.5), ADMMSettings(rho=1.0, iterations=3))
    assert admm.status == [Status.RUNNING, Status.RUNNING]
    net.W[...] = [[3.0, 0.0], [3.0, 2.0]]  # W = Z in the first, not in the second
    admm.update(net, np.zeros(2))
    assert admm.status == [Status.CONVERGED, Status.RUNNING]
    net.W[...] = [[0.0, 5.0], [3.0, 2.0]]  # W = Z, but Z has moved
    admm.update(net, np.zeros(2))
    assert admm.status == [Status.RUNNING, Status.RUNNING]
    net.W[...] = [[0.0, 5.0], [3.0, 2.0]]
    admm.update(net, np.zeros(2))
    assert admm.status == [Status.CONVERGED, Status.MAX_ITERATIONS]
    assert [status.value for status in admm.status] == ["converged", "max_iterations"]


@pytest.mark.parametrize("rho", [0.5, 2.0])
def test_residuals_of_zero_are_within_tolerances_of_zero_and_leave_rho(rho):
    """W lies in the set and stays where it is: 0 <= 0, and neither residual is the larger one."""
    net = one_layer(np.array([[3.0, 0.0]]))
    admm = ADMM(net, Budget(net, 0.5), ADMMSettings(rho=rho, iterations=1, eps_abs=0.0, eps_rel=0.0, adaptive=True))
    row = admm.update(net, np.zeros(1))
    assert (row.primal, row.dual, row.eps_primal, row.eps_dual) == (0, 0, 0, 0)
    assert admm.status == [Status.CONVERGED]
    assert admm.rho == [rho]


def test_rho_moves_towards_the_larger_residual_and_keeps_the_multiplier():
    """Three replicas with Z_0 = (3, 0): primal 2, dual 0; primal 0, dual sqrt(34); primal 2, dual 2."""
    net = one_layer(np.array([[3.0, 0.0]] * 3))
    s = ADMMSettings(rho=1.0, iterations=9, adaptive=True, ratio=10.0, factor=2.0)
    admm = ADMM(net, Budget(net, 0.5), s)
    net.W[...] = [[3.0, 2.0], [0.0, 5.0], [5.0, 2.0]]
    row = admm.update(net, np.zeros(3))
    np.testing.assert_allclose(row.primal, [2, 0, 2])
    np.testing.assert_allclose(row.dual, [0, np.sqrt(34), 2])
    np.testing.assert_array_equal(row.rho, 1.0)  # the one the residuals were measured with
    np.testing.assert_array_equal(admm.rho, [2.0, 0.5, 1.0])
    np.testing.assert_array_equal(admm.U, [[0, 1], [0, 0], [0, 2]])

    for step in np.random.default_rng(0).standard_normal((5, 3, 2)):
        rho, U = admm.rho.copy(), admm.U.copy()
        net.W[...] = 4 * step
        admm.update(net, np.zeros(3))
        unscaled = rho[:, None] * (U + net.W - admm.Z)  # y = rho U after the U-step
        np.testing.assert_allclose(admm.rho[:, None] * admm.U, unscaled, rtol=1e-12, atol=1e-12)


@quick
@given(seeds, st.booleans(), st.sampled_from(["float32", "float64"]))
def test_a_fleet_equals_its_replicas_alone(seed, adaptive, dtype):
    rng = np.random.default_rng(seed)
    n, R, steps = 7, 3, 4
    start, W_steps = rng.standard_normal((R, n)), rng.standard_normal((steps, R, n))
    keep = rng.uniform(0.1, 1.0, (R, 1))
    s = ADMMSettings(rho=0.1, iterations=steps, adaptive=adaptive, ratio=1.5)
    fleet = one_layer(start, dtype)
    together = ADMM(fleet, Budget(fleet, keep), s)
    alone = []
    for r in range(R):
        net = one_layer(start[r : r + 1], dtype)
        alone.append((net, ADMM(net, Budget(net, keep[r : r + 1]), s)))
    for W in W_steps:
        fleet.W[...] = W
        row = together.update(fleet, np.arange(R))
        fleet.grad[...] = 0
        together.add_penalty_gradient(fleet)
        for r, (net, admm) in enumerate(alone):
            net.W[...] = W[r]
            own = admm.update(net, np.array([r]))
            net.grad[...] = 0
            admm.add_penalty_gradient(net)
            for name in ("Z", "U", "rho"):
                np.testing.assert_allclose(getattr(together, name)[r], getattr(admm, name)[0], rtol=1e-6)
            np.testing.assert_allclose(fleet.dW[r], net.dW[0], rtol=1e-5, atol=1e-7)
            for name in ("loss", "primal", "dual", "eps_primal", "eps_dual", "rho", "nonzero", "changed"):
                np.testing.assert_allclose(getattr(row, name)[r], getattr(own, name)[0], rtol=1e-6, err_msg=name)
            assert together.status[r] is admm.status[0]


@quick
@given(
    hnp.arrays("float32", (2, 23), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    st.integers(1, 12),
    st.integers(1, 6),
    st.booleans(),
)
def test_after_hard_pruning_the_constraint_holds(theta, first, second, one_budget):
    net = Network(Sequential(Dense(4, 3), ReLU(), Dense(3, 2)), (4,), 2, "float32")
    net.theta[...] = theta
    total = (first + second) / 18
    budget = Budget(net, total, "global") if one_budget else Budget(net, [first / 12, second / 6])
    hard_prune(net, budget)
    for r in range(2):
        if one_budget:
            assert np.count_nonzero(net.W[r]) <= first + second
        else:
            assert np.count_nonzero(net.W[r, :12]) <= first
            assert np.count_nonzero(net.W[r, 12:]) <= second
        kept = net.W[r] != 0
        np.testing.assert_array_equal(net.W[r, kept], theta[r, :18][kept])
    np.testing.assert_array_equal(net.theta[:, 18:], theta[:, 18:])


# --- kept in a checkpoint ---------------------------------------------------------------------------------------------


def solved(net, W_steps, admm):
    """The solver after updates that follow W-steps (steps, R, n), and the gradients of its penalty on the way."""
    gradients = []
    for W in W_steps:
        net.W[...], net.grad[...] = W, 0
        admm.add_penalty_gradient(net)
        gradients.append(net.dW.copy())
        admm.update(net, W.sum(axis=1))
    return gradients


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("made", [0, 1, 3])
def test_a_saved_solver_resumes_with_the_same_bits(made, dtype, tmp_path):
    rng, s = np.random.default_rng(made), ADMMSettings(rho=0.3, iterations=5, adaptive=True, ratio=1.2)
    net = two_layers(2, rng, dtype)
    budget, W_steps = Budget(net, 0.4), rng.standard_normal((5, 2, 18))
    first, whole, again = (ADMM(net, budget, s) for _ in range(3))
    expected = solved(net, W_steps, whole)
    solved(net, W_steps[:made], first)
    write_checkpoint(tmp_path / "c.h5", {}, state_of(first))
    net.W[...] = 7.0  # the weights are kept by others
    restore(again, Saved(read_checkpoint(tmp_path / "c.h5")[1], 2, "here"), net)
    assert again.status == first.status
    assert len(again.history) == made
    np.testing.assert_array_equal(solved(net, W_steps[made:], again), expected[made:])
    assert again.status == whole.status
    for ours, oracle in zip(again.history, whole.history, strict=True):
        for name, value in dataclasses.asdict(oracle).items():
            np.testing.assert_array_equal(getattr(ours, name), value, err_msg=name)
    for name in ("Z", "U", "rho"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_a_solver_that_has_ended_is_saved_without_its_arrays(tmp_path):
    net = two_layers(2, np.random.default_rng(0))
    admm, again = (ADMM(net, Budget(net, 0.4), ADMMSettings(iterations=1)) for _ in range(2))
    solved(net, np.ones((1, 2, 18)), admm)
    state = solver_history(admm)
    assert state.keys() == {"rho", "status", "history"}
    before = again.Z.copy()
    restore(again, Saved(state, 2, "here"), net)
    assert [admm_line(row) for row in again.history] == [admm_line(row) for row in admm.history]
    np.testing.assert_array_equal(again.Z, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rho", np.ones(3)), ("Z", np.zeros((2, 17))), ("U", np.zeros((2, 18), np.float32)), ("status", ["running"])],
)
def test_a_state_of_another_solver_is_refused(name, value):
    net = two_layers(2, np.random.default_rng(0))
    admm = ADMM(net, Budget(net, 0.4))
    with pytest.raises(DataError, match=name):
        restore(admm, Saved(state_of(admm) | {name: value}, 2, "here"), net)


def test_a_history_of_more_iterations_than_are_made_is_refused():
    net = two_layers(2, np.random.default_rng(0))
    long, short = (ADMM(net, Budget(net, 0.4), ADMMSettings(iterations=i)) for i in (2, 1))
    solved(net, np.ones((2, 2, 18)), long)
    with pytest.raises(DataError, match="one row per replica"):
        restore(short, Saved(state_of(long), 2, "here"), net)


@quick
@given(seeds, st.integers(1, 3))
def test_at_a_solution_nothing_is_left_and_rho_is_not_rescaled(seed, replicas):
    """W satisfies the constraint from the start, and stays: both residuals are 0, and neither is the larger one."""
    rng = np.random.default_rng(seed)
    W = np.zeros((replicas, 10))
    W[:, :3] = rng.standard_normal((replicas, 3))
    net = one_layer(W)
    admm = ADMM(net, Budget(net, 0.3), ADMMSettings(rho=0.5, adaptive=True))
    np.testing.assert_array_equal(admm.target, W)
    for _ in range(2):
        row = admm.update(net, np.zeros(replicas))
        assert (row.primal == 0).all()
        assert (row.dual == 0).all()
        assert admm.status == [Status.CONVERGED] * replicas
        np.testing.assert_array_equal(admm.rho, 0.5)
        np.testing.assert_array_equal(admm.target, W)


# --- what is printed, what is refused --------------------------------------------------------------------------------


def test_the_line_has_every_column_under_its_heading():
    net = one_layer(np.array([[3.0, 0.0, 1.0, 4.0], [3.0, 0.0, 1.0, 5.0]]))
    admm = ADMM(net, Budget(net, 0.5), ADMMSettings(rho=0.125, iterations=3))
    net.W[...] = [[3.0, 2.0, 6.0, 4.5], [0.0, 2.0, 7.0, 0.5]]
    row = admm.update(net, np.array([0.25, 0.75]))
    headings, values = HEADER.split(), admm_line(row).split()
    columns = dict(zip(headings, map(float, values), strict=True))
    assert len(admm_line(row)) == len(HEADER)  # aligned to the right, so the last characters stand one below another
    expected = {
        "iter": 1,
        "loss": 0.5,
        "primal": (np.sqrt(13.0) + 0.5) / 2,  # W - Z: (3, 2, 0, 0) and (0, 0, 0, 0.5)
        "dual": 0.125 * (np.sqrt(9 + 36 + 0.25) + np.sqrt(9 + 4 + 49 + 25)) / 2,
        "rho": 0.125,
        "nonzero": 2,
        "changed": 3,  # 2 and 4
    }
    expected["eps_pri"] = 2e-4 + 1e-2 * (np.sqrt(9 + 4 + 36 + 20.25) + np.sqrt(4 + 49 + 0.25)) / 2
    expected["eps_dual"] = 2e-4 + 1e-2 * 0.125 * (np.sqrt(13.0) + 0.5) / 2
    assert columns.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(columns[name], value, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize(
    "bad",
    [
        {"rho": 0.0},
        {"rho": -1.0},
        {"rho": np.nan},
        {"rho": np.inf},
        {"iterations": 0},
        {"iterations": -3},
        {"iterations": 2.0},
        {"iterations": None},
        {"eps_abs": -1e-9},
        {"eps_abs": np.nan},
        {"eps_rel": -1.0},
        {"eps_rel": np.inf},
        {"ratio": 0.5},  # both residuals would be the larger one
        {"ratio": np.nan},
        {"factor": 0.5},  # would move rho the wrong way
        {"factor": np.inf},
    ],
)
def test_settings_are_refused_by_name(bad):
    (name,) = bad
    with pytest.raises(ArgumentError, match=f"^{name} must"):
        ADMMSettings(**bad)
