# %% [markdown]
# # 3. Convolution as a matrix product
#
# A layer that looks at images should find the same stroke wherever it lies. So it slides one small window of weights,
# a *kernel*, over the image. **How do loops over pixels become a few matrix products, how is their derivative taken,
# and can a product be had for less?**
#
# ## Seven loops
#
# An image $X$ has $H$ rows, $W$ columns and $C$ channels. The layer has $O$ kernels of $k \times k$ weights over all
# channels. Without padding, one number of the output is
#
# $$Y_{y,o,x} = b_o + \sum_{i=0}^{k-1} \sum_{c=1}^{C} \sum_{j=0}^{k-1} W_{o,i,c,j}\, X_{y+i,\,c,\,x+j} .$$
#
# Three sums for each of $OH \cdot O \cdot OW$ outputs of each of $N$ samples: seven loops. In Python they look like
# this.

# %%
from nanoprune.lab.course.show import axes, figure, say, source, table
from nanoprune.lab.verify.reference import convolution as loops

source(loops)

# %% [markdown]
# ## Lowering
#
# For fixed output position the sum over $(i, c, j)$ is an inner product of two vectors of length $k C k$. So copy,
# for each output position, the window that it reads into a column of a matrix $V$, of shape
# $kCk \times (OH \cdot OW \cdot N)$. Then
#
# $$Y = W V + b .$$
#
# This is called *lowering* (or im2col). The loops are now inside one matrix product, which computers do very fast.
# The price is memory: each pixel is copied $k^2$ times.
#
# **Copy less.** Two windows that lie one above the other share $k - 1$ of their $k$ rows. Copy the image once for
# each kernel *column* $j$ only,
#
# $$L_{h,c,j,x} = X_{h,\,c,\,x+j},$$
#
# which takes $k$ copies and not $k^2$. The window of output row $i$ consists of the rows $i, \dots, i + k - 1$ of
# $L$, and these already lie side by side in memory. So $V_i$ is a *view* of $L$, and views of different rows overlap
# ([Cho & Brand 2017](../references.md#cho-and-brand-2017)). One product for each row of the output: $Y_i = W V_i + b$.
#
# ## The derivative
#
# Each step is linear, and chapter 1 told what to do with a linear map: use its transpose.
#
# - $Y_i = W V_i$ is a dense layer, with the columns of $V_i$ as samples: $dW = \sum_i dY_i V_i^T$ and
#   $dV_i = W^T dY_i$.
# - $V_i$ are rows of $L$. What reads the same number twice gets two derivatives, and they are *added*:
#   $dL_{i \dots i+k-1} \mathrel{+}= dV_i$.
# - $L$ copies pixels. The transpose of a copy is again a sum: $dX_{h,c,x+j} \mathrel{+}= dL_{h,c,j,x}$.

# %%
from nanoprune.nn import Conv2D

source(Conv2D.forward, Conv2D.weight_gradient, Conv2D.input_gradient)

# %% [markdown]
# The forward pass has an oracle that shares no code with it, the loops. The backward pass has central differences.
# The digits are images of 8 x 8 pixels with one channel.

# %%
import numpy as np

from nanoprune.lab.data import load
from nanoprune.nn import Network, Workspace

digits = load("digits")
X = np.moveaxis(digits.x[:6].reshape(6, 8, 1, 8), 0, -1)[None].astype(np.float64)  # (1, H, C, W, N)
rng = np.random.default_rng(0)
net = Network(Conv2D(1, 4, 3), (8, 1, 8), 1, np.float64).initialise([rng])
layer, ws = net.body, Workspace()

Y = net.forward(X, ws).copy()
by_loops = loops(X, layer.W.value, layer.b.value, size=3, stride=1, padding=0)
dY = rng.standard_normal(Y.shape)
net.backward(dY, ws)
v, eps, start = rng.standard_normal(net.theta.shape), 1e-5, net.theta.copy()
sides = []
for sign in (1, -1):
    net.theta[...] = start + sign * eps * v
    sides.append((dY * net.forward(X, Workspace())).sum())
net.theta[...] = start
ours, oracle = (net.grad * v).sum(), (sides[0] - sides[1]) / (2 * eps)
say(
    f"""
    Output: largest difference from the loops {np.abs(Y - by_loops).max():.1e}. Derivative along a random direction:
    {ours:.10f} by the code, {oracle:.10f} by central differences.
    """
)
assert np.abs(Y - by_loops).max() < 1e-12
assert abs(ours - oracle) < 1e-7 * abs(oracle)

# %% [markdown]
# ## Fewer multiplications
#
# One output of a filter with $k$ taps takes $k$ multiplications, $m$ outputs take $mk$. That is not the least
# possible. Take $m = 2$ outputs of a filter with $k = 3$ taps:
#
# $$y_0 = w_0 x_0 + w_1 x_1 + w_2 x_2, \qquad y_1 = w_0 x_1 + w_1 x_2 + w_2 x_3 .$$
#
# Six products. [Winograd (1980)](../references.md#winograd-1980) needs four ([Lavin & Gray
# 2016](../references.md#lavin-and-gray-2016) brought it to networks), because a filter is a product of polynomials in
# disguise. The product of polynomials with $k$ and $m$ coefficients has $t = m + k - 1$ coefficients, and so it is
# determined by its values at $t$ points. A value of the product is the product of the values: **one** multiplication
# for each point.
#
# Let $E_n$ be the matrix that evaluates $n$ coefficients at the $t$ points. The coefficients of the product are
# $E_t^{-1} \big[ (E_k w) \odot (E_m v) \big]$. For fixed $w$ this is a linear map of $v$, and the filter is its
# transpose:
#
# $$y = A^T \big[ (G w) \odot (B x) \big], \qquad A = E_m,\quad G = E_k,\quad B = E_t^{-T} .$$
#
# $G w$ depends on the weights alone and is computed once. $A$ and $B$ have small entries, and applying them takes
# additions for the most part. At the point infinity, a polynomial's value is its leading coefficient.

# %%
from nanoprune.lab.kernels.winograd import minimal_filter

source(minimal_filter)
rows = []
for m, k in ((2, 3), (4, 3), (4, 5)):
    A, G, B = minimal_filter(m, k)
    w, x = rng.standard_normal(k), rng.standard_normal(m + k - 1)
    error = np.abs(A.T @ ((G @ w) * (B @ x)) - np.correlate(x, w, "valid")).max()
    rows.append([f"F({m}, {k})", m * k, m + k - 1, f"{m * k / (m + k - 1):.2f}", f"{error:.0e}"])
    assert error < 1e-12
table(["filter", "products, direct", "products, Winograd", "ratio", "error in float64"], rows)

# %% [markdown]
# The package filters along the rows of the image: the taps are then whole rows of the kernels, matrices, and each
# product is a product of matrices. The algebra does not mind.
#
# ## The experiment
#
# Are fewer products less time? We count the multiplications of a layer and measure it, in the plain form and in
# Winograd's, for kernels of 3 x 3. Rounding is part of the price, so we look at it in float32.

# %%
import time

from nanoprune.lab.kernels import WinogradConv2D


def seconds(layer_type, channels, repeats=5):
    """The fastest of a few forward passes on 32 images of 8 x 8, and its outputs."""
    net = Network(layer_type(channels, 16, 3, padding=1), (8, channels, 8)).initialise([np.random.default_rng(3)])
    images = np.random.default_rng(4).standard_normal((1, 8, channels, 8, 32)).astype(np.float32)
    ws, times = Workspace(training=False), []
    for _ in range(repeats):
        begin = time.perf_counter()
        out = net.forward(images, ws)
        times.append(time.perf_counter() - begin)
    return min(times), out


channels = (1, 2, 4, 8, 16, 32)
plain, fast = ([seconds(kind, c) for c in channels] for kind in (Conv2D, WinogradConv2D))
ratio = [a[0] / b[0] for a, b in zip(plain, fast, strict=True)]
rounding = max(np.abs(a[1] - b[1]).max() / np.abs(a[1]).max() for a, b in zip(plain, fast, strict=True))

# %% tags=["hide-input"]
drawing, plot = axes()
plot.semilogx(channels, ratio, "o-", label="measured")
plot.axhline(2, linestyle="--", color="C1", label="products saved: F(4, 3)")
plot.axhline(1, linestyle=":", color="C3", label="equally fast")
plot.set(xlabel="channels", ylabel="time of the plain form / Winograd's", xticks=channels, xticklabels=channels)
plot.minorticks_off()
plot.legend()
figure(
    drawing,
    "Time of the plain convolution divided by Winograd's, against the number of channels from 1 to 32. "
    f"It is {ratio[0]:.1f} with one channel and {ratio[-1]:.1f} with 32. Lines mark 1, equally fast, and 2, the ratio "
    "of the numbers of multiplications.",
)
say(f"Largest difference between the two in float32: {rounding:.0e} of the largest output.")
assert rounding < 1e-4

# %% [markdown]
# The sums $Bx$ and $A^T[\cdot]$ cost the same whatever is multiplied. With one channel they cost more than the
# products that they save; with many channels the products dominate. The package chooses by the number of channels,
# `nanoprune.lab.kernels.winograd.convolution`.
#
# ## What this does not show
#
# - The times are those of the machine that built this page, and it may have been busy. Count products where you want
#   a number that stays true.
# - Winograd rounds more than the plain form. With larger $m$ the points lie farther apart, the entries of $B$ and $G$
#   grow, and the error with them.
# - Nothing here says that convolution is the right layer. It is right for images, because a digit one pixel to the
#   left is the same digit.
#
# ## Exercises
#
# In `book/exercises/03_convolution.py`; `python cli.py learn check 3` grades them.
#
# 1. `lower`: the matrix $V$ of one image, a column for each window.
# 2. `fold`: the transpose of `lower`. The check is
#    $\langle \text{lower}(X), D \rangle = \langle X, \text{fold}(D) \rangle$ for all $D$.
# 3. `multiplications`: how many products a layer takes, by loops and by Winograd's filter along the rows.
