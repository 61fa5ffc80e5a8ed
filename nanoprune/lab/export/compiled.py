"""The C that `export --to c` writes, compiled on this machine and called from Python: sparse inference of one record
without SciPy's cost per call."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.export.c import emit, to_c
from nanoprune.lab.export.packing import program_of
from nanoprune.lab.export.sparse import records_of, stands_for_missing
from nanoprune.lab.export.unsupported import check_operations
from nanoprune.nn import Network

FLAGS = ("-O3", "-march=native")
COMPILERS = ("cc", "gcc", "clang")  # after the environment variable CC


class CompiledModel:
    """A network of one replica for inference, float32 on the CPU: the outputs of `Network.forward`, up to rounding.

    form: of the weights, as in `export.c.to_c`. flags: of the compiler, which the environment variable CC names, else
    cc, gcc or clang. The source is made of numbers alone, compiled in a temporary folder and loaded; a second or two.
    `logits` may be called from several threads. Raises ArgumentError on a layer without a rule, where there is no
    compiler, and where it fails.
    """

    def __init__(self, net: Network, form: str = "packed", flags: tuple[str, ...] = FLAGS) -> None:
        check_operations(net, emit, "compiled()")
        program = program_of(net, form)
        self.input_shape, self.classes, self.fill = program.input_shape, program.classes, stands_for_missing(net)
        source, header = to_c(program, {}, form)
        self.work = int(re.search(r"_WORK = (\d+)", header)[1])  # floats
        self.predict = compiled(source, header, flags).nanoprune_predict
        self.predict.argtypes, self.predict.restype = [ctypes.c_void_p] * 3, None

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of x (N, C, H, W) or (N, F), float32. Raises ArgumentError on another shape."""
        x = np.ascontiguousarray(records_of(x, self.input_shape, self.fill), np.float32)
        y, work = np.empty((len(x), self.classes), np.float32), np.empty(self.work + 16, np.float32)
        record, outputs, aligned = x.ctypes.data, y.ctypes.data, (work.ctypes.data + 63) // 64 * 64
        for _ in range(len(x)):
            self.predict(record, outputs, aligned)
            record, outputs = record + x.strides[0], outputs + y.strides[0]
        return y


def compiled(source: str, header: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    """The library of a source and header of `to_c`. Raises ArgumentError where there is no compiler or it fails."""
    found = [shutil.which(name) for name in (os.environ.get("CC"), *COMPILERS) if name]
    compiler = next((path for path in found if path), None)
    if compiler is None:
        raise ArgumentError("no C compiler was found: install gcc or clang, or name one in CC; or use sparse()")
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        (at / "nanoprune.c").write_text(source)
        (at / "nanoprune.h").write_text(header)
        command = [compiler, "-std=c99", *flags, "-shared", "-fPIC", "-o", at / "net.so", at / "nanoprune.c", "-lm"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            reason = next(iter(done.stderr.splitlines()), f"exit status {done.returncode}")
            raise ArgumentError(f"{compiler} {' '.join(flags)}: {reason}; give other flags, or use sparse()")
        return ctypes.CDLL(str(at / "net.so"))
