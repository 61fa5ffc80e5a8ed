"""Layers, losses and optimisers with hand-written derivatives. Replica axis first, sample axis last."""

from nanoprune.nn.branches import Branches as Branches
from nanoprune.nn.conv2d import Conv2D as Conv2D
from nanoprune.nn.dense import Dense as Dense
from nanoprune.nn.flatten import Flatten as Flatten
from nanoprune.nn.layer import Layer as Layer
from nanoprune.nn.loss import cross_entropy as cross_entropy
from nanoprune.nn.loss import log_loss as log_loss
from nanoprune.nn.loss import sigmoid as sigmoid
from nanoprune.nn.loss import softmax as softmax
from nanoprune.nn.maxpool import MaxPool as MaxPool
from nanoprune.nn.network import Network as Network
from nanoprune.nn.optimizer import SGD as SGD
from nanoprune.nn.optimizer import Adam as Adam
from nanoprune.nn.parameter import Parameter as Parameter
from nanoprune.nn.passes import Passes as Passes
from nanoprune.nn.relu import ReLU as ReLU
from nanoprune.nn.sequential import Sequential as Sequential
from nanoprune.nn.workspace import Workspace as Workspace
