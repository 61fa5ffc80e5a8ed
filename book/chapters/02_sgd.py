# %% [markdown]
# # 2. What does SGD minimise?
#
# A classifier gets an image and gives one number for each class. Training makes the right number large. **What
# exactly is made small, how far does one step get, and what happens to records that were not trained on?**
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
# Its derivative is short. Since $\log p_y = z_y - \log \sum_k e^{z_k}$,
#
# $$\frac{\partial (-\log p_y)}{\partial z_c} = -\mathbf 1[c = y] + \frac{e^{z_c}}{\sum_k e^{z_k}}
# = p_c - \mathbf 1[c = y].$$
#
# So $dz = (p - \text{onehot}(y)) / n$: what was said, minus what is true.
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
# large may the *learning rate* $\eta$ be? Suppose the gradient is $\ell$-Lipschitz:
# $\|\nabla L(a) - \nabla L(b)\| \le \ell \|a - b\|$. Along the segment from $\theta$ to $\theta + \delta$,
#
# $$L(\theta + \delta) - L(\theta) = \int_0^1 \langle \nabla L(\theta + t\delta), \delta \rangle\, dt
# \le \langle g, \delta \rangle + \int_0^1 \ell t \|\delta\|^2\, dt
# = \langle g, \delta \rangle + \frac{\ell}{2} \|\delta\|^2 .$$
#
# Put $\delta = -\eta g$. This is the **descent lemma**:
#
# $$L(\theta - \eta g) \le L(\theta) - \eta \Big(1 - \frac{\eta \ell}{2}\Big) \|g\|^2 .$$
#
# The loss falls for every $\eta < 2/\ell$, and the bound is best at $\eta = 1/\ell$. Can the constants be improved?
# On the least-squares problem $L(w) = \tfrac12 \|A w - b\|^2$ the Lipschitz constant $\ell$ is the largest eigenvalue
# of $A^T A$, and everything is known.

# %%
import numpy as np

rng = np.random.default_rng(0)
A, b = rng.standard_normal((30, 20)), rng.standard_normal(30)
eigenvalues, vectors = np.linalg.eigh(A.T @ A)
ell = eigenvalues[-1]
solution = np.linalg.lstsq(A, b, rcond=None)[0]


def least_squares(w):
    return 0.5 * ((A @ w - b) ** 2).sum()


def slack(w, rate):
    """How much further one step of gradient descent gets than the lemma promises, relative to the squared gradient."""
    g = A.T @ (A @ w - b)
    promised = rate * (1 - rate * ell / 2) * (g @ g)
    return (least_squares(w) - least_squares(w - rate * g) - promised) / (g @ g)


rows = []
for times in (0.5, 1.0, 1.9, 2.1):
    rate = times / ell
    anywhere = min(slack(rng.standard_normal(20), rate) for _ in range(1000))
    worst = slack(solution + vectors[:, -1], rate)  # the gradient is along the steepest direction
    rows.append([f"{times} / ℓ", f"{anywhere:.1e}", f"{worst:.0e}"])
    assert anywhere >= -1e-12
    assert abs(worst) < 1e-9
table(["learning rate", "least slack of 1,000 random points", "slack along the steepest direction"], rows)

# %% [markdown]
# No point breaks the lemma, and along the steepest direction it holds with equality: the constants are the best
# possible.
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
# Along an eigenvector of a quadratic with curvature $\lambda$, the distance $e_t$ to the minimum follows from two
# steps, $V_t = (\theta_{t-1} - \theta_t)/\eta$:
#
# $$e_{t+1} = (1 + m - \eta\lambda)\, e_t - m\, e_{t-1}.$$
#
# Its solutions are powers of the roots of $r^2 - (1 + m - \eta\lambda)\, r + m$. The product of the roots is $m$. If
# they are complex, both have the magnitude $\sqrt m$, whatever $\lambda$ is: steep and flat directions shrink equally
# fast. Both magnitudes stay below 1 exactly if $0 < \eta\lambda < 2(1 + m)$.

# %%
from nanoprune.nn import SGD, Dense, Network

source(SGD.step)


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


curvatures = np.array([0.02, 0.2, 1.0])
rows = []
for momentum in (0.0, 0.9):
    path = distances(momentum, curvatures, 1.0, 150)
    measured = np.abs(path[-1]) + np.abs(path[-2]) + 1e-300
    measured = (measured / (np.abs(path[-51]) + np.abs(path[-52]) + 1e-300)) ** (1 / 50)
    for curvature, found in zip(curvatures, measured, strict=True):
        root = np.abs(np.roots([1, -(1 + momentum - curvature), momentum])).max()
        rows.append([momentum, curvature, f"{root:.3f}", f"{found:.3f}" if root else "at once"])
table(["momentum", "curvature λ (learning rate 1)", "largest root", "measured factor a step"], rows)

# %% [markdown]
# Without momentum the flat direction keeps most of its distance in each step. With $m = 0.9$ all three directions
# shrink by nearly the same factor, the one that the theory gives.
#
# ## The experiment
#
# Now a real network, $64 - 256 - 128 - 10$: three dense layers, and between them the *rectifier* $\max(x, 0)$, called
# ReLU, applied to each number. It learns 200 handwritten digits of 8 x 8 pixels. Another 1,000 digits are kept aside.
# After each epoch we look at the loss on both. All that follows in this book starts from such networks, so here is
# how they are made: four *replicas*, each with its own random split of the digits, trained at the same time.

# %%
from nanoprune.lab.course.digits import Classroom, classroom, losses
from nanoprune.schedule import Schedule
from nanoprune.train import train

source(Classroom.network, losses)

room = classroom(replicas=4)
curves = {}
for momentum in (0.0, 0.9):
    net = room.network()
    draws = room.generators(1)
    curve = []
    for _ in range(30):
        train(net, room.records, room.members, Schedule(1, batch=32, lr=0.05, momentum=momentum), draws)
        curve.append([losses(room, net, index).mean() for index in (room.members, room.nonmembers)])
    curves[momentum] = np.array(curve)

# %% tags=["hide-input"]
drawing, plot = axes()
for momentum, curve in curves.items():
    for line, style, who in zip(curve.T, ("-", "--"), ("trained on", "not trained on"), strict=True):
        colour = "C0" if momentum else "C1"
        plot.semilogy(np.arange(1, 31), line, style, color=colour, label=f"m = {momentum:g}, {who}")
plot.set(xlabel="epoch", ylabel="mean loss")
plot.legend()
(plain_in, plain_out), (fast_in, fast_out) = curves[0.0][-1], curves[0.9][-1]
figure(
    drawing,
    "Mean loss against the epoch, on a logarithmic axis, with and without momentum. On the records that are trained "
    f"on the loss falls to {plain_in:.3f} without momentum and to {fast_in:.4f} with it. On the others both curves "
    f"flatten, at {plain_out:.2f} and {fast_out:.2f}.",
)
say(
    f"""
    With momentum, the loss on members ends at {fast_in:.4f}, that on others at {fast_out:.2f}:
    **{fast_out / fast_in:.0f} times** as much.
    SGD minimises the loss *on the members*, as asked. On the others it stops falling long before.
    """
)
assert fast_in < plain_in
assert fast_out > 10 * fast_in

# %% [markdown]
# The distance between the two curves is the *generalisation gap*. It is the subject of the rest of this book: whoever
# can see the loss of a record can guess on which curve the record lies.
#
# ## What this does not show
#
# - The descent lemma is about a smooth function and its whole gradient. A network with ReLU is not smooth, and $\ell$
#   changes along the way: nothing here proves that SGD converges.
# - The theory of momentum is exact on quadratics alone.
# - The constant distance between the curves is no law. A larger training set, fewer epochs or regularisation make it
#   smaller.
#
# ## Exercises
#
# In `book/exercises/02_sgd.py`; `python cli.py learn check 2` grades them.
#
# 1. `cross_entropy`: loss and gradient from logits, finite for logits of $\pm 10^4$.
# 2. `momentum_step`: one step of the heavy ball.
# 3. `largest_rate`: the largest learning rate for which the heavy ball converges on a quadratic of curvature
#    $\lambda$. Derive it from the roots: at the limit one root is $-1$.
