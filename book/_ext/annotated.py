"""Annotated source: what a file says of itself beside the code that it says it of, from the file as it is.

    ```{annotated} nanoprune/nn/dense.py
    ```

Docstrings and whole-line comments are on the left, with their formulas set; the code below them is on the right, beside
its line numbers. The numbers lead to the repository where REPOSITORY has its address, and else to themselves.
"""

from __future__ import annotations

import html
import pathlib

from docutils import nodes
from docutils.statemachine import StringList
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sections import Section, markdown, sections
from sphinx.util.docutils import SphinxDirective

ROOT = pathlib.Path(__file__).parents[2]


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
