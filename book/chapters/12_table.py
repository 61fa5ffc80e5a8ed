# %% [markdown]
# # 12. The whole table, and how to read it
#
# Papers on defences end in a table with one bold number. **Here are all methods of this book in one table. What may
# be concluded from it, and what not?**
#
# ## The methods
#
# Each is trained on the same 200 members of the same splits; networks of one size have the same initial weights. The
# first methods are those of chapter 8, with ADMM and one-shot pruning to a tenth. *Small dense* is a dense network
# with about as many weights as these have left. The game is that of chapter 9 with $\lambda = 1$ and three steps of
# the adversary, and DP-SGD that of chapter 10 in batches of 32.

# %%
import functools

import numpy as np

from nanoprune.attack import scores
from nanoprune.attack.metrics import balanced_accuracy
from nanoprune.attack.threshold import best_threshold
from nanoprune.defend import DPSGD, MinMax
from nanoprune.lab.course.digits import accuracies, classroom, probabilities
from nanoprune.lab.course.methods import (
    dense_path,
    early_stop,
    fit,
    interval,
    one_shot,
    points,
    same_schedule,
    verdict,
    with_admm,
)
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.nn import Dense, Network, ReLU, Sequential
from nanoprune.run import Run

room, KEEP = classroom(replicas=4), 0.1
path = dense_path(room)
dense = path[-1]
nets = {"dense": dense, "same schedule": same_schedule(room, dense)}
nets["ADMM, a tenth"] = with_admm(room, dense, KEEP)
nets["one-shot, a tenth"] = one_shot(room, dense, KEEP)
nets["early stop"] = early_stop(room, path, accuracies(room, nets["ADMM, a tenth"], room.reference))
nets["small dense"] = dense_path(room, widths=[56, 22])[-1]

game = MinMax(room.records, 10, room.members, room.reference, room.generators(5), lam=1.0, inner_steps=3, lr=3e-3)
game.h = Network(Sequential(Dense(20, 64), ReLU(), Dense(64, 1)), (20,), room.replicas)
game.h.initialise(room.generators(7))
nets["min-max game"] = room.network()
fit(room, nets["min-max game"], 50, 1, game=game)

private = functools.partial(Run, estimate=DPSGD(clip=1.0, noise=1.0, seeds=range(room.replicas)))
nets["DP-SGD, σ = 1"] = room.network([64])
fit(room, nets["DP-SGD, σ = 1"], 30, 1, lr=0.25, run=private)

# %% [markdown]
# ## The attack
#
# There are several scores. Which attack is "the" attack? An attacker takes the one that works best *on the records
# that it knows*. To take the one that is best on the scored records is a cheat of the kind that chapter 4 measured:
# it looks at the answers.

# %%
SCORES = (scores.correctness, scores.confidence, scores.entropy, scores.modified_entropy)


def strongest(net):
    """Balanced accuracy (R,) of the score that does best on the known records; and, the cheat, on the scored ones."""
    honest, cheating, known = [], [], room.members.shape[1] // 2
    p = [probabilities(room, net, index) for index in (room.members, room.nonmembers)]
    for r in range(room.replicas):
        own, others = [], []
        for score in SCORES:
            a, b = score(p[0][r], room.labels[room.members[r]]), score(p[1][r], room.labels[room.nonmembers[r]])
            t = best_threshold(a[:known], b[:known])
            own.append(balanced_accuracy(a[:known] >= t, b[:known] >= t))
            others.append(balanced_accuracy(a[known:] >= t, b[known:] >= t))
        honest.append(others[int(np.argmax(own))])
        cheating.append(max(others))
    return np.array(honest), np.array(cheating)


test = {name: accuracies(room, net, room.nonmembers) for name, net in nets.items()}
leak, cheat = {}, {}
for name, net in nets.items():
    leak[name], cheat[name] = strongest(net)
control = {
    "same schedule": "dense",
    "ADMM, a tenth": "same schedule",
    "one-shot, a tenth": "same schedule",
    "early stop": "dense",
    "small dense": "dense",
    "min-max game": "dense",
    "DP-SGD, σ = 1": "dense",
}
rows = []
for name, net in nets.items():
    row = [name, f"{net.nonzero()[0]:,}", points(test[name]), points(leak[name])]
    if name in control:
        change = leak[name] - leak[control[name]]
        row += [control[name], points(change), verdict(change)]
    rows.append(row + [""] * (7 - len(row)))
source(verdict, interval)
table(["method", "weights", "test %", "strongest attack %", "against", "change, points", "verdict"], rows)
optimism = np.mean([cheat[name] - leak[name] for name in nets])
say(f"Choosing the attack by the scored records would have added {100 * optimism:.1f} points to it, on average.")
assert optimism >= 0

# %% [markdown]
# ## Reading it
#
# **The floor is 50.** An attack accuracy of 55 is 5 points above a coin, not 55 of 100. And it is *balanced*: had we
# counted records, the constant answer "not a member" would be right for all 1,000 others and wrong for 200 members:

# %%
sizes = room.members.shape[1], room.nonmembers.shape[1]
constant = sizes[1] / sum(sizes)
floor = balanced_accuracy(np.zeros(sizes[0], bool), np.zeros(sizes[1], bool))
say(f"The constant answer is right for {constant:.0%} of the records. Its balanced accuracy is {floor:.0%}.")
assert floor == 0.5

# %% [markdown]
# **The interval is the result.** A mean over four seeds is itself random. If the interval of a difference holds zero,
# the table does not say that the two are equal; it says that four seeds do not tell them apart.
#
# **Each line has its control.** Pruning is compared with the same schedule, not with the dense network, since the
# schedule alone changes the leak.
#
# **Leak and accuracy are one result.** A method far to the left in the next figure buys privacy with accuracy, and
# anything can do that. The dashed line is the dense network on its way, after several numbers of epochs. A defence has
# to lie below it: it has to leak less than stopping early at the same accuracy.

# %% tags=["hide-input"]
stops = [path[epoch - 1] for epoch in (2, 3, 5, 8, 12, 20, 30, 50)]
way = [(accuracies(room, net, room.nonmembers).mean(), strongest(net)[0].mean()) for net in stops]
drawing, plot = axes()
plot.plot(*(100 * np.array(way).T), "--", color="C4", linewidth=1, label="dense, 2 to 50 epochs")
for i, (name, mark) in enumerate(zip(nets, "os^vD*Px", strict=True)):
    (x, dx), (y, dy) = interval(test[name]), interval(leak[name])
    plot.errorbar(100 * x, 100 * y, xerr=100 * dx, yerr=100 * dy, fmt=mark, color=f"C{i % 6}", capsize=2, label=name)
plot.axhline(50, linestyle=":", color="C4")
plot.set(xlabel="test accuracy %", ylabel="strongest attack %", ylim=(46, 76))
plot.legend(fontsize=7, ncols=2, loc="upper left")
told = "; ".join(f"{name} {100 * test[name].mean():.0f} and {100 * leak[name].mean():.0f}" for name in nets)
figure(
    drawing,
    "Accuracy of the strongest attack against test accuracy, one point with 95% intervals for each method. Test and "
    f"attack accuracy in percent: {told}. A dashed line is the dense network after 2 to 50 epochs, from "
    f"{100 * way[0][0]:.0f} and {100 * way[0][1]:.0f} on.",
)
change = leak["ADMM, a tenth"] - leak["early stop"]
say(
    f"""
    Early stopping at about ADMM's accuracy is the test for ADMM: the difference is {points(change)} points
    ({verdict(change)}).
    """
)

# %% [markdown]
# ## How often does a table lie?
#
# A 95% interval misses the truth in one of twenty cases: that is its definition. A table with $m$ comparisons in
# which *nothing* has an effect shows at least one with probability $1 - 0.95^m$, if they are independent. Simulate it:
# methods that do nothing, four seeds each.

# %%
from scipy.stats import t as student

rng = np.random.default_rng(0)
many = np.array([1, 2, 5, 7, 10, 20])
half_width = student.ppf(0.975, 3) / np.sqrt(4)
rates, corrected = [], []
for m in many:
    noise = rng.standard_normal((4000, m, 4))
    ratio = np.abs(noise.mean(axis=2)) / noise.std(axis=2, ddof=1)
    rates.append((ratio > half_width).any(axis=1).mean())
    corrected.append((ratio > student.ppf(1 - 0.025 / m, 3) / np.sqrt(4)).any(axis=1).mean())

# %% tags=["hide-input"]
drawing, plot = axes()
plot.plot(many, rates, "o", label="simulated, intervals of 95%")
plot.plot(np.arange(1, 21), 1 - 0.95 ** np.arange(1, 21), "--", color="C1", label="1 − 0.95^m")
plot.plot(many, corrected, "s", color="C2", label="simulated, intervals of 1 − 0.05/m")
plot.set(xlabel="comparisons m in which nothing has an effect", ylabel="share of tables with an effect", ylim=(0, 0.75))
plot.legend()
figure(
    drawing,
    "Share of tables that show at least one effect although there is none, against the number of comparisons. It rises "
    f"from {rates[0]:.2f} with one comparison to {rates[-1]:.2f} with twenty, as one minus 0.95 to the power m. With "
    f"intervals of 1 minus 0.05 over m it stays near {np.mean(corrected):.2f}.",
)
say(
    f"""
    A table with as many comparisons as ours, {len(control)}, shows a false effect in {rates[3]:.0%} of the cases. With
    intervals of confidence $1 - 0.05/m$ (Bonferroni) it is {corrected[3]:.0%}. Ours share their controls, so they are
    not independent; Bonferroni's intervals do not need that.
    """
)
assert len(control) == many[3]
assert np.abs(np.array(rates) - (1 - 0.95**many)).max() < 0.03
assert max(corrected) < 0.065

# %% [markdown]
# So one surprising line of a long table is a reason to run that line again, with new seeds, and no more than that.
# The audits of the package share one confidence among all their tests for this reason.
#
# ## What the project found
#
# With more seeds, larger data sets and stronger attackers, [the results](../../docs/results.md) have the tables, each
# with the command that made it. [The methods](../../docs/methods.md) have their controls. You can now read every line
# of both, and the [source](../source/index.md) of what is behind them.
#
# ## What this does not show
#
# - The best attack here is a threshold on one prediction. The strongest known ones use shadow models.
# - A mean over people hides single ones. The exposure of *one* record is a question of its own.
# - It is one data set, small, of digits. What holds for it need not hold for yours: `python cli.py reproduce` runs
#   the comparison on others.
#
# ## Exercises
#
# In `book/exercises/12_table.py`; `python cli.py learn check 12` grades them.
#
# 1. `balanced`: balanced accuracy from four counts.
# 2. `chosen_attack`: the honest accuracy of the strongest of several attacks.
# 3. `comparisons`: how many independent comparisons with 95% intervals may be made, before a false effect somewhere
#    is more likely than not? For any level, and any share.
