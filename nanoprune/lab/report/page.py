"""Shared by all pages: templates, inline plots, nothing fetched, written completely or not at all."""

import html
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from nanoprune.lab.report import plots
from nanoprune.lab.storage.files import atomic_path

REFUSED = "refused"


def environment() -> jinja2.Environment:
    """The templates of this package, every text in them escaped and every unknown name an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("nanoprune.lab.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inline_svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as an <svg> element for HTML, with a text alternative and identifiers of its own."""
    svg = plots.drawing(figure, "svg").decode()
    svg = svg[svg.index("<svg") :]  # the XML declaration and the document type belong to a file of its own
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(?<=: )#([0-9a-f]{6})(?=[;\"])", r"var(--c\1, #\1)", svg)  # the page has others for the dark
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1))


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as ("outer.inner", "value") lines."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def false_positive_rates(attacks: Iterable[Mapping[str, Any]]) -> list[str]:
    """The false positive rates at which a true positive rate was asked for, the largest first."""
    return sorted({rate for attack in attacks for rate in attack["tpr_at_fpr"]}, key=float, reverse=True)


def tpr_column(rate: str) -> str:
    """The heading of the true positive rates at one false positive rate."""
    return f"TPR % at {100 * float(rate):g}% FPR"


def write_page(page: str, path: str | os.PathLike) -> None:
    """Write the page to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
