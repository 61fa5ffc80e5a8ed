"""Tables for the terminal: the same cells by rich and without it; commands that need neither rich nor dp-accounting."""

import io
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from nanoprune.lab.report.text_table import Column, TextTable

WORDS = st.text("abc[]*/_.7 ", max_size=8).map(str.strip)


def drawn(table: TextTable) -> str:
    """By rich, as wide as it needs."""
    console = Console(file=io.StringIO(), width=400, color_system=None)
    console.print(table)
    return console.file.getvalue()


@st.composite
def tables(draw):
    count = draw(st.integers(1, 4))
    columns = [Column(draw(WORDS), right=draw(st.booleans()), foot=draw(WORDS)) for _ in range(count)]
    cells = st.lists(WORDS, min_size=1, max_size=2).map("\n".join)
    rows = draw(st.lists(st.lists(cells, min_size=count, max_size=count), max_size=4))
    return TextTable(columns, rows)  # rich wraps titles and captions


@settings(deadline=None, max_examples=150)
@given(tables())
def test_both_forms_have_the_same_words_in_the_same_order(table):
    """rich draws lines of ─, text those of -; neither reads markup such as [a] in a cell."""
    rich, plain = (re.sub("[─-]+", " ", text).split() for text in (drawn(table), table.plain()))
    assert plain == rich


def test_cells_of_a_column_stand_below_each_other():
    columns = [Column("method"), Column("test\n%", right=True), Column("by", foot="sum")]
    table = TextTable(columns, [("prune", "61.7", "x"), ("a\nb", "7.1", "")], "Title", "Caption", bold=(0,))
    assert table.plain().splitlines() == [
        "Title",
        "method   test  by",
        "            %",
        "-" * 18,
        "* prune  61.7  x",
        "a         7.1",
        "b",
        "               sum",
        "Caption",
    ]


@pytest.fixture
def without(tmp_path):
    """The environment of a machine that has neither rich nor dp-accounting."""
    for name in ("rich", "dp_accounting"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')")
    return os.environ | {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            "reproduce digits --seeds 1 --members 40 --reference 20 --nonmembers 40 --methods baseline --out OUT",
            "baseline",
        ),
        ("info lenet-5", "sum"),
        ("verify", "passed"),
    ],
)
def test_commands_that_make_gpu_runs_need_no_rich(words, shown, without, tmp_path):
    """On a machine with a GPU there may be CuPy, and nothing else that needs no GPU."""
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words.split()]
    done = subprocess.run([sys.executable, "cli.py", *words], env=without, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert "Traceback" not in done.stderr
