"""The networks, each a list of layers, and the plain-data descriptions that they are built from."""

from nanoprune.lab.zoo.build import (
    NETWORKS,
    SEQUENTIAL,
    architecture,
    build,
    checked,
    describe,
    layers_of,
    mixes_records,
    narrowed,
    recognised,
    size_of,
    widths_of,
    with_widths,
)
from nanoprune.lab.zoo.lenet import lenet5, lenet300
from nanoprune.lab.zoo.mlp import mlp
from nanoprune.lab.zoo.mobilenet import mobilenetv2
from nanoprune.lab.zoo.resnet import resnet18
from nanoprune.lab.zoo.transformer import transformer_text, vit
from nanoprune.lab.zoo.vgg import vgg16

__all__ = [
    "NETWORKS",
    "SEQUENTIAL",
    "architecture",
    "build",
    "checked",
    "describe",
    "layers_of",
    "lenet5",
    "lenet300",
    "mixes_records",
    "mlp",
    "mobilenetv2",
    "narrowed",
    "recognised",
    "resnet18",
    "size_of",
    "transformer_text",
    "vgg16",
    "vit",
    "widths_of",
    "with_widths",
]
