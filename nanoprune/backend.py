"""NumPy or CuPy behind one name: the only file that knows there is a GPU.

`from nanoprune.backend import xp` and write `xp.matmul(...)`. The device is chosen once, by `use_device`, before the
first array is made. An array of the other library is refused by name and never copied silently.
"""

import importlib
import types
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DeviceError


class ArrayModule:
    """Stands for the chosen array library; a name is looked up there once and then kept."""

    def __init__(self) -> None:
        self.choose(np)

    def choose(self, module: Any) -> None:
        """Make `module` (numpy, cupy, or a stand-in with the same names) the array library from here on."""
        self.__dict__.clear()
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__[name] = getattr(self._module, name)
        return value


xp = ArrayModule()


def use_device(device: str) -> str:
    """Choose "cpu", "gpu" or "auto" (a GPU where one works) and return "cpu" or "gpu".

    Raises DeviceError where "gpu" is asked for and CuPy or a working GPU is missing, ArgumentError on any other name.
    """
    if device not in ("cpu", "gpu", "auto"):
        raise ArgumentError(f"device must be cpu, gpu or auto, got {device!r}")
    reason = None if device == "cpu" else _why_no_gpu()
    if device == "gpu" and reason:
        raise DeviceError(f"device gpu: {reason}; use --device cpu, or install the extra cuda12 or cuda13")
    if device == "cpu" or reason:
        xp.choose(np)
        return "cpu"
    xp.choose(importlib.import_module("cupy"))
    return "gpu"


def _why_no_gpu() -> str | None:
    """None if a product on the GPU is right, else what is missing (`import cupy` alone proves nothing)."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return "CuPy is not installed"
    try:
        if not cupy.is_available():
            return "CuPy finds no GPU"
        ones = cupy.ones((8, 8), dtype=cupy.float32)
        if float((ones @ ones)[0, 0]) != 8.0:
            return "a product on the GPU gave a wrong answer"
    except Exception as error:  # the driver, cuBLAS and the runtime each raise classes of their own
        return f"the GPU does not work ({type(error).__name__}: {error})"
    return None


def device_name() -> str:
    """The chosen device in words, for the results: "cpu", or the GPU's name."""
    if xp._module is np:
        return "cpu"
    properties = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)
    return f"gpu ({properties['name'].decode()})"


def to_device(array: np.ndarray) -> Any:
    """Copy a NumPy array to the chosen device (no copy on a CPU)."""
    return xp.asarray(array)


def to_host(array: Any) -> np.ndarray:
    """Copy an array of the chosen device to NumPy (no copy on a CPU)."""
    require(array, "array")
    return array if isinstance(array, np.ndarray) else array.get()


def require(array: Any, name: str) -> None:
    """Refuse an array that is not on the chosen device; `name` is what the message calls it."""
    if not isinstance(array, xp.ndarray):
        kind = f"{type(array).__module__.split('.')[0]}.{type(array).__qualname__}"
        raise DeviceError(f"{name} is a {kind}, expected {module_name()}.ndarray; copy it with to_device or to_host")


def module_name() -> str:
    """Name of the chosen array library, "numpy" or "cupy"."""
    return xp._module.__name__ if isinstance(xp._module, types.ModuleType) else type(xp._module).__name__


def windows(array: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """A view of `array` with the given shape and strides in bytes; it may overlap itself, so it is only to be read."""
    return xp.lib.stride_tricks.as_strided(array, shape, strides)


def product(A: Any, B: Any, out: Any) -> Any:
    """out = A @ B over the last two axes; B may overlap itself. The one place where a convolution meets the BLAS."""
    return xp.matmul(A, B, out=out)
