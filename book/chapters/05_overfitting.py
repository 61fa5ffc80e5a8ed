# %% [markdown]
# # 5. How much does overfitting leak?
#
# Chapter 2 ended with two curves: the loss on members, and the higher loss on others. Chapter 4 turned a difference
# into an attack. **Is there an equation between the two, and is the loss the best thing to look at?**
#
# ## Yeom's identity
#
# Let the loss $\ell$ of a record lie between 0 and $B$. (The $L$ of chapter 2 is its mean over members.) [Yeom et al.
# (2018)](../references.md#yeom-et-al-2018) propose a modest attack: say "member" with probability $1 - \ell / B$. A
# small loss makes it likely. The probability that a member is called so is the mean of $1 - \ell/B$ over members, the
# same holds for others, and the difference is
#
# $$\text{adv} = \Big(1 - \frac{E_{\text{in}}[\ell]}{B}\Big) - \Big(1 - \frac{E_{\text{out}}[\ell]}{B}\Big)
# = \frac{E_{\text{out}}[\ell] - E_{\text{in}}[\ell]}{B} = \frac{\text{gap}}{B} .$$
#
# This is an identity, not a bound: **the generalisation gap, divided by $B$, is the advantage of an attack**. A
# network that does worse on new records leaks, whoever trained it and however.
#
# **Two readings.** With the zero-one loss ($\ell = 0$ where the class is right, else 1; $B = 1$) the attack says
# "member" exactly where the prediction is right, and its advantage is training accuracy minus test accuracy. And for
# any loss: to say "member" with probability $1 - \ell/B$, draw a threshold $t$ uniformly from $[0, B]$ and say
# "member" where $\ell \le t$. ($t$ is now a threshold of the loss: "member" where it is small.) So
#
# $$\frac{\text{gap}}{B} = \frac1B \int_0^B \text{adv}(t)\, dt \ \le\ \max_t \text{adv}(t) = \text{KS} .$$
#
# The gap over $B$ is the *mean* over all thresholds, and the best threshold of chapter 4 is at least as good.
#
# ## Checked to every digit

# %%
import itertools
from fractions import Fraction

import numpy as np

from nanoprune.attack.metrics import roc
from nanoprune.attack.scores import correctness
from nanoprune.lab.course.digits import accuracies, classroom, losses, probabilities
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.schedule import Schedule
from nanoprune.train import train

source(correctness)
room = classroom(replicas=3)
net, draws, history = room.network(), room.generators(1), []
B = 5.0
for epochs in (1, 1, 2, 4, 8, 16, 18):  # together 50; each call of `train` begins with V = 0 (chapter 2)
    train(net, room.records, room.members, Schedule(epochs, batch=32, lr=0.05), draws)
    history.append([losses(room, net, index) for index in (room.members, room.nonmembers)])  # (R, n) each
inside, outside = np.minimum(history[-1][0], B), np.minimum(history[-1][1], B)


def mean_advantage(inside, outside):
    """The mean of TPR(t) - FPR(t) over thresholds t in [0, B], exactly: it is constant between two losses."""
    levels = sorted({0.0, B, *inside, *outside})
    total = Fraction(0)
    for low, high in itertools.pairwise(levels):
        hits, alarms = int((inside <= low).sum()), int((outside <= low).sum())
        adv = Fraction(hits, len(inside)) - Fraction(alarms, len(outside))
        total += adv * (Fraction(high) - Fraction(low))
    return total / Fraction(B)


rows = []
for r in range(room.replicas):
    means = [sum(map(Fraction, loss)) / len(loss) for loss in (inside[r].tolist(), outside[r].tolist())]
    gap = (means[1] - means[0]) / Fraction(B)
    adv = mean_advantage(inside[r], outside[r])
    best = max(t - f for f, t in zip(*roc(-inside[r], -outside[r]), strict=True))
    rows.append([f"network {r}", f"{float(gap):.15f}", f"{float(adv):.15f}", gap == adv, f"{best:.4f}"])
    assert gap == adv
    assert best >= gap
table(["", "gap / B", "mean advantage", "equal as fractions", "best threshold (KS)"], rows)

right = [
    correctness(probabilities(room, net, index), room.labels[index]).mean(axis=1)
    for index in (room.members, room.nonmembers)
]
accuracy_gap = accuracies(room, net, room.members) - accuracies(room, net, room.nonmembers)
say(
    f"""
    The first two columns are computed with fractions, not floating point, and are equal. With the zero-one loss, the
    advantage is {(right[0] - right[1]).mean():.4f} and the gap in accuracy {accuracy_gap.mean():.4f}.
    """
)
assert np.allclose(right[0] - right[1], accuracy_gap)

# %% [markdown]
# ## The experiment
#
# How do the gap and the leak grow while the network learns? The loss is clipped at $B = 5$, so that it has a bound.
# The best threshold is the best one *in hindsight*, as chapter 4 warned. So we also ask what it finds where nothing
# leaks: in random numbers of which 200 are called members.

# %%
epochs = np.cumsum((1, 1, 2, 4, 8, 16, 18))


def gap_over(B):
    """The gap of the loss clipped at B, divided by B, after each number of epochs: (points, R)."""
    means = np.array([[np.minimum(side, B).mean(axis=1) for side in both] for both in history])  # (points, 2, R)
    return (means[:, 1] - means[:, 0]) / B


def ks(inside, outside):
    """The advantage of the best threshold on losses (R, n) and (R, m): (R,)."""
    curves = [roc(-a, -b) for a, b in zip(inside, outside, strict=True)]
    return np.array([(tpr - fpr).max() for fpr, tpr in curves])


gaps, best = gap_over(B), np.array([ks(*both) for both in history])
rng = np.random.default_rng(0)
nothing = ks(rng.random((200, room.members.shape[1])), rng.random((200, room.nonmembers.shape[1]))).mean()

# %% tags=["hide-input"]
drawing, plot = axes()
plot.plot(epochs, best.mean(axis=1), "o-", label="best threshold (KS)")
plot.plot(epochs, gaps.mean(axis=1), "s-", label="gap / B")
plot.axhline(nothing, linestyle=":", color="C3", label="best threshold where nothing leaks")
plot.set(xlabel="epoch", ylabel="advantage", ylim=(-0.02, 0.35), xscale="log", xticks=epochs, xticklabels=epochs)
plot.minorticks_off()
plot.legend(fontsize=8, loc="upper left")
figure(
    drawing,
    "Advantage against the epoch, as means over three networks. The gap over B goes from "
    f"{gaps[0].mean():.3f} after one epoch to {gaps[3].mean():.3f} after eight and {gaps[-1].mean():.3f} after fifty, "
    f"the best threshold from {best[0].mean():.3f} to {best[3].mean():.3f} and {best[-1].mean():.3f}. A line marks "
    f"what the best threshold finds where nothing leaks, {nothing:.3f}.",
)
say(
    f"""
    The longer a network trains, the more the best threshold finds, also when the gap has stopped growing. After
    {epochs[4]} epochs the mean loss on members is {history[4][0].mean():.3f}, after {epochs[-1]} it is
    {history[-1][0].mean():.4f}. At the end the best threshold finds {best[-1].mean() / gaps[-1].mean():.0f} times the
    gap over $B$. That factor depends on the bound: with $B = 1$ it is
    {best[-1].mean() / gap_over(1.0)[-1].mean():.1f}, with $B = 0.02$ only
    {best[-1].mean() / gap_over(0.02)[-1].mean():.1f}. With a large $B$ most thresholds of the mean are so high that
    nearly everybody is below them.
    """
)
assert (best >= gaps).all()
assert best[-1].mean() > best[3].mean() > best[0].mean()
assert gaps[-1].mean() < 1.1 * gaps[3].mean()
assert best[-1].mean() > 2 * gaps[-1].mean()

# %% [markdown]
# The identity gives a *lower* bound on the leak: a model with a gap leaks; a small gap alone does not make it safe.
#
# ## Is the loss the best score?
#
# [Sablayrolles et al. (2019)](../references.md#sablayrolles-et-al-2019) answer this for an idealised training. Suppose
# that training draws $\theta$ from the **Gibbs posterior**
#
# $$P(\theta \mid S) \propto \exp\Big( -\frac1T \sum_{z \in S} \ell(\theta, z) \Big),$$
#
# where the temperature $T$ tells how noisy training is. Let the attacker know all other records $S'$, and ask about
# $z$. Training with $z$ multiplies the density by one factor and normalises again:
#
# $$P(\theta \mid S' \cup \{z\}) =
# \frac{e^{-\ell(\theta, z)/T}}{\int e^{-\ell(\theta', z)/T} P(\theta' \mid S')\, d\theta'}\ P(\theta \mid S') .$$
#
# A coin decided whether $z$ is a member. So before $\theta$ is seen the odds are even, and afterwards they are the
# ratio of the two densities (Bayes). The log odds of "member" are
#
# $$\log \frac{P(\theta \mid S' \cup \{z\})}{P(\theta \mid S')} = \frac{\tau(z) - \ell(\theta, z)}{T}, \qquad
# \tau(z) = -T \log \int e^{-\ell(\theta', z)/T} P(\theta' \mid S')\, d\theta' .$$
#
# **The best attack that there is looks at the loss of the record and at nothing else of $\theta$**, and compares it
# with a threshold $\tau(z)$ that belongs to the record and to $S'$: roughly, the loss that models without $z$ have on
# it.
#
# ## One dimension, in closed form
#
# Let the records be numbers, the model a single number $\theta$ that shall lie near them, and
# $\ell(\theta, z) = (\theta - z)^2/2$. The sum of the losses of $n$ records is $n (\theta - \bar z)^2/2$ plus a
# constant, with $\bar z$ their mean, and $\exp(-n (\theta - \bar z)^2 / 2T)$ is a normal density with mean $\bar z$
# and variance $T/n$, but for its factor. So the posterior is $N(\bar z, T/n)$. Both sides of the equation are now
# known, by different ways: the left one as a ratio of two normal densities, the right one by integrating numerically.

# %%
from scipy.integrate import quad
from scipy.stats import norm

rng = np.random.default_rng(0)
n, T = 8, 0.5
others, z = rng.standard_normal(n - 1), 1.3
out = norm(others.mean(), np.sqrt(T / (n - 1)))
member = norm((others.sum() + z) / n, np.sqrt(T / n))
integral = quad(lambda other: np.exp(-((other - z) ** 2) / 2 / T) * out.pdf(other), -20, 20, epsabs=1e-14)[0]
tau = -T * np.log(integral)
rows = []
for theta in (-0.5, 0.0, 0.5, 1.0):
    left, right = member.logpdf(theta) - out.logpdf(theta), (tau - (theta - z) ** 2 / 2) / T
    rows.append([f"{theta:g}", f"{left:.12f}", f"{right:.12f}"])
    assert abs(left - right) < 1e-9
table(["θ", "log of the ratio of densities", "(τ − loss) / T"], rows)

# %% [markdown]
# How much is the threshold of each record's own worth? We play the game many times: draw others, draw $z$, toss a
# coin, draw $\theta$ from the posterior, attack. The *global* attack compares the loss with one threshold, the best
# one for all. The *Bayes* attack knows the others and uses $\tau(z)$.

# %%


def game(T, n=8, times=100_000):
    """Advantage of the Bayes attack and of the best single threshold on the loss."""
    rng = np.random.default_rng(1)
    mean_out, z = rng.standard_normal(times) / np.sqrt(n - 1), rng.standard_normal(times)
    coin = rng.random(times) < 0.5
    mean = np.where(coin, ((n - 1) * mean_out + z) / n, mean_out)
    theta = mean + rng.standard_normal(times) * np.sqrt(T / np.where(coin, n, n - 1))
    loss = (theta - z) ** 2 / 2
    share = (n - 1) / n
    tau = -T * (np.log(share) / 2 - share * (mean_out - z) ** 2 / (2 * T))  # the integral is one of normal densities
    bayes = (loss < tau)[coin].mean() - (loss < tau)[~coin].mean()
    levels = np.quantile(loss, np.linspace(0, 1, 400))
    single = max((loss < t)[coin].mean() - (loss < t)[~coin].mean() for t in levels)
    return bayes, single


temperatures = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
advantages = np.array([game(T) for T in temperatures])

# %% tags=["hide-input"]
drawing, plot = axes()
plot.semilogx(temperatures, advantages[:, 0], "o-", label="Bayes: τ(z), a threshold for each record")
plot.semilogx(temperatures, advantages[:, 1], "s-", label="one threshold for all")
plot.set(xlabel="temperature T", ylabel="advantage", ylim=(0, 1))
plot.legend()
figure(
    drawing,
    "Advantage of two attacks on a model of eight records against the temperature of the posterior. The Bayes attack "
    f"falls from {advantages[0, 0]:.2f} to {advantages[-1, 0]:.2f} as the temperature rises. A single threshold is "
    f"nowhere above {advantages[:, 1].max():.2f}.",
)
assert (advantages[:, 0] >= advantages[:, 1] - 0.01).all()

# %% [markdown]
# Noise protects, and a threshold for each record finds more than one for all. The attacks
# [LiRA](../references.md#carlini-et-al-2022) and [RMIA](../references.md#zarifzadeh-et-al-2024) estimate that
# threshold with shadow models: networks that the attacker trains with and without the record.
#
# ## What this does not show
#
# - SGD is not a draw from a Gibbs posterior. The result says what to look at; it does not say that nothing else
#   leaks.
# - The Bayes attack knows all records but one. Real attackers know less.
# - Yeom's identity is about means. A model without any gap in the mean loss can treat single records very
#   differently: exercise 3.
#
# ## Exercises
#
# In `book/exercises/05_overfitting.py`; `python cli.py learn check 5` grades them.
#
# 1. `yeom_advantage`: the advantage of the attack that says "member" with probability $1 - \ell/B$.
# 2. `gibbs_log_odds`: for one number $\theta$, as above, the log odds of membership, in closed form.
# 3. `leak_without_gap`: losses of four members and four others, with equal means, that some threshold tells apart in
#    at least 3 of 4 cases.
