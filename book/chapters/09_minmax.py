# %% [markdown]
# # 9. The Min-Max game
#
# Instead of hoping that a defence helps against attackers, train against one. **What does a network learn that is
# trained to be right and, at the same time, to fool an adversary, and what is proved when the adversary is no better
# than chance?**
#
# ## The adversary's gain
#
# An adversary $h$ sees a prediction $p$ and a label $y$, and gives a number $h(p, y) \in (0, 1)$: the probability
# that the record is a member. It gets members from the training set $D$, and others from a *reference set* $D'$ of
# the same source. Its gain is ([Nasr et al. 2018](../references.md#nasr-et-al-2018))
#
# $$G_W(h) = \tfrac12 E_D[\log h(p, y)] + \tfrac12 E_{D'}[\log(1 - h(p, y))] .$$
#
# **The best adversary.** Let $f$ and $f'$ be the densities of $(p, y)$ on members and on others. At each point, $h$
# maximises $\tfrac12 f \log h + \tfrac12 f' \log(1 - h)$. The derivative $\tfrac{f}{2h} - \tfrac{f'}{2(1-h)}$ is zero
# at
#
# $$h^* = \frac{f}{f + f'}, \qquad \text{and there} \quad G_W(h^*) = -\log 2 + \mathrm{JS}(f, f'),$$
#
# with the Jensen-Shannon divergence
# $\mathrm{JS} = \tfrac12 E_f \log \tfrac{2f}{f + f'} + \tfrac12 E_{f'} \log \tfrac{2f'}{f + f'}$. It is zero if and
# only if $f = f'$: then no attack on predictions works at all, $h^* = \tfrac12$ everywhere, and the adversary's
# log-loss is $\log 2 = 0.693$. That is **chance**.
#
# **The game** is
#
# $$\min_W\ L_D(W) + \lambda \max_h G_W(h) .$$
#
# The classifier minimises its loss and, by $\lambda$, the divergence between its predictions on members and those on
# others.

# %%
import numpy as np

from nanoprune.lab.course.show import axes, figure, say, source, table

f, g = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])


def gain(h):
    return 0.5 * (f * np.log(h)).sum() + 0.5 * (g * np.log(1 - h)).sum()


best = f / (f + g)
divergence = 0.5 * (f * np.log(2 * f / (f + g))).sum() + 0.5 * (g * np.log(2 * g / (f + g))).sum()
others = [gain(np.clip(best + d, 0.01, 0.99)) for d in np.random.default_rng(0).uniform(-0.3, 0.3, (1000, 3))]
say(
    f"""
    Three predictions, with probabilities (0.5, 0.3, 0.2) on members and (0.2, 0.3, 0.5) on others. The gain at $h^*$ is
    {gain(best):.12f}, and $-\\log 2 + \\mathrm{{JS}}$ is {divergence - np.log(2):.12f}. The best of 1,000 other
    adversaries has {max(others):.4f}.
    """
)
assert abs(gain(best) - divergence + np.log(2)) < 1e-12
assert max(others) <= gain(best)

# %% [markdown]
# ## The gradient
#
# The classifier needs $\partial G / \partial z$, with $z$ its logits and $p = \mathrm{softmax}(z)$. Let
# $g = \partial G / \partial p$, which is the input gradient of the adversary's backward pass. Since
# $\partial p_c = p_c\, \partial \log p_c$, chapter 2 gives
# $\partial p_c / \partial z_k = p_c (\mathbf 1[c = k] - p_k)$, and the transpose of this matrix times $g$ is
#
# $$\frac{\partial G}{\partial z_k} = \sum_c p_c (\mathbf 1[c = k] - p_k)\, g_c =
# p_k \Big( g_k - \sum_c p_c\, g_c \Big) .$$

# %%
from nanoprune.defend import MinMax

source(MinMax.gain_gradient, MinMax.maximise)

# %% [markdown]
# In the code `log_loss` returns minus the gain of $h$ and its derivative, `attack_input` puts $p$ above
# $\text{onehot}(y)$, and `_draw` draws a batch. `ws.evaluation` is a workspace that keeps nothing for a backward pass,
# and `passes.run` runs `objective` on the batch.
#
# The classifier's step takes the *members'* half of $G$ only. A gradient through the predictions on $D'$ would train
# on $D'$, and its records would need protection, too.
#
# In each step of training the adversary moves first, then the classifier. The maximum over $h$ is never reached; a few
# steps of Adam follow it. ([Adam](../references.md#kingma-and-ba-2015) is SGD with a step size of its own for each
# weight.)
#
# ## The experiment
#
# The networks of chapter 2, trained for 50 epochs with the game at two strengths, and without it. The adversary of
# the paper (`nanoprune.attack.attack_network`) is much larger than the classifier. Here is a small one, so that this
# page is built in seconds; everything else is the package's.

# %%
from nanoprune.lab.course.digits import accuracies, attack, classroom
from nanoprune.lab.course.methods import points, verdict
from nanoprune.nn import Dense, Network, ReLU, Sequential
from nanoprune.schedule import Schedule
from nanoprune.train import train

room = classroom(replicas=4)


def small_adversary():
    """h(p, y): 20 inputs, 64 hidden units, one logit; the last layer starts at zero, so that h = 1/2."""
    h = Network(Sequential(Dense(20, 64), ReLU(), Dense(64, 1)), (20,), room.replicas)
    h.initialise(room.generators(7))
    h.weights[-1].value[...] = 0
    return h


def played(lam, steps=2, rate=3e-3):
    """Networks trained with the game at lambda, and the game; None where there is none."""
    net, game = room.network(), None
    if lam:
        sets = room.members, room.reference
        game = MinMax(room.records, 10, *sets, room.generators(5), lam=lam, inner_steps=steps, lr=rate)
        game.h = small_adversary()
    train(net, room.records, room.members, Schedule(50, batch=32, lr=0.05), room.generators(1), game=game)
    return net, game


runs = {lam: played(lam) for lam in (0.0, 1.0, 3.0)}
test = {lam: accuracies(room, net, room.nonmembers) for lam, (net, _) in runs.items()}
leak = {lam: attack(room, net) for lam, (net, _) in runs.items()}
rows = []
for lam, (_, game) in runs.items():
    change, loss = leak[lam] - leak[0.0], f"{np.mean(game.history[-1][0]):.3f}" if game else ""
    found = (points(change), verdict(change)) if game else ("", "")
    rows.append([f"λ = {lam:g}" if game else "no game", points(test[lam]), points(leak[lam]), loss, *found])
table(["", "test accuracy %", "attack accuracy %", "adversary's loss", "change of the attack, points", "verdict"], rows)
cost = test[3.0] - test[0.0]
say(
    f"""
    The strong game costs accuracy, too: with λ = 3 it changes by {points(cost)} points. Chapter 8 asks for a control of
    the same accuracy, such as early stopping. It is missing here, so this table does not show that the game protects
    better than stopping early.
    """
)
assert cost.max() < 0

# %% tags=["hide-input"]
drawing, plot = axes()
for lam, (_, game) in runs.items():
    if game:
        plot.plot(np.arange(1, 51), [loss.mean() for loss, _ in game.history], label=f"λ = {lam:g}")
plot.axhline(np.log(2), linestyle=":", color="C4", label="chance, log 2")
plot.set(xlabel="epoch", ylabel="log-loss of the adversary")
plot.legend()
ends = {lam: np.mean(game.history[-1][0]) for lam, (_, game) in runs.items() if game}
figure(
    drawing,
    "Log-loss of the adversary against the epoch for two values of lambda, with a line at chance, 0.693. The last "
    f"values are {ends[1.0]:.3f} for lambda 1 and {ends[3.0]:.3f} for 3.",
)

# %% [markdown]
# ## An adversary at chance
#
# If the adversary in the game is at chance, is nothing left to find? Play once more with a *lazy* adversary: one step
# in place of two, at a learning rate of a thousandth. Then attack the finished networks with the threshold of
# chapters 4 and 8, which played no part in the game.

# %%
lazy, lazy_game = played(1.0, steps=1, rate=3e-6)
loss = np.mean(lazy_game.history[-1][0])
found = attack(room, lazy).mean()
say(
    f"""
    The lazy adversary ends with a loss of {loss:.3f}, where chance is {np.log(2):.3f}. The threshold attack is right
    in **{found:.1%}** of the cases on the same networks, after {leak[0.0].mean():.1%} without any game.
    """
)
assert abs(loss - np.log(2)) < 0.01
assert found > 0.55

# %% [markdown]
# The classifier defends against *this* adversary, at this moment, with this many steps. An adversary at chance may
# mean that nothing leaks, or that the adversary is weak, was given too few steps, or learns too slowly. **It must
# never be read as the first without checking the others**: attack the finished network afresh. A game whose adversary
# hardly moves looks like a defence, and is an undefended network.
#
# ## What this does not show
#
# - Four networks are few. Where the verdict is "no difference detected", these networks do not say whether the game
#   helps. [The results](../../docs/results.md) have the game with the full adversary and more seeds, with its controls.
# - The attack reads the predictions on *single* records. A game against predictions protects predictions: someone who
#   has the weights can look further.
# - The theorem is about the best $h$ of all. Networks trained by gradient steps are not that.
#
# ## Exercises
#
# In `book/exercises/09_minmax.py`; `python cli.py learn check 9` grades them.
#
# 1. `best_adversary`: from two histograms, $h^*$ and its gain.
# 2. `softmax_pullback`: from $g = \partial G/\partial p$ the derivative with respect to the logits.
# 3. `guess_of`: a single number $h$ for all records, when members are a share $q$ of what the adversary sees. What is
#    the best constant, and its log-loss?
