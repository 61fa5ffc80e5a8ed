# %% [markdown]
# # 6. The nearest sparse point
#
# To prune is to set weights to zero. **Which ones should go, if the weights are to move as little as possible, and
# how hard can that be?**
#
# ## The projection
#
# Write $\|Z\|_0$ for the number of entries of $Z$ that are not zero. The *projection* of $W \in \mathbb R^n$ on the
# set of vectors with at most $k$ such entries is
#
# $$\Pi(W) = \arg\min_Z \|Z - W\| \quad \text{subject to} \quad \|Z\|_0 \le k .$$
#
# There are $\binom{n}{k}$ sets of places that may be kept, more than anybody could try. But fix such a set $S$. Then
# the best $Z$ is equal to $W$ on $S$ and zero elsewhere, and
#
# $$\|Z - W\|^2 = \sum_{i \notin S} W_i^2 .$$
#
# The cost is the sum of the squares that are dropped. It is least if the dropped ones are the smallest. **Keep the
# $k$ largest magnitudes, zero the rest.** One sort, or less, in place of $\binom{n}{k}$ trials.
#
# **Ties.** If $W = (2, 2)$ and $k = 1$, two points are nearest. For a result that can be repeated the projection must
# be a function, so the package says: ties go to the lower index.

# %%
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.prune import project
from nanoprune.prune.projection import largest

source(project, largest)

# %% [markdown]
# `partition` finds the $k$-th largest magnitude without sorting the rest. The oracle is enumeration: try every set,
# keep the nearest point.

# %%
import itertools
import math

import numpy as np

rng = np.random.default_rng(0)


def by_enumeration(W, k):
    """The nearest point with k entries, over all supports in lexicographic order: the first of equals is kept."""
    best, nearest = None, math.inf
    for support in itertools.combinations(range(len(W)), k):
        Z = np.zeros_like(W)
        Z[list(support)] = W[list(support)]
        distance = ((Z - W) ** 2).sum()
        if distance < nearest:
            best, nearest = Z, distance
    return best


trials = [(rng.integers(-3, 4, 8).astype(float), k) for k in range(9) for _ in range(20)]  # with many ties
same = sum(np.array_equal(project(W, k), by_enumeration(W, k)) for W, k in trials)
say(f"{same} of {len(trials)} projections of vectors with many ties are the ones that enumeration finds.")
assert same == len(trials)

# %% [markdown]
# ## Why this set is difficult
#
# A convex set contains, with two points, the segment between them. Projections on convex sets never move two points
# apart. The sparse vectors are not convex: half-way between $(1, 0)$ and $(0, 1)$ lies $(\tfrac12, \tfrac12)$. Their
# projection *does* move points apart. Take

# %%
a, b = np.array([1.0, 0.99]), np.array([0.99, 1.0])
before, after = np.linalg.norm(a - b), np.linalg.norm(project(a, 1) - project(b, 1))
say(
    f"""
    $a = (1, 0.99)$ and $b = (0.99, 1)$ are {before:.3f} apart. Their projections for $k = 1$ are $(1, 0)$ and $(0, 1)$,
    {after:.3f} apart: **{after / before:.0f} times** as far.
    """
)
assert after > before

# %% [markdown]
# A tiny change of the weights can change which ones survive. The algorithm of the next chapter projects again and
# again, and proofs of its convergence on convex sets do not apply here.
#
# ## Groups
#
# Single zeros spare little time on a processor. Zeros in a pattern do. So weights can be pruned in *groups*. In the
# package, `filter` is a row of the matrix of weights, all weights of one output unit; `channel` is all weights that
# read one input channel (chapter 3); `block:2` is an aligned square of 2 x 2 entries. The argument is the same. If a
# group is kept or dropped as a whole, the cost is the sum of the *energies* $\sum_{i \in g} W_i^2$ of the dropped
# groups, so keep the groups of largest norm. A *cell* is a set of groups with a budget of its own, and each cell is a
# small projection. Only "N of M", such as `2:4`, has more than one: of each 4 neighbours in a row at most 2 survive.

# %%
from nanoprune.nn import Conv2D, Network
from nanoprune.prune.scheme import Grouping, parse_scheme

source(Grouping.support)
net = Network(Conv2D(4, 4, 3), (8, 4, 8)).initialise([np.random.default_rng(1)])
(weights,) = net.weights
W = net.W[0].astype(float)
rows, counts, energies = [], [], []
for name, k in (("unstructured", 72), ("2:4", 2), ("block:2", 18), ("channel", 2), ("filter", 2)):
    grouping = parse_scheme(name).grouping(weights)
    kept = grouping.support(W, k)
    counts.append(math.comb(grouping.groups, k) ** grouping.cells)
    energies.append((W[kept] ** 2).sum() / (W**2).sum())
    rows.append([name, grouping.cells, grouping.groups, k, int(kept.sum()), f"{counts[-1]:.0e}", f"{energies[-1]:.0%}"])
    assert kept.sum() == W.size / 2
table(["scheme", "cells", "groups a cell", "kept a cell", f"weights kept of {W.size}", "supports", "energy kept"], rows)
assert counts == sorted(counts, reverse=True)
assert energies[:3] == sorted(energies, reverse=True)[:3]

# %% [markdown]
# All schemes here keep half of the weights. The freer the scheme, the more supports there are, and the more energy is
# kept: a constraint costs.
#
# ## The experiment
#
# Weights of a trained network are not equal. What share of the energy do the largest ones hold, and how accurate is
# the network after *one-shot* pruning, a single projection with no training after it? The budget may be one for each
# layer, or one for all layers together.

# %%
from nanoprune.lab.course.digits import accuracies, classroom
from nanoprune.prune import Budget
from nanoprune.schedule import Schedule
from nanoprune.train import train

room = classroom(replicas=3)
net = room.network()
train(net, room.records, room.members, Schedule(50, batch=32, lr=0.05), room.generators(1))
source(Budget.project)

keeps = np.array([1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01])
accuracy, energy = {}, []
for scope in ("layer", "global"):
    accuracy[scope] = []
    for keep in keeps:
        pruned = net.copy()
        pruned.W[...] = Budget(net, float(keep), scope).project(net.W)
        accuracy[scope].append(accuracies(room, pruned, room.nonmembers).mean())
        if scope == "global":
            energy.append((pruned.W**2).sum() / (net.W**2).sum())

# %% tags=["hide-input"]
drawing, plot = axes()
plot.semilogx(keeps, energy, ":", label="energy kept, all layers together", color="C2")
for scope, marker in (("layer", "o-"), ("global", "s-")):
    plot.semilogx(keeps, accuracy[scope], marker, label=f"test accuracy, budget: {scope}")
plot.set(xlabel="share of the weights that is kept", ylim=(0, 1.02))
plot.invert_xaxis()
plot.legend(fontsize=8, loc="lower left")
figure(
    drawing,
    "Test accuracy and kept energy against the share of weights kept, from all to a hundredth. The energy falls to "
    f"{energy[4]:.2f} at a tenth and {energy[-1]:.2f} at a hundredth. With one budget for all layers, accuracy is "
    f"{accuracy['global'][0]:.2f} with all weights, {accuracy['global'][4]:.2f} with a tenth and "
    f"{accuracy['global'][-1]:.2f} with a hundredth. The curve for a budget for each layer runs close to it.",
)
say(
    f"""
    The largest tenth of all weights together holds {energy[4]:.0%} of the energy and is right for
    {accuracy["global"][4]:.1%} of the test digits, after {accuracy["global"][0]:.1%} with all of them. A hundredth is
    right for {accuracy["global"][-1]:.1%}. Neither budget is better throughout: from {keeps[2]:.0%} down to
    {keeps[5]:.0%} the mean of these three networks is higher with one budget for all layers, from {keeps[6]:.0%} on
    with one for each layer.
    """
)
assert accuracy["global"][-1] < accuracy["global"][0] - 0.1
higher = np.array(accuracy["global"]) > np.array(accuracy["layer"])
assert higher[2:6].all()
assert not higher[6:].any()

# %% [markdown]
# ## What this does not show
#
# - Near in distance is not near in *loss*. The projection does not know which weights matter. Chapter 7 brings the
#   loss in.
# - The figure is about pruning without retraining. With retraining far fewer weights are enough: chapter 8.
# - Fewer weights are fewer bytes only if the places of the survivors are stored well, and less time only if the
#   program that runs the network makes use of the zeros.
#
# ## Exercises
#
# In `book/exercises/06_projection.py`; `python cli.py learn check 6` grades them.
#
# 1. `nearest_sparse`: the projection, ties to the lower index.
# 2. `nearest_n_of_m`: the projection on "at most N of each M neighbours in a row".
# 3. `nearest_filters`: the projection of a matrix on those with at most $k$ rows that are not zero.
