"""What a browser makes of the pages: a phone shows all of them, plots follow the dark mode, paper is filled."""

import html
import re

import browsing
import h5py
import numpy as np
import pytest
from test_audit_report import make_curves
from test_audit_report import make_results as audit_results
from test_report import make_curves as write_curves
from test_report import make_results

from nanoprune.lab.audit import Predictions, compare_predictions
from nanoprune.lab.report import plots, render_html, write_audit_page, write_comparison_page

pytestmark = pytest.mark.skipif(browsing.BROWSER is None, reason=browsing.NO_BROWSER)
PHONE = """[d.documentElement.scrollWidth, [...d.querySelectorAll('td[data-label]')].length,
[...d.querySelectorAll('td[data-label], td[data-label] span')].filter(e => e.getBoundingClientRect().right > 390 ||
e.getBoundingClientRect().left < 0).length, [...new Set([...d.querySelectorAll('td[data-label]')].map(
e => e.dataset.label))].join(';')]"""
DARK = """[getComputedStyle(d.body).backgroundColor, getComputedStyle(d.querySelector('figure .card')).backgroundColor,
[...new Set([...d.querySelectorAll('figure svg path')].map(e => getComputedStyle(e).fill + getComputedStyle(e).stroke)
.filter(c => c.includes('rgb(255, 255, 255)') || c.includes('rgb(0, 0, 0)')))].length]"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """An audit, a comparison and the report of `reproduce`, by name."""
    folder = tmp_path_factory.mktemp("pages")
    write_audit_page(audit_results(), make_curves(), folder / "audit.html")
    rng, n = np.random.default_rng(0), 240
    y, member = rng.integers(0, 3, n), np.arange(n) % 2 == 0
    models = {
        f"{name}.npz": (Predictions(rng.dirichlet(np.ones(3), n), y, member), None) for name in ("dense", "pruned")
    }
    compared = compare_predictions(models, quick=True)
    write_comparison_page(compared.to_dict(), compared.curves, folder / "comparison.html")
    write_curves(folder / "curves.h5")
    with h5py.File(folder / "curves.h5") as curves:
        results = make_results()
        (folder / "report.html").write_text(render_html(results, plots.all_plots(results, curves)), encoding="utf-8")
    return folder


def measured(page, folder, script, *arguments, width=390):
    """What a script says of the page in a frame as wide as a phone: a window cannot be made so narrow."""
    frame = (
        f'<!DOCTYPE html><html><body><iframe style="border:0;width:{width:.0f}px;height:844px" srcdoc="'
        f'{html.escape(page.read_text("utf-8"))}"></iframe><script>onload = () => {{ const d = frames[0].document;'
        f"const getComputedStyle = frames[0].getComputedStyle; document.title = {script}.join('|') }}</script>"
        "</body></html>"
    )
    (folder / "frame.html").write_text(frame, encoding="utf-8")
    url = (folder / "frame.html").as_uri()
    dom = browsing.dom(url, folder / "profile", "--window-size=800,900", *arguments, ready="document.title")
    return html.unescape(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1]).split("|")


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("audit", ("accuracy %", "AUC", "epsilon >=")),
        ("comparison", ("attack %", "change, points", "degree")),
        ("report", ("strongest attack %", "change, points", "test %")),
    ],
)
def test_a_phone_shows_every_column_of_the_tables_that_matter(name, columns, pages, tmp_path):
    width, cells, outside, labels = measured(pages / f"{name}.html", tmp_path, PHONE)
    assert int(width) <= 390
    assert int(cells) > 0
    assert int(outside) == 0
    assert set(columns) <= set(labels.split(";"))


@pytest.mark.parametrize("name", ["audit", "comparison", "report"])
def test_plots_are_dark_where_the_page_is(name, pages, tmp_path):
    body, card, light = measured(pages / f"{name}.html", tmp_path, DARK, "--blink-settings=preferredColorScheme=0")
    assert body == card == "rgb(21, 24, 27)"
    assert int(light) == 0  # nothing is white, nothing black
    body, card, light = measured(pages / f"{name}.html", tmp_path, DARK, "--blink-settings=preferredColorScheme=1")
    assert body == card == "rgb(255, 255, 255)"
    assert int(light) > 0


@pytest.mark.parametrize("name", ["audit", "comparison", "report"])
def test_no_figure_takes_so_much_paper_that_it_leaves_half_a_page_empty(name, pages, tmp_path):
    """What does not fit on the rest of a page moves to the next and leaves a gap as high as itself, at most."""
    paper = 265 / 25.4 * 96  # pixels between the margins of A4
    printed = tmp_path / "printed.html"
    printed.write_text((pages / f"{name}.html").read_text("utf-8").replace("@media print", "@media all"), "utf-8")
    script = "[...d.querySelectorAll('figure, tr')].map(e => e.getBoundingClientRect().height | 0)"
    heights = [int(height) for height in measured(printed, tmp_path, script, width=178 / 25.4 * 96)]
    assert len(heights) >= 4
    assert max(heights) < 0.45 * paper
