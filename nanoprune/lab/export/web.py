"""One HTML file that works offline: the network, a WebAssembly kernel, and a canvas or a form to try it.

A network is stored as the length of its header (uint32), the header (JSON) and the arrays, little endian and aligned to
4 bytes; everything is deflated. Weights that are mostly zero are gaps and values, as in `packing`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import importlib.resources
import json
import struct
import zlib
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.export import steps
from nanoprune.lab.export.about import verdict
from nanoprune.lab.export.packing import gaps_and_values, integers
from nanoprune.lab.export.steps import Program
from nanoprune.lab.export.wasm import kernel

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src {digest} 'wasm-unsafe-eval'; style-src {style_digest}">
<style>{style}</style>
<h1>{title}</h1>
{form}
<table><thead><tr><th>network<th>size<th>weights<th>prediction<th>time<th>strongest attack</thead>
<tbody id="networks"></tbody></table>
<p>{words}</p>
<p>Licence of the weights: {licence}. Nothing leaves this page.</p>
<pre id="test" hidden></pre>
<script>{script}</script></html>
"""
STYLE = (
    "body{font:16px sans-serif;max-width:52em;margin:2em auto}canvas{border:1px solid #888;touch-action:none}"
    "td,th{padding:.2em .8em;text-align:right}textarea{width:100%;height:8em}"
)
CANVAS = """<p>Draw with the mouse or a finger.</p>
<canvas id="canvas" width="280" height="280"></canvas> <button id="clear">Clear</button>"""
FORM = """<form id="record"><p>{count} numbers from 0 to 1, with commas or spaces between:</p>
<textarea name="values">{zeros}</textarea><button>Predict</button> <span id="problem"></span></form>"""


class Arrays:
    """The arrays of a packed network, and the offset of each."""

    def __init__(self, form: str) -> None:
        self.form, self.parts, self.size = form, [], 0

    def put(self, array: np.ndarray, dtype: Any = np.float32) -> list[Any]:
        """[dtype, first byte, length]."""
        data = np.asarray(array, dtype).ravel()
        text = data.astype(data.dtype.newbyteorder("<")).tobytes()
        self.parts.append(text + bytes(-len(text) % 4))
        begins, self.size = self.size, self.size + len(self.parts[-1])
        return [data.dtype.name, begins, data.size]

    def weights(self, operation: steps.Conv | steps.Linear) -> dict[str, Any]:
        rows = operation.weight.reshape(len(operation.weight), -1)
        stored, width, dtype = (
            (rows, 4, np.float32) if operation.scale is None else (integers(rows, operation.scale), 1, np.int8)
        )
        found = {"shape": list(rows.shape), "bias": self.put(operation.bias)}
        if operation.scale is not None:
            found["scale"] = self.put(operation.scale)
        gaps, values = gaps_and_values(stored.ravel())
        if self.form != "dense" and (1 + width) * len(gaps) < width * rows.size:
            return found | {"gaps": self.put(gaps, np.uint8), "values": self.put(values, dtype)}
        return found | {"values": self.put(stored, dtype)}


def packed(program: Program, form: str, about: dict[str, Any]) -> bytes:
    """A network in the format of the page, see the module's docstring. form: as in packing.FORMS."""
    arrays, fused = Arrays(form), steps.fused_activations(program)
    place, made = [0], []  # value of the program -> value of the page
    for k, step in enumerate(program.steps, 1):
        if k in fused.values():
            place.append(place[step.inputs[0]])
            continue
        act = {"relu": 1, "relu6": 2}[program.steps[fused[k] - 1].operation.kind] if k in fused else 0
        entry = describe(step.operation, arrays) | {
            "inputs": [place[i] for i in step.inputs],
            "output": list(step.shape),
        }
        made.append(entry | ({"act": act} if act else {}))
        place.append(len(made))
    head = json.dumps(
        {"input": list(program.input_shape), "about": about, "steps": made}, separators=(",", ":")
    ).encode()
    head += b" " * (-len(head) % 4)
    deflate = zlib.compressobj(9, wbits=-15)
    return deflate.compress(struct.pack("<I", len(head)) + head + b"".join(arrays.parts)) + deflate.flush()


def to_html(networks: list[tuple[str, Program, str, dict[str, Any]]]) -> str:
    """The page with networks (name, program, form, about) side by side, of the same inputs and classes.

    Raises ArgumentError where those differ.
    """
    _, first, _, about = networks[0]
    if any((of.input_shape, of.classes) != (first.input_shape, first.classes) for _, of, _, _ in networks):
        raise ArgumentError("the networks of a page must have the same inputs and classes; name another --beside")
    shown = [{"name": name, "data": b64(packed(of, form, its)), "audit": leak(its)} for name, of, form, its in networks]
    page = {"input": list(first.input_shape), "labels": about["labels"], "kernel": b64(kernel()), "networks": shown}
    here = importlib.resources.files(__package__)
    sources = "".join(here.joinpath(name).read_text(encoding="utf-8") for name in ("runtime.js", "page.js"))
    data = json.dumps(page, separators=(",", ":")).replace("<", "\\u003c")  # so that no text can end the script
    script = f"const PAGE = {data};\n{sources}"
    C, *image = first.input_shape
    count = int(np.prod(first.input_shape))
    form = CANVAS if image and C == 1 else FORM.format(count=count, zeros=html.escape(", ".join(["0"] * count)))
    return PAGE.format(
        title=html.escape(f"{about['network']}, {about['weights']}"),
        digest=digest(script),
        style_digest=digest(STYLE),
        style=STYLE,
        form=form,
        words=html.escape(verdict(about.get("audit"))),
        licence=html.escape(about["licence"]),
        script=script,
    )


def leak(about: dict[str, Any]) -> str:
    """The measured leakage, for the table."""
    if "audit" not in about:
        return "not audited"
    accuracy = about["audit"]["attack_accuracy"]
    return f"{accuracy['value']:.1f}% ({accuracy['low']:.1f} to {accuracy['high']:.1f}%)"


def digest(text: str) -> str:
    """The hash of an inline script or style for the Content-Security-Policy, which blocks all others."""
    return f"'sha384-{b64(hashlib.sha384(text.encode()).digest())}'"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@functools.singledispatch
def describe(operation: steps.Operation, arrays: Arrays) -> dict[str, Any]:
    """The step in the format of runtime.js. Raises ArgumentError on an unknown type."""
    raise ArgumentError(f"{type(operation).__name__} has no rule for the web; register it with web.describe")


@describe.register
def _(operation: steps.Conv, arrays: Arrays) -> dict[str, Any]:
    sizes = {"k": operation.weight.shape[-1], "stride": operation.stride, "padding": operation.padding}
    return {"op": "conv", "group": operation.group} | sizes | arrays.weights(operation)


@describe.register
def _(operation: steps.Linear, arrays: Arrays) -> dict[str, Any]:
    return {"op": "linear"} | arrays.weights(operation)


@describe.register
def _(operation: steps.Affine, arrays: Arrays) -> dict[str, Any]:
    return {"op": "affine", "scale": arrays.put(operation.scale), "shift": arrays.put(operation.shift)}


@describe.register
def _(operation: steps.GroupNorm, arrays: Arrays) -> dict[str, Any]:
    values = {"gamma": arrays.put(operation.gamma), "beta": arrays.put(operation.beta)}
    return {"op": "groupnorm", "groups": operation.groups} | values


@describe.register
def _(operation: steps.Activation, arrays: Arrays) -> dict[str, Any]:
    return {"op": "activation", "kind": operation.kind}


@describe.register
def _(operation: steps.MaxPool, arrays: Arrays) -> dict[str, Any]:
    return {"op": "maxpool", "k": operation.size, "stride": operation.stride, "padding": operation.padding}


@describe.register
def _(operation: steps.AvgPool, arrays: Arrays) -> dict[str, Any]:
    return {"op": "avgpool", "k": operation.size}


@describe.register
def _(operation: steps.Gather, arrays: Arrays) -> dict[str, Any]:
    return {"op": "gather", "index": arrays.put(operation.index, np.int32)}


@describe.register(steps.GlobalAvgPool)
@describe.register(steps.Flatten)
@describe.register(steps.Concat)
@describe.register(steps.Add)
def _(operation: steps.Operation, arrays: Arrays) -> dict[str, Any]:
    return {"op": {"GlobalAvgPool": "mean"}.get(type(operation).__name__, type(operation).__name__.lower())}
