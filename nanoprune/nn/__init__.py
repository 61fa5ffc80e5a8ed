"""Layers, losses and optimisers with hand-written derivatives. Replica axis first, sample axis last."""

from nanoprune.lab.kernels.banded import BandedDepthwise, depthwise_convolution
from nanoprune.lab.kernels.winograd import WinogradConv2D, convolution
from nanoprune.nn.avgpool import AvgPool
from nanoprune.nn.batchnorm import BatchNorm
from nanoprune.nn.branches import Branches
from nanoprune.nn.conv2d import Conv2D
from nanoprune.nn.dense import Dense
from nanoprune.nn.depthwise import DepthwiseConv2D
from nanoprune.nn.dropout import Dropout
from nanoprune.nn.flatten import Flatten
from nanoprune.nn.globalavgpool import GlobalAvgPool
from nanoprune.nn.groupnorm import GroupNorm
from nanoprune.nn.layer import Layer, Parameter, Statistic
from nanoprune.nn.loss import cross_entropy, log_loss, sigmoid, softmax
from nanoprune.nn.maxpool import MaxPool
from nanoprune.nn.network import Network
from nanoprune.nn.optimizer import SGD, Adam
from nanoprune.nn.pointwise import Pointwise
from nanoprune.nn.relu import ReLU
from nanoprune.nn.relu6 import ReLU6
from nanoprune.nn.residual import Residual
from nanoprune.nn.schedule import schedule
from nanoprune.nn.sequential import Sequential
from nanoprune.nn.standardise import Standardise
from nanoprune.nn.tanh import Tanh
from nanoprune.nn.workspace import Workspace

__all__ = [
    "SGD",
    "Adam",
    "AvgPool",
    "BandedDepthwise",
    "BatchNorm",
    "Branches",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GroupNorm",
    "Layer",
    "MaxPool",
    "Network",
    "Parameter",
    "Pointwise",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "Standardise",
    "Statistic",
    "Tanh",
    "WinogradConv2D",
    "Workspace",
    "convolution",
    "cross_entropy",
    "depthwise_convolution",
    "log_loss",
    "schedule",
    "sigmoid",
    "softmax",
]
