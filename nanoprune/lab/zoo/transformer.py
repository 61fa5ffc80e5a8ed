"""Transformers with normalisation before each part (Xiong et al. 2020, arXiv 2002.04745), for text and for images.

Block by block, $X \\leftarrow X + \\mathrm{Attention}(\\mathrm{LN}(X))$, $X \\leftarrow X + W_2\\, \\mathrm{GELU}(W_1
\\mathrm{LN}(X))$; then LayerNorm, the mean over the tokens, and a dense layer. The sizes are ours, for two cores: the
hidden layer of the feed-forward part is twice as wide as the stream, not four times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import (
    GELU,
    Embedding,
    ImageTokens,
    LayerNorm,
    PositionalEncoding,
    Residual,
    TokenDense,
    TokenMean,
    self_attention,
)
from nanoprune.lab.zoo.size import Multiplier, is_small
from nanoprune.nn import Conv2D, Dense, Layer, Sequential

HEAD = 16  # channels of a head, in every width
TEXT = (2, 64)  # blocks, channels of the stream
VIT = (4, 64)
OF_BLOCK = 4  # layers with weights


class TransformerSize(Multiplier):
    """The widths of embedding or patches, and for each block those of queries, keys and values together, of the
    attention's output, of the hidden layer and of the output. Those of the stream are equal, queries are whole heads.
    """

    def __init__(self, blocks: int, channels: int) -> None:
        self.blocks, self.channels = blocks, channels
        super().__init__(lambda input_shape, multiplier: self.scaled(multiplier))

    def scaled(self, multiplier: float) -> list[int]:
        """The stream in the nearest number of whole heads, at least one."""
        E = HEAD * max(1, round(multiplier * self.channels / HEAD))
        return [E, *[3 * E, E, 2 * E, E] * self.blocks]

    def at(self, widths: list[int], h: int) -> list[int]:
        whole = 3 * HEAD
        return [
            max(1, width // whole) * whole if i % OF_BLOCK == 1 else width
            for i, width in enumerate(super().at(widths, h))
        ]


def transformer_text(input_shape: tuple[int, ...], classes: int, widths: Sequence[int], tokens: int) -> Sequential:
    """A classifier of sequences of tokens (T,), token 0 being padding: learned embedding and positions, two blocks, in
    which every position sees all others. By default 64 channels and 4 heads, 65,536 weights in the blocks."""
    width, *rest = widths
    start = [Embedding(tokens, width), PositionalEncoding(*input_shape, width)]
    return Sequential(*start, *blocks(width, rest), LayerNorm(width), TokenMean(), Dense(width, classes))


def vit(input_shape: tuple[int, ...], classes: int, widths: Sequence[int]) -> Sequential:
    """A vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) of four blocks: patches of 4 x 4 pixels of small
    images, of 16 x 16 of others, as a convolution of that stride. The class is read from the mean over the patches, not
    from a token of its own. By default 64 channels and 4 heads, the sizes of no published network."""
    width, *rest = widths
    patch = 4 if is_small(input_shape) else 16
    start = Sequential(Conv2D(input_shape[1], width, patch, stride=patch), ImageTokens())
    positions, _ = start.output_shape(input_shape)
    start = [*start.parts, PositionalEncoding(positions, width)]
    return Sequential(*start, *blocks(width, rest), LayerNorm(width), TokenMean(), Dense(width, classes))


def blocks(width: int, widths: Sequence[int]) -> Iterator[Layer]:
    """The residual parts of each block, for a stream of `width` channels."""
    for i in range(0, len(widths), OF_BLOCK):
        together, out, hidden, end = widths[i : i + OF_BLOCK]
        if together % (3 * HEAD) or not out == end == width:
            raise ArgumentError(
                f"widths of a block must be a multiple of {3 * HEAD} (heads of {HEAD}), {width}, any, {width}; "
                f"got {together}, {out}, {hidden}, {end}"
            )
        heads = together // (3 * HEAD)
        yield Residual(Sequential(LayerNorm(width), self_attention(width, heads, together // 3)))
        yield Residual(Sequential(LayerNorm(width), TokenDense(width, hidden), GELU(), TokenDense(hidden, width)))
