# %% [markdown]
# # 8. Does pruning defend?
#
# Everything is there: a network, its leak, the projection, ADMM. **If nine tenths of the weights go, what does the
# attacker lose, what does the owner lose, and is it the pruning that did it?**
#
# ## The algorithm
#
# MIA-Pruning ([Wang et al. 2020](../references.md#wang-et-al-2020)) is
#
# $$\min_W\ L_D(W) \quad \text{subject to} \quad \|W_i\|_0 \le k_i \ \text{ for each layer } i,$$
#
# solved in three phases:
#
# 1. **ADMM.** Train with the spring of chapter 7; project after every few epochs.
# 2. **Hard prune.** Project once, so that the constraint holds exactly.
# 3. **Retrain** the survivors. A mask of zeros and ones multiplies the gradient, so that what is zero stays zero.
#
# The whole loop is one function. Read it against the formula: each term has a line. `game` is the subject of chapter
# 9, and None here. `run` has what is no mathematics: the order of the batches, the learning rate, the losses that are
# recorded.

# %%
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.prune import Mask, hard_prune
from nanoprune.prune.mask import masked
from nanoprune.train import train

source(train, hard_prune, masked, Mask.apply)

# %% [markdown]
# ## The controls
#
# A pruned network differs from the baseline in more than its zeros: it trained longer, by another schedule. A fair
# comparison changes **one thing at a time**. So we train, from the same dense networks:
#
# | method | what it is | what it is a control for |
# |:--|:--|:--|
# | dense | the network of chapter 2, trained for 50 epochs | |
# | same schedule | the same epochs, nothing pruned | the longer training |
# | ADMM | the three phases | |
# | one-shot | the largest weights of the dense network, retrained for the 40 epochs of phases 1 and 3 together | ADMM |
# | early stop | the dense network, stopped where it is as accurate as ADMM | accuracy |
#
# The last one is the hardest. Damage to a network can make it leak less: one that has learned nothing leaks nothing. A
# defence must leak less than a network of *the same accuracy*.

# %%
from nanoprune.lab.course.digits import accuracies, attack, classroom
from nanoprune.lab.course.methods import (
    dense_path,
    early_stop,
    interval,
    one_shot,
    points,
    same_schedule,
    verdict,
    with_admm,
)

source(same_schedule, with_admm, one_shot)

# %% [markdown]
# `fit(room, net, epochs, purpose)` trains `net` on the members. `purpose` picks the random numbers, the same for all
# methods.
#
# Early stopping needs a choice of epoch, and choosing by the accuracy on the records that are scored would be a
# cheat. The *reference* records are used for nothing else here: the epoch is the first whose accuracy on them reaches
# ADMM's. In the tables, `points` prints the two numbers of `interval` in points of a percent.

# %%
source(early_stop, interval, verdict)

# %%
room, KEEP = classroom(replicas=5), 0.1
path = dense_path(room)  # the networks after each of 50 epochs; each is a call of `train` and begins with V = 0
dense = path[-1]
nets = {
    "dense": dense,
    "same schedule": same_schedule(room, dense),
    "ADMM": with_admm(room, dense, KEEP),
    "one-shot": one_shot(room, dense, KEEP),
}
nets["early stop"] = early_stop(room, path, accuracies(room, nets["ADMM"], room.reference))
test = {name: accuracies(room, net, room.nonmembers) for name, net in nets.items()}
leak = {name: attack(room, net) for name, net in nets.items()}
table(
    ["method", "weights", "test accuracy %", "attack accuracy %"],
    [[name, f"{net.nonzero()[0]:,}", points(test[name]), points(leak[name])] for name, net in nets.items()],
)

# %% [markdown]
# Five networks of each kind, with 95% intervals. The attack is a threshold, fitted on half of the members as in
# chapter 4. Its score is the *modified entropy* ([Song & Mittal 2021](../references.md#song-and-mittal-2021)), which
# looks at the whole prediction and at the label: $(1 - p_y) \log p_y + \sum_{c \ne y} p_c \log(1 - p_c)$, zero for a
# certain and right prediction, else below. Now the *differences*, paired: the same split, the same initial weights,
# one thing changed. Pairing takes out what splits have in common.

# %%
pairs = (("same schedule", "dense"), ("ADMM", "same schedule"), ("ADMM", "one-shot"), ("ADMM", "early stop"))
rows, found = [], {}
for a, b in pairs:
    found[a, b] = verdict(leak[a] - leak[b])
    rows.append([f"{a} − {b}", points(test[a] - test[b]), points(leak[a] - leak[b]), found[a, b]])
table(["difference", "test accuracy, points", "attack accuracy, points", "verdict"], rows)

# %% tags=["hide-input"]
drawing, plot = axes()
for i, (a, b) in enumerate(pairs):
    change, half = interval(leak[a] - leak[b])
    plot.errorbar(100 * change, i, xerr=100 * half, fmt="o", color="C0", capsize=4)
plot.axvline(0, linestyle=":", color="C4")
plot.set(yticks=range(len(pairs)), yticklabels=[f"{a} − {b}" for a, b in pairs], xlabel="change of the attack, points")
plot.set_ylim(len(pairs) - 0.5, -0.5)
changes = "; ".join(f"{a} minus {b} {points(leak[a] - leak[b])}" for a, b in pairs)
figure(drawing, f"Changes of the attack's accuracy in points, with 95% intervals and a line at zero: {changes}.")
say(
    f"""
    Pruning against the same schedule without it: {points(leak["ADMM"] - leak["same schedule"])} points
    ({found["ADMM", "same schedule"]}). Pruning against early stopping at the same accuracy:
    {points(leak["ADMM"] - leak["early stop"])} points ({found["ADMM", "early stop"]}).
    ADMM against one-shot pruning: {points(leak["ADMM"] - leak["one-shot"])} points of leak
    ({found["ADMM", "one-shot"]}), for {points(test["ADMM"] - test["one-shot"])} points of accuracy.
    """
)
answer = {
    "less leak": "passes that test here",
    "no difference detected": "does not pass that test here: no difference to stopping early is detected",
    "more leak": "does not pass that test here: it leaks more than stopping early",
}
say(f"A defence must leak less than a network of the same accuracy. Pruning {answer[found['ADMM', 'early stop']]}.")

# %% [markdown]
# Read the table with care. **A difference whose interval contains zero has not been shown to be an effect**; there may
# be one that five networks are too few to show. Where the interval excludes zero the change is probably real: of
# intervals without any effect, one in twenty does so by chance, and this table has four.
#
# ## How much is pruned
#
# The curves show the price of MIA-Pruning: both accuracies, for several budgets. At 1 it is the same schedule with
# nothing pruned.

# %%
import numpy as np

keeps = (1.0, 0.2, 0.1, 0.05, 0.02)
pruned = {1.0: nets["same schedule"], KEEP: nets["ADMM"]}
curve = []
for keep in keeps:
    net = pruned[keep] if keep in pruned else with_admm(room, dense, keep)
    curve.append([accuracies(room, net, room.nonmembers), attack(room, net)])
curve = np.array(curve)  # (keeps, test and attack, R)

# %% tags=["hide-input"]
drawing, plot = axes()
for side, name, marker in zip((0, 1), ("test accuracy", "attack accuracy"), ("o-", "s-"), strict=True):
    mean, half = 100 * np.array([interval(values) for values in curve[:, side]]).T
    plot.errorbar(keeps, mean, yerr=half, fmt=marker, capsize=3, label=name)
plot.axhline(50, linestyle=":", color="C4", label="an attack that guesses")
plot.set(xlabel="share of the weights that is kept", ylabel="%", xscale="log", xticks=keeps)
plot.set_xticklabels([f"{keep:g}" for keep in keeps])
plot.minorticks_off()
plot.invert_xaxis()
plot.legend(fontsize=8)
figure(
    drawing,
    "Test and attack accuracy in percent, with 95% intervals, against the share of weights kept. "
    + "; ".join(f"{keep:g}: {points(a)} and {points(b)}" for keep, (a, b) in zip(keeps, curve, strict=True))
    + ". A line marks 50, an attack that guesses.",
)
first, in_all = curve[1] - curve[0], curve[-1] - curve[0]
say(
    f"""
    Most of the change comes between all weights and a fifth: the attack changes by {points(first[1])} points, where
    test accuracy changes by {points(first[0])}. From all weights to a fiftieth the changes are {points(in_all[1])} and
    {points(in_all[0])}.
    """
)
assert first[1].mean() < in_all[1].mean() / 2

# %% [markdown]
# ## What this does not show
#
# - The five splits are of the same 1,797 digits and overlap. So the networks are not independent, and the intervals
#   may be too narrow.
# - One attack is a lower bound on the leak. An attacker with shadow models may find more; the package's
#   `python cli.py attack` trains them.
# - The digits are a small and easy set. On others the differences are larger or smaller; [the
#   results](../../docs/results.md) have the tables, with their commands.
# - The attack looks at the final network. Whoever has the dense network, too, attacks that.
#
# ## Exercises
#
# In `book/exercises/08_pruning.py`; `python cli.py learn check 8` grades them.
#
# 1. `masked_step`: a step of SGD with momentum that keeps pruned weights at zero.
# 2. `paired_interval`: the mean of paired differences and half of their 95% interval. (`scipy.stats.t` has the
#    quantiles.)
# 3. `early_stop`: the epoch at which a network of given accuracies first reaches a wanted one, and (unlike the code
#    above) the best epoch where none does.
