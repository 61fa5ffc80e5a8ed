"""The choice of the array library, with stand-ins for CuPy: no GPU is needed."""

import sys
import types

import numpy as np
import pytest

from nanoprune.backend import device_name, module_name, precision, require, to_device, to_host, use_device, xp
from nanoprune.errors import ArgumentError, DeviceError
from nanoprune.nn import Dense, Network, Workspace


@pytest.fixture(autouse=True)
def _numpy_again():
    yield
    xp.choose(np)


class ForeignArray:
    """What a GPU's array is to NumPy: something else."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def get(self):
        return self.values.copy()


def stand_in(**names) -> types.ModuleType:
    """A module called cupy whose GPU works, unless `names` say otherwise."""
    module = types.ModuleType("cupy")
    properties = types.SimpleNamespace(getDeviceProperties=lambda number: {"name": b"Stand-in"})
    module.__dict__.update(
        {
            "ndarray": ForeignArray,
            "asarray": ForeignArray,
            "float32": np.float32,
            "ones": np.ones,
            "is_available": lambda: True,
            "cuda": types.SimpleNamespace(runtime=properties, Device=lambda: types.SimpleNamespace(id=0)),
            **names,
        }
    )
    return module


def test_an_unknown_device_is_refused():
    with pytest.raises(ArgumentError, match="device must be one of cpu, gpu, gpu-tf32, auto, got 'tpu'"):
        use_device("tpu")


def test_without_cupy_gpu_is_an_error_and_auto_the_cpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` fail
    with pytest.raises(DeviceError, match=r"CuPy is not installed; use --device cpu, or install the extra cuda12"):
        use_device("gpu")
    assert use_device("auto") == use_device("cpu") == "cpu"
    assert (module_name(), device_name()) == ("numpy", "cpu")


def driver_error(*_, **__):
    raise RuntimeError("no driver")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"is_available": lambda: False}, "CuPy finds no GPU"),
        ({"ones": np.zeros}, "a product on the GPU gave a wrong result"),
        ({"ones": driver_error}, r"the GPU does not work \(RuntimeError: no driver\)"),
        ({"is_available": driver_error}, "the GPU does not work"),
    ],
)
def test_a_gpu_that_does_not_work_is_not_used(monkeypatch, names, reason):
    monkeypatch.setitem(sys.modules, "cupy", stand_in(**names))
    with pytest.raises(DeviceError, match=reason):
        use_device("gpu")
    assert use_device("auto") == "cpu"
    assert xp.ones is np.ones


@pytest.mark.parametrize(
    ("device", "chosen", "name"),
    [
        ("gpu", "gpu", "gpu (Stand-in)"),
        ("auto", "gpu", "gpu (Stand-in)"),
        ("gpu-tf32", "gpu-tf32", "gpu (Stand-in, TF32)"),
    ],
)
def test_a_gpu_that_works_is_chosen_and_named(monkeypatch, device, chosen, name):
    monkeypatch.setitem(sys.modules, "cupy", stand_in())
    assert use_device(device) == chosen
    assert (module_name(), device_name()) == ("cupy", name)
    assert precision() == ("TF32" if device == "gpu-tf32" else "float32")
    assert isinstance(to_device(np.ones(3)), ForeignArray)
    np.testing.assert_array_equal(to_host(ForeignArray([1.0, 2.0])), [1.0, 2.0])


def test_names_are_looked_up_anew_after_a_choice():
    assert xp.sqrt is np.sqrt  # kept from here on
    xp.choose(stand_in(sqrt="theirs"))
    assert xp.sqrt == "theirs"
    xp.choose(np)
    assert xp.sqrt is np.sqrt
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xp.no_such_name


def test_an_array_of_the_other_library_is_refused_by_name():
    net, ws = Network(Dense(2, 1), (2,)), Workspace()
    foreign = ForeignArray(np.ones((1, 2, 3)))
    with pytest.raises(DeviceError, match=r"X is a \w+\.ForeignArray, expected numpy.ndarray; copy it with to_device"):
        net.forward(foreign, ws)
    with pytest.raises(DeviceError, match="array is a"):
        to_host(foreign)
    xp.choose(stand_in())
    with pytest.raises(DeviceError, match=r"X is a numpy\.ndarray, expected cupy\.ndarray"):
        net.forward(np.ones((1, 2, 3), np.float32), ws)
    with pytest.raises(DeviceError, match=r"weights is a numpy\.ndarray, expected cupy\.ndarray"):
        require(np.ones(3), "weights")
    require(foreign, "weights")


def test_on_a_cpu_nothing_is_copied():
    array = np.ones(3)
    assert to_device(array) is array
    assert to_host(array) is array
    with pytest.raises(DeviceError, match=r"array is a builtins.float"):
        to_host(1.0)
