"""A stand-in for CuPy 14 that needs no GPU and is stricter: `nanoprune.backend.xp.choose(strict_cupy.module)`.

Its `ndarray` wraps a NumPy array, which only `get()` returns. As with CuPy

- nothing converts it to NumPy implicitly, and a NumPy array is refused as an operand, a value to assign or an argument
  of any function but `asarray`; numbers and NumPy's scalars are accepted;
- a reduction or an index gives an array, never a number, and an array of one element is not an index (`__index__`);
- slices, `reshape`, `swapaxes` and `as_strided` are views where NumPy's are, and `out=` is written to;
- ufuncs take no `where`, and only the names and parameters below exist.

Stricter than CuPy: a NumPy array as an index is refused, where CuPy copies it silently, and `empty` is filled with NaN,
as uninitialised memory may be.

The names are those that the package uses, each looked up in the wheel cupy-cuda12x 14.2.0, which can be imported
without a GPU; `test_cupy_path.py` compares names and parameters with CuPy again wherever it is installed. CuPy's
treatment of foreign arrays follows cupy/_core/core.pyx, _kernel.pyx and _routines_indexing.pyx.
"""

import ctypes
import operator
import re
import types

import numpy as np

DTYPES = "?bhilqBHILQefdFD"  # those that a CuPy array can have
SCALARS = (bool, int, float, complex, np.bool_, np.number)


def unwrap(array):
    """The NumPy array inside of `array`, which must be one of ours."""
    if not isinstance(array, ndarray):
        raise TypeError(f"Unsupported type {type(array)}")
    return array._host


def operand(value):
    """An operand for NumPy: the NumPy array inside of one of ours, or a number."""
    return value if isinstance(value, SCALARS) else unwrap(value)


def wrap(result):
    """NumPy's result as one of our arrays; a NumPy scalar becomes an array of no axes."""
    array = object.__new__(ndarray)
    array._host = np.asarray(result)
    if array._host.dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {array._host.dtype}")
    return array


def into(out, result):
    """`out`, filled by NumPy, where it was given, else the result as a new array."""
    return wrap(result) if out is None else out


def target(out):
    return None if out is None else unwrap(out)


def index(key):
    """An index for NumPy; an Ellipsis at the end gives a view of no axes where NumPy would give a number."""
    keys = [_index(k) for k in (key if isinstance(key, tuple) else (key,))]
    return tuple(keys if any(k is Ellipsis for k in keys) else [*keys, Ellipsis])


def _index(key):
    if key is None or key is Ellipsis or isinstance(key, (slice, int, np.integer)):
        return key
    if isinstance(key, list):
        return np.array(key, int)
    if isinstance(key, ndarray) and key.dtype.kind in "biu":
        return key._host
    raise IndexError(f"Unsupported index of type {type(key)}; copy it with to_device")


class ndarray:
    """cupy.ndarray, as far as the package uses it."""

    __hash__ = None

    def __init__(self, *args, **kwargs):
        raise TypeError("make arrays with asarray, empty or zeros")

    def __getattr__(self, name):
        raise AttributeError(f"strict_cupy.ndarray has no {name!r}; if CuPy 14 has it, add it to tests/strict_cupy.py")

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._host.ctypes.data)

    # to NumPy

    def get(self):
        return np.array(self._host, order="C")

    def tolist(self):
        return self._host.tolist()

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, out=(None,), **kwargs):
        """np.float64(2) * x and np.sqrt(x) are ours, as long as all arrays are."""
        if method != "__call__":
            return NotImplemented
        for value in inputs:
            operand(value)  # refuses a NumPy array
        return getattr(module, ufunc.__name__)(*inputs, out=out[0], **kwargs)

    def __array_function__(self, func, types, args, kwargs):
        return getattr(module, func.__name__)(*args, **kwargs)

    def __bool__(self):
        return bool(self._host)

    def __int__(self):
        return int(self._host)

    def __float__(self):
        return float(self._host)

    def __repr__(self):
        return repr(self._host)

    # layout

    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    nbytes = property(lambda self: self._host.nbytes)
    dtype = property(lambda self: self._host.dtype)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        return wrap(self._host[index(key)])

    def __setitem__(self, key, value):
        self._host[index(key)] = operand(value)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        return wrap(self._host.astype(dtype, order=order, copy=copy))

    def copy(self, order="C"):
        return wrap(self._host.copy(order))

    def reshape(self, *shape, order="C", copy=None):
        return wrap(self._host.reshape(*shape, order=order))

    T = property(lambda self: wrap(self._host.T))

    def transpose(self, *axes):
        return wrap(self._host.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return wrap(self._host.swapaxes(axis1, axis2))

    # reductions

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return into(out, self._host.sum(axis=axis, dtype=dtype, out=target(out), keepdims=keepdims))

    def max(self, axis=None, out=None, keepdims=False):
        return into(out, self._host.max(axis=axis, out=target(out), keepdims=keepdims))

    def min(self, axis=None, out=None, keepdims=False):
        return into(out, self._host.min(axis=axis, out=target(out), keepdims=keepdims))

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return into(out, self._host.argmax(axis=axis, out=target(out), keepdims=keepdims))

    def all(self, axis=None, out=None, keepdims=False):
        return into(out, self._host.all(axis=axis, out=target(out), keepdims=keepdims))


def _binary(name):
    """x + y, y + x and x += y for an operator of the module `operator`."""
    forwards = getattr(operator, name)
    in_place = getattr(operator, f"i{name}", None)  # a comparison has none

    def inside(self, other):
        return wrap(forwards(self._host, operand(other)))

    def reflected(self, other):
        return wrap(forwards(operand(other), self._host))

    def assigned(self, other):
        in_place(self._host, operand(other))
        return self

    setattr(ndarray, f"__{name}__", inside)
    if in_place:
        setattr(ndarray, f"__r{name}__", reflected)
        setattr(ndarray, f"__i{name}__", assigned)


ndarray.__and__ = lambda self, other: wrap(self._host & operand(other))
ndarray.__invert__ = lambda self: wrap(~self._host)
ndarray.__neg__ = lambda self: wrap(-self._host)
ndarray.__matmul__ = lambda self, other: matmul(self, other)
for _name in ("add", "sub", "mul", "truediv", "pow", "eq", "ne", "gt", "ge", "lt"):
    _binary(_name)


class Module(types.ModuleType):
    """The module for `xp`."""

    def __getattr__(self, name):
        raise AttributeError(f"strict_cupy has no {name!r}; if CuPy 14 has it, add it to tests/strict_cupy.py")


module = Module("strict_cupy")
module.ndarray = ndarray

UFUNCS = (
    *(
        "absolute",
        "add",
        "divide",
        "equal",
        "exp",
        "floor",
        "greater",
        "isfinite",
        "less",
        "log",
        "logaddexp",
        "logical_and",
    ),
    *("maximum", "minimum", "multiply", "sign", "sqrt", "subtract", "tanh"),
)


def _ufunc(name):
    ufunc = getattr(np, name)

    def call(*args, out=None, casting="same_kind", dtype=None):
        return into(out, ufunc(*map(operand, args), out=target(out), casting=casting, dtype=dtype))

    call.__name__ = name
    return call


for _name in UFUNCS:
    setattr(module, _name, _ufunc(_name))
module.abs = module.absolute


def function(f):
    """Make f a name of the module."""
    setattr(module, f.__name__, f)
    return f


@function
def asarray(a, dtype=None, order=None):
    """The only conversion from NumPy: a copy, in C order unless the array has Fortran's; our arrays are returned."""
    if isinstance(a, ndarray):
        return wrap(np.asarray(a._host, dtype, order=order)) if dtype or order else a
    a = np.asarray(a)
    return wrap(np.array(a, dtype, order=order or ("F" if a.flags.f_contiguous else "C")))


@function
def empty(shape, dtype=float, order="C"):
    return wrap(_dirty(np.empty(shape, dtype, order)))


@function
def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return wrap(_dirty(np.empty_like(unwrap(prototype), dtype, order, shape=shape)))


def _dirty(array):
    array.fill(np.nan if array.dtype.kind in "fc" else 1)
    return array


@function
def zeros(shape, dtype=float, order="C"):
    return wrap(np.zeros(shape, dtype, order))


@function
def ones(shape, dtype=float, order="C"):
    return wrap(np.ones(shape, dtype, order))


@function
def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return wrap(np.zeros_like(unwrap(a), dtype, order, shape=shape))


@function
def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    return wrap(np.ones_like(unwrap(a), dtype, order, shape=shape))


@function
def arange(start, stop=None, step=1, dtype=None):
    return wrap(np.arange(*((start,) if stop is None else (start, stop, step)), dtype=dtype))


@function
def searchsorted(a, v, side="left", sorter=None):
    return wrap(np.searchsorted(unwrap(a), unwrap(v), side, None if sorter is None else unwrap(sorter)))


@function
def bincount(x, weights=None, minlength=None):
    return wrap(np.bincount(unwrap(x), None if weights is None else unwrap(weights), minlength or 0))


@function
def concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return into(out, np.concatenate([unwrap(a) for a in tup], axis, target(out), dtype=dtype, casting=casting))


@function
def stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return into(out, np.stack([unwrap(a) for a in tup], axis, target(out), dtype=dtype, casting=casting))


@function
def moveaxis(a, source, destination):
    return wrap(np.moveaxis(unwrap(a), source, destination))


@function
def broadcast_to(array, shape):
    return wrap(np.broadcast_to(unwrap(array), shape))


@function
def sum(a, axis=None, dtype=None, out=None, keepdims=False):
    return into(out, np.sum(unwrap(a), axis, dtype, target(out), keepdims))


@function
def clip(a, a_min, a_max, out=None):
    return into(out, np.clip(unwrap(a), operand(a_min), operand(a_max), target(out)))


@function
def where(condition, x=None, y=None):
    return wrap(np.where(operand(condition), operand(x), operand(y)))


@function
def partition(a, kth, axis=-1):
    return wrap(np.partition(unwrap(a), kth, axis))


@function
def argsort(a, axis=-1, kind=None):
    assert kind in (None, "stable")  # cupy.argsort refuses others
    return wrap(np.argsort(unwrap(a), axis, kind="stable"))


@function
def take_along_axis(a, indices, axis):
    return wrap(np.take_along_axis(unwrap(a), unwrap(indices), axis))


@function
def take(a, indices, axis=None, out=None):
    return into(out, np.take(unwrap(a), unwrap(indices), axis, target(out)))


@function
def flatnonzero(a):
    return wrap(np.flatnonzero(unwrap(a)))


@function
def dot(a, b, out=None):
    return into(out, np.dot(unwrap(a), unwrap(b), target(out)))


@function
def matmul(x1, x2, out=None):
    return into(out, np.matmul(unwrap(x1), unwrap(x2), out=target(out)))


def as_strided(x, shape=None, strides=None):
    return wrap(np.lib.stride_tricks.as_strided(unwrap(x), shape, strides))


def gemm_strided_batched_ex(
    handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB, beta, C, Ctype, ldc,
    strideC, batchCount, computeType, algo,
):  # fmt: skip
    """cuBLAS's documentation in NumPy: C_i = alpha op(A_i) op(B_i) + beta C_i, matrices by columns, on bare memory."""
    assert handle == "cublas"
    assert Atype == Btype == Ctype
    assert computeType in ((68, 77) if Ctype == 0 else (70,))
    ctype, dtype = {0: (ctypes.c_float, np.float32), 1: (ctypes.c_double, np.float64)}[Ctype]

    def matrices(pointer, rows, columns, ld, stride):
        assert ld >= max(1, rows)
        size = (batchCount - 1) * stride + (columns - 1) * ld + rows
        memory = np.ctypeslib.as_array((ctype * size).from_address(pointer))
        item = memory.itemsize
        shape = (batchCount, rows, columns)
        return np.lib.stride_tricks.as_strided(memory, shape, (stride * item, item, ld * item))

    def factor(pointer, transposed, rows, columns, ld, stride):
        if transposed:
            return matrices(pointer, columns, rows, ld, stride).swapaxes(1, 2)
        return matrices(pointer, rows, columns, ld, stride)

    scale, keep = (np.ctypeslib.as_array((ctype * 1).from_address(pointer))[0] for pointer in (alpha, beta))
    out = matrices(C, m, n, ldc, strideC)
    result = scale * (factor(A, transa, m, k, lda, strideA) @ factor(B, transb, k, n, ldb, strideB))
    out[...] = (result + keep * out if keep else result).astype(dtype)


class ElementwiseKernel:
    """CuPy's kernel for each element: types and names of what is read, of what is changed, and statements in C.

    As in CuPy's documentation `T` is one type for all, the arguments are broadcast, and those that are changed must
    have the full shape. The statements, of the few forms that formulas have, are run as NumPy's.
    """

    def __init__(self, in_params, out_params, operation, name):
        read, changed = ([of.split() for of in params.split(", ")] for params in (in_params, out_params))
        assert {kind for kind, _ in read + changed} == {"T"}
        self.read, self.changed = ([name for _, name in of] for of in (read, changed))
        self.name, self.operation = name, self.python(operation)

    @staticmethod
    def python(operation):
        operation = re.sub(r"\(\((\w+) > 0\) - \(\1 < 0\)\)", r"sign(\1)", operation)
        assert re.fullmatch(r"(?:[\w\s()+*/=<>&;-]|if \(\w+\) \{[^{}]*\})*", operation), operation
        blocks = re.sub(r"if \((\w+)\) \{ (.*) \}", lambda of: f"if {of[1]}: {of[2]}", operation)
        assert all(line.endswith(";") for line in blocks.splitlines())
        return re.sub(r"^(\w+) = ", r"\1[...] = ", blocks, flags=re.MULTILINE)

    def __call__(self, *args):
        names = self.read + self.changed
        values = dict(zip(names, map(operand, args), strict=True))
        assert len({np.asarray(value).dtype for value in values.values()}) == 1, "T is one type"
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        assert all(values[name].shape == shape for name in self.changed)
        exec(self.operation, {"sqrt": np.sqrt, "sign": np.sign}, values)


module.ElementwiseKernel = ElementwiseKernel
module.float32 = np.float32
module.is_available = lambda: True
module.get_default_memory_pool = lambda: types.SimpleNamespace(free_bytes=lambda: 0)
module.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=as_strided))
module.cuda = types.SimpleNamespace(
    Device=lambda: types.SimpleNamespace(id=0, mem_info=(1 << 30, 1 << 31), synchronize=lambda: None),
    device=types.SimpleNamespace(get_cublas_handle=lambda: "cublas"),
    runtime=types.SimpleNamespace(CUDA_R_32F=0, CUDA_R_64F=1, getDeviceProperties=lambda device: {"name": b"Stand-in"}),
    cublas=types.SimpleNamespace(
        CUBLAS_COMPUTE_32F=68,
        CUBLAS_COMPUTE_32F_FAST_TF32=77,
        CUBLAS_COMPUTE_64F=70,
        CUBLAS_GEMM_DEFAULT=-1,
        gemmStridedBatchedEx=gemm_strided_batched_ex,
    ),
)
