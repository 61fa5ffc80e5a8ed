"""The separation of core and laboratory, and the functions that are registered by layer type."""

import importlib
import pkgutil
import subprocess
import sys
from functools import singledispatch

import numpy as np
import pytest

import nanoprune
from nanoprune.defend.dpsgd import DPSGD
from nanoprune.defend.record_norms import record_norms
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.passes import share_moments
from nanoprune.lab.engine.states import restore, state_of
from nanoprune.lab.models.layout import layout
from nanoprune.lab.shrink.constants import constants
from nanoprune.lab.shrink.dependencies import dependencies
from nanoprune.lab.shrink.narrowed import narrowed
from nanoprune.lab.verify.layers import networks, token_networks
from nanoprune.lab.zoo.structure import parts
from nanoprune.nn import SGD, Adam, Branches, Dense, Layer, Network, Sequential, Workspace
from nanoprune.nn.registry import check_registered, refuse
from nanoprune.schedule import Schedule


def layer_types() -> list[type]:
    """Every layer that the package defines."""
    for module in pkgutil.walk_packages(nanoprune.__path__, "nanoprune."):
        if module.name.startswith(("nanoprune.nn", "nanoprune.lab.layers", "nanoprune.lab.kernels")):
            importlib.import_module(module.name)
    found, waiting = [], [Layer]
    while waiting:
        below = [kind for kind in waiting.pop().__subclasses__() if kind.__module__.startswith("nanoprune.")]
        found, waiting = found + below, waiting + below
    return sorted(set(found), key=lambda kind: kind.__name__)


LAYERS = layer_types()
OF_EVERY_LAYER = (constants, dependencies, narrowed)
OF_LAYERS_WITH_PARAMETERS = (record_norms, layout)
CONTAINERS = ("Branches", "Residual", "Sequential")
WITHOUT_PARAMETERS = (
    "Attention",
    "AvgPool",
    "ColumnScaling",
    "CompiledMaxPool",
    "Dropout",
    "Flatten",
    "GELU",
    "GlobalAvgPool",
    "ImageTokens",
    "LastToken",
    "MaxPool",
    "ReLU",
    "ReLU6",
    "Standardise",
    "Tanh",
    "TokenMean",
)


def test_the_list_of_layers_is_complete():
    names = {kind.__name__ for kind in LAYERS}
    assert {
        "Dense",
        "Conv2D",
        "WinogradConv2D",
        "BandedDepthwise",
        "CompiledDepthwise",
        *CONTAINERS,
        *WITHOUT_PARAMETERS,
    } <= names
    assert len(names) >= 19


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("function", OF_EVERY_LAYER, ids=lambda of: of.__name__)
def test_every_layer_is_registered_or_refused_by_name(function, kind):
    """A new layer fails here until it is registered, or refused with a reason, with each function."""
    assert function.dispatch(kind) not in (function.dispatch(Layer), function.dispatch(object))


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("function", OF_LAYERS_WITH_PARAMETERS, ids=lambda of: of.__name__)
def test_layers_with_parameters_are_registered_or_refused_by_name(function, kind):
    if kind.__name__ in CONTAINERS + WITHOUT_PARAMETERS:
        pytest.skip("has no parameters of its own")
    assert function.dispatch(kind) not in (function.dispatch(Layer), function.dispatch(object))


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_return_the_shapes_of_their_parts(name):
    (kind,) = [kind for kind in LAYERS if kind.__name__ == name]
    assert parts.dispatch(kind) is not parts.dispatch(object)


@pytest.mark.parametrize("function", [*OF_EVERY_LAYER, record_norms, layout], ids=lambda of: of.__name__)
def test_a_layer_that_is_not_registered_is_refused_by_name(function):
    class Unknown(Layer):
        def __repr__(self):
            return "Unknown()"

    with pytest.raises(ArgumentError, match=r"Unknown\(\) .*register"):
        check_registered(function, Unknown())


def test_a_layer_that_is_refused_is_refused_before_its_function_is_called():
    class Refused(Layer):
        """Is registered, to be refused."""

    class Known(Layer):
        """Is registered."""

    function = singledispatch(lambda layer: None)
    function.register(Refused, refuse("has no such thing; leave it out"))
    function.register(Known, lambda layer: pytest.fail("called"))
    check_registered(function, Known())
    for call in (lambda: function(Refused()), lambda: check_registered(function, Refused())):
        with pytest.raises(ArgumentError) as error:
            call()
        assert str(error.value) == "Refused has no such thing; leave it out"
    assert function.dispatch(Refused).reason == "has no such thing; leave it out"


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_optimisers_are_registered_with_the_engine(kind):
    for function in (state_of, restore, share_moments):
        assert function.dispatch(kind) is not function.dispatch(object)
    for function in (state_of, restore):
        with pytest.raises(TypeError, match="has no state"):
            function(object(), None, None) if function is restore else function(object())


class Forgetful(Dense):
    """A layer whose backward pass does not let its weight gradient be deferred."""

    def backward(self, dY, ws, need_dX=True, need_dW=True):
        saved = ws.saved(self)
        self.weight_gradient(dY, ws, *saved)
        return self.input_gradient(dY, ws, *saved) if need_dX else None


class Twice(Dense):
    """A layer that takes part in clipping twice."""

    def backward(self, dY, ws, need_dX=True, need_dW=True):
        saved = ws.saved(self)
        for _ in range(2):
            ws.weight_gradient(self, dY, saved)
        return self.input_gradient(dY, ws, *saved) if need_dX else None


@pytest.mark.parametrize(
    ("body", "count"), [(Sequential(Dense(3, 4), Forgetful(4, 2)), 1), (Branches((3, Twice(3, 2))), 2)]
)
def test_dpsgd_refuses_a_layer_that_is_not_clipped_exactly_once(body, count):
    """Its gradient would be left out of the norm, or counted twice, silently."""
    net = Network(body, (3,), 1, np.float64)
    private, ws = DPSGD(1.0, 1.0, seeds=[0]), Workspace(defer=True)
    private.begin(net, np.zeros((1, 9), int), Schedule(epochs=1, batch=3), [], None, None, None)
    net.forward(np.ones((1, 3, 2)), ws)
    net.backward(np.ones((1, 2, 2)), ws)
    with pytest.raises(ArgumentError) as error:
        private.clip(net, ws)
    assert str(error.value) == (
        "DP-SGD clips every layer with parameters, each once in a backward pass; here "
        f"{count} took part, of {len(net.weights)}: let each call ws.weight_gradient exactly once"
    )


def test_the_core_loads_nothing_of_the_laboratory():
    """Nor what only the laboratory needs: no click, h5py, rich, matplotlib or dp_accounting."""
    program = """
        import sys
        import nanoprune.train, nanoprune.attack.network, nanoprune.attack.shadow.lira, nanoprune.attack.shadow.rmia
        print(*(name for name in sys.modules if name.startswith("nanoprune")))
        print(*(name for name in ("click", "h5py", "rich", "matplotlib", "dp_accounting") if name in sys.modules))
    """
    program = "\n".join(line.strip() for line in program.strip().splitlines())
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded, others = ended.stdout.split("\n")[:2]
    assert "nanoprune.train" in loaded.split()
    assert [name for name in loaded.split() if name.startswith("nanoprune.lab")] == []
    assert others == ""


def test_the_certificate_checks_the_gradients_of_every_layer():
    """`verify` promises every layer: a new one fails here until nanoprune/lab/verify/layers.py has it."""
    checked, waiting = set(), [layer for _, layer, *_ in [*networks(), *token_networks()]]
    while waiting:
        layer = waiting.pop()
        checked.add(type(layer))
        waiting += layer.layers()
    assert [kind.__name__ for kind in LAYERS if kind not in checked] == []
