# %% [markdown]
# # 2. What does SGD minimise?
#
# A classifier gets an image and gives one number for each *class*, one of the possible answers: here the ten digits.
# The right one is the *label* $y$ of the record. Training makes its number large. **What exactly is made small, how
# far does one step get, and what happens to records that were not trained on?**
#
# ## From numbers to probabilities
#
# The network gives *logits* $z \in \mathbb R^{C}$, one for each class. The softmax turns them into probabilities,
#
# $$p_c = \frac{e^{z_c}}{\sum_k e^{z_k}} .$$
#
# The *cross-entropy* of a record with label $y$ is $-\log p_y$: zero if the network is certain and right, large if it
# is certain and wrong. The loss is the mean over the training set $D$ of $n$ records, whom we call **members**:
#
# $$L_D(W) = -\frac1n \sum_{i \in D} \log p_{y_i}(x_i; W).$$
#
# We write $W$ or $\theta$ for all parameters of the network. In the code `net.theta` is all of them, and `net.W` all
# but the $b$.
#
# The derivative of the loss is short. Since $\log p_y = z_y - \log \sum_k e^{z_k}$,
#
# $$\frac{\partial (-\log p_y)}{\partial z_c} = -\mathbf 1[c = y] + \frac{e^{z_c}}{\sum_k e^{z_k}}
# = p_c - \mathbf 1[c = y].$$
#
# Write $\text{onehot}(y)$ for the unit vector with a 1 at $y$. The loss is a mean of $n$ records, so for each of them
# $dz = (p - \text{onehot}(y)) / n$: the prediction minus the truth, divided by $n$.
#
# One trap is left. $e^{1000}$ is no number to a computer. But $p$ does not change if the same number is subtracted
# from all logits, so we subtract the largest one, and the largest exponent is 0.
#
# In the code, `t` are the labels as unit vectors. `count` and `weight` are for later chapters: read them as the
# number of samples and as 1.

# %%
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.nn import softmax
from nanoprune.nn.loss import soft_cross_entropy

source(softmax, soft_cross_entropy)

# %% [markdown]
# ## How far does one step get?
#
# Gradient descent moves against the gradient, $\theta \leftarrow \theta - \eta\, g$ with $g = \nabla L(\theta)$. How
# large may the *learning rate* $\eta$ be? Suppose the gradient is $\Lambda$-Lipschitz:
# $\|\nabla L(a) - \nabla L(b)\| \le \Lambda \|a - b\|$. Along the segment from $\theta$ to $\theta + \delta$,
#
# $$L(\theta + \delta) - L(\theta) = \int_0^1 \langle \nabla L(\theta + t\delta), \delta \rangle\, dt
# \le \langle g, \delta \rangle + \int_0^1 \Lambda t \|\delta\|^2\, dt
# = \langle g, \delta \rangle + \frac{\Lambda}{2} \|\delta\|^2 ,$$
#
# because $\langle \nabla L(\theta + t\delta) - g,\ \delta \rangle \le \Lambda t \|\delta\| \cdot \|\delta\|$ by
# Cauchy-Schwarz. Put $\delta = -\eta g$. This is the **descent lemma**:
#
# $$L(\theta - \eta g) \le L(\theta) - \eta \Big(1 - \frac{\eta \Lambda}{2}\Big) \|g\|^2 .$$
#
# The loss falls for every $\eta < 2/\Lambda$, and the bound is best at $\eta = 1/\Lambda$. Can the constants be
# improved? On the least-squares problem $L(w) = \tfrac12 \|A w - b\|^2$ the Lipschitz constant $\Lambda$ is the
# largest eigenvalue of $A^T A$, and everything is known.

# %%
import numpy as np

rng = np.random.default_rng(0)
A, b = rng.standard_normal((30, 20)), rng.standard_normal(30)
eigenvalues, vectors = np.linalg.eigh(A.T @ A)
lipschitz = eigenvalues[-1]
solution = np.linalg.lstsq(A, b, rcond=None)[0]


def least_squares(w):
    return 0.5 * ((A @ w - b) ** 2).sum()


def slack(w, rate):
    """How much further one step of gradient descent gets than the lemma promises, relative to the squared gradient."""
    g = A.T @ (A @ w - b)
    promised = rate * (1 - rate * lipschitz / 2) * (g @ g)
    return (least_squares(w) - least_squares(w - rate * g) - promised) / (g @ g)


rows = []
for times in (0.5, 1.0, 1.9, 2.1):
    rate = times / lipschitz
    anywhere = min(slack(rng.standard_normal(20), rate) for _ in range(1000))
    worst = slack(solution + vectors[:, -1], rate)  # the gradient is along the steepest direction
    rows.append([f"{times} / Λ", f"{anywhere:.1e}", f"{worst:.0e}"])
    assert anywhere >= -1e-12
    assert abs(worst) < 1e-9
table(["learning rate", "least slack of 1,000 random points", "slack along the steepest direction"], rows)

# %% [markdown]
# No point breaks the lemma, and along the steepest direction it holds with equality: the constants are the best
# possible. At $2.1/\Lambda$ the fall that the lemma promises is negative: along the steepest direction the loss rises
# by that amount.
#
# ## The S in SGD
#
# The gradient over all members is a mean, so the gradient over a random *batch* of them has the right expectation.
# **Stochastic** gradient descent takes that. Its steps are cheap and noisy. In one *epoch* each member is in one
# batch; with equal batches at fixed weights the mean of the batch gradients is the gradient exactly.
#
# ## Momentum
#
# Where one direction is steep and another one flat, $\eta$ must be small for the steep one, and the flat one takes for
# ever. The heavy-ball method ([Polyak 1964](../references.md#polyak-1964)) adds up the gradients with a memory $m$:
#
# $$V \leftarrow m V + g, \qquad \theta \leftarrow \theta - \eta V .$$
#
# Take a quadratic, and let $e_t$ be the distance to its minimum, with its sign, along an eigenvector of curvature
# $\lambda$. The gradient is $\lambda e_t$ there, so $e_{t+1} = e_t - \eta (m V_t + \lambda e_t)$, and the step before
# says $\eta V_t = e_{t-1} - e_t$. Together
#
# $$e_{t+1} = a\, e_t - m\, e_{t-1}, \qquad a = 1 + m - \eta\lambda .$$
#
# The solutions are sums of powers of the two roots of $r^2 - a r + m$, whose product is $m$.
#
# - **Complex roots.** They are complex if $a^2 < 4m$, that is, if
#   $(1 - \sqrt m)^2 < \eta\lambda < (1 + \sqrt m)^2$. Then both have the magnitude $\sqrt m$, whatever $\lambda$ is in
#   that range: steep and flat directions shrink equally fast.
# - **Real roots** can leave the interval from $-1$ to 1 only through its ends, as $\eta\lambda$ grows. $r = 1$ is a
#   root if $\eta\lambda = 0$, and $r = -1$ if $\eta\lambda = 2(1 + m)$. So both magnitudes stay below 1 exactly if
#   $0 < \eta\lambda < 2(1 + m)$.
#
# We measure that. With complex roots $e_t$ oscillates, so one distance says little. But
# $q_t = e_t^2 - a\, e_t\, e_{t-1} + m\, e_{t-1}^2$ is positive then, and inserting $e_{t+1}$ shows that
# $q_{t+1} = m\, q_t$, exactly. It is of the size of a squared distance, and we take its root.
#
# The function `distances` uses a layer only as a box for a vector `W`, and writes the gradient into `dW` itself.
# `SGD.step` applies the formula `sgd_step` to pieces of the arrays; the weight decay d is 0.

# %%
from nanoprune.nn import SGD, Dense, Network
from nanoprune.nn.optimizer import sgd_step

source(sgd_step, SGD.step)


def distances(momentum, curvatures, rate, steps):
    """The distance to the minimum of sum lambda_i w_i^2 / 2 in each direction, (steps, n), from w = 1."""
    net = Network(Dense(len(curvatures), 1), (len(curvatures),), 1, np.float64)
    net.W[...] = 1
    sgd, path = SGD(momentum), []
    for _ in range(steps):
        net.grad[...] = 0
        net.dW[...] = curvatures * net.W
        sgd.step(net, rate)
        path.append(net.W[0].copy())
    return np.array(path)


def sizes(path, curvatures, m):
    """|e_t| without momentum, and the root of q_t with it, (steps - 1, n)."""
    e, before = path[1:], path[:-1]
    return np.sqrt(e**2 - (1 + m - curvatures) * e * before + m * before**2) if m else np.abs(e)


curvatures = np.array([0.02, 0.2, 1.0])
rows = []
for momentum in (0.0, 0.9):
    size = sizes(distances(momentum, curvatures, 1.0, 150), curvatures, momentum)
    for curvature, first, last in zip(curvatures, size[-51], size[-1], strict=True):
        root = np.abs(np.roots([1, -(1 + momentum - curvature), momentum])).max()
        factor = (last / first) ** (1 / 50) if first else 0.0
        rows.append([momentum, curvature, f"{root:.6f}", f"{factor:.6f}"])
        assert abs(factor - root) < 1e-9
table(["momentum", "curvature λ (learning rate 1)", "largest root", "measured factor a step"], rows)
low, high = (1 - np.sqrt(0.9)) ** 2, (1 + np.sqrt(0.9)) ** 2
say(
    f"""
    Without momentum the flat direction keeps {1 - curvatures[0]:.0%} of its distance in each step, and the steep one is
    at its minimum at once. With $m = 0.9$ all curvatures between {low:.3f} and {high:.1f} have complex roots, and all
    three directions shrink by {np.sqrt(0.9):.3f} a step.
    """
)
assert low < curvatures.min()
assert curvatures.max() < high

# %% [markdown]
# ## The experiment
#
# Now a real network, $64 - 256 - 128 - 10$: three dense layers, and between them the *rectifier* $\max(x, 0)$, called
# ReLU, applied to each number. It learns 200 handwritten digits of 8 x 8 pixels. Another 1,000 digits are kept aside.
# After several numbers of epochs we look at the loss on both. All that follows in this book starts from such networks,
# so here is how they are made: four *replicas*, each with its own random split of the digits, trained at the same
# time.
#
# `Schedule` has the epochs, the batch size, the learning rate (`lr`) and the momentum, 0.9 where none is named.
# (Batches of 32 divide 200 members into six and one smaller one, so the mean of their gradients is only nearly the
# gradient.) `room` holds the digits, and for each replica the indices of its 200 members, 200 reference records
# (chapter 8) and 1,000 non-members; `room.generators(1)` are its random numbers. *Training accuracy* is the share of
# right predictions on members, *test accuracy* that on non-members.

# %%
from nanoprune.lab.course.digits import Classroom, classroom, losses
from nanoprune.schedule import Schedule
from nanoprune.train import train

source(Classroom.network, losses)

room, epochs, curves = classroom(replicas=4), (1, 2, 3, 5, 8, 12, 20, 30), {}
for momentum in (0.0, 0.9):
    curve = []
    for n in epochs:  # from the start each time: a call of `train` begins with V = 0
        net, plan = room.network(), Schedule(n, batch=32, lr=0.05, momentum=momentum)
        train(net, room.records, room.members, plan, room.generators(1))
        curve.append([losses(room, net, index).mean() for index in (room.members, room.nonmembers)])
    curves[momentum] = np.array(curve)

# %% tags=["hide-input"]
drawing, plot = axes()
for momentum, curve in curves.items():
    for line, style, who in zip(curve.T, ("-", "--"), ("trained on", "not trained on"), strict=True):
        colour = "C0" if momentum else "C1"
        plot.semilogy(epochs, line, style, marker=".", color=colour, label=f"m = {momentum:g}, {who}")
plot.set(xlabel="epoch", ylabel="mean loss", ylim=(1e-4, None))
plot.legend(fontsize=8, loc="lower left")
(plain_in, plain_out), (fast_in, fast_out) = curves[0.0][-1], curves[0.9][-1]
figure(
    drawing,
    "Mean loss against the epoch, on a logarithmic axis, with and without momentum. On the records that are trained "
    f"on the loss falls to {plain_in:.3f} without momentum and to {fast_in:.4f} with it. On the others it ends at "
    f"{plain_out:.2f} and {fast_out:.2f}; with momentum it is flat from epoch 12 on.",
)
say(
    f"""
    With momentum, the loss on members ends at {fast_in:.4f}, that on others at {fast_out:.2f}:
    **{fast_out / fast_in:.0f} times** as much.
    SGD minimises the loss *on the members*, as asked. On the others it has been as low as
    {curves[0.9][:, 1].min():.3f} and ends at {fast_out:.3f}. The *generalisation gap* is the difference of the two mean
    losses, {fast_out - fast_in:.2f} here.
    """
)
assert fast_in < plain_in
assert fast_out > 10 * fast_in
assert curves[0.9][:, 1].argmin() < len(epochs) - 1
assert np.ptp(curves[0.9][epochs.index(12) :, 1]) < 0.05

# %% [markdown]
# The gap is the subject of the rest of this book: whoever can see the loss of a record can guess on which side the
# record is.
#
# ## What this does not show
#
# - The descent lemma is about a smooth function and its whole gradient. A network with ReLU is not smooth, and
#   $\Lambda$ changes along the way: nothing here proves that SGD converges.
# - The theory of momentum is exact on quadratics alone.
# - The size of the gap is no law. A larger training set, fewer epochs or regularisation make it smaller.
#
# ## Exercises
#
# In `book/exercises/02_sgd.py`; `python cli.py learn check 2` grades them.
#
# 1. `cross_entropy`: loss and gradient from logits, finite for logits of $\pm 10^4$.
# 2. `momentum_step`: one step of the heavy ball.
# 3. `largest_rate`: the learning rate below which the heavy ball converges on a quadratic of curvature $\lambda$.
#    Check the derivation in the text by running the heavy ball a little below and above it.
