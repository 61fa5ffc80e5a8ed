# %% [markdown]
# # 1. What is a derivative?
#
# A neural network is a function with many parameters, and training moves all of them downhill at once. For that we
# need the derivative of one number, the loss, with respect to each parameter. **How is it written by hand, and how do
# we know that it is right?**
#
# ## The derivative is a linear map
#
# Take a function $f$ from $\mathbb R^n$ to $\mathbb R^m$, and move its input a little, by $\varepsilon v$. If $f$ is
# smooth, then
#
# $$f(x + \varepsilon v) = f(x) + \varepsilon\, J v + O(\varepsilon^2).$$
#
# The matrix $J$ is the derivative: it says where the output goes when the input moves along $v$.
#
# A network is a chain of functions, its *layers*, and ends in one number $L$, the loss. Computing the outputs of the
# layers, one after the other, is the *forward pass*; going back from the loss is the *backward pass*. Take a layer
# with the output $y = f(x)$, and let $dy$ be the gradient of the loss with respect to $y$: one symbol for a vector of
# the shape of $y$, with the entries $\partial L / \partial y_i$. A small move $\delta$ of the input changes the loss,
# to first order, by
#
# $$\langle dy,\ J \delta \rangle = \langle J^T dy,\ \delta \rangle .$$
#
# So the derivative of the loss with respect to the *input* is $dx = J^T dy$. This is the chain rule, and it is all
# there is to *backpropagation*: each layer gets $dy$ from the layer above, multiplies by its own $J^T$, and hands
# $dx$ to the layer below. The matrix $J$ is never stored. A layer only has to know how to multiply by its transpose.
# Its parameters are one more argument of the function, with the same rule.
#
# ## A dense layer
#
# Put $N$ samples side by side, as the columns of $X$. A dense layer is
#
# $$Y = W X + b, \qquad X \in \mathbb R^{\text{in} \times N},\quad
# W \in \mathbb R^{\text{out} \times \text{in}},\quad b \in \mathbb R^{\text{out}} ,$$
#
# where $b$ is added to each column. The inner product of two matrices is
# $\langle A, B \rangle = \sum_{ij} A_{ij} B_{ij} = \mathrm{tr}(A^T B)$. Move one argument at a time:
#
# 1. **Move $W$ by $\Delta$.** $Y$ moves by $\Delta X$, the loss by
#    $\langle dY, \Delta X \rangle = \mathrm{tr}(dY^T \Delta X)$. A trace does not change when its factors rotate, so
#    this is $\mathrm{tr}(X\, dY^T \Delta) = \langle dY\, X^T, \Delta \rangle$. Hence $dW = dY\, X^T$.
# 2. **Move $b$ by $\beta$.** Every column of $Y$ moves by $\beta$, the loss by $\sum_n \langle dY_n, \beta \rangle$.
#    Hence $db = \sum_n dY_n$.
# 3. **Move $X$ by $\Delta$.** $Y$ moves by $W \Delta$, the loss by
#    $\langle dY, W \Delta \rangle = \langle W^T dY, \Delta \rangle$. Hence $dX = W^T dY$.
#
# ## The code
#
# A layer of the package is its forward pass and the three lines above. Arrays have one more axis in front, the
# *replicas*: independent networks that are trained at once. With one network it has length 1, and you may read past
# it. `product(A, B)` is the matrix product.

# %%
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.nn import Dense

source(Dense.forward, Dense.weight_gradient, Dense.input_gradient)

# %% [markdown]
# No line makes a matrix $J$. `xp` is NumPy, or CuPy on a GPU. A parameter has a `value` and a `grad`. The *workspace*
# `ws` lends memory for results (`buffer`, `gradient`), and keeps what the backward pass will need: what
# `ws.save(self, X)` stores is the last argument of the other two functions.
#
# ## Is it right?
#
# We know the definition of a derivative, and it needs no calculus: move a little, and look. The **central
# difference**
#
# $$D(\varepsilon) = \frac{f(x + \varepsilon v) - f(x - \varepsilon v)}{2 \varepsilon}$$
#
# uses nothing but the forward pass. From here on $f$ is the loss as a function of whatever is moved, so one number,
# and $dx$ is its gradient. Then $D(\varepsilon)$ must agree with $\langle dx, v \rangle$. How closely? By Taylor's
# theorem
#
# $$f(x \pm \varepsilon v) = f \pm \varepsilon f' + \tfrac{\varepsilon^2}{2} f'' \pm \tfrac{\varepsilon^3}{6} f''' +
# \dots \quad\Longrightarrow\quad D(\varepsilon) = f' + \tfrac{\varepsilon^2}{6} f''' + \dots$$
#
# where $f'$, $f''$, $f'''$ are derivatives along $v$. The even terms cancel: halving $\varepsilon$ divides the error
# by four. But a computer rounds. With $u$ the relative rounding error, each value of $f$ is off by about $u |f|$, and
# the difference is divided by $2\varepsilon$. The total error is about
#
# $$\frac{\varepsilon^2}{6} |f'''| + \frac{u |f|}{\varepsilon},$$
#
# large on both sides: a V. The best $\varepsilon$ is where the derivative of this sum is zero, at
# $\varepsilon = (3 u |f| / |f'''|)^{1/3}$, or about $u^{1/3}$ when the function and its third derivative are of one
# size.
#
# The one-sided difference $(f(x + \varepsilon v) - f(x)) / \varepsilon$ keeps the term with $f''$. Its error is about
# $\tfrac{\varepsilon}{2} |f''| + 2 u |f| / \varepsilon$, and its best $\varepsilon$ about $u^{1/2}$.
#
# ## The experiment
#
# A small network classifies 32 images of handwritten digits. We move *all* its parameters along one random direction
# $v$, and compare the derivative that the code computes with differences, for steps $\varepsilon$ of many sizes. The
# layer between the two dense ones is a smooth function, $\tanh$, applied to each number. (Without it two dense layers
# would be one: a product of matrices is a matrix.) `Sequential` runs layers one after the other, and their backward
# passes in the opposite order: that is the chain rule. The loss is the cross-entropy of chapter 2; here it is enough
# that it is one number. `cross_entropy` returns it, and its derivative with respect to the output of the network.
# `net.theta` holds all parameters in one row for each replica, and `net.grad` their derivatives in the same order.
# `(64,)` is the shape of one input, and the 1 behind it the number of replicas.

# %%
import numpy as np

from nanoprune.lab.data import load
from nanoprune.lab.layers import Tanh
from nanoprune.nn import Network, Sequential, Workspace, cross_entropy

digits = load("digits")


def experiment(dtype):
    """The derivative along v from the backward pass, and a function that gives the loss at theta + step v."""
    net = Network(Sequential(Dense(64, 32), Tanh(), Dense(32, 10)), (64,), 1, dtype)
    net.initialise([np.random.default_rng(0)])
    X, y = digits.x[:32].T[None].astype(dtype), digits.y[:32][None]  # (1, 64, N), (1, N)
    start, v = net.theta.copy(), np.random.default_rng(1).standard_normal(net.theta.shape).astype(dtype)

    def loss(step):
        net.theta[...] = start + dtype(step) * v
        ws = Workspace()
        value, dlogits = cross_entropy(net.forward(X, ws), y)
        net.backward(dlogits, ws)  # fills net.grad
        return float(value[0])

    loss(0.0)
    return float((net.grad.astype(np.float64) * v).sum()), loss


exact, loss = experiment(np.float64)
central = (loss(1e-5) - loss(-1e-5)) / 2e-5
say(
    f"The backward pass says **{exact:.10f}**, the central difference with a step of $10^{{-5}}$ "
    f"says **{central:.10f}**."
)
assert abs(central - exact) < 1e-7 * abs(exact)

# %% [markdown]
# Two numbers that were computed in entirely different ways agree in many digits. A wrong sign, a forgotten transpose
# or a missing factor 1/N in any layer would show. Now the V.

# %%
steps = 10.0 ** np.arange(-12, 0.01, 0.25)
errors = {
    "central, float64": [abs((loss(e) - loss(-e)) / (2 * e) - exact) for e in steps],
    "one-sided, float64": [abs((loss(e) - loss(0)) / e - exact) for e in steps],
}
_, single = experiment(np.float32)
errors["central, float32"] = [abs((single(e) - single(-e)) / (2 * e) - exact) for e in steps]
lost = np.array(errors["central, float32"]) == abs(exact)  # the difference is 0
assert lost[steps < 3e-8].all()

# %% tags=["hide-input"]
drawing, plot = axes()
for name, error in errors.items():
    plot.loglog(steps, np.maximum(error, 1e-16) / abs(exact), label=name)
plot.set(xlabel="step ε", ylabel="relative error")
plot.legend()

best = {name: steps[int(np.argmin(error))] for name, error in errors.items()}
figure(
    drawing,
    "Relative error of three difference quotients against the step, both axes logarithmic. Each curve falls with the "
    "step, then rises again; in float32 it is 1 for the smallest steps. The lowest points are near "
    f"{best['central, float64']:.0e} for central differences in float64, {best['one-sided, float64']:.0e} for "
    f"one-sided ones, and {best['central, float32']:.0e} for central differences in float32.",
)
table(
    ["differences", "rounding u", "theory: best step near", "best step here", "relative error there"],
    [
        [name, f"{u:.0e}", f"{u**power:.0e}", f"{best[name]:.0e}", f"{min(errors[name]) / abs(exact):.0e}"]
        for name, u, power in (
            ("central, float64", np.finfo(np.float64).eps, 1 / 3),
            ("one-sided, float64", np.finfo(np.float64).eps, 1 / 2),
            ("central, float32", np.finfo(np.float32).eps, 1 / 3),
        )
    ],
)

# %% [markdown]
# In float32 the smallest steps change the loss by less than its rounding: both values are equal, the difference is 0,
# and the relative error 1. The right arm of the V is the mathematics, and its slope tells the order: 2 for central
# differences, 1 for one-sided ones. We can measure it where rounding does not matter.

# %%
right = (steps >= 1e-4) & (steps <= 1e-2)
slopes = {
    name: np.polyfit(np.log(steps[right]), np.log(np.array(errors[name])[right]), 1)[0]
    for name in ("central, float64", "one-sided, float64")
}
say(
    f"Measured slopes: {slopes['central, float64']:.2f} for central differences and {slopes['one-sided, float64']:.2f} "
    "for one-sided ones."
)
assert abs(slopes["central, float64"] - 2) < 0.2
assert abs(slopes["one-sided, float64"] - 1) < 0.2

# %% [markdown]
# This is why the package checks its derivatives in float64, with central differences and a step of $10^{-5}$. The
# check is `nanoprune.lab.verify.gradient`, and `python cli.py verify` runs it on every layer.
#
# ## What this does not show
#
# - One random direction $v$ is one equation. A wrong gradient passes it only if its error is orthogonal to $v$, which
#   has probability zero. But an error that is *small* passes: one wrong weight among thousands changes the inner
#   product by little.
# - The check compares a backward pass with *its own* forward pass. If both compute the wrong function, they agree.
#   Forward passes need an oracle of their own, such as loops: chapter 3.
# - At a kink there is no derivative. The layer ReLU, $\max(x, 0)$, has its kink at zero, and if that lies between
#   $x - \varepsilon v$ and $x + \varepsilon v$ the two sides disagree although nothing is wrong.
#
# ## Exercises
#
# In `book/exercises/01_derivative.py`; `python cli.py learn check 1` grades them.
#
# 1. `dense_backward`: from $dY$, $X$ and $W$ the three derivatives of a dense layer.
# 2. `central_difference`: the difference quotient along a direction. It is graded by its order, too.
# 3. `tanh_backward`: $Y = \tanh X$ elementwise. Its $J$ is diagonal. What is $J^T dY$, written with $Y$ alone?
