"""Saliency scores of initial weights, for pruning at initialisation.

SynFlow (Tanaka, Kunin, Yamins & Ganguli 2020, arXiv 2006.05467) and random supports depend on the network's initial
weights and on random numbers alone. A network that is trained with differential privacy may have such a mask at no cost
in privacy, and without public data. SNIP (Lee, Ajanthan & Torr 2019, arXiv 1810.02340) and GraSP (Wang, Zhang & Grosse
2020, arXiv 2002.07376) look at the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.nn import Network, Workspace, cross_entropy
from nanoprune.prune.budget import Budget
from nanoprune.prune.scheme import parse_scheme
from nanoprune.records import Records

CHUNK = 256  # records whose gradient is computed at once
STEP = 1e-4  # of the central difference, as a share of the length of the weights


def synflow_scores(net: Network) -> Any:
    """The synaptic saliency $|w| dR/d|w|$ of every weight, (R, n) float64, for the current weights W (R, n).

    $R = 1^T f_{|theta|}(1)$ is the sum of the outputs of the network with absolute parameters on an input of ones, in
    evaluation mode (their equation 2). Where all activations are positively homogeneous and the biases are zero, the
    scores of every layer add up to R: the flow is conserved, so that a whole layer is pruned last.
    """
    positive = _in_float64(net)
    positive.theta[...] = xp.abs(net.theta)
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


def snip_scores(net: Network, records: Records, index: np.ndarray) -> Any:
    r"""SNIP's connection sensitivity $|w\, \partial L / \partial w|$ (their equations 5 and 6, not normalised), (R, n)
    float64: how fast the loss on the records index (R, M) changes where the weight is scaled."""
    return xp.abs(net.W * weight_gradient(net, records, index))


def grasp_scores(net: Network, records: Records, index: np.ndarray) -> Any:
    r"""GraSP's $w\, (H g)_w$, (R, n) float64: weights with high scores are kept (their equation 8, sign turned).

    g is the gradient of the loss on the records index (R, M) in the weights, H its Hessian. To first order, removing w
    changes $\|g\|^2$, by which a small step of gradient descent lowers the loss, by $-2 w (H g)_w$. Hg is a central
    difference of gradients along g. The authors divide the logits by a temperature of 200, which is left out.
    """
    g = weight_gradient(net, records, index)
    length = xp.sqrt((net.W.astype(np.float64) ** 2).sum(axis=1) / xp.maximum((g * g).sum(axis=1), 1e-300))
    h, sides = STEP * length[:, None], []
    for sign in (1.0, -1.0):
        moved = _in_float64(net)
        moved.W[...] += sign * h * g
        sides.append(weight_gradient(moved, records, index))
    return net.W * (sides[0] - sides[1]) / (2 * h)


def weight_gradient(net: Network, records: Records, index: np.ndarray) -> Any:
    """dL/dW (R, n) float64 of the cross-entropy on the records index (R, M), in evaluation mode."""
    net, ws = _in_float64(net), Workspace(training=False)
    total, count = xp.zeros(net.W.shape), index.shape[1]
    for start in range(0, count, CHUNK):
        x, y = records.batch(to_device(index[:, start : start + CHUNK]), ws)
        _, dlogits = cross_entropy(net.forward(x.astype(np.float64), ws), y, count)
        net.backward(dlogits, ws)
        total += net.dW
    return total


def _in_float64(net: Network) -> Network:
    """A copy of the network in float64."""
    copy = Network(net.template, net.input_shape, net.replicas, np.float64, net.description)
    copy.theta[...], copy.state[...] = net.theta, net.state
    return copy
