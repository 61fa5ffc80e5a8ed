"""The chapters run as plain scripts, cite what is there, and tell what their figures show; no Sphinx is needed here."""

import importlib.util
import pathlib
import re
import resource
import runpy
import subprocess
import sys

import numpy as np
import pytest

from nanoprune.lab.course import show
from nanoprune.lab.statistics.advantage import compression_advantage, dp_advantage, mask_bits

ROOT = pathlib.Path(__file__).parents[1]
BOOK = ROOT / "book"
CHAPTERS = sorted((BOOK / "chapters").glob("*.py"))
SECONDS = 20  # of the processor, for one chapter


def extension(name: str):
    spec = importlib.util.spec_from_file_location(name, BOOK / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cited, sections = extension("cited"), extension("sections")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_as_a_script_without_a_warning(chapter):
    """Each holds its own assertions. What it prints tells of a figure in words."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run = subprocess.run(
        [sys.executable, "-W", "error", str(chapter)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "[figure: " in run.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < SECONDS


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_its_parts(chapter):
    text = chapter.read_text("utf-8")
    number = int(chapter.stem[:2])
    assert text.startswith(f"# %% [markdown]\n# # {number}. ")
    opening = text.split("\n# ## ")[0].replace("\n# ", " ")
    assert re.search(r"\*\*[^*]+\?[^*]*\*\*", opening), "no question in bold"
    for part in ("## What this does not show", "## Exercises", f"book/exercises/{chapter.name}", "source(", "assert "):
        assert part in text, part
    assert f"`python cli.py learn check {number}`" in text
    assert "http:" not in text
    assert "https:" not in text
    cited.check("\n".join(line[2:] for line in text.splitlines() if line.startswith("# ")))


def test_there_are_twelve_and_the_contents_list_them():
    assert [int(path.stem[:2]) for path in CHAPTERS] == list(range(1, 13))
    contents = (BOOK / "index.md").read_text("utf-8")
    assert re.findall(r"^chapters/(\w+)$", contents, re.MULTILINE) == [path.stem for path in CHAPTERS]


def test_every_paper_that_is_named_is_linked_to_the_references_and_the_references_say_where():
    used: dict[str, set[int]] = {}
    for chapter in CHAPTERS:
        text = re.sub(r"\n#? ?", " ", chapter.read_text("utf-8"))
        for anchor in re.findall(r"\]\(\.\./references\.md#([\w-]+)\)", text):
            used.setdefault(anchor, set()).add(int(chapter.stem[:2]))
        rest = re.sub(r"\[[^\]]*\]\(\.\./references\.md#[\w-]+\)", "", text)
        named = re.findall(r"\b[A-Z]\w+(?: et al\.?| & [A-Z]\w+| and [A-Z]\w+)? \(?(?:19|20)\d\d\b", rest)
        assert named == [], f"{chapter.name} names papers without a link"
    listed = {}
    for section in re.split(r"^## ", (BOOK / "references.md").read_text("utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, entry = section.partition("\n")
        assert "](https://" in entry
        where = re.search(r"[Cc]hapters?\s([\d,and\s]+)\.\s*$", entry)
        listed[heading.lower().replace(".", "").replace(" ", "-")] = {int(n) for n in re.findall(r"\d+", where[1])}
    assert listed == used


def test_what_is_cited_and_gone_is_found():
    cited.check("`nanoprune.prune.project`, `nanoprune.prune.ADMM.update`, `tools/core_size.py` and `anything.else`")
    for gone in ("`nanoprune.prune.projekt`", "`nanoprune.prune.ADMM.upbeat`", "`nanoprune.no.room`", "`docs/none.md`"):
        with pytest.raises(LookupError, match="not there"):
            cited.check(f"See {gone}.")


@pytest.mark.parametrize("name", runpy.run_path(str(ROOT / "tools" / "core_size.py"))["READING_LIST"])
def test_annotated_source_leaves_no_line_of_code_out(name):
    """All lines in their order, and what is not code is in the prose."""
    text = (ROOT / "nanoprune" / name).read_text("utf-8")
    lines, found = text.splitlines(), sections.sections(text)
    numbers = [n for section in found for n in section.numbers]
    assert numbers == sorted(set(numbers))
    assert all(lines[n - 1] == line for s in found for n, line in zip(s.numbers, s.code, strict=True))
    prose = " ".join(section.prose for section in found).split()
    for n in set(range(1, len(lines) + 1)) - set(numbers):
        words = re.sub(r'r?"""|^\s*# ?', " ", lines[n - 1]).split()
        assert set(words) <= set(prose), f"line {n} is lost: {lines[n - 1]}"


def test_a_definition_stands_beside_its_own_docstring():
    source = '"""Of the file."""\n\nx = 1\n\n\n@wraps\ndef f():\n    """Of f."""\n    # why\n    return 2\n'
    source += "\n\ndef g():\n    pass\n"
    found = sections.sections(source)
    assert [(s.prose, s.numbers) for s in found] == [
        ("Of the file.", [3]),
        ("Of f.", [6, 7]),
        ("why", [10]),
        ("", [13, 14]),
    ]


def test_a_product_is_no_emphasis_and_a_formula_a_paragraph():
    assert sections.markdown("k*C*k, (O, kh*in*kw), not *this*") == [r"k\*C\*k, (O, kh\*in\*kw), not *this*"]
    assert sections.markdown("with $a*b*c$ and `d*e*f`") == ["with $a*b*c$ and `d*e*f`"]
    assert sections.markdown("so\n$$x*y*z\n  = 1.$$ And") == ["so", "", "", "$$", "x*y*z = 1.", "$$", "", " And"]


def test_a_figure_without_a_text_is_refused(capsys):
    drawing, plot = show.axes()
    plot.plot([1, 2])
    with pytest.raises(ValueError, match="alt"):
        show.figure(drawing, "a plot")
    show.figure(drawing, "A line that rises from one to two.")
    assert capsys.readouterr().out == "[figure: A line that rises from one to two.]\n"


def test_the_vendored_katex_is_whole_and_of_the_version_that_the_extension_bundles():
    style = (BOOK / "_static" / "katex" / "katex.min.css").read_text("utf-8")
    fonts = set(re.findall(r"url\(([^)]+)\)", style))
    assert fonts == {f"fonts/{path.name}" for path in (BOOK / "_static" / "katex" / "fonts").iterdir()}
    assert 'content:"0.16.22"' in style
    assert "sphinxcontrib-katex==0.9.11" in (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_check_of_the_built_book_finds_what_is_wrong(tmp_path):
    check = runpy.run_path(str(ROOT / "tools" / "check_book.py"))["complaints"]
    assert len(list(check(tmp_path))) == 1
    (tmp_path / "a.html").write_text('<a href="b.html#here">b</a><img src="f.svg" alt="a line"><p id="there"></p>')
    (tmp_path / "b.html").write_text('<p id="here"><a href="a.html#there">a</a><svg role="img" aria-label="x"></svg>')
    (tmp_path / "f.svg").write_text("<svg/>")
    (tmp_path / "s.css").write_text("@font-face { src: url(f.svg) } p { background: url(data:image/png;base64,x) }")
    assert list(check(tmp_path)) == []
    (tmp_path / "b.html").write_text('<script src="//host/x.js"></script><img src="f.svg"><span class="katex-error">')
    (tmp_path / "s.css").write_text('@import "https://host/x.css"; p { background: url(gone.png) }')
    found = " ".join(check(tmp_path))
    for part in (
        "a.html: b.html#here has no such anchor",
        "another host",
        "1 figures have no text",
        "KaTeX",
        "gone.png",
    ):
        assert part in found, part


@pytest.mark.parametrize(("epsilon", "most"), [(0.0, 0.0), (np.log(3), 0.5), (800.0, 1.0)])
def test_the_bound_of_differential_privacy(epsilon, most):
    assert dp_advantage(epsilon) == pytest.approx(most, abs=1e-12)
    assert dp_advantage(epsilon, 1.0) == pytest.approx(1.0)
    for wrong in ((-1.0, 0.0), (1.0, -0.1), (1.0, 1.1), (float("nan"), 0.0)):
        with pytest.raises(ValueError, match="epsilon must"):
            dp_advantage(*wrong)


def test_the_bound_of_compression():
    assert compression_advantage(0, 5) == 0
    assert compression_advantage(1e9, 5) == 1
    assert compression_advantage(2 / np.log(2), 4) == pytest.approx(0.5)
    assert mask_bits(4, 2) == pytest.approx(np.log2(6))
    with pytest.raises(ValueError, match="bits"):
        compression_advantage(-1, 5)
    with pytest.raises(ValueError, match="kept"):
        mask_bits(4, 5)
