"""The list of checks: each compares a result of the package with an oracle that computes it in another way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanoprune.attack import metrics, scores
from nanoprune.attack.attack_network import attack_input
from nanoprune.attack.threshold import Thresholds
from nanoprune.backend import to_device, to_host
from nanoprune.defend import MinMax
from nanoprune.lab.layers import BatchNorm
from nanoprune.lab.verify import bounds, layers, record_attacks, reference, theory
from nanoprune.lab.verify.gradient import apart, difference, direction, gradients, network, normal
from nanoprune.lab.verify.layers import Pair, R, networks, rng
from nanoprune.lab.zoo.erk import erk
from nanoprune.nn import Conv2D, Dense, Layer, Network, Sequential, Workspace, cross_entropy, log_loss, softmax
from nanoprune.prune import ADMM, ADMMSettings, Budget, parse_scheme, project
from nanoprune.records import Records

GRADIENT = 1e-6  # tolerance for central differences: eps^2 = 1e-10 of curvature, 1e-16 / eps = 1e-11 of rounding
EXACT = 1e-12  # for the same float64 numbers added up in another order
SINGLE = 1e-5  # for float32 against float64
DTYPES = ((np.float64, EXACT), (np.float32, SINGLE))


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison. For arrays, `ours` and `oracle` are the Euclidean norms, and `error` is the largest deviation.

    error is relative to the largest magnitude of the oracle, and absolute where that is 0. A check that raises has
    failed: `ours` is then the exception.
    """

    name: str
    ours: float | str
    oracle: float | str
    error: float
    tolerance: float
    passed: bool

    def line(self) -> str:
        """The check in one line, with both numbers."""
        ours, oracle = (side if isinstance(side, str) else f"{side:.10g}" for side in (self.ours, self.oracle))
        return (
            f"{'ok' if self.passed else 'FAILED':<6} {self.name:<60} ours {ours:>17}  oracle {oracle:>17}  "
            f"error {self.error:7.1e}  tolerance {self.tolerance:.0e}"
        )


def run() -> Iterator[Check]:
    """Run all checks, in order, and yield each as soon as it is done. A check that raises has failed."""
    for name, tolerance, pair in checks():
        try:
            yield compare(name, tolerance, *pair())
        except Exception as error:  # any exception is a finding for the auditor, and the other checks continue
            yield Check(name, f"{type(error).__name__}: {error}", "not reached", float("nan"), tolerance, False)


def compare(name: str, tolerance: float, ours: Any, oracle: Any) -> Check:
    """The check that two numbers or two arrays of one shape are equal within the tolerance; NaN never is."""
    ours, oracle = np.asarray(ours, np.float64), np.asarray(oracle, np.float64)
    if ours.shape != oracle.shape:
        return Check(name, f"shape {ours.shape}", f"shape {oracle.shape}", float("inf"), tolerance, False)
    error = float(np.abs(ours - oracle).max() / (np.abs(oracle).max() or 1.0))
    sides = (float(np.linalg.norm(side)) if side.ndim else float(side) for side in (ours, oracle))
    return Check(name, *sides, error, tolerance, error <= tolerance)


def checks() -> Iterator[tuple[str, float, Callable[[], Pair]]]:
    """(name, tolerance, function that returns ours and the oracle's) for each check."""
    for name, body, input_shape, N in networks():
        for what in ("input", "parameters") if body.parameters() else ("input",):
            yield f"gradient of {name}, {what}", GRADIENT, lambda a=(body, input_shape, N), w=what: gradient(*a)[w]
    for name, body, length, N, tokens in layers.token_networks():
        yield f"gradient of {name}", GRADIENT, lambda a=(body, length, N, tokens): token_gradient(*a)
    yield "gradient of BatchNorm in evaluation, input", GRADIENT, lambda: evaluation_gradient()["input"]
    yield "gradient of BatchNorm in evaluation, parameters", GRADIENT, lambda: evaluation_gradient()["parameters"]
    yield "gradient of cross_entropy", GRADIENT, cross_entropy_gradient
    yield "gradient of log_loss", GRADIENT, log_loss_gradient
    yield "gradient of the game's gain, members' term", GRADIENT, gain_gradient
    yield "gradient of the ADMM penalty", GRADIENT, penalty_gradient
    for dtype, tolerance in DTYPES:
        for what in ("loss", "gradient"):
            end = f"at logits +-1e4, {np.dtype(dtype).name}, closed form"
            yield f"cross_entropy {what} {end}", tolerance, lambda d=dtype, w=what: large_cross_entropy(d)[w]
            yield f"log_loss {what} {end}", tolerance, lambda d=dtype, w=what: large_log_loss(d)[w]
    for dtype, tolerance in DTYPES:
        for name, pair in layers.beside_loops():
            yield f"{name}, {np.dtype(dtype).name}, nested loops", tolerance, lambda p=pair, d=dtype: p(d)
    for name, layer in layers.pools():
        for what, how in (("output", "loops"), ("gradient", "gradient to the first maximum")):
            yield f"{name} with ties, {how}", 0.0, lambda a=layer, w=what: layers.max_pool(a)[w]
    yield "projection, every k, all supports", 0.0, lambda: projection(ties=False)
    yield "projection with ties, every k, all supports", 0.0, lambda: projection(ties=True)
    yield "projection per layer, all supports of each layer", 0.0, lambda: budget_projection("layer", [6, 6])
    yield "projection over all layers, all supports", 0.0, lambda: budget_projection("global", [12])
    for scheme in ("filter", "channel", "column", "block:2", "block:3", "2:4", "2:3"):
        yield f"projection of {scheme} with ties, all supports", 0.0, lambda s=scheme: scheme_projection(s)
    yield "ratios allocated by ERK, bisection", EXACT, erk_ratios
    yield "ADMM, min 1/2||W - A||^2, all weights kept, W = A", 1e-9, admm_nearest
    yield "ADMM, least squares, all weights kept, LAPACK", 1e-9, admm_least_squares
    yield "ADMM, orthonormal least squares, 3 of 8, all supports", 1e-9, admm_sparse
    yield "ADMM, residuals of these at the end, zero", 1e-9, admm_residuals
    yield "AUC with ties, all pairs", EXACT, auc
    yield "ROC with ties, counted", EXACT, roc
    yield "TPR at FPR of 1% to 20% with ties, counted", EXACT, tpr_at_fpr
    yield "balanced accuracy, counted", EXACT, balanced_accuracy
    yield "best threshold with ties, all thresholds", EXACT, best_threshold
    yield "modified entropy, the formula in a loop", EXACT, modified_entropy
    yield "BASE, online and offline, mean by mean", EXACT, record_attacks.base
    yield "ranks of BASE and of RMIA, equal", 0.0, record_attacks.base_as_rmia
    yield "BaVarIA, density integrated over mean and variance", 1e-6, record_attacks.bavaria_predictive
    yield "gradient of the pinball loss", GRADIENT, record_attacks.pinball_gradient
    yield "least pinball loss, the quantile", 0.0, record_attacks.pinball_minimum
    yield "population attack with ties, counted", 0.0, record_attacks.population
    yield "interval of decisions that are all right, closed form", EXACT, bounds.perfect_decisions
    yield "interval of an AUC, all scores tied, closed form", EXACT, bounds.scores_that_tie
    yield "epsilon bound of separated scores, closed form", 1e-9, bounds.separated_epsilon
    yield "epsilon bound with delta, two guesses, closed form", 1e-9, bounds.epsilon_with_delta
    yield "Gaussian bound of one guess, closed form", 1e-8, bounds.gaussian_one_guess
    yield "delta of the Gaussian mechanism at epsilon 0, erf", EXACT, bounds.gaussian_at_zero
    yield "epsilon bound of many models, all right, closed form", 1e-9, bounds.many_models
    yield "ADMM in the order Z, W, U, short of the descent lemma", EXACT, theory.admm_descent
    yield "ADMM at rest, rho U, the negative gradient", 1e-9, theory.admm_dual
    yield "ADMM at rest, fixed points of hard thresholding, all", 1e-9, theory.admm_fixed_points
    yield "advantage of a uniform threshold on the loss, gap / B", EXACT, theory.yeom
    yield "advantage within (epsilon, delta), linear programme", 1e-9, theory.dp_bound
    yield "advantage on randomised response, all rules", EXACT, theory.dp_randomised_response
    yield "advantage on models of one bit, above the bound", EXACT, theory.compression
    yield "log odds in a Gibbs posterior, threshold on the loss", 1e-9, theory.gibbs


# Gradients


def gradient(body: Layer, input_shape: tuple[int, ...], N: int) -> dict[str, Pair]:
    generator = rng()
    return gradients(network(body, input_shape, generator), apart(generator, (R, *input_shape, N)), generator)


def token_gradient(body: Layer, length: int, N: int, tokens: int) -> Pair:
    """The gradient of the parameters where the input is tokens, 0 (padding) among them."""
    generator = rng()
    X = to_device(generator.integers(0, tokens, (R, length, N)).astype(np.float64))
    return gradients(network(body, (length,), generator), X, generator, tokens=True)["parameters"]


def evaluation_gradient() -> dict[str, Pair]:
    """The gradient of BatchNorm with running statistics that are neither 0 nor 1."""
    generator, shape = rng(), (7, 2, 6)
    net = network(BatchNorm(2), shape, generator)
    net.state[...] = to_device(generator.uniform(0.5, 2, net.state.shape))
    return gradients(net, apart(generator, (R, *shape, 3)), generator, training=False)


def cross_entropy_gradient() -> Pair:
    generator = rng()
    logits, v, c = normal(generator, (R, 5, 4)), direction(generator, (R, 5, 4)), normal(generator, (R,))
    y = to_device(generator.integers(0, 5, (R, 4)))
    _, dlogits = cross_entropy(logits, y)
    ours = float((c[:, None, None] * v * dlogits).sum())
    return ours, difference(lambda: float((c * cross_entropy(logits, y)[0]).sum()), logits, v)


def log_loss_gradient() -> Pair:
    generator = rng()
    z, v, c = normal(generator, (R, 1, 6)), direction(generator, (R, 1, 6)), normal(generator, (R,))
    t = to_device(generator.random((R, 1, 6)))
    ours = float((c[:, None, None] * v * log_loss(z, t)[1]).sum())
    return ours, difference(lambda: float((c * log_loss(z, t)[0]).sum()), z, v)


def gain_gradient() -> Pair:
    """The gradient of 1/2 mean log h(softmax(logits), y) in `MinMax`, with an attack network in float64."""
    generator, classes, N = rng(), 5, 6
    members = np.zeros((R, 2), int)
    game = MinMax(Records(np.zeros((1, 1)), np.zeros(1, int)), classes, members, members, [generator] * R)
    game.h = network(game.h.template, (2 * classes,), generator)
    logits, v = normal(generator, (R, classes, N)), direction(generator, (R, classes, N))
    y = to_device(generator.integers(0, classes, (R, N)))

    def gain() -> float:
        z = to_host(game.h.forward(attack_input(softmax(logits), y), Workspace()))  # (R, 1, N)
        return float(0.5 * np.log(1 / (1 + np.exp(-z))).mean(axis=-1).sum())

    return float((v * game.gain_gradient(logits, y, Workspace(), N)).sum()), difference(gain, logits, v)


def penalty_gradient() -> Pair:
    """The gradient of rho/2 ||W - Z + U||^2, after one iteration and a step, so that neither W - Z nor U is zero."""
    generator = rng()
    net = network(Dense(4, 3), (4,), generator)
    admm = ADMM(net, Budget(net, 0.4), ADMMSettings(rho=0.7))
    admm.update(net, np.zeros(R))
    W, v = net.W, direction(generator, net.W.shape)
    W += normal(generator, W.shape)
    admm.add_penalty_gradient(net)  # net.grad was zero
    return float((v * net.dW).sum()), difference(lambda: float(0.35 * ((W - admm.Z + admm.U) ** 2).sum()), W, v)


# Losses where exp overflows


def large_cross_entropy(dtype: Any) -> dict[str, Pair]:
    """Logits (1e4, -1e4, 0): p = (1, 0, 0), and -log p = (0, 2e4, 1e4) for the three labels."""
    logits = np.tile(np.array([1e4, -1e4, 0], dtype)[None, :, None], (R, 1, 3))
    loss, dlogits = cross_entropy(to_device(logits), to_device(np.tile(np.arange(3), (R, 1))))
    p_minus_onehot = np.array([[1, 0, 0]] * 3).T - np.eye(3)  # (classes, N)
    return {
        "loss": (to_host(loss), np.full(R, 3e4 / 3)),
        "gradient": (to_host(dlogits), np.stack([p_minus_onehot / 3] * R)),
    }


def large_log_loss(dtype: Any) -> dict[str, Pair]:
    """z = 1e4 and -1e4 against t = 1 and 0: the losses are 0, 1e4, 1e4, 0 and the gradients (0, 1, -1, 0) / 4."""
    z, t = np.array([1e4, 1e4, -1e4, -1e4], dtype), np.array([1, 0, 1, 0], dtype)
    loss, dz = log_loss(to_device(np.tile(z, (R, 1, 1))), to_device(np.tile(t, (R, 1, 1))))
    return {
        "loss": (to_host(loss), np.full(R, 2e4 / 4)),
        "gradient": (to_host(dz), np.tile(np.array([0, 1, -1, 0]) / 4, (R, 1, 1))),
    }


# Projections against enumeration


def projection(ties: bool) -> Pair:
    """Three vectors of 9 entries, k = 0 to 9; with ties, the entries are -2 to 2."""
    generator = rng()
    W = generator.integers(-2, 3, (3, 9)).astype(np.float64) if ties else generator.standard_normal((3, 9))
    cases = [(row, k) for row in W for k in range(10)]
    ours = [to_host(project(to_device(row), k)) for row, k in cases]
    return np.stack(ours), np.stack([reference.projection(row, k) for row, k in cases])


def budget_projection(scope: str, sizes: list[int]) -> Pair:
    """Two layers of 6 weights, with replicas that keep a quarter and 0.7 of them."""
    generator, keep = rng(), np.array([[0.25], [0.7]])
    net = Network(Sequential(Dense(3, 2), Dense(2, 3)), (3,), R, np.float64)
    W = generator.integers(-4, 5, (R, 12)).astype(np.float64)
    ours = to_host(Budget(net, keep, scope).project(to_device(W)))
    stops = np.cumsum(sizes)[:-1]
    oracle = [
        np.concatenate([reference.projection(part, int(ratio * len(part))) for part in np.split(row, stops)])
        for row, (ratio,) in zip(W, keep, strict=True)
    ]
    return ours, np.stack(oracle)


def scheme_projection(scheme: str) -> Pair:
    """The weights (R, 3, 8) of a convolution of 2 x 2 over 2 channels, with entries -4 to 4; 2 groups are kept."""
    net = Network(Conv2D(2, 3, 2), (4, 2, 4), R, np.float64)
    W = rng().integers(-4, 5, (R, 24)).astype(np.float64)
    keep = 2 / parse_scheme(scheme).grouping(net.weights[0]).groups
    ours = to_host(Budget(net, keep, scheme=scheme).project(to_device(W)))
    return ours, np.stack([reference.scheme_projection(row.reshape(3, 8), scheme, 2, (2, 2, 2)).ravel() for row in W])


def erk_ratios() -> Pair:
    """Two convolutions and two dense layers, for a tenth of all weights, and for half, where some layers keep all."""
    sizes = [(3, 8, 3), (8, 16, 1), (40, 30, 0), (30, 4, 0)]
    weights = [(Conv2D(i, o, k) if k else Dense(i, o)).W for i, o, k in sizes]
    return [erk(weights, keep) for keep in (0.1, 0.5)], [reference.erk(sizes, keep) for keep in (0.1, 0.5)]


# ADMM on problems whose solution is known


def solve(A: np.ndarray, b: np.ndarray, keep: float) -> tuple[np.ndarray, ADMM]:
    """min 1/2 ||A w - b||^2 for each row of b (R, m), with w (n,) in the budget, by 100 iterations at rho = 1.

    The W-step is exact: w = (A^T A + rho I)^-1 (A^T b + rho (z - u)).
    """
    n, rho = A.shape[1], 1.0
    net = Network(Dense(n, 1), (n,), R, np.float64)
    net.theta[...] = normal(rng(), net.theta.shape)
    admm = ADMM(net, Budget(net, keep), ADMMSettings(rho=rho))
    for _ in range(100):
        right = A.T @ b.T + rho * to_host(admm.Z - admm.U).T  # (n, R)
        net.W[...] = to_device(np.linalg.solve(A.T @ A + rho * np.eye(n), right).T)
        admm.update(net, np.zeros(R))
    return to_host(net.W), admm


def nearest_problem() -> tuple[np.ndarray, np.ndarray, float]:
    return np.eye(8), rng().standard_normal((R, 8)), 1.0


def least_squares_problem() -> tuple[np.ndarray, np.ndarray, float]:
    generator = rng()
    return generator.standard_normal((20, 8)), generator.standard_normal((R, 20)), 1.0


def sparse_problem() -> tuple[np.ndarray, np.ndarray, float]:
    """Orthonormal columns: the projection of A^T b is the solution and the only fixed point of ADMM at rho = 1."""
    A, b, _ = least_squares_problem()
    return np.linalg.qr(A)[0], b, 3 / 8


def admm_nearest() -> Pair:
    A, b, keep = nearest_problem()
    return solve(A, b, keep)[0], b


def admm_least_squares() -> Pair:
    A, b, keep = least_squares_problem()
    return solve(A, b, keep)[0], np.linalg.lstsq(A, b.T, rcond=None)[0].T


def admm_sparse() -> Pair:
    A, b, keep = sparse_problem()
    return solve(A, b, keep)[0], np.stack([reference.sparse_least_squares(A, row, 3) for row in b])


def admm_residuals() -> Pair:
    """Primal and dual residual of the last iteration, of each problem and replica."""
    last = [solve(*problem())[1].history[-1] for problem in (nearest_problem, least_squares_problem, sparse_problem)]
    ours = np.stack([[row.primal, row.dual] for row in last])
    return ours, np.zeros_like(ours)


# Attacks


def tied_scores() -> tuple[np.ndarray, np.ndarray]:
    """150 members and 100 non-members with 40 different scores, members a little higher."""
    generator = rng()
    return generator.integers(6, 40, 150) / 8, generator.integers(0, 34, 100) / 8


def auc() -> Pair:
    return metrics.auc(*tied_scores()), reference.auc(*tied_scores())


def roc() -> Pair:
    return np.stack(metrics.roc(*tied_scores()), axis=1), np.array(reference.roc(*tied_scores()))


def tpr_at_fpr() -> Pair:
    """At every percent, including rates that a threshold attains exactly."""
    rates = [percent / 100 for percent in range(1, 21)]
    return tuple([f(*tied_scores(), rate) for rate in rates] for f in (metrics.tpr_at_fpr, reference.tpr_at_fpr))


def balanced_accuracy() -> Pair:
    members, nonmembers = (scores > 2.4 for scores in tied_scores())
    right = [sum(1 for said in members if said) / 150, sum(1 for said in nonmembers if not said) / 100]
    return metrics.balanced_accuracy(members, nonmembers), sum(right) / 2


def best_threshold() -> Pair:
    """The balanced accuracy of the fitted threshold on the records that it was fitted on."""
    members, nonmembers = tied_scores()
    records = np.concatenate([members, nonmembers]), np.zeros(250, int), np.arange(250) < 150
    ours = Thresholds.fit(*records, classes=1, per_class=False).accuracy(*records)
    return ours, reference.best_balanced_accuracy(members, nonmembers)


def modified_entropy() -> Pair:
    """Our score is higher for members, so it is the negative of their Mentr."""
    generator = rng()
    p, y = generator.dirichlet(np.ones(6), 40), generator.integers(0, 6, 40)
    return -scores.modified_entropy(p, y), reference.modified_entropy(p, y)
