"""Sphinx's settings. The sources are the repository itself, so that docs/ and the files of the core are pages too."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from sphinxcontrib import katex  # noqa: E402

import nanoprune  # noqa: E402

project, version, release = "nanoprune", nanoprune.__version__, nanoprune.__version__
author = copyright = "the nanoprune authors"
extensions = ["myst_nb", "sphinxcontrib.katex", "annotated", "reference", "site_pages"]
root_doc = "book/index"
include_patterns = [
    *("book/index.md", "book/references.md", "book/chapters/*.py", "book/source/*.md", "book/reference/*.md"),
    *("docs/*.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"),
]
exclude_patterns = [".*", "book/_*", "results", "mutants", "tests", "benchmarks"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
nb_custom_formats = {".py": ["site_pages.read_chapter", {}]}
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True  # a cell that fails, fails the build
nb_execution_show_tb = True
nb_render_markdown_format = "myst"
nb_merge_streams = True
suppress_warnings = ["myst.xref_missing"]  # docs/ link to files that are no pages, such as .py

katex_prerender = True
katex_css_path = "katex/katex.min.css"
# Over a Unix socket it connects as soon as the socket's file is there, which may be before the server listens
# (ConnectionRefusedError, seen on a busy machine). Over a port it waits until the server does.
katex.STARTUP_TIMEOUT = 60.0  # seconds
katex.KaTeXServer.start_server_process = katex.KaTeXServer.start_network_socket

html_theme = "furo"
html_title = "nanoprune: the book"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
templates_path = ["_templates"]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it is fetched from the pages, which a browser forbids where they are files
html_additional_pages = {"index": "start.html"}
repository = os.environ.get("REPOSITORY", "")  # address of a file there, such as https://HOST/OWNER/NAME/blob/main
