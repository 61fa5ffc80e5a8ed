"""A safetensors file of PyTorch: its tensors by name, checked against a network before memory is taken for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.models.layout import named
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.storage.files import open_regular
from nanoprune.lab.storage.text import printable, printable_list
from nanoprune.lab.zoo import build, layers_of
from nanoprune.lab.zoo.structure import Shape
from nanoprune.nn import Network

COUNTER = ".num_batches_tracked"  # PyTorch counts its batches; nothing that we compute depends on it
PREFIXES = ("module.", "model.", "_orig_mod.")  # of DataParallel, Lightning and torch.compile
MISSING = "safetensors needs its package; install the extra: pip install 'nanoprune[import]'"


class StateDict:
    """An open safetensors file. shapes: name, without the prefixes of wrappers, to shape, as the file declares it."""

    def __init__(self, file: Any, path: str | os.PathLike, prefixes: tuple[str, ...] = PREFIXES) -> None:
        self.file, self.shown = file, printable(path, 400)
        self.names: dict[str, str] = {}  # without the prefixes: the name in the file
        for name in file.keys():  # noqa: SIM118, it is no dict
            if name.endswith(COUNTER):
                continue
            short = stripped(name, prefixes)
            if short in self.names:
                both = printable_list([self.names[short], name])
                raise DataError(f"{self.shown}: {both} are one name without their prefixes; save one of the two")
            self.names[short] = name
        self.shapes: dict[str, Shape] = {
            short: tuple(file.get_slice(name).get_shape()) for short, name in self.names.items()
        }

    def values(self, name: str) -> np.ndarray:
        """The tensor in float32. Raises DataError where it is not real or not finite, or holds a negative variance."""
        what = f"{self.shown}: {printable(self.names[name])}"
        try:
            tensor = self.file.get_tensor(self.names[name])
        except (TypeError, AttributeError, ValueError) as error:  # bfloat16, for example
            reason = first_line(error)
            raise DataError(f"{what} has a type that NumPy does not have ({reason}); save it as float32") from error
        if tensor.dtype.kind == "V":  # a package that is installed has taught NumPy the type
            raise DataError(f"{what} has a type that NumPy does not have ({tensor.dtype}); save it as float32")
        if tensor.dtype.kind != "f":
            raise DataError(f"{what} is {tensor.dtype}, expected float32")
        return finite(tensor, what, variance=name.endswith("running_var"))


def finite(tensor: np.ndarray, what: str, variance: bool = False) -> np.ndarray:
    """`tensor` in float32. Raises DataError where it is not finite then, or a variance is negative."""
    with np.errstate(over="ignore"):
        single = tensor.astype(np.float32)
    if not np.isfinite(single).all() or (variance and single.size and single.min() < 0):
        raise DataError(f"{what} holds NaN, infinity or a negative variance")
    return single


def stripped(name: str, prefixes: tuple[str, ...] = PREFIXES) -> str:
    """The name without the prefixes that wrappers put before it, one or several."""
    while found := next((prefix for prefix in prefixes if name.startswith(prefix)), None):
        name = name.removeprefix(found)
    return name


@contextlib.contextmanager
def open_state_dict(
    path: str | os.PathLike, prefixes: tuple[str, ...] = PREFIXES, remedy: str = "save the state dict as such"
) -> Iterator[StateDict]:
    """Raises DataError, naming the file, where it cannot be read; ArgumentError where safetensors is missing."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ArgumentError(MISSING) from None
    try:
        open_regular(path).close()
        with safe_open(path, framework="numpy") as file:
            yield StateDict(file, path, prefixes)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{printable(path, 400)}: cannot be read as safetensors ({first_line(error)}); {remedy}"
        ) from error


def network_from(state: StateDict, description: dict[str, Any], names: list[str], remedy: str) -> Network:
    """The network of a description with the tensors of the file. names: of its layers with parameters, in their order.

    Raises DataError, naming the tensors, where any is missing, has another shape or is not the network's.
    """
    image = tuple(description["input_shape"])
    expected = {name: shape for name, shape, *_ in named(layers_of(description), image, names)}
    size = f" of width {description['width']:g}" if "width" in description else ""
    check_names(state, expected, description["network"], size, remedy)
    net = build(description)
    for name, _, target, convert in named(net.body, image, names):
        target.value[0] = to_device(convert(state.values(name)))
    return net


def check_names(state: StateDict, expected: dict[str, Shape], network: str, size: str, remedy: str) -> None:
    """DataError, in one line, unless the file has the expected tensors and no other."""
    missing = [name for name in expected if name not in state.shapes]
    wrong = [name for name in expected if name in state.shapes and state.shapes[name] != expected[name]]
    extra = sorted(state.shapes.keys() - expected.keys())
    found = []
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        found.append(f"{printable_list(missing)} {verb} missing (the first has shape {expected[missing[0]]})")
    if wrong:
        more = f", and {len(wrong) - 1:,} more have other shapes" if len(wrong) > 1 else ""
        shape, needed = printable(state.shapes[wrong[0]]), expected[wrong[0]]
        found.append(f"{wrong[0]} has shape {shape}, {network}{size} needs {needed}{more}")
    if extra:
        found.append(f"{network} has no {printable_list(extra)}")
    if found:
        raise DataError(f"{state.shown}: {'; '.join(found)}; {remedy}")
