"""The compiled network computes the network's outputs, for any number of records and from several threads."""

import concurrent.futures

import numpy as np
import pytest
from exporting import OTHERS, ZOO, compiler, model_of, network

from nanoprune.errors import ArgumentError
from nanoprune.lab.export.check import difference, logits, probes
from nanoprune.lab.export.compiled import CompiledModel
from nanoprune.lab.export.quantise import quantised_network
from nanoprune.lab.layers import ColumnScaling
from nanoprune.nn import Dense, Network, Sequential

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")
QUICK = ("-O1",)
ROUNDING = 2e-6  # of float32, of the largest logit; both sides round


@needs_compiler
@pytest.mark.parametrize("name", [*ZOO, *OTHERS])
def test_the_compiled_network_is_the_network(name):
    net = OTHERS[name]() if name in OTHERS else network(name, keep=0.05)
    x = probes(net.input_shape, 3)
    model = CompiledModel(net, flags=QUICK)
    assert difference(model.logits(x), logits(net, x)) < ROUNDING
    assert model.logits(x[:0]).shape == (0, net.output_shape[0])


@needs_compiler
def test_int8_is_the_quantised_network():
    net = network("mlp", keep=0.05)
    x = probes(net.input_shape, 3)
    assert difference(CompiledModel(net, "int8", QUICK).logits(x), logits(quantised_network(net), x)) < ROUNDING


@needs_compiler
def test_any_layout_and_type_of_records_and_several_threads_at_once():
    net = network("lenet-5", "float32", keep=0.05)
    model, x = model_of(net).compiled(), probes(net.input_shape, 24)
    expected = model.logits(x)
    for other in (np.asfortranarray(x), x.astype(np.float64), np.repeat(x, 2, axis=0)[::2]):
        np.testing.assert_array_equal(model.logits(other), expected)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(model.logits, [x] * 16):
            np.testing.assert_array_equal(found, expected)


@needs_compiler
def test_a_missing_number_is_the_mean_of_its_column():
    net = Network(Sequential(ColumnScaling(3, 3), Dense(3, 2)), (3,)).initialise([np.random.default_rng(0)])
    mean = next(statistic for statistic in net.statistics if statistic.name == "mean")
    mean.value[...] = np.array([1.0, -2.0, 3.0]).reshape(mean.shape)
    x = np.array([[np.nan, 5, np.nan]], np.float32)
    found = CompiledModel(net, flags=QUICK).logits(x)
    np.testing.assert_allclose(found, logits(net, np.array([[1, 5, 3]], np.float32)), rtol=1e-6)


@needs_compiler
def test_wrong_records_and_flags_are_refused():
    net = network("mlp")
    with pytest.raises(ArgumentError, match=r"x must have the shape \(N, 3, 32, 32\), got \(2, 7\)"):
        CompiledModel(net, flags=QUICK).logits(np.zeros((2, 7), np.float32))
    with pytest.raises(ArgumentError, match=r"--no-such-flag.*sparse\(\)"):
        CompiledModel(net, flags=("--no-such-flag",))


def test_without_a_compiler_one_line_says_what_would_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ArgumentError, match="no C compiler was found: install gcc or clang"):
        CompiledModel(network("mlp"))
