"""The projection is the nearest sparse point, and the budget gives each group of weights its k."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanoprune.errors import ArgumentError
from nanoprune.nn import Dense, Network, ReLU, Sequential
from nanoprune.prune import Budget, hard_prune, project
from nanoprune.prune.budget import count
from nanoprune.prune.projection import largest

quick = settings(deadline=None, max_examples=100)
SIZES = (12, 6)  # weights of the layers of `network`
BIASES = 5


def network(replicas: int, dtype: str = "float64") -> Network:
    return Network(Sequential(Dense(4, 3), ReLU(), Dense(3, 2)), (4,), replicas, dtype)


def elements(dtype: str) -> st.SearchStrategy:
    """Any finite numbers, including subnormal and huge ones; few distinct ones half of the time, so that ties occur."""
    width, info = (32, np.finfo(np.float32)) if dtype == "float32" else (64, np.finfo(np.float64))
    edges = [0.0, -0.0, float(info.smallest_subnormal), -float(info.smallest_subnormal), float(info.max)]
    return st.one_of(
        st.sampled_from([-2.0, -1.0, 1.0, 2.0, *edges]), st.floats(width=width, allow_nan=False, allow_infinity=False)
    )


def vectors(most: int = 8) -> st.SearchStrategy:
    return st.sampled_from(["float32", "float64"]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.integers(1, most), elements=elements(dtype))
    )


@st.composite
def vectors_and_k(draw, most: int = 8):
    W = draw(vectors(most))
    return W, draw(st.integers(0, len(W)))


def ranked(W: np.ndarray, k: int) -> set[int]:
    """The k indices that come first by magnitude, then by index: Python's sort, on exact numbers."""
    return set(sorted(range(len(W)), key=lambda i: (-abs(Fraction(float(W[i]))), i))[:k])


def distance(W: np.ndarray, Z: np.ndarray) -> Fraction:
    """||W - Z||^2, exactly."""
    return sum((Fraction(float(w)) - Fraction(float(z))) ** 2 for w, z in zip(W, Z, strict=True))


@quick
@given(vectors_and_k())
def test_projection_is_the_nearest_point_with_k_nonzeros(problem):
    W, k = problem
    before = W.copy()
    Z = project(W, k)
    assert Z.dtype == W.dtype
    assert Z is not W
    np.testing.assert_array_equal(W, before)
    assert np.count_nonzero(Z) <= k
    # the nearest point on a given support is W there, so the supports are all there is to try
    nearest = min(
        sum(Fraction(float(W[i])) ** 2 for i in range(len(W)) if i not in support)
        for support in combinations(range(len(W)), k)
    )
    assert distance(W, Z) == nearest
    np.testing.assert_array_equal(project(Z, k), Z)


@quick
@given(vectors_and_k(most=40))
def test_ties_go_to_the_lower_index(problem):
    W, k = problem
    kept = largest(W, k)
    assert kept.dtype == bool
    assert set(np.flatnonzero(kept)) == ranked(W, k)
    Z = project(W, k)
    assert all(Z[i] == (W[i] if i in ranked(W, k) else 0) for i in range(len(W)))


def test_ties_by_example():
    W = np.array([1.0, -1.0, 0.5, 1.0, -0.0, 0.0])
    assert [list(project(W, k)) for k in (0, 1, 2, 3, 4)] == [
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [1, -1, 0, 0, 0, 0],
        [1, -1, 0, 1, 0, 0],
        [1, -1, 0.5, 1, 0, 0],
    ]
    assert list(largest(np.array([0.0, -0.0, 0.0]), 2)) == [True, True, False]


@quick
@given(vectors())
def test_none_and_all(W):
    assert not project(W, 0).any()
    assert project(W, len(W)).tobytes() == W.tobytes()  # the signs of zeros too


@quick
@given(vectors_and_k())
def test_out_may_be_another_array_or_the_argument(problem):
    W, k = problem
    expected = [W[i] if i in ranked(W, k) else 0 for i in range(len(W))]
    out = np.full_like(W, 7)
    assert project(W, k, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert project(W, k, out=W) is W
    np.testing.assert_array_equal(W, expected)


@quick
@given(vectors_and_k(), st.data(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_nan_and_infinity_are_refused(problem, data, value):
    W, k = problem
    W[data.draw(st.integers(0, len(W) - 1))] = value
    with pytest.raises(ArgumentError, match="the training has diverged"):
        project(W, k)


@pytest.mark.parametrize("k", [-1, 4])
def test_k_outside_the_vector_is_refused(k):
    with pytest.raises(ArgumentError, match=rf"k must lie in 0\.\.3, got {k}"):
        project(np.ones(3), k)


# --- budget ----------------------------------------------------------------------------------------------------------

ratios = st.integers(1, 1000).flatmap(lambda b: st.builds(Fraction, st.integers(1, b), st.just(b)))


@quick
@given(ratios, st.integers(1, 10**6))
@example(Fraction(29, 100), 100)  # 0.29 * 100 = 28.999999999999996
@example(Fraction(1), 7)
@example(Fraction(375_079, 3_000_000), 3_000_000)  # 375078.9999999999
def test_k_is_the_floor_of_keep_n_but_at_least_one(keep, n):
    assert count(float(keep), n) == max(1, math.floor(keep * n))


@st.composite
def budgets(draw):
    """Weights of a fleet, `keep` in one of its forms, the scope, and the ratio of each replica and group."""
    replicas, scope = draw(st.integers(1, 3)), draw(st.sampled_from(["layer", "global"]))
    groups = len(SIZES) if scope == "layer" else 1
    form = draw(st.sampled_from(["one", "groups", "column", "table"]))
    rows = {"one": 1, "groups": 1, "column": replicas, "table": replicas}[form]
    columns = {"one": 1, "groups": groups, "column": 1, "table": groups}[form]
    drawn = [[draw(ratios) for _ in range(columns)] for _ in range(rows)]
    table = [[drawn[r % rows][i % columns] for i in range(groups)] for r in range(replicas)]
    floats = [[float(ratio) for ratio in row] for row in drawn]
    container = draw(st.sampled_from([list, np.array]))
    keep = {"one": floats[0][0], "groups": container(floats[0])}.get(form, container(floats))
    theta = draw(hnp.arrays("float64", (replicas, sum(SIZES) + BIASES), elements=elements("float64")))
    return theta, keep, scope, table


@quick
@given(budgets())
def test_the_constraint_holds_in_each_replica_and_group(problem):
    theta, keep, scope, table = problem
    net = network(len(theta))
    net.theta[...] = theta
    budget = Budget(net, keep, scope)
    groups = [range(0, 12), range(12, 18)] if scope == "layer" else [range(0, 18)]
    expected = np.zeros((len(theta), 18))
    for r, row in enumerate(table):
        for ratio, group in zip(row, groups, strict=True):
            k = max(1, math.floor(ratio * len(group)))
            for i in ranked(theta[r, group], k):
                expected[r, group[i]] = theta[r, group[i]]
    projected = budget.project(net.W)
    np.testing.assert_array_equal(projected, expected)
    np.testing.assert_array_equal(net.theta, theta)  # not in place
    hard_prune(net, budget)
    np.testing.assert_array_equal(net.W, expected)
    np.testing.assert_array_equal(net.theta[:, 18:], theta[:, 18:])  # biases are not pruned
    hard_prune(net, budget)
    np.testing.assert_array_equal(net.W, expected)


def test_budget_in_numbers():
    net = network(2)
    assert Budget(net, 0.5).k == [[6, 3]] * 2
    assert Budget(net, [0.25, 1.0]).k == [[3, 6]] * 2
    assert Budget(net, (0.25, 1)).k == [[3, 6]] * 2
    assert Budget(net, np.array([[0.5], [1.0]])).k == [[6, 3], [12, 6]]
    assert Budget(net, [[0.5, 0.34], [0.01, 1.0]]).k == [[6, 2], [1, 6]]
    assert Budget(net, 0.5, "global").k == [[9], [9]]
    assert Budget(net, np.array([[0.5], [0.1]]), "global").k == [[9], [1]]
    assert Budget(net, [[0.25, 1.0]]).k == [[3, 6]] * 2
    assert Budget(net, 1).k == [[12, 6]] * 2
    assert Budget(net, np.float32(0.5)).k == [[6, 3]] * 2
    assert Budget(net, np.array(0.5)).k == [[6, 3]] * 2


@pytest.mark.parametrize("value", [0, 0.0, -0.1, 1.0001, 2, math.nan, math.inf, True, False, None, "0.5", 1j])
@pytest.mark.parametrize("form", [lambda v: v, lambda v: [v, 0.5], lambda v: [[0.5, 0.5], [0.5, v]]])
def test_keep_outside_its_range_is_refused(value, form):
    with pytest.raises(ArgumentError, match="keep must"):
        Budget(network(2), form(value))


@pytest.mark.parametrize("value", [np.nan, 0.0, 1.5])
def test_keep_outside_its_range_is_refused_in_an_array(value):
    with pytest.raises(ArgumentError, match=r"keep must lie in \(0, 1\]"):
        Budget(network(2), np.array([[0.5, 0.5], [value, 0.5]]))


@pytest.mark.parametrize(
    ("keep", "scope"),
    [
        ([], "layer"),
        ([[]], "layer"),
        ([0.5, 0.5, 0.5], "layer"),
        ([[0.5]] * 3, "layer"),
        ([[0.5, 0.5], [0.5, 0.5, 0.5]], "layer"),
        ([[0.5, 0.5], 0.5], "layer"),
        (np.full((2, 3), 0.5), "layer"),
        (np.full((2, 2, 1), 0.5), "layer"),
        ([0.5, 0.5], "global"),
        (np.full((2, 2), 0.5), "global"),
    ],
)
def test_a_wrong_number_of_ratios_is_refused(keep, scope):
    with pytest.raises(ArgumentError, match="keep must"):
        Budget(network(2), keep, scope)


def test_an_unknown_scope_is_refused():
    with pytest.raises(ArgumentError, match="scope must be layer, erk or global, got 'network'"):
        Budget(network(1), 0.5, "network")
