"""A small, readable PyTorch module that loads the safetensors file beside it."""

from __future__ import annotations

import functools
from typing import Any

from nanoprune import nn
from nanoprune.errors import ArgumentError
from nanoprune.lab import layers
from nanoprune.lab.export.lower import children
from nanoprune.lab.models.layout import has_tensors, layout
from nanoprune.nn import Layer, Network

HEADER = '''"""{title}

Weights: {weights}. Input: {input}. Licence: {licence}.
{audit}
"""

import pathlib

import torch
from safetensors.torch import load_file
from torch import nn

LABELS = {labels!r}


class Residual(nn.Module):
    """f(x) + g(x), with g the identity where there is no shortcut."""

    def __init__(self, body, shortcut=None):
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Of images (N, C, H, W) and of features (N, C)."""

    def _check_input_dim(self, x):
        pass


class Standardise(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x):
        return (x - self.mean) / self.std


class Columns(nn.Module):
    """(x - mean) / std of each column; 0 where a number is missing (NaN) or std is 0."""

    def __init__(self, columns):
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))

    def forward(self, x):
        scaled = (x - self.mean) / torch.where(self.std > 0, self.std, 1)
        return torch.where(torch.isnan(x) | (self.std == 0), 0, scaled)


def network():
    """The layers, with random weights."""
    return {body}


def load(folder=pathlib.Path(__file__).parent):
    """The network with the weights of {file}, in evaluation."""
    net = network()
    weights = load_file(pathlib.Path(folder) / {file!r})
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name in PLACES:
            tensor.data.copy_(weights.pop(PLACES[name]))
    if weights:
        raise ValueError(f"{file}: the network has no {{next(iter(weights))}}")
    return net.eval()


# name in this module -> name in the file
PLACES = {places}
'''


def to_torch_code(net: Network, about: dict[str, Any], file: str, names: list[str], verdict: str) -> str:
    """The module's source. file: the safetensors file that it loads; names: of its tensors, in the network's order.

    Raises ArgumentError on a layer without a rule.
    """
    body = "".join(f"    {line}\n" for line in code(net.body).splitlines()).strip()
    parts = list(paths(net.body, ""))
    if len(parts) != len(names):
        raise ArgumentError(
            f"the network has {len(parts)} tensors in PyTorch, the file {len(names)}; nothing was written"
        )
    places = "{\n" + "".join(f"    {ours!r}: {theirs!r},\n" for ours, theirs in zip(parts, names, strict=True)) + "}"
    return HEADER.format(
        title=f"The network {about['network']}, exported by nanoprune.",
        body=body,
        places=places,
        file=file,
        audit=verdict,
        **{name: about[name] for name in ("weights", "input", "licence", "labels")},
    )


def paths(layer: Layer, prefix: str) -> list[str]:
    """Names in the module of the layer's tensors, in the order of the network."""
    if isinstance(layer, nn.Sequential):
        return [path for i, part in enumerate(children(layer)) for path in paths(part, f"{prefix}{i}.")]
    if isinstance(layer, layers.Residual):
        beside = paths(layer.shortcut, f"{prefix}shortcut.") if layer.shortcut else []
        return paths(layer.body, f"{prefix}body.") + beside
    return [f"{prefix}{part}" for part, *_ in layout(layer, None)] if has_tensors(layer) else []


@functools.singledispatch
def code(layer: Layer) -> str:
    """A PyTorch expression for the layer. Raises ArgumentError on a type without a rule."""
    raise ArgumentError(f"{layer!r} has no PyTorch rule; register its type with nanoprune.lab.export.torch_code.code")


def block(name: str, *parts: str) -> str:
    """name(part, part, ...), one part per line."""
    lines = "".join(f"    {line}\n" for part in parts for line in f"{part},".splitlines())
    return f"{name}(\n{lines})"


@code.register
def _(layer: nn.Sequential) -> str:
    return block("nn.Sequential", *(code(part) for part in children(layer)))


@code.register
def _(layer: layers.Residual) -> str:
    return block("Residual", code(layer.body), *([code(layer.shortcut)] if layer.shortcut else []))


@code.register
def _(layer: nn.Dense) -> str:
    return f"nn.Linear({layer.inputs}, {layer.outputs})"


@code.register
def _(layer: nn.Conv2D) -> str:
    sizes = f"{layer.channels}, {layer.kernels}, {layer.size}"
    return f"nn.Conv2d({sizes}, stride={layer.stride}, padding={layer.padding}, bias={layer.b is not None})"


@code.register
def _(layer: layers.Pointwise) -> str:
    return f"nn.Conv2d({layer.channels}, {layer.kernels}, 1, stride={layer.stride}, bias={layer.b is not None})"


@code.register
def _(layer: layers.DepthwiseConv2D) -> str:
    C, rest = layer.channels, f"stride={layer.stride}, padding={layer.padding}, bias={layer.b is not None}"
    return f"nn.Conv2d({C}, {C}, {layer.size}, groups={C}, {rest})"


@code.register
def _(layer: layers.BatchNorm) -> str:
    return f"BatchNorm({layer.channels})"


@code.register
def _(layer: nn.MaxPool) -> str:
    return f"nn.MaxPool2d({layer.size}, stride={layer.stride}, padding={layer.padding})"


@code.register
def _(layer: layers.AvgPool) -> str:
    return f"nn.AvgPool2d({layer.size})"


@code.register
def _(layer: layers.GlobalAvgPool) -> str:
    return "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())"


@code.register
def _(layer: layers.ColumnScaling) -> str:
    return f"Columns({layer.columns})"


@code.register
def _(layer: layers.Standardise) -> str:
    return f"Standardise({list(layer.mean)}, {list(layer.std)})"


@code.register(nn.ReLU)
@code.register(layers.ReLU6)
@code.register(layers.Tanh)
@code.register(nn.Flatten)
def _(layer: Layer) -> str:
    return f"nn.{type(layer).__name__}()"


@code.register
def _(layer: layers.Dropout) -> str:
    return "nn.Identity()"
