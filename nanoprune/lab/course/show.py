"""How a chapter shows things: the same calls fill a page of the book, a notebook, and a terminal."""

from __future__ import annotations

import html
import inspect
import io
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.0, 3.1  # inches of a figure: at 390 pixels its text is still read
INK = "#010203"  # stands for the page's own text colour, light or dark
COLOURS = ("#3b7dd8", "#d9822b", "#2f9e6e", "#b95fc4", "#c94f4f", "#8a8a2f")  # seen on white and on black
STYLE = {
    "svg.fonttype": "none",  # text stays text: it is read aloud, found, and has the page's font
    "svg.hashsalt": "nanoprune",  # the same figure, the same bytes
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
}
matplotlib.rcParams.update(STYLE)


def source(*symbols: Any) -> None:
    """Show the source of functions, methods or classes as they are in the package."""
    for symbol in symbols:
        _markdown(f"```python\n{textwrap.dedent(inspect.getsource(symbol)).rstrip()}\n```")


def say(text: str) -> None:
    """Show a paragraph of Markdown, with the numbers that the chapter has just computed."""
    _markdown(inspect.cleandoc(text))


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Show a table; numbers are aligned to the right as they are given, so format them first."""
    rows = [[str(cell) for cell in row] for row in rows]
    marks = [":---" if i == 0 else "---:" for i in range(len(header))]
    _markdown("\n".join("| " + " | ".join(line) + " |" for line in (header, marks, *rows)))


def axes(columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes, in the book's size and colours. options: of `Figure.subplots`."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    return figure, figure.subplots(1, columns, **options)


def figure(drawn: Figure, alt: str) -> None:
    """Show a figure. alt: what it shows, for those who cannot see it; ValueError where it is no sentence."""
    if len(alt.split()) < 8:
        raise ValueError(f"alt must tell what the figure shows in a sentence, got {alt!r}")
    file = io.StringIO()
    drawn.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = html.escape(alt, quote=True)
    if not _in_notebook():
        print(f"[figure: {alt}]")
        return
    svg = re.sub(r"^.*?(?=<svg )|\s*<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2).replace(INK, "currentColor")
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    svg = re.sub(r"<svg [^>]*>", f'<svg role="img" aria-label="{text}" viewBox="0 0 {width} {height}">', svg, count=1)
    _display("HTML", f'<div class="drawing">{svg}</div>')


def _in_notebook() -> bool:
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def _display(kind: str, text: str) -> None:
    display = sys.modules["IPython"].display
    display.display(getattr(display, kind)(text))


def _markdown(text: str) -> None:
    if _in_notebook():
        _display("Markdown", text)
    else:
        print(f"{text}\n")
