# %% [markdown]
# # 11. Why could pruning help?
#
# Chapter 8 measured that pruned networks leak less than networks of the same schedule. It did not show that they leak
# less than networks of the same accuracy. **Is there a reason, and what exactly do the theorems say that are quoted
# for it?** There are two kinds: a sparse network that leaks nothing *exists*, and a small network *cannot hold* much.
#
# ## Existence: a network inside a random network
#
# Take a number $w \in [-1, 1]$ and $m$ random numbers $c_1, \dots, c_m$. Some subset of these has a sum near $w$. How
# near? There are $2^m$ subsets, and their sums cover the interval ever more densely: the distance to the best one
# shrinks exponentially with $m$ ([Lueker 1998](../references.md#lueker-1998)).
#
# Now build a wide random network with $m$ random weights for each weight of a *target* network, and **prune** it:
# keep, for each target weight, the best subset. No weight is trained, yet the pruned network computes what the target
# computes. This is the strong lottery ticket theorem ([Malach et al. 2020](../references.md#malach-et-al-2020); with
# $m$ growing like $\log(1/\text{error})$: [Pensia et al. 2020](../references.md#pensia-et-al-2020), [Orseau et
# al. 2020](../references.md#orseau-et-al-2020)).
#
# **And privacy?** Let the target be trained on *public* records, and the random weights be drawn by nobody's data.
# Then the mask is a function of public things. The pruned network is independent of the members, and no attack on it
# has any advantage. So:
#
# > A sparse, accurate network without a leak exists.
#
# We do it. The target is a network trained on the reference records, which stand for public data here. For each of
# its weights, enumerate all subsets of $m$ random numbers.

# %%
import numpy as np

from nanoprune.attack.metrics import auc
from nanoprune.lab.course.digits import accuracies, attack, classroom, losses, probabilities
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.schedule import Schedule
from nanoprune.train import train

room = classroom(replicas=3)
target = room.network([16])
train(target, room.records, room.reference, Schedule(60, batch=32, lr=0.05), room.generators(1))


def nearest_subset_sums(weights, m, rng):
    """For each weight the subset sum of m random numbers of its own that is nearest to it."""
    scale = np.abs(weights).max()
    masks = ((np.arange(2**m)[:, None] >> np.arange(m)) & 1).astype(float)  # all 2^m subsets
    found = np.empty(weights.size)
    for start in range(0, weights.size, 512):
        w = weights.ravel()[start : start + 512]
        sums = rng.uniform(-scale, scale, (len(w), m)) @ masks.T
        found[start : start + 512] = sums[np.arange(len(w)), np.abs(sums - w[:, None]).argmin(axis=1)]
    return found.reshape(weights.shape)


rng = np.random.default_rng(0)
sizes, errors, tests, areas = (2, 4, 6, 8, 10), [], [], []
for m in sizes:
    ticket = target.copy()
    ticket.W[...] = nearest_subset_sums(target.W, m, rng)
    gap = probabilities(room, ticket, room.nonmembers) - probabilities(room, target, room.nonmembers)
    errors.append(np.median(np.abs(ticket.W - target.W)))
    tests.append(accuracies(room, ticket, room.nonmembers).mean())
    sides = losses(room, ticket, room.members), losses(room, ticket, room.nonmembers)
    areas.append(np.mean([auc(-a, -b) for a, b in zip(*sides, strict=True)]))
goal = accuracies(room, target, room.nonmembers).mean()
table(
    ["random numbers for each weight", "median error of a weight", "test accuracy", "AUC of the loss on members"],
    [[m, f"{e:.1e}", f"{t:.1%}", f"{a:.3f}"] for m, e, t, a in zip(sizes, errors, tests, areas, strict=True)],
)
slope = np.polyfit(sizes, np.log2(errors), 1)[0]
ours, others = room.members.shape[1], room.nonmembers.shape[1]
deviation = np.sqrt((ours + others + 1) / (12 * ours * others) / room.replicas)  # of the Mann-Whitney statistic
say(
    f"""
    Each further random number multiplies the median error by $2^{{{slope:.2f}}}$. With {sizes[-1]} of them the pruned
    random network is right in {tests[-1]:.1%} of the cases, the target in {goal:.1%}. No member was used, so the AUC
    differs from 1/2 by chance alone: for three networks its standard deviation is {deviation:.3f}.
    """
)
assert abs(tests[-1] - goal) < 0.02
assert slope < -0.5
assert np.abs(np.array(areas) - 0.5).max() < 3 * deviation

# %% [markdown]
# **What does it say of MIA-Pruning?** Nothing about what ADMM finds. The theorem needs a target that is free of
# members, and whoever has one may use it as it is: it does not leak, either. The paper proves in this spirit that a
# subnetwork without a leak exists. ADMM trains *on the members* and picks the mask by weights that members made.
#
# ## Compression: a small network cannot hold much
#
# The second argument ([Xu & Raginsky 2017](../references.md#xu-and-raginsky-2017)) is about any network, however
# trained. Let $S = (Z_1, \dots, Z_n)$ be $n$ independent records, $W$ the model, stored in $b$ bits. An attacker sees
# $W$ and a record, and says "member" on some set of pairs.
#
# 1. For record $i$ the advantage is at most the total variation between the pair $(W, Z_i)$ as it is and the pair
#    made of $W$ and a fresh record.
# 2. Pinsker's inequality: $\mathrm{TV} \le \sqrt{\mathrm{KL}/2}$, with the Kullback-Leibler divergence
#    $\mathrm{KL} = E_f \log (f / g)$ of two densities $f$ and $g$. Here it is the *mutual information* $I(W; Z_i)$.
# 3. The records are independent, so what $W$ tells about them adds up to at most what it tells about all:
#    $\sum_i I(W; Z_i) \le I(W; S)$.
# 4. And $W$ cannot tell more than it holds, its entropy $H(W) = -E \log P(W)$: $I(W; S) \le H(W) \le b \ln 2$.
#
# The root is concave, so the mean over the records is at most the root of the mean:
#
# $$\text{adv} \le \frac1n \sum_i \sqrt{\tfrac12 I(W; Z_i)}
# \le \sqrt{\frac{1}{2n} \sum_i I(W; Z_i)} \le \sqrt{\frac{b \ln 2}{2n}} .$$
#
# No assumption on the training, none on the attacker. Is it true, is it sharp? Take records of 8 random bits each. A
# model that is a plain list of the first $r$ records takes $b = 8r$ bits. The best attack on a listed record compares
# it with its place in the list: a member is always there, another record with the probability $2^{-8}$. So the
# advantage is $1 - 2^{-8}$ on the listed records, and 0 on the others.

# %%
from nanoprune.lab.statistics.advantage import compression_advantage, mask_bits

source(compression_advantage, mask_bits)
n = 100
listed = np.arange(0, 51, 5)
exact = listed / n * (1 - 2.0**-8)  # each slot of the list against its own record
bound = np.array([compression_advantage(8 * r, n) for r in listed])

# %% tags=["hide-input"]
drawing, plot = axes()
plot.plot(8 * listed / n, bound, "s--", color="C1", label="bound for every attack")
plot.plot(8 * listed / n, exact, "o-", color="C0", label="a list of records, best attack")
plot.set(xlabel="bits of the model for each record", ylabel="advantage", ylim=(0, 1.05))
plot.legend()
figure(
    drawing,
    "Advantage against the bits for each of 100 records. The bound grows like a square root and reaches 1 at "
    f"{2 / np.log(2):.1f} bits a record. The model that lists records grows in a straight line below it, to "
    f"{exact[-1]:.2f} at {8 * listed[-1] / n:.0f} bits.",
)
assert (exact <= bound).all()

# %% [markdown]
# The bound holds, and is not sharp for this model. `python cli.py verify` compares it with hundreds of small random
# models, whose best attack is found by enumeration. Now real ones. A pruned network takes the bits of its surviving
# weights, and the bits that say *which* survive: the logarithm of $\binom{n}{k}$.

# %%
rows = []
for name, weights, kept, bits, records in (
    ("digits, dense, float32", 50_432, 50_432, 32, 200),
    ("digits, a tenth, 4 bits", 50_432, 5_043, 4, 200),
    ("digits, a hundredth, 4 bits", 50_432, 504, 4, 200),
    ("LeNet-5 on all of MNIST, 6,048 weights, 4 bits", 430_500, 6_048, 4, 60_000),
):
    total = kept * bits + mask_bits(weights, kept)
    most = compression_advantage(total, records)
    meaning = "nothing" if most >= 1 else f"accuracy at most {(1 + most) / 2:.0%}"
    rows.append([name, f"{total:,.0f}", f"{records:,}", f"{most:.2f}", meaning])
table(["model", "bits", "records", "bound", "it promises"], rows)

# %% [markdown]
# On the digits the bound says nothing: there are more than $2 / \ln 2$ bits for each record. It begins to say
# something where records are many and weights few. It is a statement about *size*: a small dense network is covered
# exactly as a pruned one is. And it is about the mean over records; one record may be listed in full.
#
# ## What did ADMM pick?
#
# If the mask carried the protection, it should matter which mask it is. Compare, at the same size, three: ADMM's; the
# largest weights of the dense network; and a **random** one, which sees no record at all. The survivors are trained
# on the members in each.

# %%
from nanoprune.lab.course.methods import dense_path, fit, one_shot, points, same_schedule, verdict, with_admm
from nanoprune.prune import Budget, Mask

KEEP = 0.1
dense = dense_path(room)[-1]
admm, magnitude = with_admm(room, dense, KEEP), one_shot(room, dense, KEEP)
random = dense.copy()
noise = np.random.default_rng(5).standard_normal(dense.W.shape)
random.W[...] = np.where(Budget(dense, KEEP).support(noise), random.W, 0)
fit(room, random, 30, 2, mask=Mask(random))
fit(room, random, 10, 3, lr=0.01, mask=Mask(random))
shared = ((admm.W != 0) & (magnitude.W != 0)).sum(axis=1) / (magnitude.W != 0).sum(axis=1)
nets = {"nothing pruned": same_schedule(room, dense), "ADMM": admm, "largest weights": magnitude}
nets["random mask"] = random
test = {name: accuracies(room, net, room.nonmembers) for name, net in nets.items()}
leak = {name: attack(room, net) for name, net in nets.items()}
table(
    ["mask", "test accuracy %", "attack accuracy %"],
    [[name, points(test[name]), points(leak[name])] for name in nets],
)
change = leak["random mask"] - leak["ADMM"]
say(
    f"""
    Of the weights that ADMM keeps, **{shared.mean():.0%}** are also among the largest of the dense network; a random
    mask would share {KEEP:.0%}. Against ADMM's mask the random one changes the attack by {points(change)} points
    ({verdict(change)}), and the test accuracy by {points(test["random mask"] - test["ADMM"])}. The intervals are over
    three networks, and wide.
    """
)
assert shared.mean() > 0.8
assert verdict(change) != "more leak"

# %% [markdown]
# Here ADMM hardly chooses a mask of its own: it ends near the one that magnitudes give at once. And these networks do
# not show that a mask that saw no record protects less. So they give no reason to look for the protection of chapter 8
# in the mask. That fewer weights fit the members less closely, which is capacity, would be enough.
#
# ## What this does not show
#
# - That no better theorem exists. The two above are what is proved, and neither is about ADMM on members.
# - The compression bound needs records that are independent. Copies of one record count as one.
# - "Existence" is about a mask that somebody must find without looking at members.
#
# ## Exercises
#
# In `book/exercises/11_theory.py`; `python cli.py learn check 11` grades them.
#
# 1. `nearest_subset`: the subset of given numbers whose sum is nearest to a target.
# 2. `support_bits`: how many bits say which $k$ of $n$ weights are kept, exactly enough for $n$ in the hundred
#    thousands.
# 3. `bits_allowed`: how many bits a model of $n$ records may have so that no attack is right in more than a share $a$
#    of the cases.
