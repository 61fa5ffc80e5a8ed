"""Faster implementations of convolutions: the same map with fewer multiplications, tested against the plain layers."""

from nanoprune.lab.kernels.banded import BandedDepthwise as BandedDepthwise
from nanoprune.lab.kernels.banded import depthwise_convolution as depthwise_convolution
from nanoprune.lab.kernels.winograd import WinogradConv2D as WinogradConv2D
from nanoprune.lab.kernels.winograd import convolution as convolution
