"""Annotated source: what a file says of itself beside the code that it says it of, from the file as it is.

    ```{annotated} nanoprune/nn/dense.py
    ```

Docstrings and whole-line comments are on the left, with their formulas set; the code below them is on the right, beside
its line numbers. The numbers lead to the repository where REPOSITORY has its address, and else to themselves.
"""

from __future__ import annotations

import ast
import html
import io
import pathlib
import re
import tokenize
from typing import NamedTuple

from docutils import nodes
from docutils.statemachine import StringList
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.util.docutils import SphinxDirective

ROOT = pathlib.Path(__file__).parents[2]
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
    """A docstring as Markdown: a product such as k*C*k is no emphasis."""
    return re.sub(r"(?<=[\w)])\*(?=[\w(])", r"\\*", text).splitlines()


class Annotated(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = ROOT / self.arguments[0]
        self.env.note_dependency(str(path))
        page: list[nodes.Node] = [nodes.raw("", '<div class="annotated">', format="html")]
        for section in sections(path.read_text("utf-8")):
            cell = nodes.container(classes=["prose"])
            self.state.nested_parse(StringList(markdown(section.prose), str(path)), 0, cell)
            page += [cell, nodes.raw("", self.code(section), format="html")]
        return [*page, nodes.raw("", "</div>", format="html")]

    def code(self, section: Section) -> str:
        text = highlight("\n".join(section.code) + "\n", PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))
        numbers = "\n".join(self.number(n) for n in section.numbers)
        return (
            '<div class="code highlight"><div class="pair">'
            f'<div class="lines"><pre>{numbers}</pre></div><div class="highlight"><pre>{text}</pre></div></div></div>'
        )

    def number(self, n: int) -> str:
        repository = self.config.repository.rstrip("/")
        address = html.escape(f"{repository}/{self.arguments[0]}" if repository else "", quote=True)
        return f'<a id="L{n}" href="{address}#L{n}">{n}</a>'


def setup(app) -> dict:
    app.add_config_value("repository", "", "env")
    app.add_directive("annotated", Annotated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
