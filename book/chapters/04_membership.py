# %% [markdown]
# # 4. Who was in the data?
#
# Somebody trained a network on the records of 200 people and lets everyone ask it for predictions. You hold a record.
# **Can you tell from the prediction alone whether the record was trained on, and how well could anybody?**
#
# ## The game
#
# A fair coin is tossed. On heads you are shown a **member**, a random record of the training set; on tails a
# **non-member**, a random record from the same source that was not trained on. You see the record, its label $y$ and
# the prediction $p$, and you say "member" or not.
#
# Let TPR be the share of members of whom you say "member" (true positives), and FPR the share of non-members of whom
# you say it (false positives). You are right with probability
#
# $$\text{accuracy} = \tfrac12 \text{TPR} + \tfrac12 (1 - \text{FPR}) = \frac{1 + \text{adv}}{2}, \qquad
# \text{adv} = \text{TPR} - \text{FPR} .$$
#
# A guess has an accuracy of 1/2 and an **advantage** of 0. Because each side counts one half, however many records it
# has, this is called *balanced* accuracy.
#
# ## A score and a threshold
#
# Chapter 2 says what to look at: training makes the loss of members small. So take the *score* $s = p_y$, which orders
# records as minus the loss, $\log p_y$, does, and say "member" if $s \ge t$. How should the threshold be chosen?
#
# Let $F_{\text{in}}(t)$ and $F_{\text{out}}(t)$ be the shares of members and non-members whose score lies below $t$.
# Then $\text{TPR} = 1 - F_{\text{in}}(t)$ and $\text{FPR} = 1 - F_{\text{out}}(t)$, so that
#
# $$\text{adv}(t) = F_{\text{out}}(t) - F_{\text{in}}(t), \qquad
# \max_t \text{adv}(t) = \sup_t \big[ F_{\text{out}}(t) - F_{\text{in}}(t) \big] =: \text{KS} .$$
#
# This is the (one-sided) Kolmogorov-Smirnov distance of the two distributions of scores. **The best threshold is
# right with probability $(1 + \text{KS})/2$.** The *ROC curve* (receiver operating characteristic) is TPR against FPR
# for all $t$; the best threshold is its point farthest above the diagonal. The *AUC* is the area under the curve.
#
# ## Could anything do better?
#
# Consider rules that look at the score alone, and let $f_{\text{in}}$ and $f_{\text{out}}$ be the densities of the
# score on members and on others. A rule that says "member" on a set $S$ has the advantage
# $\int_S (f_{\text{in}} - f_{\text{out}})$. The best $S$ takes every $s$ at which $f_{\text{in}} > f_{\text{out}}$
# ([Neyman & Pearson 1933](../references.md#neyman-and-pearson-1933)), and reaches the total variation distance,
#
# $$\text{TV} = \tfrac12 \int |f_{\text{in}} - f_{\text{out}}| \ \ge\ \text{KS} .$$
#
# Why one half: both densities integrate to 1, so the positive part of $f_{\text{in}} - f_{\text{out}}$ has the same
# integral as the negative part. Why at least KS: a threshold is one of these rules, with a half-line as $S$. If the
# ratio $f_{\text{in}}/f_{\text{out}}$ grows with $s$, then $S$ is a half-line, and a threshold is the best rule.
#
# ## The code

# %%
from nanoprune.attack.metrics import auc, roc
from nanoprune.attack.scores import confidence
from nanoprune.attack.threshold import best_threshold
from nanoprune.lab.course.show import axes, figure, say, source, table

source(confidence, best_threshold, roc)

# %% [markdown]
# The package's scores are those of [Song & Mittal (2021)](../references.md#song-and-mittal-2021). Ties are counted
# exactly: records of equal score change sides together, so that a curve cannot be made to look
# better than it is by the order of the records.
#
# ## The experiment
#
# Four networks, each trained on 200 digits of its own for 50 epochs. The attacker sees their predictions on these and
# on 1,000 others. From here on the score is $\log p_y$, minus the loss.

# %%
import numpy as np

from nanoprune.lab.course.digits import accuracies, classroom, losses
from nanoprune.schedule import Schedule
from nanoprune.train import train

room = classroom(replicas=4)
net = room.network()
train(net, room.records, room.members, Schedule(50, batch=32, lr=0.05), room.generators(1))
inside, outside = -losses(room, net, room.members), -losses(room, net, room.nonmembers)  # scores (R, n)
fit, test = accuracies(room, net, room.members).mean(), accuracies(room, net, room.nonmembers).mean()
say(f"The networks name the right digit for {fit:.1%} of the members and for {test:.1%} of the others.")

# %% tags=["hide-input"]
drawing, (left, right) = axes(2)
bins = np.geomspace(1e-6, 20, 25)
for scores, name in ((inside, "members"), (outside, "others")):
    shares = np.full(scores.size, 1 / scores.size)
    left.hist(np.clip(-scores.ravel(), 1e-6, 20), bins, weights=shares, alpha=0.6, label=name)
left.set(xlabel="loss −log p_y", ylabel="share of records", xscale="log", ylim=(0, 0.16))
left.legend(loc="upper left", fontsize=8)
for members, others in zip(inside, outside, strict=True):
    right.plot(*roc(members, others), color="C0", linewidth=1)
right.plot([0, 1], [0, 1], ":", color="C3")
right.set(xlabel="FPR", ylabel="TPR")

ks = np.array([max(t - f for f, t in zip(*roc(m, o), strict=True)) for m, o in zip(inside, outside, strict=True)])
areas = np.array([auc(m, o) for m, o in zip(inside, outside, strict=True)])
figure(
    drawing,
    "Left: histograms of the loss on a logarithmic axis. Those of members and others overlap, and that of the others "
    "reaches farther to the right. Right: the ROC curves of four networks, above the diagonal, with areas of "
    f"{areas.min():.2f} to {areas.max():.2f} below them.",
)
above = (outside < inside.min()).mean()
say(
    f"""
    Most losses are small on both sides, and no threshold separates them. But no member has a loss above
    {-inside.min():.2f}, and {above:.0%} of the others have.
    """
)
assert above > 0.05

# %% [markdown]
# Now check the bold statement. `best_threshold` tries every threshold and counts; the KS distance comes from a library
# that knows nothing of attacks. Its alternative `less` asks for $\max_t [F_{\text{out}}(t) - F_{\text{in}}(t)]$.

# %%
from scipy.stats import ks_2samp

rows = []
for r, (members, others) in enumerate(zip(inside, outside, strict=True)):
    t = best_threshold(members, others)
    accuracy = ((members >= t).mean() + (others < t).mean()) / 2
    distance = ks_2samp(members, others, alternative="less").statistic
    rows.append([f"network {r}", f"{t:.4f}", f"{accuracy:.6f}", f"{(1 + distance) / 2:.6f}", f"{areas[r]:.3f}"])
    assert abs(accuracy - (1 + distance) / 2) < 1e-12
table(["", "best threshold", "its accuracy", "(1 + KS) / 2", "AUC"], rows)

# %% [markdown]
# The AUC in the last column equals the probability that a random member has a higher score
# than a random non-member, ties counting one half. It needs no threshold.
#
# ## An honest attacker
#
# The threshold above was *chosen on the records that it was measured on*. Nobody has such an attack: whoever knows
# who is a member needs none. What does that cheat bring? Try it where there is nothing to find: take 200 non-members,
# and call half of them "members".

# %%
rng = np.random.default_rng(0)
cheating, honest = [], []
for others in outside:
    for _ in range(100):
        a, b = rng.permutation(others)[:200].reshape(2, 100)
        t = best_threshold(a, b)
        cheating.append(((a >= t).mean() + (b < t).mean()) / 2)
        t = best_threshold(a[:50], b[:50])
        honest.append(((a[50:] >= t).mean() + (b[50:] < t).mean()) / 2)
say(
    f"""
    Nothing leaks here, so the truth is 50%. The threshold that is measured where it was fitted has
    {np.mean(cheating):.1%}; fitted on one half and measured on the other, {np.mean(honest):.1%}.
    """
)
assert np.mean(cheating) > 0.53
assert abs(np.mean(honest) - 0.5) < 0.01

# %% [markdown]
# So an attacker gets *some* members and non-members to fit on, and is scored on others. From here on the book does
# so, with this function:

# %%
from nanoprune.lab.course import digits

source(digits.attack)
accuracy = digits.attack(room, net, confidence)
say(
    f"""
    The honest attack on the four networks is right in {accuracy.mean():.1%} of the cases
    (from {accuracy.min():.1%} to {accuracy.max():.1%}). Guessing would be right in 50%.
    """
)
assert accuracy.mean() > 0.52

# %% [markdown]
# ## What this does not show
#
# - It is one score. `nanoprune.attack.scores` has others, and chapter 9 trains a network to attack. A stronger
#   attacker trains *shadow models* and learns for each record what is usual for it; LiRA
#   (`nanoprune.attack.shadow.lira`, [Carlini et al. 2022](../references.md#carlini-et-al-2022)) and RMIA
#   (`nanoprune.attack.shadow.rmia`, [Zarifzadeh et al. 2024](../references.md#zarifzadeh-et-al-2024)) are such attacks.
# - Balanced accuracy is a mean over people. A few of them may be found with near certainty while the mean looks
#   harmless. The left end of the ROC curve, the TPR at a tiny FPR, tells about those.
# - Half of the records in the game are members. Where members are rare, the same ROC curve means more false alarms.
#
# ## Exercises
#
# In `book/exercises/04_membership.py`; `python cli.py learn check 4` grades them.
#
# 1. `ks_accuracy`: the accuracy of the best threshold, with ties.
# 2. `area`: the area under the ROC curve from pairs, with ties.
# 3. `best_rule`: members have scores from a normal distribution with mean 0, others with mean $-\mu$, both of
#    variance 1. How accurate is the best rule that there is? Use the error function.
