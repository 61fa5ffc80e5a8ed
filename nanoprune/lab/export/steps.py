"""The intermediate representation of every export: a list of plain steps on channels-first arrays.

A program is in single static assignment: value 0 is the input, value k is the output of step k. Images are (C, H, W),
sequences (T, E), features (F,), all without the sample axis; weights are float64 NumPy arrays in the layout of PyTorch
and ONNX.
Programs contain weights only: nothing about the data, the split, the seed or the machine.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from nanoprune.errors import ArgumentError

Shape = tuple[int, ...]
EPS = 1e-5  # of GroupNorm, as in nanoprune.nn


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One operation. `output_shape` maps the shapes of its inputs to the shape of its output."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Conv(Operation):
    """Cross-correlation. weight (O, C / group, k, k), bias (O,); `padding` rows and columns of zeros on each side.

    scale (O,), if not None: weight is scale[o] times integers from -127 to 127 (int8 weights).
    """

    weight: np.ndarray
    bias: np.ndarray
    stride: int = 1
    padding: int = 0
    group: int = 1
    scale: np.ndarray | None = None

    def output_shape(self, *shapes: Shape) -> Shape:
        _, H, W = shapes[0]
        k = self.weight.shape[-1]
        return (len(self.weight), *((side + 2 * self.padding - k) // self.stride + 1 for side in (H, W)))


@dataclasses.dataclass(frozen=True, eq=False)
class Linear(Operation):
    """y = W x + b. weight (O, I), bias (O,), scale as in `Conv`."""

    weight: np.ndarray
    bias: np.ndarray
    scale: np.ndarray | None = None

    def output_shape(self, *shapes: Shape) -> Shape:
        return (len(self.weight),)


@dataclasses.dataclass(frozen=True, eq=False)
class Affine(Operation):
    """y_c = scale_c x_c + shift_c for every channel or feature; scale, shift (C,).

    normalisation (4, C), if not None: what both were made of by a BatchNorm, its scale, shift, mean and variance.
    """

    scale: np.ndarray
    shift: np.ndarray
    normalisation: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class GroupNorm(Operation):
    """Every sample normalised in groups of channels (Wu & He 2018), then scaled and shifted; gamma, beta (C,)."""

    groups: int
    gamma: np.ndarray
    beta: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Activation(Operation):
    """kind: "relu", "relu6" (min(max(x, 0), 6)) or "tanh"."""

    kind: str


@dataclasses.dataclass(frozen=True, eq=False)
class MaxPool(Operation):
    """Maximum over size x size windows, with `padding` rows and columns of -infinity on each side."""

    size: int
    stride: int
    padding: int

    def output_shape(self, *shapes: Shape) -> Shape:
        C, H, W = shapes[0]
        return (C, *((side + 2 * self.padding - self.size) // self.stride + 1 for side in (H, W)))


@dataclasses.dataclass(frozen=True, eq=False)
class AvgPool(Operation):
    """Mean over disjoint size x size windows; an incomplete window is dropped."""

    size: int

    def output_shape(self, *shapes: Shape) -> Shape:
        C, H, W = shapes[0]
        return (C, H // self.size, W // self.size)


@dataclasses.dataclass(frozen=True, eq=False)
class GlobalAvgPool(Operation):
    """The mean of each channel, (C, H, W) to (C,)."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0][:1]


@dataclasses.dataclass(frozen=True, eq=False)
class Flatten(Operation):
    """(C, H, W) to (C*H*W,), row-major."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return (math.prod(shapes[0]),)


@dataclasses.dataclass(frozen=True, eq=False)
class Gather(Operation):
    """y_i = x_index[i] of features; index (n,) int64."""

    index: np.ndarray

    def output_shape(self, *shapes: Shape) -> Shape:
        return (len(self.index),)


@dataclasses.dataclass(frozen=True, eq=False)
class Concat(Operation):
    """The features of several values, concatenated."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return (sum(shape[0] for shape in shapes),)


@dataclasses.dataclass(frozen=True, eq=False)
class Add(Operation):
    """The sum of two values of one shape."""


@dataclasses.dataclass(frozen=True, eq=False)
class Embed(Operation):
    """Tokens (T,), whole numbers, to (T, E): column v of weight (E, tokens) for the token v. scale as in `Conv`."""

    weight: np.ndarray
    scale: np.ndarray | None = None

    def output_shape(self, *shapes: Shape) -> Shape:
        return (*shapes[0], len(self.weight))


@dataclasses.dataclass(frozen=True, eq=False)
class TokenLinear(Operation):
    """y_t = W x_t + b for every position of a sequence (T, I). weight (O, I), bias (O,), scale as in `Conv`."""

    weight: np.ndarray
    bias: np.ndarray
    scale: np.ndarray | None = None

    def output_shape(self, *shapes: Shape) -> Shape:
        return (shapes[0][0], len(self.weight))


@dataclasses.dataclass(frozen=True, eq=False)
class Positions(Operation):
    """table (T, E) is added to a sequence."""

    table: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class LayerNorm(Operation):
    """The last axis normalised (Ba et al. 2016), then scaled and shifted; gamma, beta (E,)."""

    gamma: np.ndarray
    beta: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class GELU(Operation):
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""


@dataclasses.dataclass(frozen=True, eq=False)
class Attention(Operation):
    """Queries, keys and values (T, 3 heads d) to (T, heads d); where there is a second value, the tokens, no position
    sees a 0 of it."""

    heads: int
    causal: bool

    def output_shape(self, *shapes: Shape) -> Shape:
        return (shapes[0][0], shapes[0][1] // 3)


@dataclasses.dataclass(frozen=True, eq=False)
class TokenPool(Operation):
    """(T, E) to (E,): the mean over the positions, or the last one, where the second value, if any, is not 0."""

    last: bool

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0][1:]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageTokens(Operation):
    """(C, H, W) to (H W, C)."""

    def output_shape(self, *shapes: Shape) -> Shape:
        C, H, W = shapes[0]
        return (H * W, C)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """An operation on the values `inputs`. shape: of its output, for one sample."""

    operation: Operation
    inputs: tuple[int, ...]
    shape: Shape


@dataclasses.dataclass
class Program:
    """A network for inference. input_shape: (C, H, W) or (F,), of one sample; the last value: logits (classes,)."""

    input_shape: Shape
    steps: list[Step] = dataclasses.field(default_factory=list)

    def add(self, operation: Operation, *inputs: int) -> int:
        """Append a step; return the number of its value."""
        shape = operation.output_shape(*(self.shape(i) for i in inputs))
        self.steps.append(Step(operation, inputs, shape))
        return len(self.steps)

    def shape(self, value: int) -> Shape:
        return self.steps[value - 1].shape if value else self.input_shape

    @property
    def classes(self) -> int:
        return self.steps[-1].shape[0]

    def uses(self) -> list[int]:
        """The number of steps that read each value; the output of the program counts as one more reader."""
        found = [0] * (len(self.steps) + 1)
        for step in self.steps:
            for i in step.inputs:
                found[i] += 1
        found[-1] += 1
        return found


def folded(program: Program) -> Program:
    r"""The program with every `Affine` folded into the preceding convolution or linear step, if it is its only reader.

    $s (W x + b) + t = (s W) x + (s b + t)$, exact up to rounding in float64. Zeros of W stay zeros, and with int8
    weights the integers stay the same: only the scale of each output channel changes.
    """
    uses, made = program.uses(), Program(program.input_shape)
    place = [0]  # value of `program` -> value of `made`
    for step in program.steps:
        inputs, operation = tuple(place[i] for i in step.inputs), step.operation
        before = made.steps[inputs[0] - 1] if inputs[0] else None
        if (
            isinstance(operation, Affine)
            and before is not None
            and inputs[0] == len(made.steps)
            and isinstance(before.operation, Conv | Linear)
            and uses[step.inputs[0]] == 1
        ):
            made.steps[-1] = dataclasses.replace(before, operation=_scaled(before.operation, operation))
            place.append(inputs[0])
        else:
            place.append(made.add(operation, *inputs))
    return made


def _scaled(of: Conv | Linear, affine: Affine) -> Conv | Linear:
    by = affine.scale.reshape(-1, *[1] * (of.weight.ndim - 1))
    scale = None if of.scale is None else of.scale * affine.scale
    return dataclasses.replace(of, weight=of.weight * by, bias=of.bias * affine.scale + affine.shift, scale=scale)


def fused_activations(program: Program) -> dict[int, int]:
    """Step -> the rectifier after it, where that is its only reader and can be fused into the step."""
    uses = program.uses()
    return {
        step.inputs[0]: k
        for k, step in enumerate(program.steps, 1)
        if isinstance(step.operation, Activation)
        and step.operation.kind != "tanh"
        and step.inputs[0]
        and uses[step.inputs[0]] == 1
        and isinstance(program.steps[step.inputs[0] - 1].operation, Conv | Linear | MaxPool | Add)
    }


def check_finite(program: Program) -> None:
    """Raises ArgumentError where a number of the program is NaN, infinite or too large for float32."""
    largest = float(np.finfo(np.float32).max)
    for k, step in enumerate(program.steps, 1):
        for field in dataclasses.fields(step.operation):
            value = getattr(step.operation, field.name)
            if isinstance(value, np.ndarray) and not (np.abs(value) <= largest).all():
                kind = type(step.operation).__name__
                raise ArgumentError(
                    f"step {k} ({kind}) has a {field.name} that float32 cannot hold; train the model again"
                )
