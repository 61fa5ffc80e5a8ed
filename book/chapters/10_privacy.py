# %% [markdown]
# # 10. What is promised?
#
# So far we tried attacks. An attack that fails proves little: the next one may not. **Is there a defence for which no
# attack can do better than a number that is known in advance?**
#
# ## Differential privacy
#
# A training is random: batches, noise. Call it $(\varepsilon, \delta)$-*differentially private* if adding or removing
# one record hardly changes the odds of anything that may come out. For all sets $S$ of networks, and all training
# sets $D, D'$ that differ in one record ($D'$ is no longer the reference set of chapter 9),
#
# $$P[\text{training}(D) \in S] \le e^\varepsilon\, P[\text{training}(D') \in S] + \delta .$$
#
# **What it does to every attack.** An attack says "member" on a set $S$ of networks. Then
# $\text{TPR} \le e^\varepsilon\, \text{FPR} + \delta$. The same holds with the roles exchanged and "not a member",
# $1 - \text{FPR} \le e^\varepsilon (1 - \text{TPR}) + \delta$. Both are half-planes in the ROC square, and the point
# farthest above the diagonal is where their borders meet. Solve the two equations:
#
# $$\text{FPR} = \frac{1 - \delta}{e^\varepsilon + 1}, \qquad
# \text{adv} = \text{TPR} - \text{FPR} \le \frac{e^\varepsilon - 1 + 2\delta}{e^\varepsilon + 1} .$$
#
# Whoever attacks, with whatever knowledge of the other records and whatever computer: the advantage is at most this
# ([Humphries et al. 2020](../references.md#humphries-et-al-2020)).

# %%
import math

import numpy as np

from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.lab.statistics.advantage import dp_advantage

source(dp_advantage)
rows = []
for epsilon in (0.1, 0.5, 1, 2, 4, 8):
    most = dp_advantage(epsilon, 1e-5)
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    rows.append([f"{epsilon:g}", f"{most:.4f}", f"{(1 + most) / 2:.1%}", f"{2 * truth - 1:.4f}"])
    assert 2 * truth - 1 <= most
table(["ε (δ = 1e-5)", "largest advantage", "largest accuracy", "randomised response reaches"], rows)

# %% [markdown]
# The last column shows that the bound is nearly sharp: a mechanism that tells the truth about one bit with odds
# $e^\varepsilon$ is $(\varepsilon, 0)$-private, and the best attack on it has exactly this advantage. At
# $\varepsilon = 8$ hardly anything is promised.
#
# ## Noise
#
# Let $q$ be a sum over records, to which each record adds a vector of length at most $C$. Publish
# $q + N(0, \sigma^2 C^2 I)$. With and without a record this is one of two normal distributions whose means are at
# most $C$ apart, or $1/\sigma$ standard deviations. The best attack is a threshold half-way (chapter 4), with the
# advantage
#
# $$\text{TV} = 2 \Phi\Big( \frac{1}{2 \sigma} \Big) - 1 ,$$
#
# where $\Phi$ is the distribution function of the standard normal distribution.
#
# ## DP-SGD
#
# A step of SGD uses the data in one place only, the sum of the gradients. So ([Abadi et al.
# 2016](../references.md#abadi-et-al-2016)): **clip** each record's gradient to length $C$, **sum**, **add noise**.
# Everything after that, momentum, a mask, ADMM, sees only the noisy sum, and costs nothing: *post-processing*.
#
# $$g \leftarrow \frac1L \Big( \sum_{i \in \text{sample}} \frac{g_i}{\max(1, \|g_i\| / C)}
# \;+\; N(0, \sigma^2 C^2 I) \Big) .$$
#
# The sample has each record with the same probability, independently, and $L$ is here the number of records that a
# sample has on average (not the loss).
#
# ## Clipping without gradients
#
# To clip, one needs the length of *each record's* gradient, and storing them all takes as many copies of the network
# as there are records. For a dense layer there is a better way. From chapter 1, record $n$ contributes
# $dW_n = dy_n\, x_n^T$, a matrix of rank one:
#
# $$\|dW_n\|^2 = \sum_{ij} (dy_{n,i}\, x_{n,j})^2 = \|dy_n\|^2\, \|x_n\|^2 .$$
#
# Two lengths that the backward pass has at hand. And since $dW$ is linear in $dy_n$, the clipped sum is an ordinary
# weight gradient in which each $dy_n$ is first multiplied by its factor.

# %%
from nanoprune.defend import DPSGD
from nanoprune.defend.record_norms import record_norms
from nanoprune.nn import Dense, Network, ReLU, Sequential, Workspace, cross_entropy

source(record_norms.dispatch(Dense), DPSGD.clip, DPSGD.add_noise)

# %% [markdown]
# `saved` is what the forward pass kept, and `support` is empty here: it is for pruned networks. A workspace with
# `defer=True` takes no weight gradients in the backward pass, but keeps what they need in `deferred`; `clip` takes
# them afterwards. The oracle is what all this avoids: one backward pass for each record.

# %%
from nanoprune.lab.data import load

digits = load("digits")
X, y = digits.x[:12].T[None].astype(np.float64), digits.y[:12][None]
net = Network(Sequential(Dense(64, 16), ReLU(), Dense(16, 10)), (64,), 1, np.float64)
net.initialise([np.random.default_rng(0)])

C, lengths, clipped = 4.0, [], np.zeros_like(net.theta)
for i in range(12):
    ws = Workspace()
    _, dlogits = cross_entropy(net.forward(X[..., i : i + 1], ws), y[:, i : i + 1])
    net.backward(dlogits, ws)
    lengths.append(np.linalg.norm(net.grad))
    clipped += net.grad / max(1, lengths[-1] / C)

ws = Workspace(defer=True)
_, dlogits = cross_entropy(net.forward(X, ws), y, count=1)  # the sum over records, not the mean
net.backward(dlogits, ws)
squares = sum(record_norms(layer, dY, ws, saved, {}) for layer, dY, saved in ws.deferred)[0]
private = DPSGD(clip=C, noise=0.0)
private.batch, private.support = 1, None
private.clip(net, ws)
say(
    f"""
    Lengths of {len(lengths)} gradients, from {min(lengths):.2f} to {max(lengths):.2f}: largest difference
    {np.abs(np.sqrt(squares) - lengths).max():.1e}. {sum(length > C for length in lengths)} of them are clipped, and the
    clipped sums differ by {np.abs(net.grad - clipped).max():.1e}.
    """
)
assert np.abs(np.sqrt(squares) - lengths).max() < 1e-10
assert np.abs(net.grad - clipped).max() < 1e-10
assert any(length > C for length in lengths)

# %% [markdown]
# ## Many steps
#
# Each step spends some privacy. Two things help: a step sees each record with a small probability only
# (*subsampling*), and the log odds that the steps reveal are random, so that they partly cancel, as in a random
# walk. Computing $\varepsilon$ for all steps together is delicate, so the package leaves it to a library made for it
# (`nanoprune.lab.privacy.accounting`; RDP, Rényi differential privacy, is one of its ways to add up). For 200 members,
# samples of 40 on average and 30 epochs:

# %%
from nanoprune.lab.privacy.accounting import epsilon_rdp, phase

MEMBERS, BATCH, EPOCHS, DELTA = 200, 40, 30, 1e-3
noises = (8.0, 4.0, 2.0, 1.0, 0.6)
spent = {noise: epsilon_rdp([phase(MEMBERS, BATCH, noise, EPOCHS)], DELTA) for noise in noises}
steps = EPOCHS * MEMBERS // BATCH
table(
    ["noise σ", f"ε of all {steps} steps, δ = {DELTA:g}", "largest advantage"],
    [[f"{noise:g}", f"{e:.2f}", f"{dp_advantage(e, DELTA):.3f}"] for noise, e in spent.items()],
)

# %% [markdown]
# ## The experiment
#
# Train with each of these, and attack. `Run` makes the batches of a training, and its `estimate` is what is done with
# their gradients. No attack may be above the line of the theorem; how far below is it?

# %%
import functools

from nanoprune.lab.course.digits import accuracies, attack, classroom
from nanoprune.lab.course.methods import interval, points
from nanoprune.run import Run
from nanoprune.schedule import Schedule
from nanoprune.train import train

room = classroom(replicas=3)
results = {}
for noise in noises:
    net = room.network([64])
    estimate = DPSGD(clip=1.0, noise=noise, seeds=range(room.replicas))  # seeds make it repeatable, and not private
    plan = Schedule(EPOCHS, batch=BATCH, lr=0.25)
    run = functools.partial(Run, estimate=estimate)
    train(net, room.records, room.members, plan, room.generators(1), run=run)
    results[noise] = accuracies(room, net, room.nonmembers), 2 * attack(room, net) - 1  # (R,) each

# %% tags=["hide-input"]
drawing, (left, right) = axes(2)
epsilons = [spent[noise] for noise in noises]
left.semilogx(epsilons, [dp_advantage(e, DELTA) for e in epsilons], "s--", color="C1", label="theorem: at most")
(test, test_half), (found, found_half) = (np.array([interval(results[noise][i]) for noise in noises]).T for i in (0, 1))
left.errorbar(epsilons, found, yerr=found_half, fmt="o-", color="C0", capsize=3, label="attack")
left.set(xlabel="ε", ylabel="advantage", ylim=(-0.2, 1.05))
left.legend(fontsize=8)
right.errorbar(epsilons, test, yerr=test_half, fmt="o-", capsize=3)
right.set(xlabel="ε", ylabel="test accuracy", ylim=(0, 1), xscale="log")
figure(
    drawing,
    "Left: the advantage of the attack and the bound of the theorem against epsilon. The bound rises from "
    f"{dp_advantage(epsilons[0], DELTA):.2f} to {dp_advantage(epsilons[-1], DELTA):.2f}; the means of the attack stay "
    f"between {found.min():.3f} and {found.max():.3f}. Right: test accuracy rises with epsilon, from {test[0]:.2f} to "
    f"{test[-1]:.2f}. Both have 95% intervals over three networks.",
)
table(
    ["ε", "test accuracy %", "advantage of the attack, points", "largest possible, points"],
    [
        [f"{e:.1f}", *(points(values) for values in results[noise]), f"{100 * dp_advantage(e, DELTA):.1f}"]
        for noise, e in spent.items()
    ],
)
assert all(results[n][1].mean() <= dp_advantage(spent[n], DELTA) for n in noises)
assert (np.diff(test) > 0).all()

# %% [markdown]
# The promise has its price in accuracy: the smaller $\varepsilon$, the more noise. Our attack is far below the bound.
# That does not make the bound wrong. It covers the worst training set and an attacker who knows all other records.
#
# ## What this does not show
#
# - Here the generators have public seeds, so that this page can be built again. Whoever knows the seed can subtract
#   the noise: **such a run is not private**. Without `seeds` the operating system draws them.
# - $\varepsilon$ covers the parameters. It does not cover the choice of hyperparameters on the same members, or
#   accuracies on members that are told. [More in the documentation](../../docs/privacy.md).
# - The bound is about adding or removing *one* record. Where several records are of one person, or alike, an attacker
#   learns from all of them, and the bound for one does not cover that.
# - 200 records are far too few for DP-SGD to be useful. With more records the same noise costs less.
#
# ## Exercises
#
# In `book/exercises/10_privacy.py`; `python cli.py learn check 10` grades them.
#
# 1. `record_lengths`: the length of each record's gradient in a dense layer, its bias included.
# 2. `clipped_gradient`: the clipped sum, without a loop over records.
# 3. `advantage_bound`: the bound from $\varepsilon$ and $\delta$; and at $\varepsilon = 0$ it must be $\delta$.
