"""Every scheme is the Euclidean projection onto its set, checked by enumerating supports; ADMM ends in the set."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import DepthwiseConv2D, TokenDense
from nanoprune.nn import SGD, Conv2D, Dense, Flatten, Network, Parameter, ReLU, Sequential, Workspace, cross_entropy
from nanoprune.prune import ADMM, ADMMSettings, Budget, Mask, Status, hard_prune, parse_scheme
from nanoprune.prune.scheme import PLAIN, largest_of_each

quick = settings(deadline=None, max_examples=80)
FREE = [
    "unstructured",
    "filter",
    "head",
    "channel",
    "column",
    "block:2",
    "block:3",
]  # those whose ratio is the caller's
SCHEMES = [*FREE, "1:2", "2:3", "2:4"]


def parameter(O: int, kh: int, C: int, kw: int) -> Parameter:
    """The weights of a convolution, or where the window is 1 x 1 of a dense layer."""
    return Parameter("W", (O, kh * C * kw), 1.0, True, None if kh == kw == 1 else (kh, C, kw))


@functools.cache
def cells_of_groups(scheme: str, O: int, kh: int, C: int, kw: int) -> list[list[list[int]]]:
    """The cells of a scheme, each a list of groups, each a list of indices in W: by loops over kernels and windows."""
    cells: dict = {}
    for o, h, c, w in itertools.product(range(O), range(kh), range(C), range(kw)):
        column = (h * C + c) * kw + w
        place = o * kh * C * kw + column
        if scheme.startswith("block"):
            B = int(scheme.split(":")[1])
            cell, group = 0, (o // B, column // B)
        elif ":" in scheme:
            cell, group = (o, column // int(scheme.split(":")[1])), column
        else:
            cell, group = 0, {"unstructured": place, "filter": o, "head": o, "channel": c, "column": column}[scheme]
        cells.setdefault(cell, {}).setdefault(group, []).append(place)
    return [[groups[key] for key in sorted(groups)] for _, groups in sorted(cells.items())]


def square(W: np.ndarray, places: list[int]) -> Fraction:
    """The squared norm of some entries, exactly."""
    return sum((Fraction(float(W[i])) ** 2 for i in places), Fraction(0))


def first(W: np.ndarray, cells: list, k: int) -> np.ndarray:
    """The support by definition: in each cell the k groups of largest norm, ties to the lowest index."""
    keep = np.zeros(len(W), bool)
    for groups in cells:
        for g in sorted(range(len(groups)), key=lambda g: (-square(W, groups[g]), g))[:k]:
            keep[groups[g]] = True
    return keep


geometries = st.one_of(
    st.tuples(st.integers(1, 4), st.just(1), st.integers(1, 5), st.just(1)),
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 2)),
)
integers = st.integers(-3, 3).map(float)  # their squares and sums are exact, so that ties are ties


def weights(n: int, elements: st.SearchStrategy | None = None) -> st.SearchStrategy:
    def of(dtype: str) -> st.SearchStrategy:
        reals = st.floats(-1000, 1000, width=32 if dtype == "float32" else 64)
        reals = reals.map(lambda w: w if abs(w) > 1e-100 else 0.0)  # the squares of smaller ones are 0 in float64
        return hnp.arrays(dtype, n, elements=st.one_of(integers, reals) if elements is None else elements)

    return st.sampled_from(["float32", "float64"]).flatmap(of)


@st.composite
def problems(draw, elements: st.SearchStrategy | None = None):
    scheme, geometry = draw(st.sampled_from(SCHEMES)), draw(geometries)
    grouping = parse_scheme(scheme).grouping(parameter(*geometry))
    k = int(scheme[0]) if scheme[0].isdigit() else draw(st.integers(1, grouping.groups))
    return scheme, geometry, grouping, draw(weights(int(np.prod(geometry)), elements)), k


@quick
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.data())
def test_a_head_is_its_rows_of_queries_keys_and_values(heads, d, inputs, data):
    """By loops: row (j heads + i) d + e is of head i, where j counts queries, keys and values."""
    grouping = parse_scheme("head").grouping(TokenDense(inputs, 3 * heads * d, heads).W)
    groups = [[] for _ in range(heads)]
    for row, column in itertools.product(range(3 * heads * d), range(inputs)):
        groups[row // d % heads].append(row * inputs + column)
    W, k = data.draw(weights(3 * heads * d * inputs, integers)), data.draw(st.integers(1, heads))
    assert grouping.groups == heads
    np.testing.assert_array_equal(grouping.support(W, k), first(W, [groups], k))


def test_every_scheme_is_enumerated():
    assert set(PLAIN) <= set(SCHEMES)


@quick
@given(problems())
def test_the_support_is_the_nearest_of_all(problem):
    scheme, geometry, grouping, W, k = problem
    assume(math.comb(grouping.groups, k) <= 2000)
    before = W.copy()
    keep = grouping.support(W, k)
    np.testing.assert_array_equal(W, before)
    assert keep.dtype == bool
    assert keep.shape == W.shape
    for groups in cells_of_groups(scheme, *geometry):
        kept = [keep[group] for group in groups]
        assert all(of.all() or not of.any() for of in kept)  # groups are kept or pruned as a whole
        chosen = [g for g, of in enumerate(kept) if of.all()]
        assert len(chosen) == min(k, len(groups))  # the budget, exactly
        # the nearest point on a given support is W there, and a larger support is never farther
        energy = [square(W, group) for group in groups]
        most = max(sum(of) for of in itertools.combinations(energy, min(k, len(groups))))
        found = sum(energy[g] for g in chosen)
        assert most - found <= most * Fraction(1, 10**14)  # energies are rounded to float64 before they are compared
    Z = W * keep
    np.testing.assert_array_equal(Z * grouping.support(Z, k), Z)
    assert np.count_nonzero(Z) <= grouping.max_nonzero(k)


@quick
@given(problems(integers))
def test_ties_go_to_the_lower_index(problem):
    scheme, geometry, grouping, W, k = problem
    np.testing.assert_array_equal(grouping.support(W, k), first(W, cells_of_groups(scheme, *geometry), k))


@quick
@given(geometries, st.sampled_from(SCHEMES), st.data())
def test_the_largest_number_of_weights_is_that_of_the_largest_groups(geometry, scheme, data):
    grouping = parse_scheme(scheme).grouping(parameter(*geometry))
    k = data.draw(st.integers(1, grouping.groups))
    cells = cells_of_groups(scheme, *geometry)
    assert grouping.size == np.prod(geometry)
    assert isinstance(grouping.max_nonzero(k), int)
    assert grouping.max_nonzero(k) == sum(sum(sorted(map(len, groups))[-k:]) for groups in cells)
    assert grouping.groups == max(max(map(len, cells)), int(scheme[2]) if scheme[0].isdigit() else 0)


@quick
@given(hnp.arrays("float64", st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=integers), st.integers(0, 6))
def test_the_largest_of_each_row(A, k):
    expected = [
        [i in sorted(range(len(row)), key=lambda i: (-abs(row[i]), i))[:k] for i in range(len(row))] for row in A
    ]
    np.testing.assert_array_equal(largest_of_each(A, k), expected)


def test_schemes_by_example():
    """W (2, 4): 3 0 1 1 above 0 2 2 1, squares 9 0 1 1 above 0 4 4 1."""
    W = np.array([3.0, 0, 1, 1, 0, 2, 2, 1])
    expected = {
        ("filter", 1): [1, 1, 1, 1, 0, 0, 0, 0],  # 11 against 9
        ("column", 2): [1, 0, 1, 0, 1, 0, 1, 0],  # 9, 4, 5, 2
        ("channel", 2): [1, 0, 1, 0, 1, 0, 1, 0],  # of a dense layer the same
        ("block:2", 1): [1, 1, 0, 0, 1, 1, 0, 0],  # 13 against 7
        ("block:3", 1): [1, 1, 1, 0, 1, 1, 1, 0],
        ("1:2", 1): [1, 0, 1, 0, 0, 1, 1, 0],
        ("2:4", 2): [1, 0, 1, 0, 0, 1, 1, 0],
        ("2:3", 2): [1, 0, 1, 1, 0, 1, 1, 1],  # the last cell of a row has one input, and keeps it
    }
    for (scheme, k), keep in expected.items():
        found = parse_scheme(scheme).grouping(parameter(2, 1, 4, 1)).support(W, k)
        np.testing.assert_array_equal(found, np.array(keep, bool), err_msg=scheme)
    # a channel of a convolution is a strided slice: W (1, kh C kw) with kh = C = kw = 2, channel 1 is larger
    W = np.array([1.0, 1, 2, 0, 1, 1, 0, 2])
    found = parse_scheme("channel").grouping(parameter(1, 2, 2, 2)).support(W, 1)
    np.testing.assert_array_equal(found, np.array([0, 0, 1, 1, 0, 0, 1, 1], bool))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nan_and_infinity_are_refused(scheme):
    for value in (np.nan, np.inf):
        with pytest.raises(ArgumentError, match=r"^W holds NaN or infinity, .* the training has diverged$"):
            parse_scheme(scheme).grouping(parameter(2, 1, 4, 1)).support(np.array([1.0] * 7 + [value]), 1)


BAD = [
    *("", "filters", "block:0", "block:999", "block:257", "block:", "block:2:2", "block:-1", None, 4),
    *("0:4", "4:4", "5:4", "2:999", "2:257", "2:", ":4", "2:4 ", "-1:4", "2:4:8"),
]


@pytest.mark.parametrize(("name", "shape"), [("block:1", (1, 1)), ("block:256", (256, 256)), ("1:256", (1, 256)),
                                              ("255:256", (1, 256)), ("1:2", (1, 2)), ("block", (4, 4))])  # fmt: skip
def test_the_smallest_and_the_largest_blocks_and_cells_are_schemes(name, shape):
    """A layer of one weight is padded to one block, or one cell."""
    assert parse_scheme(name).grouping(parameter(1, 1, 1, 1)).padded == shape


@pytest.mark.parametrize("name", BAD)
def test_unknown_schemes_are_refused(name):
    with pytest.raises(ArgumentError, match=r"^scheme "):
        parse_scheme(name)


# --- budgets, ADMM, masks --------------------------------------------------------------------------------------------

SHAPE, LAYERS = (5, 2, 5), [(4, 2, 2, 2), (3, 1, 64, 1)]  # a convolution 4 x 2 x 2 x 2, then a dense layer 3 x 64


def small_net(replicas: int, rng: np.random.Generator, dtype: str = "float64") -> Network:
    body = Sequential(Conv2D(2, 4, 2), ReLU(), Flatten(), Dense(64, 3))
    net = Network(body, SHAPE, replicas, dtype)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    return net


def ratios_of(scheme: str, replicas: int, rng: np.random.Generator) -> np.ndarray:
    """A ratio for each replica and layer: drawn, or the scheme's own or 1."""
    fixed = parse_scheme(scheme).keep
    return rng.uniform(0.1, 1.0, (replicas, 2)) if fixed is None else rng.choice([fixed, 1.0], (replicas, 2))


def in_the_set(scheme: str, W: np.ndarray, ratios: np.ndarray) -> bool:
    """Whether the weights W (n,) of `small_net` are in the set, counted group by group."""
    found = True
    for part, geometry, ratio in zip((W[:32], W[32:]), LAYERS, ratios, strict=True):
        cells = cells_of_groups(scheme, *geometry)
        size = int(scheme[2]) if scheme[0].isdigit() else len(cells[0])
        k = max(1, int(round(ratio * size, 9)))
        found &= all(sum(bool(part[group].any()) for group in groups) <= k for groups in cells)
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_each_replica_and_layer_is_projected_by_its_own_ratio(scheme, seed, replicas):
    rng = np.random.default_rng(seed)
    net, ratios = small_net(replicas, rng), ratios_of(scheme, replicas, rng)
    budget = Budget(net, ratios, scheme=scheme)
    W, biases = net.W.copy(), net.theta[:, net.weight_count :].copy()
    hard_prune(net, budget)
    for r in range(replicas):
        k = budget.k[r]
        parts = zip((W[r, :32], W[r, 32:]), LAYERS, k, strict=True)
        keep = np.concatenate([first(part, cells_of_groups(scheme, *geometry), k_i) for part, geometry, k_i in parts])
        np.testing.assert_array_equal(net.W[r], W[r] * keep)
        assert in_the_set(scheme, net.W[r], ratios[r])
        assert np.count_nonzero(net.W[r]) <= sum(budget.max_nonzero(r))
    assert budget.support(net.W).dtype == bool
    np.testing.assert_array_equal(net.theta[:, net.weight_count :], biases)  # biases are not pruned
    mask = Mask(net)
    np.testing.assert_array_equal(mask.M, net.W != 0)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 2.0))
def test_admm_ends_at_the_nearest_point_of_its_set(scheme, seed, rho):
    """L = 1/2 ||w - c||^2, whose minimum over the set is the projection of c. From w = 0 and rho >= 1 the support is
    right from the first Z-step on: all entries outside of it grow by one factor, which never overtakes."""
    rng = np.random.default_rng(seed)
    net, ratios = small_net(2, rng), ratios_of(scheme, 2, rng)
    c = net.W.copy()
    net.W[...] = 0
    admm = ADMM(net, Budget(net, ratios, scheme=scheme), ADMMSettings(rho=rho, iterations=60))
    for _ in range(60):
        net.W[...] = (c + rho * (admm.Z - admm.U)) / (1 + rho)
        row = admm.update(net, np.zeros(2))
    assert all(in_the_set(scheme, admm.Z[r], ratios[r]) for r in range(2))
    expected = np.stack(
        [
            np.concatenate(
                [
                    part * first(part, cells_of_groups(scheme, *geometry), k_i)
                    for part, geometry, k_i in zip((c[r, :32], c[r, 32:]), LAYERS, admm.budget.k[r], strict=True)
                ]
            )
            for r in range(2)
        ]
    )
    np.testing.assert_allclose(admm.Z, expected, atol=1e-8)
    np.testing.assert_allclose(net.W, expected, atol=1e-8)
    np.testing.assert_allclose(rho * admm.U, c - expected, atol=1e-8)  # the multiplier: -dL/dw at the solution
    assert admm.status == [Status.CONVERGED] * 2
    assert (row.changed == 0).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_training_by_admm_then_masked_stays_in_the_set(scheme):
    rng = np.random.default_rng(0)
    net, ratios, ws, sgd = small_net(2, rng, "float32"), ratios_of(scheme, 2, rng), Workspace(), SGD(0.9)
    budget = Budget(net, ratios, scheme=scheme)
    admm, mask = ADMM(net, budget, ADMMSettings(rho=0.1, iterations=3)), None
    for epoch in range(6):
        for _ in range(3):
            X = rng.standard_normal((2, *SHAPE, 8)).astype("float32")
            _, dlogits = cross_entropy(net.forward(X, ws), rng.integers(0, 3, (2, 8)))
            net.backward(dlogits, ws)
            mask.apply(net) if mask else admm.add_penalty_gradient(net)
            sgd.step(net, 0.05)
        if epoch < 3:
            admm.update(net, np.zeros(2))
        if epoch == 2:
            hard_prune(net, budget)
            mask, sgd, support = Mask(net), SGD(0.9), net.W != 0
    assert all(in_the_set(scheme, net.W[r], ratios[r]) for r in range(2))
    assert not net.W[~support].any()
    assert (net.W[support] != 0).all()


@pytest.mark.parametrize(("scheme", "side"), [("block", 4), ("block:1", 1), ("block:256", 256)])
def test_blocks_of_the_smallest_the_usual_and_the_largest_side(scheme, side):
    found = parse_scheme(scheme)
    grouping = found.grouping(parameter(300, 1, 300, 1))
    assert found.name == scheme
    assert found.structured
    assert grouping.groups == math.ceil(300 / side) ** 2


@pytest.mark.parametrize("large", [1e-30, 1e30])
def test_groups_of_float32_are_compared_though_their_squares_are_no_float32(large):
    W = np.array([[1, 1, 1, 1], [2, 2, 2, 2]], np.float32) * np.float32(large)
    found = parse_scheme("filter").grouping(parameter(2, 1, 4, 1)).support(W.reshape(-1), 1)
    np.testing.assert_array_equal(found.reshape(2, 4), [[False] * 4, [True] * 4])


def test_a_scheme_with_a_fixed_ratio_refuses_others():
    net = small_net(1, np.random.default_rng(0))
    assert Budget(net, 0.5, scheme="2:4").k == [[2, 2]]
    assert Budget(net, [1, 0.5], scheme="2:4").k == [[4, 2]]
    assert Budget(net, 1 / 3, scheme="1:3").k == [[1, 1]]
    with pytest.raises(ArgumentError, match=r"keep must be 0.5 where scheme is 2:4, got 0.3; leave it out"):
        Budget(net, 0.3, scheme="2:4")


@pytest.mark.parametrize("scheme", ["filter", "channel"])
def test_a_channel_of_a_depthwise_convolution_is_its_kernel(scheme):
    """Each output channel reads one input channel: whichever is pruned, the kernels of largest norm are left."""
    net = Network(DepthwiseConv2D(5, 3), (4, 5, 4), 1, "float64")
    W = net.weights[0].value
    W[...] = np.random.default_rng(0).standard_normal(W.shape)
    order = np.argsort([-sum(w * w for w in kernel) for kernel in W[0]])
    expected = W.copy()
    expected[0, order[2:]] = 0
    hard_prune(net, Budget(net, 0.5, scheme=scheme))
    np.testing.assert_array_equal(W, expected)


@pytest.mark.parametrize("scheme", ["filter", "channel", "column", "block", "2:4"])
def test_a_global_budget_is_for_single_weights(scheme):
    net = small_net(1, np.random.default_rng(0))
    with pytest.raises(ArgumentError, match=f"scope must be layer where scheme is {scheme}, got global"):
        Budget(net, 0.5, "global", scheme)
