"""Layers, losses and optimisers with hand-written derivatives. Replica axis first, sample axis last."""

from nanoprune.nn.branches import Branches
from nanoprune.nn.conv2d import Conv2D
from nanoprune.nn.dense import Dense
from nanoprune.nn.dropout import Dropout
from nanoprune.nn.flatten import Flatten
from nanoprune.nn.layer import Layer, Parameter
from nanoprune.nn.loss import cross_entropy, log_loss, sigmoid, softmax
from nanoprune.nn.maxpool import MaxPool
from nanoprune.nn.network import Network
from nanoprune.nn.optimizer import SGD, Adam
from nanoprune.nn.relu import ReLU
from nanoprune.nn.schedule import schedule
from nanoprune.nn.sequential import Sequential
from nanoprune.nn.tanh import Tanh
from nanoprune.nn.winograd import WinogradConv2D, convolution
from nanoprune.nn.workspace import Workspace

__all__ = [
    "SGD",
    "Adam",
    "Branches",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "MaxPool",
    "Network",
    "Parameter",
    "ReLU",
    "Sequential",
    "Tanh",
    "WinogradConv2D",
    "Workspace",
    "convolution",
    "cross_entropy",
    "log_loss",
    "schedule",
    "sigmoid",
    "softmax",
]
