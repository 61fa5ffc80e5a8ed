"""A table for the terminal: drawn by rich, or as aligned text where rich is not installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Column:
    """head, foot: its first and last cells. fold: whether a word that is too long may go on in the next line."""

    head: str
    right: bool = False
    no_wrap: bool = False
    min_width: int | None = None
    fold: bool = False
    foot: str = ""


@dataclasses.dataclass(frozen=True)
class TextTable:
    """Rows of cells, which may have several lines; what is in them is text, never markup. bold: places of rows."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    caption: str = ""
    bold: Collection[int] = ()

    def __rich__(self) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(self.title) if self.title else None,
            caption=Text(self.caption) if self.caption else None,
            box=SIMPLE_HEAD,
            show_footer=any(column.foot for column in self.columns),
            pad_edge=False,
            collapse_padding=True,
        )
        for column in self.columns:
            table.add_column(
                Text(column.head),
                Text(column.foot),
                justify="right" if column.right else "left",
                no_wrap=column.no_wrap,
                min_width=column.min_width,
                overflow="fold" if column.fold else "ellipsis",
            )
        for place, row in enumerate(self.rows):
            table.add_row(*map(Text, row), style="bold" if place in self.bold else None)
        return table

    def plain(self) -> str:
        """The table as lines of text, as wide as its cells; a * stands before what is bold."""
        marked = [[f"* {row[0]}", *row[1:]] if place in self.bold else row for place, row in enumerate(self.rows)]
        foot = [column.foot for column in self.columns]
        cells = [[column.head for column in self.columns], *marked, *([foot] if any(foot) else [])]
        parts = [[cell.split("\n") for cell in row] for row in cells]
        widths = [max(len(line) for row in parts for line in row[place]) for place in range(len(self.columns))]
        drawn = [self._lines(row, widths) for row in parts]
        drawn.insert(1, ["-" * (sum(widths) + 2 * len(widths) - 2)])
        ends = [[self.title] if self.title else [], [self.caption] if self.caption else []]
        return "\n".join(line for lines in (ends[0], *drawn, ends[1]) for line in lines)

    def _lines(self, row: list[list[str]], widths: list[int]) -> list[str]:
        """The lines of one row, its cells padded to the widths."""
        height = max(map(len, row))
        padded = [[*lines, *[""] * (height - len(lines))] for lines in row]
        return [
            "  ".join(
                line.rjust(width) if column.right else line.ljust(width)
                for line, width, column in zip(of_line, widths, self.columns, strict=True)
            ).rstrip()
            for of_line in zip(*padded, strict=True)
        ]
