"""Formulas in one pass over memory: compiled by Numba (extra `fast`) on a CPU, one kernel on a GPU.

Both are made from the text of the formula (`nanoprune.nn.formula`), which is written once. By Numba it is the body of
a loop over single elements, with A[i] for each array A: the same operations in the same order and precision as NumPy
does them, none of them fused, so the same bits. CuPy's compiler may fuse a product and a sum.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import mmap
import os
import sys
import textwrap
import zlib
from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.nn.formula import Formula

WORTH = 300_000_000  # elements by NumPy before a formula is compiled: both take about a second
C_CALLS = {"sqrt": "sqrt({0})", "sign": "(({0} > 0) - ({0} < 0))"}  # functions of `xp` that formulas may use
done = np.frombuffer(mmap.mmap(-1, 8 * 64), np.int64)  # elements by formula; forked processes share it


def by_numba(formula: Formula, arrays: tuple, numbers: dict[str, Any]) -> bool:
    """Run a formula that is used much as a compiled loop, where Numba is installed and `arrays` are NumPy's."""
    if not isinstance(arrays[0], np.ndarray):
        return False
    place = place_of(formula)
    done[place] += arrays[0].size  # an addition that is lost to another process does not matter
    loop = loop_of(formula) if done[place] > WORTH else None
    if loop is None:
        return False
    R, dtype = len(arrays[0]), arrays[0].dtype
    columns = [np.broadcast_to(np.asarray(numbers[name], dtype), R) for name in keywords(formula)]
    for r in range(R):
        loop(*(array[r] for array in arrays), *(column[r] for column in columns))
    return True


def by_cupy(formula: Formula, arrays: tuple, numbers: dict[str, Any]) -> bool:
    """Run a formula as one kernel, where `arrays` are CuPy's."""
    if isinstance(arrays[0], np.ndarray):
        return False
    dtype, (kernel, order) = arrays[0].dtype, kernel_of(formula, xp.ElementwiseKernel)
    columns = {k: np.asarray(value, dtype) for k, value in numbers.items()}
    named = {k: to_device(value[:, None]) if value.ndim else value[()] for k, value in columns.items()}
    named |= dict(zip(inspect.signature(formula).parameters, arrays, strict=False))
    kernel(*(named[name] for name in order))
    return True


Formula.compilers += [by_numba, by_cupy]


@functools.cache
def place_of(formula: Formula) -> int:
    """Its place in `done`; that two formulas may share one does not matter."""
    return zlib.crc32(formula.__qualname__.encode()) % done.size


@functools.cache
def keywords(formula: Formula) -> list[str]:
    """The names of a formula's numbers, in the order of its signature."""
    return parts(formula)[1]


@functools.cache
def loop_of(formula: Formula) -> Any:
    """The loop over rows (n,) and numbers that Numba makes of a formula; None without Numba or source files."""
    numba = started_numba()
    if numba is None:
        return None
    scope: dict[str, Any] = {"xp": np}
    try:
        exec(loop_text(formula), scope)
    except OSError:  # inspect finds no source
        return None
    return numba.njit(error_model="numpy")(scope["loop"])


@functools.cache
def started_numba() -> Any:
    """Numba, after its first compilation, which takes longer than others; None where it is not installed."""
    try:
        numba = importlib.import_module("numba")
    except ImportError:  # not there, or too old for this NumPy
        return None
    numba.njit(lambda x: x)(1.0)
    return numba


@functools.cache
def made_ready(formula: Formula) -> None:
    """Compile a formula for arrays of float32, which networks are made of."""
    arrays, numbers, _ = parts(formula)
    loop = loop_of(formula)
    if loop is not None:
        loop(*(np.ones(1, np.float32) for _ in arrays), *(np.float32(1) for _ in numbers))


def _before_fork() -> None:
    """Compile what is worth it by now, so that not every worker has to."""
    if done.max() > WORTH:
        modules = [of for name, of in sys.modules.items() if name.startswith("nanoprune.")]
        for formula in {of for module in modules for of in vars(module).values() if isinstance(of, Formula)}:
            if done[place_of(formula)] > WORTH:
                made_ready(formula)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)


def loop_text(formula: Formula) -> str:
    """The formula as a loop over the elements of its arrays: Python for Numba, and to be read by people."""
    arrays, numbers, statements = parts(formula)
    body = "\n".join(ast.unparse(Elements(arrays).visit(statement)) for statement in statements)
    head = f"def loop({', '.join(arrays + numbers)}):\n    for i in range({arrays[0]}.size):\n"
    return head + textwrap.indent(body, " " * 8)


@functools.cache
def kernel_of(formula: Formula, make: Any) -> tuple[Any, list[str]]:
    """CuPy's kernel for a formula, and the names of its arguments in order: what is read, then what is changed."""
    arrays, numbers, statements = parts(formula)
    changed = [name for name in arrays if any(name in assigned(statement) for statement in statements)]
    read = [name for name in arrays + numbers if name not in changed]
    types = [", ".join(f"T {name}" for name in names) for names in (read, changed)]
    return make(*types, "\n".join(map(c_statement, statements)), formula.__name__), read + changed


def parts(formula: Formula) -> tuple[list[str], list[str], list[ast.stmt]]:
    """Names of the arrays, names of the numbers, and the statements."""
    function = ast.parse(textwrap.dedent(inspect.getsource(formula.__wrapped__))).body[0]
    assert isinstance(function, ast.FunctionDef)
    for node in ast.walk(ast.Module(function.body, [])):
        if isinstance(node, ast.Constant):
            raise TypeError(
                f"{formula.__name__}: formulas have no literals, got {node.value}; give it as a keyword argument"
            )
    return [a.arg for a in function.args.args], [a.arg for a in function.args.kwonlyargs], function.body


class Elements(ast.NodeTransformer):
    """`A` to `A[i]` for the arrays."""

    def __init__(self, arrays: list[str]) -> None:
        self.arrays = arrays

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.arrays:
            return node
        return ast.Subscript(node, ast.Name("i", ast.Load()), node.ctx)


def assigned(statement: ast.stmt) -> set[str]:
    """The names that a statement changes."""
    return {node.target.id for node in ast.walk(statement) if isinstance(node, ast.AugAssign)}


def c_statement(statement: ast.stmt) -> str:
    """A statement in C: `V *= m` or `if d: ...`."""
    match statement:
        case ast.AugAssign(target=ast.Name(name), op=op, value=value):
            return f"{name} {OPERATORS[type(op)]}= {c_expression(value)};"
        case ast.If(test=ast.Name(name), body=body, orelse=[]):
            return f"if ({name}) {{ {' '.join(map(c_statement, body))} }}"
    raise TypeError(f"formulas have no statement like {ast.unparse(statement)!r}")


def c_expression(expression: ast.expr) -> str:
    """An expression in C, with all parentheses."""
    match expression:
        case ast.Name(name):
            return name
        case ast.BinOp(left, op, right):
            return f"({c_expression(left)} {OPERATORS[type(op)]} {c_expression(right)})"
        case ast.Call(func=ast.Attribute(value=ast.Name("xp"), attr=name), args=[argument]) if name in C_CALLS:
            return C_CALLS[name].format(c_expression(argument))
    raise TypeError(f"formulas have no expression like {ast.unparse(expression)!r}")


OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
