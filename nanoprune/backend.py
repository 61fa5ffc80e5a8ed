"""NumPy or CuPy behind one name: the only file that knows about the GPU.

`from nanoprune.backend import xp` and write `xp.matmul(...)`. The device is chosen once, by `use_device`, before the
first array is made. An array of the other library is refused by name and never copied silently.
"""

import importlib
import types
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DeviceError

DEVICES = ("cpu", "gpu", "gpu-tf32", "auto")


class ArrayModule:
    """Stands for the chosen array library; a name is looked up there once and then kept."""

    def __init__(self) -> None:
        self.choose(np)

    def choose(self, module: Any, tf32: bool = False) -> None:
        """Make `module` (numpy, cupy, or a stand-in with the same names) the array library from here on."""
        self.__dict__.clear()
        self.__dict__["_module"] = module
        self.__dict__["_tf32"] = tf32

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__[name] = getattr(self._module, name)
        return value


xp = ArrayModule()


def use_device(device: str) -> str:
    """Choose where to compute and return "cpu", "gpu" or "gpu-tf32".

    device: "cpu", "gpu" (float32), "gpu-tf32" (factors of the layers' products rounded to the 10 bits of mantissa of
    TF32, sums in float32: faster, coarser), or "auto", the "gpu" where one works, else the "cpu".
    Raises DeviceError where a GPU is requested and CuPy or a working GPU is missing, ArgumentError on any other name.
    """
    if device not in DEVICES:
        raise ArgumentError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    reason = None if device == "cpu" else _why_no_gpu()
    if device.startswith("gpu") and reason:
        raise DeviceError(f"device {device}: {reason}; use --device cpu, or install the extra cuda12 or cuda13")
    if device == "cpu" or reason:
        xp.choose(np)
        return "cpu"
    xp.choose(importlib.import_module("cupy"), tf32=device == "gpu-tf32")
    return "gpu" if device == "auto" else device


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
            return "a product on the GPU gave a wrong result"
    except Exception as error:  # the driver, cuBLAS and the runtime each have their own exception classes
        return f"the GPU does not work ({type(error).__name__}: {error})"
    return None


def device_name() -> str:
    """The chosen device in words, for the results: "cpu", or the GPU's name, and TF32 where that is the precision."""
    if xp._module is np:
        return "cpu"
    properties = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)
    return f"gpu ({properties['name'].decode()}{', TF32' if xp._tf32 else ''})"


def precision() -> str:
    """The precision of the layers' matrix products, for the results: "float32" or "TF32"."""
    return "TF32" if xp._tf32 else "float32"


def free_memory() -> int | None:
    """Free bytes of the GPU's memory, including those that CuPy keeps for reuse; None on a CPU."""
    if xp._module is np:
        return None
    return int(xp.cuda.Device().mem_info[0]) + int(xp.get_default_memory_pool().free_bytes())


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
    """out = A @ B over the last two axes, batched over the one or two before them, for float32 and float64.

    A and B may be transposed views, repeat themselves along a batch axis (a length of 1) or overlap themselves, and are
    not copied. All matrix products of the layers go through this function.
    """
    return xp.matmul(A, B, out=out) if xp._module is np else _cublas_product(A, B, out)


def _cublas_product(A: Any, B: Any, out: Any) -> Any:
    """`product` by cuBLAS itself, which takes any strides; CuPy's matmul copies what is not C-contiguous.

    cuBLAS counts down columns, so it sees the transpose of every matrix here: out = A B is out^T = B^T A^T to it. One
    call does the products along one batch axis, the longer one; a loop goes over the other.
    """
    if out.ndim == 3:
        _cublas_product(A[:, None], B[:, None], out[:, None])
        return out
    cublas, handle = xp.cuda.cublas, xp.cuda.device.get_cublas_handle()
    (m, n), k = out.shape[2:], A.shape[3]
    kind = {"f": xp.cuda.runtime.CUDA_R_32F, "d": xp.cuda.runtime.CUDA_R_64F}[out.dtype.char]
    compute = cublas.CUBLAS_COMPUTE_64F if out.dtype.char == "d" else cublas.CUBLAS_COMPUTE_32F
    if xp._tf32 and out.dtype.char == "f":
        compute = cublas.CUBLAS_COMPUTE_32F_FAST_TF32
    one, zero = np.ones(1, out.dtype), np.zeros(1, out.dtype)
    inner, outer = (0, 1) if out.shape[0] >= out.shape[1] else (1, 0)  # batch axes
    for i in range(out.shape[outer]):
        (a, *left), (b, *right), (c, *result) = (_matrices(M, i, inner, outer) for M in (A, B, out))
        sizes, factors = (right[0], left[0], n, m, k), (b, kind, *right[1:], a, kind, *left[1:])
        batch = (out.shape[inner], compute, cublas.CUBLAS_GEMM_DEFAULT)
        scales = one.ctypes.data, zero.ctypes.data
        cublas.gemmStridedBatchedEx(handle, *sizes, scales[0], *factors, scales[1], c, kind, *result[1:], *batch)
    return out


def _matrices(M: Any, i: int, inner: int, outer: int) -> tuple[int, int, int, int]:
    """The matrices M[i, :] (M[:, i] where inner is 0) for cuBLAS: pointer, transposed or not, ld, stride."""
    step = [0 if length == 1 else stride // M.itemsize for length, stride in zip(M.shape, M.strides, strict=True)]
    pointer = M.data.ptr + (i * step[outer]) * M.itemsize
    rows, columns = M.shape[2:]
    if columns == 1 or step[3] == 1:  # rows are contiguous
        return pointer, 0, max(step[2], columns), step[inner]
    if rows == 1 or step[2] == 1:  # columns are contiguous: a transposed view
        return pointer, 1, max(step[3], rows), step[inner]
    raise ArgumentError(f"a factor of the product must have contiguous rows or columns, got strides {M.strides}")
