# %% [markdown]
# # 8. Does pruning defend?
#
# Everything is there: a network, its leak, the projection, ADMM. **If nine tenths of the weights go, what does the
# attacker lose, what does the owner lose, and is it the pruning that did it?**
#
# ## The algorithm
#
# MIA-Pruning (Wang et al. 2020) is
#
# $$\min_W\ L_D(W) \quad \text{subject to} \quad \|W_i\|_0 \le k_i \ \text{ for each layer } i,$$
#
# solved in three phases:
#
# 1. **ADMM.** Train with the spring of chapter 7; project after every few epochs.
# 2. **Hard prune.** Project once, so that the constraint holds exactly.
# 3. **Retrain** the survivors. A mask of zeros and ones multiplies the gradient, so that what is zero stays zero.
#
# The whole loop is one function. Read it against the formula: each term has a line.

# %%
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.prune import Mask, hard_prune
from nanoprune.train import train

source(train, hard_prune, Mask.apply)

# %% [markdown]
# ## The controls
#
# A pruned network differs from the baseline in more than its zeros: it trained longer, by another schedule. A fair
# comparison changes **one thing at a time**. So we train, from the same dense networks:
#
# | method | what it is | what it is a control for |
# |:--|:--|:--|
# | dense | the network of chapter 2 | |
# | same schedule | the same epochs, nothing pruned | the longer training |
# | ADMM | the three phases | |
# | one-shot | the largest weights of the dense network, retrained for as many epochs | ADMM |
# | early stop | the dense network, stopped where its test accuracy is that of ADMM | accuracy |
#
# The last one is the hardest. Any damage to a network makes it leak less, a network that knows nothing leaks nothing.
# A defence must leak less than a network of *the same accuracy*.

# %%
import numpy as np

from nanoprune.lab.course.digits import accuracies, attack, classroom
from nanoprune.prune import ADMM, ADMMSettings, Budget
from nanoprune.schedule import Schedule

room = classroom(replicas=5)
KEEP = 0.1  # share of the weights


def fit(net, epochs, purpose, lr=0.05, **parts):
    train(net, room.records, room.members, Schedule(epochs, batch=32, lr=lr), room.generators(purpose), **parts)


def with_admm(dense, keep=KEEP):
    net = dense.copy()
    budget = Budget(net, keep)
    fit(net, 30, 2, admm=ADMM(net, budget, ADMMSettings(rho=0.1, iterations=10)))
    hard_prune(net, budget)
    fit(net, 10, 3, lr=0.01, mask=Mask(net))
    return net


def one_shot(dense, keep=KEEP):
    net = dense.copy()
    hard_prune(net, Budget(net, keep))
    fit(net, 30, 2, mask=Mask(net))
    fit(net, 10, 3, lr=0.01, mask=Mask(net))
    return net


def same_schedule(dense):
    net = dense.copy()
    fit(net, 30, 2)
    fit(net, 10, 3, lr=0.01)
    return net


dense, draws, path = room.network(), room.generators(1), []
for _ in range(50):  # epoch by epoch, so that each can be an early stop
    train(dense, room.records, room.members, Schedule(1, batch=32, lr=0.05), draws)
    path.append(dense.copy())
nets = {"dense": dense, "same schedule": same_schedule(dense), "ADMM": with_admm(dense), "one-shot": one_shot(dense)}

# %% [markdown]
# Early stopping needs a choice of epoch, and choosing by the accuracy on the records that are scored would be a
# cheat. The *reference* records are used for nothing else here: the epoch is the first whose accuracy on them reaches
# ADMM's.

# %%
wanted = accuracies(room, nets["ADMM"], room.reference)
early = room.network()
for r in range(room.replicas):
    reached = [net for net in path if accuracies(room, net, room.reference)[r] >= wanted[r]] or path[-1:]
    early.theta[r] = reached[0].theta[r]
nets["early stop"] = early


def interval(values):
    """Mean and half of its 95% interval over the seeds, by Student's t."""
    from scipy.stats import t

    return np.mean(values), t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))


def points(values):
    return "{:.1f} ± {:.1f}".format(*(100 * x for x in interval(values)))


test = {name: accuracies(room, net, room.nonmembers) for name, net in nets.items()}
leak = {name: attack(room, net) for name, net in nets.items()}
table(
    ["method", "weights", "test accuracy %", "attack accuracy %"],
    [[name, f"{net.nonzero()[0]:,}", points(test[name]), points(leak[name])] for name, net in nets.items()],
)

# %% [markdown]
# Five networks of each kind, with 95% intervals. The attack is a threshold on the modified entropy, fitted on half of
# the members as in chapter 4. Now the *differences*, paired: the same split, the same initial weights, one thing
# changed. Pairing takes out what splits have in common.

# %%
pairs = (("same schedule", "dense"), ("ADMM", "same schedule"), ("ADMM", "one-shot"), ("ADMM", "early stop"))
rows, found = [], {}
for a, b in pairs:
    (change, half), (cost, cost_half) = interval(leak[a] - leak[b]), interval(test[a] - test[b])
    verdict = "the interval holds zero" if abs(change) <= half else "less leak" if change < 0 else "more leak"
    found[a, b] = verdict
    rows.append([f"{a} − {b}", points(test[a] - test[b]), points(leak[a] - leak[b]), verdict])
table(["difference", "test accuracy, points", "attack accuracy, points", "verdict"], rows)
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

# %% [markdown]
# Read the table with care. **A difference whose interval holds zero is not an effect**; it may be one that five
# networks are too few to show. Where the interval excludes zero, one thing was changed and one thing differs.
#
# ## How much is pruned
#
# The more is pruned, the less is left to remember with. The curve shows the price: both accuracies, for several
# budgets.

# %%
keeps = (1.0, 0.2, 0.1, 0.05, 0.02)
curve = []
for keep in keeps:
    net = nets["ADMM"] if keep == KEEP else same_schedule(dense) if keep == 1 else one_shot(dense, keep)
    curve.append([accuracies(room, net, room.nonmembers).mean(), attack(room, net).mean()])
curve = np.array(curve)
drawing, plot = axes()
plot.plot(curve[:, 0], curve[:, 1], "o-")
for keep, (x, y) in zip(keeps, curve, strict=True):
    plot.annotate(f"{keep:g}", (x, y), textcoords="offset points", xytext=(5, 5))
plot.axhline(0.5, linestyle=":", color="C4")
plot.set(xlabel="test accuracy", ylabel="attack accuracy", ylim=(0.48, None))
figure(
    drawing,
    "Attack accuracy against test accuracy, one point for each share of weights kept. It goes from "
    f"({curve[0, 0]:.2f}, {curve[0, 1]:.2f}) with all weights to ({curve[-1, 0]:.2f}, {curve[-1, 1]:.2f}) with a "
    "fiftieth.",
)
assert curve[-1, 1] < curve[0, 1]

# %% [markdown]
# ## What this does not show
#
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
# 3. `early_stop`: the epoch at which a network of given accuracies first reaches a wanted one, and the best epoch
#    where none does.
