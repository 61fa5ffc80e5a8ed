"""Faster implementations, tested against the plain ones: convolutions with fewer multiplications, compiled formulas."""

from nanoprune.lab.kernels import compiled as compiled  # registers itself
from nanoprune.lab.kernels.banded import BandedDepthwise as BandedDepthwise
from nanoprune.lab.kernels.compiled_depthwise import CompiledDepthwise as CompiledDepthwise
from nanoprune.lab.kernels.compiled_depthwise import depthwise_convolution as depthwise_convolution
from nanoprune.lab.kernels.compiled_pooling import CompiledMaxPool as CompiledMaxPool
from nanoprune.lab.kernels.compiled_pooling import max_pooling as max_pooling
from nanoprune.lab.kernels.winograd import WinogradConv2D as WinogradConv2D
from nanoprune.lab.kernels.winograd import convolution as convolution
