"""A network from an ONNX graph: a sequence of layers with residual blocks, as PyTorch and our `export` write it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from nanoprune.backend import to_device
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset
from nanoprune.lab.models.imported import imported
from nanoprune.lab.models.layout import layout, placed
from nanoprune.lab.models.model import MAX_PARAMETERS, Model
from nanoprune.lab.models.onnx_constants import BATCH, OPERATIONS, Folding
from nanoprune.lab.models.onnx_file import Graph, Node, read_graph
from nanoprune.lab.models.onnx_layers import RULES, Reading, Shape
from nanoprune.lab.models.onnx_plan import Chains, Link, Plan, branching_point, plan
from nanoprune.lab.models.state_dict import finite
from nanoprune.lab.models.torchvision import check_standardise
from nanoprune.lab.storage.text import printable, printable_list
from nanoprune.lab.zoo import SEQUENTIAL, build, describe, recognised
from nanoprune.lab.zoo.sequence import LAYERS
from nanoprune.nn import Network

SOFTMAX = "its last operation, a softmax, is left out: networks here put out logits"


def import_onnx(
    path: str | os.PathLike,
    side: int | None = None,
    standardise: list[list[float]] | None = None,
    dataset: Dataset | None = None,
    training: dict[str, Any] | None = None,
) -> tuple[Model, list[str]]:
    """The model in the ONNX file `path`, and what its user should know of it, in words.

    side: height and width of its images, where the file leaves them open. standardise, dataset, training: as in
    `torchvision.import_model`. Raises DataError, naming the file and the operation, on what no layer here does;
    ArgumentError where the package onnx is missing.
    """
    if standardise is not None:
        check_standardise(*standardise)
    graph = read_graph(path)
    shape = sample_shape(graph, side)
    links = linked(graph, shape)
    if graph.output not in links:
        raise DataError(f"{graph.shown}: its output does not depend on its input")
    found = plan(Chains(links, graph.shown).between(graph.input, graph.output), shape, graph.shown)
    if found.standardise and standardise:
        raise ArgumentError(f"{graph.shown}: standardises its images itself; leave out --mean and --std")
    net = network_of(found, shape, standardise or found.standardise, graph.shown)
    return imported(net, path, dataset, training), [SOFTMAX] if found.has_softmax else []


def sample_shape(graph: Graph, side: int | None) -> Shape:
    """(C, H, W) or (F,), of one sample."""
    batch, *rest = graph.input_shape or (None,)
    if len(rest) == 3 and side is not None:
        if any(size not in (None, side) for size in rest[1:]):
            raise ArgumentError(f"{graph.shown}: takes images of {rest[1]} x {rest[2]}; leave --input out")
        rest[1:] = [side, side]
    if len(rest) not in (1, 3) or None in rest:
        hint = "; name the side of the images with --input" if len(rest) == 3 else ""
        shape = ", ".join("?" if size is None else str(size) for size in (batch, *rest))
        raise DataError(f"{graph.shown}: its input has shape ({shape}), expected (N, F) or (N, C, H, W){hint}")
    return tuple(rest)


def needed(graph: Graph) -> list[Node]:
    """The nodes that the output depends on, in their order."""
    makers: dict[str, Node] = {}
    for node in graph.nodes:
        for name in filter(None, node.outputs):
            if name in makers or name in graph.constants or name == graph.input:
                raise DataError(f"{graph.shown}: {printable(name, 60)} is made twice; export it again")
            makers[name] = node
    waiting, wanted = [graph.output], set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and id(node) not in wanted:
            wanted.add(id(node))
            waiting += node.inputs
    found = [node for node in graph.nodes if id(node) in wanted]
    known = {*RULES, *OPERATIONS, "Shape", "Sum"}
    if foreign := sorted({node.op for node in found} - known):
        raise DataError(
            f"{graph.shown}: has {printable_list(foreign)}, which no layer here does; there are {', '.join(LAYERS)}, "
            "and sums of two branches"
        )
    return found


def linked(graph: Graph, shape: Shape) -> dict[str, Link]:
    """Every value that depends on the records, by name."""
    links, constants, fold = {graph.input: Link(None, [], shape, 0)}, dict(graph.constants), Folding(graph)
    for node in needed(graph):
        active = [name for name in node.inputs if name in links]
        unknown = [name for name in node.inputs if name and name not in links and name not in constants]
        if unknown or not node.outputs:
            what = f"reads {printable_list(unknown)}, which nothing before it makes"
            raise DataError(f"{graph.shown}: {printable(node.op, 40)} {what}; export it again")
        reading = Reading(graph, node, links[active[0]].shape if active else (), constants)
        if not active:
            if node.op not in OPERATIONS:
                raise reading.refused("reads no records, and is not computed from constants")
            constants[node.outputs[0]] = fold(node, [constants.get(name) for name in node.inputs])
        elif node.op == "Shape":
            constants[node.outputs[0]] = np.array([BATCH, *reading.shape], np.int64)
        elif len(active) == 2 and node.op in ("Add", "Sum") and len(node.inputs) == 2:
            links[node.outputs[0]] = _sum(links, reading, *active)
        elif len(active) == 1 and node.op in RULES:
            found, after = RULES[node.op](reading)
            links[node.outputs[0]] = Link(active[0], found, after, links[active[0]].depth + 1)
        else:
            raise reading.refused(f"reads {len(active)} values that depend on the records, which no layer here does")
    return links


def _sum(links: dict[str, Link], reading: Reading, a: str, b: str) -> Link:
    if links[a].shape != links[b].shape:
        raise reading.refused(f"adds values of shapes {links[a].shape} and {links[b].shape}")
    before = branching_point(links, a, b)
    return Link(before, [], links[a].shape, links[before].depth + 1, (a, b))


def network_of(found: Plan, shape: Shape, standardise: list[list[float]] | None, shown: str) -> Network:
    """The network of a plan, its sizes checked before memory is taken. shape: (C, H, W) or (F,)."""
    ours = (shape[1], shape[0], shape[2]) if len(shape) == 3 else shape
    if not found.widths:
        raise DataError(f"{shown}: has no layer with weights")
    try:
        *widths, classes = found.widths
        described = describe(SEQUENTIAL, ours, classes, widths, standardise, sequence=found.records)
        description = recognised(described)
        small = build(description, replicas=0)
        if small.output_shape != (classes,):
            raise ArgumentError(f"puts out {small.output_shape}, expected one number for each of {classes} classes")
        if small.size > MAX_PARAMETERS:
            raise ArgumentError(f"has {small.size:,} parameters, at most {MAX_PARAMETERS:,} are read")
    except ArgumentError as error:
        raise DataError(f"{shown}: {error}") from error
    net = build(description)
    for (layer, flattened), tensors in zip(placed(net.body, ours), found.tensors, strict=True):
        for name, theirs, target, convert in layout(layer, flattened):
            what = f"{shown}: {name} of {layer!r}"
            if tensors[name].shape != theirs:
                raise DataError(f"{what} has shape {tensors[name].shape}, expected {theirs}")
            target.value[0] = to_device(convert(finite(tensors[name], what, variance=name == "running_var")))
    return net
