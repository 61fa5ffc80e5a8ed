# %% [markdown]
# # 3. Convolution as a matrix product
#
# A layer that looks at images should find the same stroke wherever it lies. So it slides one small window of weights,
# a *kernel*, over the image. **How do loops over pixels become a few matrix products, how is their derivative taken,
# and can a product be had for less?**
#
# ## Seven loops
#
# An image $X$ has, at each of its rows and columns, $C$ numbers, its *channels* (one for grey, three for colours). The
# layer has $O$ kernels of $k \times k$ weights over all channels. A window of that size fits at $OH$ rows and $OW$
# columns, each $k - 1$ less than the image has. ($OH$ and $OW$ are names of one number each.) One number of the output
# is
#
# $$Y_{y,o,x} = b_o + \sum_{i=0}^{k-1} \sum_{c=1}^{C} \sum_{j=0}^{k-1} W_{o,i,c,j}\, X_{y+i,\,c,\,x+j} .$$
#
# Three sums for each of $OH \cdot O \cdot OW$ outputs of each of $N$ samples: seven loops. In Python they look like
# this. The code has an eighth loop, over replicas; its `stride` is the step of the window, 1 here, and `padding` the
# number of rows and columns of zeros around the image, 0 here. In the shapes in its comments, `H` and `W` are the rows
# and columns of the image.

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
# $$Y = W V + b ,$$
#
# where $W$ is now the matrix of $O$ rows, each a kernel written out as $kCk$ numbers in the order $(i, c, j)$, and $b$
# is added to each column. This is called *lowering* (or im2col). The loops are now inside one matrix product, which
# computers do very fast. The price is memory: each pixel is copied $k^2$ times.
#
# **Copy less.** Two windows that lie one above the other share $k - 1$ of their $k$ rows. Copy the image once for
# each kernel *column* $j$ only,
#
# $$L_{h,c,j,x} = X_{h,\,c,\,x+j},$$
#
# which takes $k$ copies and not $k^2$. The windows of output row $y$ consist of the rows $y, \dots, y + k - 1$ of $L$.
# Since $h$ is the first index of $L$, these rows are one piece of memory. Read as a matrix with the $kCk$ rows
# $(i, c, j)$ and a column for each $x$, this piece is $V_y$, the part of $V$ for output row $y$, and nothing is
# copied: it is a *view* of $L$. Views of neighbouring rows overlap ([Cho & Brand
# 2017](../references.md#cho-and-brand-2017)). One product for each row of the output: $Y_y = W V_y + b$.
#
# ## The derivative
#
# Each step is linear, and chapter 1 told what to do with a linear map: use its transpose.
#
# - $Y_y = W V_y + b$ is a dense layer, with the columns of $V_y$ as samples: $dW = \sum_y dY_y V_y^T$ and
#   $dV_y = W^T dY_y$.
# - $V_y$ are rows of $L$, and a row of $L$ is in several of them. The derivatives of one number that is used several
#   times are *added*: $dL_{y \dots y+k-1} \mathrel{+}= dV_y$.
# - $L$ copies pixels. The transpose of a copy is again a sum: $dX_{h,c,x+j} \mathrel{+}= dL_{h,c,j,x}$.

# %%
from nanoprune.nn import Conv2D

source(Conv2D.forward, Conv2D.weight_gradient, Conv2D.input_gradient)

# %% [markdown]
# The forward pass has an oracle that shares no code with it, the loops. The backward pass has central differences. As
# loss take $\langle dY, Y \rangle$ with a random $dY$: its derivative with respect to $Y$ is $dY$. Parameters and
# images are moved together. The digits are images of 8 x 8 pixels with one channel.

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
dX = net.backward(dY, ws, need_dX=True)
v, V, eps, start = rng.standard_normal(net.theta.shape), rng.standard_normal(X.shape), 1e-5, net.theta.copy()
sides = []
for sign in (1, -1):
    net.theta[...] = start + sign * eps * v
    sides.append((dY * net.forward(X + sign * eps * V, Workspace())).sum())
net.theta[...] = start
ours, oracle = (net.grad * v).sum() + (dX * V).sum(), (sides[0] - sides[1]) / (2 * eps)
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
# $E_t^{-1} \big[ (E_k w) \odot (E_m v) \big]$. For fixed $w$ the product is a linear map of $v$,
# $c_s = \sum_i w_{s-i} v_i$, with the matrix $T_{si} = w_{s-i}$. Its transpose takes $x$ to
# $\sum_s w_{s-i}\, x_s = \sum_r w_r\, x_{i+r} = y_i$, which is the filter. And
# $T = E_t^{-1} \operatorname{diag}(E_k w)\, E_m$, so that
#
# $$y = A^T \big[ (G w) \odot (B x) \big], \qquad A = E_m,\quad G = E_k,\quad B = E_t^{-T} .$$
#
# $G w$ depends on the weights alone and is computed once. $A$ and $B$ are small matrices of constants: to apply them
# is to add up a few numbers, each times a small constant. We call these the *sums*. The points are
# $0, 1, -1, 2, -2, \dots$, and one may be *infinity*: the leading coefficient of a product is the product of the
# leading coefficients, so it serves as a value. (The code scales each row of $B$ to a largest entry of 1, and the row
# of $G$ by the inverse.)

# %%
from nanoprune.lab.kernels.winograd import minimal_filter

source(minimal_filter)


def errors(m, k, dtype, times=1000):
    """Typical error of the plain sum and of Winograd's on random filters, against the plain sum in float64."""
    w, x = (rng.standard_normal((times, n)).astype(dtype) for n in (k, m + k - 1))
    A, G, B = (matrix.astype(dtype) for matrix in minimal_filter(m, k))
    plain = sum(w[:, i : i + 1] * x[:, i : i + m] for i in range(k))
    exact = sum(w[:, i : i + 1].astype(float) * x[:, i : i + m] for i in range(k))
    fast = ((w @ G.T) * (x @ B.T)) @ A
    return [np.sqrt(((y - exact) ** 2).mean()) for y in (plain, fast)]


rows, rounding, largest = [], {}, {}
for m, k in ((2, 3), (4, 3), (4, 5)):
    name, error = f"F({m}, {k})", errors(m, k, np.float64)[1]
    rounding[name], largest[name] = errors(m, k, np.float32), np.abs(minimal_filter(m, k)[0]).max()
    single = "{:.0e} and {:.0e}".format(*rounding[name])
    rows.append([name, m * k, m + k - 1, f"{m * k / (m + k - 1):.2f}", f"{error:.0e}", f"{largest[name]:g}", single])
    assert error < 1e-12
header = ["filter", "products, direct", "products, Winograd", "ratio", "error in float64", "largest entry of A"]
table([*header, "errors in float32, direct and Winograd"], rows)
assert max(plain for plain, _ in rounding.values()) < rounding["F(2, 3)"][1] < rounding["F(4, 3)"][1]

# %% [markdown]
# The package filters *down the columns*: a tap is a whole row of a kernel, an input a whole row of the image, and each
# product a product of matrices. The algebra does not mind.
#
# ## The experiment
#
# Are fewer products less time? We measure a layer in both forms, for 16 kernels of 3 x 3; F(4, 3) halves its
# multiplications. Rounding is part of the price, so we look at it in float32.

# %%
import time

from nanoprune.lab.kernels import WinogradConv2D, winograd


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
difference = max(np.abs(a[1] - b[1]).max() / np.abs(a[1]).max() for a, b in zip(plain, fast, strict=True))

# %% tags=["hide-input"]
drawing, plot = axes()
plot.semilogx(channels, ratio, "o-", label="measured")
plot.axhline(2, linestyle="--", color="C1", label="products saved: F(4, 3)")
plot.axhline(1, linestyle=":", color="C3", label="equally fast")
plot.set(xlabel="channels", ylabel="plain / Winograd's time", xticks=channels, xticklabels=channels)
plot.minorticks_off()
plot.legend()
figure(
    drawing,
    "Time of the plain convolution divided by Winograd's, against the number of channels from 1 to 32. "
    f"It is {ratio[0]:.1f} with one channel and {ratio[-1]:.1f} with 32. Lines mark 1, equally fast, and 2, the ratio "
    "of the numbers of multiplications.",
)
say(f"Largest difference between the two in float32: {difference:.0e} of the largest output.")
assert difference < 1e-4

# %% [markdown]
# Where does the time go? The sums $Bx$ are taken for each channel and $A^T[\cdot]$ for each kernel, but the products
# for each pair of a channel and a kernel. So the sums weigh most where channels are few. Count for 4 output rows, one
# of their columns, and 16 kernels: the plain form takes $4 \cdot 3 \cdot 3$ products for each channel and kernel,
# Winograd's $6 \cdot 3$, and in addition a product with $B$ (6 x 6) for each channel and with $A^T$ (4 x 6) for each
# kernel.

# %%
A, G, B = minimal_filter(winograd.TILE, 3)
direct = {c: winograd.TILE * 3 * 3 * c * 16 for c in channels}
in_all = {c: len(B) * 3 * c * 16 + B.size * c + A.size * 16 for c in channels}
enough = min(c for c in channels if in_all[c] < direct[c])
faster = [c for i, c in enumerate(channels) if min(ratio[i:]) > 1]
measured = f"from {faster[0]} channels on" if faster else "nowhere"
say(
    f"""
    With one channel the plain form takes {direct[1]} multiplications and Winograd's {in_all[1]}. By this count {enough}
    channels are enough for Winograd's form to win; in the measurement above it is faster {measured}. A count is not a
    time: for each operation, sums of rows move more memory than products of matrices. The package takes Winograd's form
    from {winograd.MANY} channels on, by a measurement on larger images (`benchmarks/winograd_channels.py`).
    """
)
#
# ## What this does not show
#
# - The times are those of the machine that built this page, and it may have been busy. Count products where you want
#   a number that stays true.
# - Winograd rounds more than the plain form. With larger $m$ there are more points, and higher powers of them in $A$:
#   the table above has its largest entry, and the rounding errors that grow with it.
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
# 3. `multiplications`: how many products a layer takes, by loops and by Winograd's filter down the columns.
