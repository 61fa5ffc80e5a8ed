"""Exports of a model file, compared with the network before files are written."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.export.about import verdict
from nanoprune.lab.export.c import to_c
from nanoprune.lab.export.check import RECORDS, compare, compare_classes, probes_of
from nanoprune.lab.export.onnx import run_onnx, to_onnx
from nanoprune.lab.export.packing import FORMS, program_of
from nanoprune.lab.export.quantise import quantised_network
from nanoprune.lab.export.safetensors import check_bitwise, tensors, to_safetensors
from nanoprune.lab.export.support import check_target
from nanoprune.lab.export.torch_code import to_torch_code
from nanoprune.lab.export.web import to_html
from nanoprune.lab.storage.files import atomic_path
from nanoprune.nn import Network

Files = dict[pathlib.Path, bytes]


def export_onnx(net: Network, form: str, about: dict[str, Any], out: pathlib.Path) -> tuple[Files, str]:
    data = to_onnx(program_of(net, form), about, form)
    x = probes_of(net)
    found = run_onnx(data, x)
    if found is None:
        return {out: data}, "not compared: onnxruntime is not installed"
    return {out: data}, agreement(found, net, form, x, "onnx", "onnxruntime")


def export_c(net: Network, form: str, about: dict[str, Any], out: pathlib.Path) -> tuple[Files, str]:
    source, header = to_c(program_of(net, form), about, form, out.stem)
    return {out: source.encode(), out.with_suffix(".h"): header.encode()}, "not compared: compile it first"


def export_safetensors(net: Network, form: str, about: dict[str, Any], out: pathlib.Path) -> tuple[Files, str]:
    data = to_safetensors(net, about)
    check_bitwise(data, net)
    return {out: data}, "compared: every weight is the network's, bit for bit"


def export_torch_code(net: Network, form: str, about: dict[str, Any], out: pathlib.Path) -> tuple[Files, str]:
    beside = out.with_suffix(".safetensors")
    files, compared = export_safetensors(net, form, about, beside)
    names = [name for name, *_ in tensors(net.body, net.description)]
    source = to_torch_code(net, about, beside.name, names, verdict(about.get("audit")))
    return {out: source.encode()} | files, compared


def export_web(net: Network, form: str, about: dict[str, Any], out: pathlib.Path) -> tuple[Files, str]:
    return web_page([(net, form, about)], out)


def web_page(networks: list[tuple[Network, str, dict[str, Any]]], out: pathlib.Path) -> tuple[Files, str]:
    """The page of networks (net, form, about) side by side, the exported one first. Raises ArgumentError where the page
    cannot carry a layer of one."""
    for net, *_ in networks:
        check_target(net, "web")
    shown = [
        ("pruned" if net.nonzero()[0] < net.weight_count else "dense", program_of(net, form), form, about)
        for net, form, about in networks
    ]
    return {out: to_html(shown).encode()}, "not compared: open it in a browser"


def agreement(found: np.ndarray, net: Network, form: str, x: np.ndarray, target: str, by: str) -> str:
    """The difference of an export's logits `found` from the network's, in words. Raises DataError if too large."""
    worst = compare(found, quantised_network(net) if form == "int8" else net, x, target)
    words = f"{by} on {RECORDS} random records: largest difference {worst:.1e} of the largest logit"
    if form == "int8":
        words += f"; {100 * compare_classes(found, net, x):.1f}% of them in the same class as with the model's weights"
    return words


# target -> (suffix of the file, forms of the weights, function)
TARGETS: dict[str, tuple[str, tuple[str, ...], Callable[..., tuple[Files, str]]]] = {
    "onnx": (".onnx", FORMS, export_onnx),
    "c": (".c", FORMS, export_c),
    "safetensors": (".safetensors", ("dense",), export_safetensors),
    "web": (".html", FORMS, export_web),
    "torch-code": (".py", ("dense",), export_torch_code),
}


def export_model(net: Network, target: str, form: str, about: dict[str, Any], out: pathlib.Path) -> tuple[Files, str]:
    """The files of an export, path -> bytes, and the result of the comparison in words; nothing is written yet.

    net: one replica, on the CPU. form: "dense"; "packed", without zeros where that is smaller; "int8", the same with
    int8 weights. about: the metadata, see `about.about`. Raises ArgumentError on an unknown target or form, a layer
    that the target cannot carry, or an `out` without its suffix; DataError where the export's outputs differ from the
    network's.
    """
    if target not in TARGETS:
        raise ArgumentError(f"to must be one of {', '.join(TARGETS)}, got {target!r}")
    suffix, forms, export = TARGETS[target]
    check_target(net, target)
    if form not in forms:
        raise ArgumentError(f"weights of {target} must be one of {', '.join(forms)}, got {form!r}")
    if out.suffix != suffix:
        raise ArgumentError(f"out must end with {suffix} for {target}, got {out.name}")
    return export(net, form, about, out)


def write_files(files: Files, overwrite: bool) -> None:
    """Write each file whole or not at all. Raises ArgumentError, before any is written, where one already exists."""
    for path in files:
        if path.exists() and not overwrite:
            raise ArgumentError(f"{path} already exists; --overwrite replaces it, another --out keeps it")
    for path, data in files.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
