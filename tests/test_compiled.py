"""Formulas compiled by Numba and as kernels for a GPU, against the same formulas as NumPy runs them."""

import importlib
import inspect
import os
import pkgutil

import numpy as np
import pytest
import strict_cupy
from hypothesis import given, settings
from hypothesis import strategies as st

import nanoprune
from nanoprune.backend import to_device, to_host, xp
from nanoprune.lab.engine.identity import versions
from nanoprune.lab.engine.passes import LocalColumns
from nanoprune.lab.engine.shards import train_shards
from nanoprune.lab.kernels import (
    BandedDepthwise,
    CompiledDepthwise,
    CompiledMaxPool,
    compiled,
    compiled_pooling,
    max_pooling,
)
from nanoprune.lab.kernels.compiled_depthwise import correlation
from nanoprune.lab.layers.channels import ChannelFormula
from nanoprune.lab.layers.depthwise import DepthwiseConv2D
from nanoprune.nn import SGD, Adam, Dense, MaxPool, Network, Workspace
from nanoprune.nn.formula import BLOCK, Formula
from nanoprune.nn.optimizer import sgd_step


def formulas() -> list[Formula]:
    """Every formula of the package, wherever it stands."""
    modules = [importlib.import_module(of.name) for of in pkgutil.walk_packages(nanoprune.__path__, "nanoprune.")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, Formula)}
    return sorted(found, key=lambda of: (of.__module__, of.__name__))


ALL = formulas()
GPU = importlib.import_module("cupy") if os.environ.get("NANOPRUNE_TEST_GPU") else strict_cupy.module  # make gpu


@pytest.fixture(autouse=True)
def _as_they_were():
    before = compiled.WORTH, compiled.done.copy()
    compiled.done[:] = 0
    yield
    compiled.WORTH, compiled.done[:] = before
    xp.choose(np)


def arguments(formula: Formula, R: int, n: int, dtype: str, rng: np.random.Generator) -> tuple[list, dict]:
    """Arrays (R, n), with zeros, values of all sizes and one that is not finite, and numbers, some of them (R,); for
    formulas of channels (R, 3, 2, n) and (R, 2, 1)."""
    arrays, numbers, _ = compiled.parts(formula)
    made = []
    for _ in arrays:
        shape = (R, 3, 2, n) if isinstance(formula, ChannelFormula) else (R, n)
        values = np.exp(8 * rng.standard_normal(shape)) * rng.choice([-1, 0, 1], shape)
        made.append(values.astype(dtype))
    if "S" in arrays:
        made[arrays.index("S")] = np.abs(made[arrays.index("S")])
    made[0].flat[0] = np.inf
    if isinstance(formula, ChannelFormula):
        return made, {name: rng.random((R, 2, 1)).astype(dtype) for name in reversed(numbers)}
    values = {name: rng.random(R) if i % 2 else float(rng.random()) for i, name in enumerate(numbers)}
    return made, dict(reversed(values.items()))  # the order of keyword arguments means nothing


@pytest.mark.parametrize("formula", ALL, ids=lambda of: of.__name__)
@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 70), st.sampled_from(["float32", "float64"]))
def test_numba_gives_the_bits_of_numpy(formula, seed, R, n, dtype):
    pytest.importorskip("numba")
    arrays, numbers = arguments(formula, R, n, dtype, np.random.default_rng(seed))
    plain, fast = ([array.copy() for array in arrays] for _ in range(2))
    with np.errstate(all="ignore"):
        compiled.WORTH = np.inf
        formula(*plain, **numbers)
        compiled.WORTH = 0
        assert compiled.by_numba(formula, tuple(fast), numbers)
    for expected, found in zip(plain, fast, strict=True):
        np.testing.assert_array_equal(found.view(f"i{found.itemsize}"), expected.view(f"i{found.itemsize}"))


@pytest.mark.parametrize("formula", ALL, ids=lambda of: of.__name__)
@pytest.mark.parametrize("decay", [0.0, 0.3], ids=["zeros", "numbers"])
def test_a_kernel_of_cupy_gives_the_same(formula, decay):
    arrays, numbers = arguments(formula, 2, 9, "float32", np.random.default_rng(1))
    numbers |= {"d": decay} if "d" in numbers else {}  # a branch is on a number, which is one for all replicas
    plain, on_device = ([array.copy() for array in arrays], [])
    with np.errstate(all="ignore"):
        compiled.WORTH = np.inf
        formula(*plain, **numbers)
        xp.choose(GPU)
        on_device = [to_device(array) for array in arrays]
        formula(*on_device, **{k: to_device(v) if np.ndim(v) == 3 else v for k, v in numbers.items()})
    for expected, found in zip(plain, on_device, strict=True):
        np.testing.assert_allclose(to_host(found), expected, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: SGD(0.9, 0.01), Adam], ids=["SGD", "Adam"])
def test_a_training_that_is_compiled_halfway_has_the_same_bits(make):
    """On columns of theta, as a process of a group updates them: not contiguous from replica to replica."""
    pytest.importorskip("numba")
    P = BLOCK + 5
    ends = []
    for worth in (np.inf, 4 * 2 * (P - 1)):  # never, or from the fifth step on
        compiled.WORTH = worth
        compiled.done[:] = 0
        net = Network(Dense(P, 1), (P,), 2).initialise([np.random.default_rng(s) for s in (0, 1)])
        optimizer, rng = make(), np.random.default_rng(2)
        for _ in range(8):
            net.grad[...] = rng.standard_normal(net.grad.shape)
            optimizer.step(LocalColumns(net, slice(1, P)), np.array([0.1, 0.2]))
        ends.append(net.theta.copy())
    np.testing.assert_array_equal(*ends)


def failing(error):
    def fail(name):
        raise error(name)

    return fail


@pytest.mark.parametrize(
    ("module", "function", "error"),
    [("importlib", "import_module", ImportError), ("inspect", "getsource", OSError)],
    ids=["no Numba", "no source files"],
)
def test_what_cannot_be_compiled_here_runs_as_it_stands(module, function, error, monkeypatch):
    forget()
    monkeypatch.setattr(getattr(compiled, module), function, failing(error))
    compiled.WORTH = 0
    net = Network(Dense(3, 1), (3,))
    net.grad[...] = 1
    SGD().step(net, 0.5)
    np.testing.assert_array_equal(net.theta, np.full((1, 4), -0.5, np.float32))
    forget()


def forget() -> None:
    """What was compiled, and whether there is Numba."""
    compiled.made_ready.cache_clear()
    compiled.loop_of.cache_clear()
    compiled.started_numba.cache_clear()


def test_processes_that_are_forked_share_the_count_of_elements():
    """So that a stage of workers after another compiles at once. One of two additions at the same time may be lost."""
    net = Network(Dense(1000, 1), (1000,), 2)
    compiled.WORTH = np.inf
    train_shards(lambda rows, advance: SGD().step(net.shard(rows), 0.1), 2, 2)
    assert net.theta.size / 2 <= compiled.done.sum() <= net.theta.size


def test_workers_inherit_what_their_parent_compiled():
    pytest.importorskip("numba")
    forget()
    net = Network(Dense(1000, 1), (1000,), 2)
    compiled.WORTH = 0

    def step(rows, advance):
        SGD().step(net.shard(rows), 0.1)
        return len(compiled.loop_of(sgd_step).signatures)

    assert compiled.loop_of.cache_info().currsize == 0
    train_shards(step, 2, 2)  # each worker compiles, since nothing was known before
    assert compiled.loop_of.cache_info().currsize == 0
    assert train_shards(step, 2, 2) == [1, 1]
    assert len(compiled.loop_of(sgd_step).signatures) == 1


@Formula
def halved(V):
    V *= 0.5


@Formula
def deleting(V, W):
    V *= W
    del W


@Formula
def smallest(V, W):
    xp.minimum(V, W, out=V)


@Formula
def rooted(V, W):
    V += xp.exp(W)


def test_what_cannot_be_compiled_is_refused_by_name():
    with pytest.raises(TypeError, match=r"^halved: formulas have no literals, got 0.5; give it as a keyword argument$"):
        compiled.loop_text(halved)
    with pytest.raises(TypeError, match=r"^formulas have no statement like 'del W'$"):
        compiled.kernel_of(deleting, strict_cupy.ElementwiseKernel)
    with pytest.raises(TypeError, match=r"^formulas have no statement like 'xp.minimum\(V, W, out=V\)'$"):
        compiled.kernel_of(smallest, strict_cupy.ElementwiseKernel)
    with pytest.raises(TypeError, match=r"^formulas have no expression like 'xp.exp\(W\)'$"):
        compiled.kernel_of(rooted, strict_cupy.ElementwiseKernel)


def test_the_loop_is_the_formula_with_an_index():
    text = compiled.loop_text(next(of for of in ALL if of.__name__ == "sgd_step"))
    lines = text.splitlines()
    assert lines[0] == "def loop(theta_, g_, V_, lr_, m_, d_):"
    assert lines[-6:-3] == [
        " " * 16 + "for i_ in range(theta.size):",
        " " * 20 + "V[i_] *= m",
        " " * 20 + "V[i_] += g[i_]",
    ]


@pytest.mark.parametrize("bias", [False, True])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(1, 5), st.integers(1, 20))
def test_a_compiled_depthwise_convolution_has_the_bits_of_the_plain_one(bias, seed, R, size, N):
    pytest.importorskip("numba")
    rng, padding = np.random.default_rng(seed), seed % size
    shape = (size + seed % 3, 2, size + seed % 4)
    X = rng.standard_normal((R, *shape, N), np.float32)
    layers = CompiledDepthwise(2, size, padding, bias), DepthwiseConv2D(2, size, 1, padding, bias)
    outputs = []
    for layer in layers:
        net = Network(layer, shape, R).initialise([np.random.default_rng(r) for r in range(R)])
        outputs.append(net.forward(X, Workspace()))
    np.testing.assert_array_equal(*outputs)
    assert correlation(size).signatures  # it ran


VALUES = [-2.0, -1.0, 0.0, 1.0, 2.0]  # few, so that most windows have several maxima


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(2, 7), st.integers(2, 7), st.integers(1, 20))
def test_a_compiled_pooling_gives_what_the_plain_one_gives(dtype, seed, R, H, W, N):
    pytest.importorskip("numba")
    compiled.WORTH = 0
    rng, shape = np.random.default_rng(seed), (H, 3, W)
    X = rng.choice([*VALUES, *([np.nan, np.inf, -np.inf] * (seed % 2))], (R, *shape, N)).astype(dtype)
    dY = rng.standard_normal((R, H // 2, 3, W // 2, N)).astype(dtype)
    found = []
    for layer in (CompiledMaxPool(), MaxPool(2)):
        ws = Workspace()
        ws.gradient(layer, X.shape, X.dtype)[...] = 7  # what another step left there
        found.append((layer.forward(X, ws).copy(), layer.backward(dY, ws).copy()))
    for fast, plain in zip(*found, strict=True):
        np.testing.assert_array_equal(fast, plain)
    assert compiled_pooling.forward_loop().signatures
    assert compiled_pooling.backward_loop().signatures


def test_a_pooling_is_compiled_once_it_is_used_much_and_before_workers_are_forked():
    pytest.importorskip("numba")
    compiled_pooling.forward_loop.cache_clear()
    layer, X = CompiledMaxPool(), np.random.default_rng(0).standard_normal((1, 4, 2, 4, 3), np.float32)
    compiled.WORTH = 2 * X.size
    for _ in range(2):
        layer.forward(X, Workspace())
    assert compiled_pooling.forward_loop.cache_info().currsize == 0
    compiled.done[compiled.place_of(MaxPool.forward)] += 1
    workers = train_shards(lambda rows, advance: len(compiled_pooling.forward_loop().signatures), 2, 2)
    assert workers == [1, 1]


def test_a_forward_pass_by_the_plain_pooling_has_its_backward_pass():
    """Where the loops are compiled in between, or the input is not contiguous."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    X, dY = rng.standard_normal((1, 4, 2, 4, 6), np.float32), rng.standard_normal((1, 2, 2, 2, 3), np.float32)
    for pooled, worth in ((X[..., :3], np.inf), (X[..., ::2], 0)):
        gradients = []
        for layer in (CompiledMaxPool(), MaxPool(2)):
            ws = Workspace()
            compiled.WORTH = worth
            layer.forward(pooled, ws)
            compiled.WORTH = 0
            gradients.append(layer.backward(dY, ws).copy())
        np.testing.assert_array_equal(*gradients)


def test_a_pooling_that_loops_do_not_cover_is_the_plain_one():
    assert type(max_pooling(2)) is CompiledMaxPool
    for arguments in ((3,), (2, 1), (2, 2, 1), (3, 2, 1)):
        assert type(max_pooling(*arguments)) is MaxPool


def test_the_version_of_numba_is_a_part_of_a_run(monkeypatch):
    numba = pytest.importorskip("numba")
    assert versions()["numba"] == numba.__version__
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "numba" not in versions()


def test_without_numba_a_depthwise_convolution_is_the_product_of_bands(monkeypatch):
    monkeypatch.setattr("nanoprune.lab.kernels.compiled_depthwise.correlation", lambda k: None)
    X = np.random.default_rng(0).standard_normal((1, 6, 2, 5, 3), np.float32)
    outputs = []
    for kind in (CompiledDepthwise, BandedDepthwise):
        net = Network(kind(2, 3, 1), X.shape[1:4]).initialise([np.random.default_rng(1)])
        outputs.append(net.forward(X, Workspace()))
    np.testing.assert_array_equal(*outputs)


def test_all_formulas_are_found():
    """Those of the core at least: the tests above are about them."""
    assert {"adam_step", "masked", "penalty_gradient", "sgd_step"} <= {of.__name__ for of in ALL}
    assert all(inspect.getsource(of.__wrapped__) for of in ALL)
