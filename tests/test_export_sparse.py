"""Sparse inference gives the network's outputs, and is sparse for layers of low density."""

import numpy as np
import pytest
from exporting import OTHERS, ZOO, network

from nanoprune.errors import ArgumentError
from nanoprune.lab.export.card import measured
from nanoprune.lab.export.check import difference, logits, probes
from nanoprune.lab.export.sparse import SparseModel


@pytest.mark.parametrize("name", [*ZOO, *OTHERS])
@pytest.mark.parametrize("pays_below", [0.0, 0.1, 1.1])
def test_outputs_are_the_networks(name, pays_below):
    net = OTHERS[name]() if name in OTHERS else network(name, keep=0.05)
    for count in (1, 3):
        x = probes(net.input_shape, count)
        assert difference(SparseModel(net, pays_below).logits(x), logits(net, x)) < 2e-6


def test_layers_are_sparse_by_their_own_density():
    net = network("lenet-5", "float32", keep=0.05)
    assert SparseModel(net).sparse_layers() == 4
    net.weights[1].value[...] = 1.0
    assert SparseModel(net).sparse_layers() == 3
    assert SparseModel(network("lenet-5", "float32")).sparse_layers() == 0


def test_other_shapes_are_refused():
    with pytest.raises(ArgumentError, match=r"shape \(N, 3, 32, 32\), got \(2, 32, 3, 32\)"):
        SparseModel(network("lenet-5", "float32")).logits(np.zeros((2, 32, 3, 32), np.float32))


def test_costs_count_what_is_stored():
    net = network("lenet-300-100", "float32", keep=0.05)
    found = measured(net, runs=2)
    assert found["bytes"] == 4 * net.size
    assert found["packed_bytes"] == 5 * int(net.nonzero()[0]) + 4 * (300 + 100 + 7)
    assert found["latency_ms"] > 0
