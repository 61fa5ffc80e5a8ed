"""The checks of theorems that the book derives, on problems where the other side can be enumerated or integrated."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.integrate import quad
from scipy.optimize import linprog

from nanoprune.attack import metrics
from nanoprune.backend import to_device, to_host
from nanoprune.lab.statistics.advantage import compression_advantage, dp_advantage
from nanoprune.lab.verify.layers import Pair, R, rng
from nanoprune.nn import Dense, Network
from nanoprune.prune import ADMM, ADMMSettings, Budget, project

SIZE, KEPT, TIMES = 8, 3, 4.0  # weights, weights kept, and rho in units of the Lipschitz constant


def least_squares(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A (12, 8), b (12,), and the Lipschitz constant l of the gradient of 1/2 ||A w - b||^2."""
    generator = np.random.default_rng([seed, 7])
    A, b = generator.standard_normal((12, SIZE)), generator.standard_normal(12)
    return A, b, float(np.linalg.eigvalsh(A.T @ A)[-1])


def admm_descent() -> Pair:
    """Order Z, W, U with rho = 2.01 l, 40 rounds of 10 problems: by how much each round falls short of the lemma,
    L_new <= L_old - ((rho - l)/2 - l^2/rho) ||dW||^2, beyond rounding."""
    short = []
    for seed in range(10):
        A, b, l = least_squares(seed)
        rho = 2.01 * l
        inverse, value = np.linalg.inv(A.T @ A + rho * np.eye(SIZE)), math.inf
        w, u = np.zeros(SIZE), A.T @ b / rho  # rho u = -grad L(w)
        for _ in range(40):
            z = to_host(project(to_device(w + u), KEPT))
            moved, w = w, inverse @ (A.T @ b + rho * (z - u))
            u = u + w - z
            before, value = value, 0.5 * ((A @ w - b) ** 2).sum() + rho / 2 * (((w - z + u) ** 2).sum() - (u @ u))
            promised = ((rho - l) / 2 - l * l / rho) * ((w - moved) ** 2).sum()
            short.append(max(0.0, value + promised - before - 1e-10) if math.isfinite(before) else 0.0)
    return short, np.zeros(len(short))


def converged() -> tuple[list[np.ndarray], ADMM, list[tuple]]:
    """W of each replica after 800 rounds of the package's own solver with exact W-steps, rho = 4 l; the problems."""
    problems = [least_squares(seed) for seed in range(R)]
    net = Network(Dense(SIZE, 1), (SIZE,), R, np.float64)
    admm = ADMM(net, Budget(net, KEPT / SIZE), ADMMSettings(rho=1.0))
    admm.rho = np.array([TIMES * l for _, _, l in problems])
    inverses = [np.linalg.inv(A.T @ A + rho * np.eye(SIZE)) for (A, _, _), rho in zip(problems, admm.rho, strict=True)]
    for _ in range(800):
        target = to_host(admm.Z - admm.U)
        for r, ((A, b, _), inverse) in enumerate(zip(problems, inverses, strict=True)):
            net.W[r] = to_device(inverse @ (A.T @ b + admm.rho[r] * target[r]))
        admm.update(net, np.zeros(R))
    return list(to_host(net.W)), admm, problems


def admm_dual() -> Pair:
    """rho U = -grad L(W) where ADMM has come to rest."""
    found, admm, problems = converged()
    ours = admm.rho[:, None] * to_host(admm.U)
    return ours, [-(A.T @ (A @ w - b)) for w, (A, b, _) in zip(found, problems, strict=True)]


def admm_fixed_points() -> Pair:
    """The W that ADMM ends at, and of all W = Pi(W - grad L(W) / rho) the nearest: least squares on every support."""
    found, admm, problems = converged()
    nearest = []
    for w, rho, (A, b, _) in zip(found, admm.rho, problems, strict=True):
        points = []
        for support in map(list, itertools.combinations(range(SIZE), KEPT)):
            point = np.zeros(SIZE)
            point[support] = np.linalg.lstsq(A[:, support], b, rcond=None)[0]
            slope = np.abs(np.delete(A.T @ (A @ point - b), support)).max()
            if slope / rho <= np.abs(point[support]).min():
                points.append(point)
        nearest.append(min(points, key=lambda point: np.abs(point - w).max()))
    return found, nearest


def yeom() -> Pair:
    """The mean of TPR - FPR over all thresholds on a loss in [0, B] is the gap of the mean losses over B."""
    generator, B = rng(), 5.0
    inside, outside = B * generator.random(30) ** 2, B * generator.random(50)
    inside[:10] = outside[:10]  # ties
    fpr, tpr = metrics.roc(-inside, -outside)
    levels = np.append(np.unique(np.concatenate([inside, outside])), B)
    return float(((tpr - fpr)[1:] * np.diff(levels)).sum() / B), (outside.mean() - inside.mean()) / B


def dp_bound() -> Pair:
    """The largest TPR - FPR under the inequalities of (epsilon, delta)-privacy, as a linear programme."""
    cases = [(0.0, 0.0), (0.5, 0.0), (1.0, 1e-5), (2.0, 0.1), (8.0, 1e-3)]
    oracle = []
    for epsilon, delta in cases:
        e = math.exp(epsilon)
        found = linprog([-1, 1], A_ub=[[1, -e], [e, -1]], b_ub=[delta, e - 1 + delta], bounds=[(0, 1), (0, 1)])
        oracle.append(-found.fun)
    return [dp_advantage(*case) for case in cases], oracle


def dp_randomised_response() -> Pair:
    """An answer that is true with odds e^epsilon reaches the bound: its total variation, and the best of all rules."""
    epsilons = (0.1, 1.0, 3.0)
    oracle = []
    for epsilon in epsilons:
        truth = math.exp(epsilon) / (1 + math.exp(epsilon))
        given = {True: (truth, 1 - truth), False: (1 - truth, truth)}  # P(answer | member or not)
        rules = itertools.product((0, 1), repeat=2)
        oracle.append(
            max(sum(says * (given[True][a] - given[False][a]) for a, says in enumerate(rule)) for rule in rules)
        )
    return [dp_advantage(epsilon) for epsilon in epsilons], oracle


def compression() -> Pair:
    """300 models of one bit made from two records of four values: the part of the best advantage above the bound."""
    generator, samples = rng(), list(itertools.product(range(4), repeat=2))
    above = []
    for _ in range(300):
        model = generator.integers(0, 2, len(samples))  # W as a function of the training set
        advantages = []
        for i in range(2):
            joint = np.zeros((2, 4))
            for sample, w in zip(samples, model, strict=True):
                joint[w, sample[i]] += 1 / len(samples)
            apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))  # W and a fresh record
            advantages.append(0.5 * np.abs(joint - apart).sum())
        above.append(max(0.0, np.mean(advantages) - compression_advantage(1, 2)))
    return above, np.zeros(len(above))


def gibbs() -> Pair:
    """Log odds that z was trained on, for the mean of normal records at temperature T: the ratio of the two normal
    posteriors, and (tau - loss) / T with tau by quadrature (Sablayrolles et al. 2019, theorem 1)."""
    others, T = np.array([0.4, -1.1, 0.7, 0.2]), 0.5
    n = len(others) + 1
    ours, oracle = [], []
    for z, theta in itertools.product((-0.5, 1.3), (-1.0, 0.0, 0.8)):
        out, inside = others.mean(), (others.sum() + z) / n
        squares = (n - 1) * (theta - out) ** 2 - n * (theta - inside) ** 2
        ours.append(0.5 * math.log(n / (n - 1)) + squares / (2 * T))

        def weighted(t: float, z: float = z, out: float = out) -> float:
            density = math.exp(-(n - 1) * (t - out) ** 2 / (2 * T)) * math.sqrt((n - 1) / (2 * math.pi * T))
            return math.exp(-((t - z) ** 2) / (2 * T)) * density

        tau = -T * math.log(quad(weighted, out - 10, out + 10, epsabs=1e-14, epsrel=1e-13)[0])
        oracle.append((tau - (theta - z) ** 2 / 2) / T)
    return ours, oracle
