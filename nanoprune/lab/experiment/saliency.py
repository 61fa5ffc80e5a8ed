"""Data-free pruning masks: SynFlow (Tanaka, Kunin, Yamins & Ganguli 2020, arXiv 2006.05467) and random ones.

Both depend on the network's initial weights and on random numbers alone. A network that is trained with differential
privacy may have such a mask at no cost in privacy, and without public data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.nn import Network, Workspace
from nanoprune.prune.budget import Budget
from nanoprune.prune.scheme import parse_scheme


def synflow_scores(net: Network) -> Any:
    """The synaptic saliency $|w| dR/d|w|$ of every weight, (R, n) float64, for the current weights W (R, n).

    $R = 1^T f_{|theta|}(1)$ is the sum of the outputs of the network with absolute parameters on an input of ones, in
    evaluation mode (their equation 2). Where all activations are positively homogeneous and the biases are zero, the
    scores of every layer add up to R: the flow is conserved, so that a whole layer is pruned last.
    """
    positive = Network(net.template, net.input_shape, net.replicas, np.float64, net.description)
    positive.theta[...] = xp.abs(net.theta)
    positive.state[...] = net.state
    ws = Workspace(training=False)
    outputs = positive.forward(xp.ones((net.replicas, *net.input_shape, 1)), ws)  # (R, classes, 1)
    positive.backward(xp.ones_like(outputs), ws)  # dR/d|theta|
    return positive.W * positive.dW


def synflow(net: Network, keep: Any, scope: str = "layer", scheme: str = "unstructured", steps: int = 100) -> Any:
    """The support of SynFlow for the weights W (R, n) of `net`: (R, n) bool, within the `Budget` of the arguments.

    Pruning is iterative, with a new score each time (their algorithm 1, which takes 100 steps): step k of N keeps the
    share $keep^{k/N}$ of the highest scores. The paper ranks all weights together, which is scope "global"; with
    another scope each layer keeps its own share. A scheme that brings its ratio (N:M) is pruned in one step.
    """
    alive, pruned = xp.ones(net.W.shape, bool), net.copy()
    steps = 1 if parse_scheme(scheme).keep else steps
    for k in range(1, steps + 1):
        pruned.W[...] = net.W * alive
        ratios = np.power(np.array(keep, np.float64), k / steps) if k < steps else keep
        alive = alive & Budget(net, ratios, scope, scheme).support(synflow_scores(pruned))
    return alive


def random_support(budget: Budget, shape: tuple[int, int], generators: Sequence[np.random.Generator]) -> Any:
    """A support (R, n) = `shape`, bool, drawn uniformly from all that have the size of the budget.

    Replica r draws from generators[r].
    """
    return budget.support(to_device(np.stack([generator.random(shape[1]) for generator in generators])))
