"""A source file in pieces, what it says of itself apart from its code: what `annotated` shows side by side."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import NamedTuple

DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Section(NamedTuple):
    prose: str
    code: list[str]
    numbers: list[int]  # of the lines of the code in the file


def sections(source: str) -> list[Section]:
    """The file in pieces: each definition with its docstring, each run of comments with the code below it.

    Every line that is code is in exactly one piece, in the order of the file.
    """
    prose, hidden = _docstrings(source)
    for start, lines in _comments(source):
        if start not in hidden:
            prose[start] = "\n".join(lines)
            hidden.update(range(start, start + len(lines)))
    lines, found = source.splitlines(), []
    starts = sorted({1, *prose})
    for start, stop in zip(starts, [*starts[1:], len(lines) + 1], strict=True):
        numbers = [n for n in range(start, stop) if n not in hidden]
        while numbers and not lines[numbers[-1] - 1].strip():
            numbers.pop()
        while numbers and not lines[numbers[0] - 1].strip():
            numbers.pop(0)
        if numbers or prose.get(start):
            found.append(Section(prose.get(start, ""), [lines[n - 1] for n in numbers], numbers))
    return found


def _docstrings(source: str) -> tuple[dict[int, str], set[int]]:
    """Docstrings by the first line of what they are of ("" where it has none), and the lines that they are on."""
    tree, prose, hidden = ast.parse(source), {}, set()
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, DEFINITIONS[1:]) for n in ast.walk(f) if n is not f}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, *DEFINITIONS)) or id(node) in inner:
            continue
        text = ast.get_docstring(node)
        module = isinstance(node, ast.Module)
        start = 1 if module else min([node.lineno, *(d.lineno for d in node.decorator_list)])
        prose[start] = text or ""
        if text:
            hidden.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return prose, hidden


def _comments(source: str) -> list[tuple[int, list[str]]]:
    """Runs of whole-line comments: the first line, and the texts."""
    runs: list[tuple[int, list[str]]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line.strip().startswith("#"):
            line, text = token.start[0], token.string.lstrip("#").removeprefix(" ")
            if runs and line == runs[-1][0] + len(runs[-1][1]):
                runs[-1][1].append(text)
            else:
                runs.append((line, [text]))
    return runs


def markdown(text: str) -> list[str]:
    """A docstring as Markdown: displayed formulas are paragraphs of their own, a product such as k*C*k no emphasis."""
    parts = re.split(r"(\$\$.*?\$\$|\$[^$]+\$|`[^`]*`)", text, flags=re.DOTALL)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.sub(r"(?<=[\w)])\*(?=[\w(])", r"\\*", part)
        elif part.startswith("$$"):
            formula = " ".join(part.strip("$").split())
            parts[i] = f"\n\n$$\n{formula}\n$$\n\n"
    return "".join(parts).splitlines()
