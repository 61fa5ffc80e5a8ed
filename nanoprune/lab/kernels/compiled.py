"""Formulas in one pass over memory: compiled by Numba (extra `fast`) on a CPU, one kernel on a GPU.

Both are made from the text of the formula (`nanoprune.nn.formula`), which is written once. By Numba it is the body of
loops over single elements, with A[i_] for each array A: the same operations in the same order and precision as NumPy
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
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.lab.layers.channels import ChannelFormula
from nanoprune.nn.formula import Formula

WORTH = 300_000_000  # elements by NumPy before a formula is compiled: both take about a second
C_CALLS = {"sqrt": "sqrt({0})", "sign": "(({0} > 0) - ({0} < 0))"}  # functions of `xp` that formulas may use
done = np.frombuffer(mmap.mmap(-1, 8 * 64), np.int64)  # elements by formula; forked processes share it
LOOPS: dict[Any, Callable[[], Any]] = {}  # those that are no formulas, and what compiles each for float32


def by_numba(formula: Formula, arrays: tuple, numbers: dict[str, Any]) -> bool:
    """Run a formula that is used much as a compiled loop, where Numba is installed and `arrays` are NumPy's."""
    if not isinstance(arrays[0], np.ndarray):
        return False
    loop = loop_of(formula) if worth(formula, arrays[0].size) else None
    if loop is None:
        return False
    dtype = arrays[0].dtype
    named = {name: np.asarray(numbers[name], dtype) for name in keywords(formula)}
    for images, columns in as_images(formula, arrays, named):
        loop(*images, *columns)
    return True


@functools.singledispatch
def as_images(formula: Formula, arrays: tuple, numbers: dict[str, np.ndarray]) -> Iterator[tuple[list, list]]:
    """Contiguous arrays (R, H, C, M) and numbers (R, C, 1), as loops take them; here replica by replica, (1, 1, 1, n),
    since a process has some columns of (R, n) alone."""
    R = len(arrays[0])
    columns = [np.full(R, number) for number in numbers.values()]
    for r in range(R):
        yield [array[r][None, None, None] for array in arrays], [column[r : r + 1, None, None] for column in columns]


@as_images.register
def _(formula: ChannelFormula, arrays: tuple, numbers: dict[str, np.ndarray]) -> Iterator[tuple[list, list]]:
    yield list(arrays), list(numbers.values())


def by_cupy(formula: Formula, arrays: tuple, numbers: dict[str, Any]) -> bool:
    """Run a formula as one kernel, where `arrays` are CuPy's."""
    if isinstance(arrays[0], np.ndarray):
        return False
    dtype, (kernel, order) = arrays[0].dtype, kernel_of(formula, xp.ElementwiseKernel)
    columns = {k: v if isinstance(v, xp.ndarray) else np.asarray(v, dtype) for k, v in numbers.items()}
    named = {k: to_device(value[:, None]) if value.ndim else value[()] for k, value in columns.items()}
    named |= dict(zip(inspect.signature(formula).parameters, arrays, strict=False))
    kernel(*(named[name] for name in order))
    return True


Formula.compilers += [by_numba, by_cupy]


def worth(of: Any, elements: int = 0) -> bool:
    """Whether a formula or a loop was used so much that compiling it pays; counts so many more elements."""
    place = place_of(of)
    done[place] += elements  # an addition that is lost to another process does not matter
    return bool(done[place] > WORTH)


@functools.cache
def place_of(of: Any) -> int:
    """Its place in `done`; that two may share one does not matter."""
    return zlib.crc32(of.__qualname__.encode()) % done.size


@functools.cache
def keywords(formula: Formula) -> list[str]:
    """The names of a formula's numbers, in the order of its signature."""
    return parts(formula)[1]


@functools.cache
def loop_of(formula: Formula) -> Any:
    """The loops over images and numbers that Numba makes of a formula; None without Numba or source files."""
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
        one = np.ones((1, 1, 1, 1), np.float32)
        loop(*(one for _ in arrays), *(one[0] for _ in numbers))


def _before_fork() -> None:
    """Compile what is worth it by now, so that not every worker has to."""
    if done.max() > WORTH:
        modules = [of for name, of in sys.modules.items() if name.startswith("nanoprune.")]
        for formula in {of for module in modules for of in vars(module).values() if isinstance(of, Formula)}:
            if worth(formula):
                made_ready(formula)
        for loop, make_ready in LOOPS.items():
            if worth(loop):
                make_ready()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)


def loop_text(formula: Formula) -> str:
    """The formula as loops over the elements of images (R, H, C, M): Python for Numba, and to be read by people. Names
    that end with _ are the loops' own."""
    arrays, numbers, statements = parts(formula)
    body = "\n".join(ast.unparse(Elements(arrays).visit(statement)) for statement in statements)
    rows = [f"{name} = {name}_[r_, h_, c_]" for name in arrays] + [f"{name} = {name}_[r_, c_, 0]" for name in numbers]
    lines = [
        f"def loop({', '.join(f'{name}_' for name in arrays + numbers)}):",
        f"    for r_ in range({arrays[0]}_.shape[0]):",
        f"        for h_ in range({arrays[0]}_.shape[1]):",
        f"            for c_ in range({arrays[0]}_.shape[2]):",
        *(f"                {row}" for row in rows),
        f"                for i_ in range({arrays[0]}.size):",
        textwrap.indent(body, " " * 20),
    ]
    return "\n".join(lines)


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
    statements = [assignment(statement) for statement in function.body]
    return [a.arg for a in function.args.args], [a.arg for a in function.args.kwonlyargs], statements


def assignment(statement: ast.stmt) -> ast.stmt:
    """`xp.multiply(X, Y, out=Z)` as `Z = X * Y`; other statements as they are."""
    match statement:
        case ast.Expr(
            ast.Call(ast.Attribute(ast.Name("xp"), name), [left, right], [ast.keyword("out", ast.Name() as target)])
        ) if name in OPERATIONS:
            value = ast.BinOp(left, OPERATIONS[name](), right)
            return ast.Assign([ast.Name(target.id, ast.Store())], value, lineno=statement.lineno)
    return statement


class Elements(ast.NodeTransformer):
    """`A` to `A[i_]` for the arrays."""

    def __init__(self, arrays: list[str]) -> None:
        self.arrays = arrays

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.arrays:
            return node
        return ast.Subscript(node, ast.Name("i_", ast.Load()), node.ctx)


def assigned(statement: ast.stmt) -> set[str]:
    """The names that a statement changes."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def c_statement(statement: ast.stmt) -> str:
    """A statement in C: `V *= m`, `Y = X * m` or `if d: ...`."""
    match statement:
        case ast.AugAssign(target=ast.Name(name), op=op, value=value):
            return f"{name} {OPERATORS[type(op)]}= {c_expression(value)};"
        case ast.Assign(targets=[ast.Name(name)], value=value):
            return f"{name} = {c_expression(value)};"
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
        case ast.Compare(left, [op], [right]):
            return f"({c_expression(left)} {OPERATORS[type(op)]} {c_expression(right)})"
        case ast.Call(func=ast.Attribute(value=ast.Name("xp"), attr=name), args=[argument]) if name in C_CALLS:
            return C_CALLS[name].format(c_expression(argument))
    raise TypeError(f"formulas have no expression like {ast.unparse(expression)!r}")


OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Gt: ">", ast.Lt: "<", ast.BitAnd: "&"}
OPERATIONS = {"subtract": ast.Sub, "multiply": ast.Mult}
