"""Networks: parameters as views of theta, replicas, the zoo's sizes, narrowed networks, and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.attack.attack_network import attacker
from nanoprune.errors import ArgumentError, DeviceError
from nanoprune.lab.layers import BatchNorm
from nanoprune.lab.zoo import NETWORKS, build, describe, layers_of, narrowed
from nanoprune.lab.zoo.structure import macs as macs_of
from nanoprune.nn import SGD, Adam, Conv2D, Dense, Flatten, Network, ReLU, Sequential, Workspace
from nanoprune.prune import ADMM, Budget, Mask, hard_prune


def small(replicas: int = 2, dtype=np.float64) -> Network:
    body = Sequential(Conv2D(2, 3, 2), ReLU(), Flatten(), Dense(27, 4))
    return Network(body, (4, 2, 4), replicas, dtype)


def generators(replicas: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, r]) for r in range(replicas)]


# theta


def test_parameters_are_views_weights_first():
    net = small()
    sizes = [3 * 2 * 2 * 2, 4 * 27, 3, 4]  # both weights, then both biases
    assert net.weight_count == sum(sizes[:2])
    assert net.theta.shape == net.grad.shape == (2, sum(sizes))
    net.theta[...] = np.arange(net.theta.size).reshape(net.theta.shape)
    start = 0
    for p, size in zip(net.weights + net.biases, sizes, strict=True):
        assert np.shares_memory(p.value, net.theta)
        assert np.shares_memory(p.grad, net.grad)
        np.testing.assert_array_equal(p.value.reshape(2, -1), net.theta[:, start : start + size])
        p.grad[...] = start
        assert (net.grad[:, start : start + size] == start).all()
        start += size
    net.W[...] = 0
    assert (net.weights[1].value == 0).all()
    assert (net.biases[0].value != 0).all()
    net.dW[...] = 9
    assert (net.weights[0].grad == 9).all()
    assert not (net.biases[0].grad == 9).any()


def test_the_given_layers_are_not_modified():
    body = Sequential(Dense(2, 2), BatchNorm(2))
    first, second = Network(body, (2,)), Network(body, (2,))
    first.theta[...] = 1
    assert (second.theta == 0).all()
    assert all(p.value is None and p.grad is None for p in body.parameters())
    assert all(s.value is None and s.batch is None for s in body.statistics())


def test_shard_and_over_share_parameters_only_copy_shares_nothing():
    net = small(4).initialise(generators(4))
    shard, twin, copy = net.shard(slice(1, 3)), net.over(net.theta, None, net.state), net.copy()
    assert (shard.replicas, twin.replicas, copy.replicas) == (2, 4, 4)
    shard.theta[0, 0], shard.grad[1, 2] = 7.0, 8.0
    assert (net.theta[1, 0], twin.theta[1, 0], net.grad[2, 2]) == (7.0, 7.0, 0.0)
    assert copy.theta[1, 0] != 7.0
    assert (twin.grad == 0).all()
    assert (copy.grad == 0).all()
    twin.weights[0].grad[...] = 5.0
    assert (net.weights[0].grad != 5.0).all()
    repeated = net.copy([3, 0, 3])
    np.testing.assert_array_equal(repeated.theta, np.stack([net.theta[3], net.theta[0], net.theta[3]]))
    repeated.theta[...] = 0
    assert (net.W != 0).any()


def test_nonzero_counts_weights_only():
    net = small(3)
    net.theta[...] = 1.0
    net.W[0, :5] = 0
    net.W[1] = -0.0
    net.biases[0].value[2] = 0
    assert net.nonzero().tolist() == [net.weight_count - 5, 0, net.weight_count]


# state


def with_statistics(replicas: int = 3) -> Network:
    """A network with two normalisations, whose statistics are all different."""
    body = Sequential(Conv2D(2, 3, 2, bias=False), BatchNorm(3), ReLU(), Flatten(), Dense(27, 4), BatchNorm(4))
    net = Network(body, (4, 2, 4), replicas, np.float64).initialise(generators(replicas))
    net.state[...] = 1 + np.arange(net.state.size).reshape(net.state.shape)
    return net


def test_statistics_are_views_of_state_and_no_parameters():
    net = with_statistics()
    assert [(s.name, s.shape) for s in net.statistics] == [(n, (c, 1)) for c in (3, 4) for n in ("mean", "var")]
    assert net.state.shape == net.batch_state.shape == (3, 14)
    assert net.size == net.theta.shape[1] == 3 * 8 + 4 * 27 + 4 + 2 * (3 + 4)
    np.testing.assert_array_equal(np.concatenate([s.value[:, :, 0] for s in net.statistics], axis=1), net.state)
    for s in net.statistics:
        assert np.shares_memory(s.value, net.state)
        assert np.shares_memory(s.batch, net.batch_state)


def test_a_network_starts_with_unit_scales_and_variances():
    fresh = Network(with_statistics().template, (4, 2, 4), 2)
    for net in (fresh, with_statistics().initialise(generators(3))):
        for s in net.statistics:
            assert (s.value == (1 if s.name == "var" else 0)).all()
    gamma, beta = with_statistics().biases[0], with_statistics().biases[1]
    assert (gamma.value == 1).all()
    assert (beta.value == 0).all()


def test_shard_and_over_share_the_state_and_copy_does_not():
    net = with_statistics()
    shard, twin, copy, repeated = (
        net.shard(slice(1, 3)),
        net.over(net.theta, None, net.state),
        net.copy(),
        net.copy([2, 0, 2]),
    )
    np.testing.assert_array_equal(copy.state, net.state)
    np.testing.assert_array_equal(repeated.state, net.state[[2, 0, 2]])
    shard.state[0, 3] = -5.0
    assert (net.state[1, 3], twin.state[1, 3]) == (-5.0, -5.0)
    assert copy.state[1, 3] != -5.0
    twin.batch_state[...] = 7.0  # two passes in flight see different batches
    assert not (net.batch_state == 7.0).any()


@pytest.mark.parametrize("optimizer", [SGD(0.9, 0.1), Adam()])
def test_no_optimiser_penalty_or_mask_touches_the_state(optimizer):
    net = with_statistics()
    state, budget = net.state.copy(), Budget(net, 0.3)
    admm = ADMM(net, budget)
    net.grad[...] = 1.0
    admm.add_penalty_gradient(net)
    Mask(net).apply(net)
    optimizer.step(net, 0.1)
    admm.update(net, np.zeros(3))
    hard_prune(net, budget)
    np.testing.assert_array_equal(net.state, state)
    assert (net.biases[0].value != 0).all()  # scales are not pruned


def test_running_statistics_move_a_tenth_towards_those_of_the_batch():
    net = with_statistics()
    state = net.state.copy()
    net.batch_state[...] = 20.0
    net.update_statistics()
    np.testing.assert_allclose(net.state, 0.9 * state + 0.1 * 20.0)


# Initial values


def test_initialise_is_determined_by_each_replicas_generator():
    whole, again = (small(3).initialise(generators(3)).theta for _ in range(2))
    np.testing.assert_array_equal(whole, again)
    assert len(np.unique(whole[:, 0])) == 3  # replicas differ
    for r in range(3):
        np.testing.assert_array_equal(small(1).initialise([np.random.default_rng([0, r])]).theta[0], whole[r])
    single = small(3, np.float32).initialise(generators(3)).theta
    np.testing.assert_array_equal(single, whole.astype(np.float32))


def test_initialise_has_hes_variance_and_no_bias():
    net = Network(Sequential(Dense(200, 300), Dense(300, 50)), (200,)).initialise(generators(1))
    for p, fan_in in zip(net.weights, (200, 300), strict=True):
        assert p.value.mean() == pytest.approx(0, abs=5 * (2 / fan_in / p.size) ** 0.5)
        assert p.value.var() == pytest.approx(2 / fan_in, rel=0.06)  # five standard errors of 15,000 draws
    assert all((p.value == 0).all() for p in net.biases)


@pytest.mark.parametrize("make", [lambda: Dense(4, 3), lambda: Conv2D(2, 3, 2), lambda: Conv2D(2, 3, 1, stride=2)])
def test_layers_start_with_random_weights_w_and_no_bias_b(make):
    layer = make()
    shape = (4,) if isinstance(layer, Dense) else (3, 2, 3)
    net = Network(layer, shape).initialise(generators(1))
    W, b = net.body.parameters()
    assert (W.name, b.name) == ("W", "b")
    assert (W.value != 0).all()
    assert (b.value == 0).all()


def test_a_network_without_parameters_is_a_function():
    net = Network(Sequential(Flatten(), ReLU()), (2, 1, 3), replicas=2).initialise([np.random.default_rng(0)] * 2)
    X = np.random.default_rng(1).standard_normal((2, 2, 1, 3, 4), np.float32)
    assert net.theta.shape == (2, 0)
    np.testing.assert_array_equal(
        np.sort(net.forward(X, Workspace()), axis=1), np.sort(np.maximum(X, 0).reshape(2, 6, 4), axis=1)
    )


def test_initialise_needs_one_generator_per_replica():
    with pytest.raises(ArgumentError, match="generators must be one for each of 2 replicas, got 3"):
        small(2).initialise(generators(3))


# What forward and backward refuse


@pytest.mark.parametrize("shape", [(1, 4, 2, 4, 5), (2, 4, 2, 5, 5), (2, 4, 3, 4, 5), (2, 4, 2, 4), (2, 32, 5)])
def test_samples_of_another_shape_are_refused(shape):
    with pytest.raises(ArgumentError, match=r"X must have the shape \(2, 4, 2, 4, N\), got"):
        small().forward(np.ones(shape), Workspace())


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_samples_of_another_dtype_are_refused(dtype):
    with pytest.raises(ArgumentError, match=f"X must be float64 like the parameters, got {np.dtype(dtype)}"):
        small().forward(np.ones((2, 4, 2, 4, 5), dtype), Workspace())


def test_float64_samples_are_refused_by_a_float32_network():
    with pytest.raises(ArgumentError, match="X must be float32"):
        small(dtype=np.float32).forward(np.ones((2, 4, 2, 4, 5)), Workspace())


def test_an_array_of_another_device_is_refused():
    net, ws = small(), Workspace()
    with pytest.raises(DeviceError, match=r"X is a builtins\.list, expected numpy\.ndarray"):
        net.forward([[1.0]], ws)
    net.forward(np.ones((2, 4, 2, 4, 5)), ws)
    with pytest.raises(DeviceError, match=r"dY is a builtins\.NoneType"):
        net.backward(None, ws)


# The zoo


@pytest.mark.parametrize(("name", "weights", "biases"), [("lenet-5", 430_500, 580), ("lenet-300-100", 266_200, 410)])
def test_lenets_have_the_sizes_of_the_literature(name, weights, biases):
    net = build(describe(name, (28, 1, 28), 10))
    assert (net.weight_count, net.size - net.weight_count) == (weights, biases)
    assert net.output_shape == (10,)


def test_lenet_5_has_the_layers_of_the_literature():
    """500, 25,000, 400,000 and 5,000 weights (Zhang et al. 2018, table 1)."""
    assert [p.size for p in build(describe("lenet-5", (28, 1, 28), 10)).weights] == [500, 25_000, 400_000, 5_000]


def test_location_network_has_446_512_256_128_30_units():
    net = build(describe("mlp", (446,), 30))
    assert [p.shape for p in net.weights] == [(512, 446), (256, 512), (128, 256), (30, 128)]


def test_attack_network_has_the_layout_of_figure_3():
    h = attacker(10, replicas=3)
    prediction, label = [(1024, 10), (512, 1024), (64, 512)], [(512, 10), (64, 512)]
    assert [p.shape for p in h.weights] == [*prediction, *label, (256, 128), (64, 256), (1, 64)]
    assert (h.input_shape, h.output_shape, h.replicas) == ((20,), (1,), 3)


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_attack_network_is_the_function_of_figure_3(seed, classes):
    """A ReLU after every layer but the last; by the layers' sizes alone, from theta."""
    rng = np.random.default_rng(seed)
    prediction, label = [(1024, classes), (512, 1024), (64, 512)], [(512, classes), (64, 512)]
    joint = [(256, 128), (64, 256), (1, 64)]
    W, b = ([rng.standard_normal((o, i if of == "W" else 1)) / np.sqrt(i) for o, i in prediction + label + joint]
            for of in "Wb")  # fmt: skip
    h = attacker(classes, dtype="float64")
    h.theta[0] = np.concatenate([part.ravel() for part in W + b])

    def layers(x, which):
        for i in which:
            x = W[i] @ x + b[i]
            x = x if i == 7 else np.where(x > 0, x, 0)
        return x

    p, onehot = rng.dirichlet(np.ones(classes), 6).T, np.eye(classes)[:, rng.integers(0, classes, 6)]
    expected = layers(np.concatenate([layers(p, [0, 1, 2]), layers(onehot, [3, 4])]), [5, 6, 7])
    found = h.forward(np.concatenate([p, onehot])[None], Workspace(training=False))
    np.testing.assert_allclose(found[0], expected, rtol=1e-9, atol=1e-12)


def test_build_keeps_dtype_replicas_and_description():
    description = describe("mlp", (3, 2, 4), 5, [6])
    net = build(description, replicas=2, dtype="float64")
    assert (net.theta.dtype, net.replicas, net.description) == (np.float64, 2, description)
    assert [p.shape for p in net.weights] == [(6, 24), (5, 6)]
    assert [p.shape for p in build(net.description).weights] == [(6, 24), (5, 6)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet", (4,), 2), "network must be one of mlp, lenet-300-100, lenet-5, .*resnet18, .*got 'resnet'"),
        (("lenet-300-100", (4,), 2, [3]), r"widths of lenet-300-100 must be 2 numbers like \[300, 100\]"),
        (("lenet-5", (28, 1, 28), 2, [20, 50]), "widths of lenet-5 must be 3 numbers"),
        (("lenet-5", (446,), 2), r"takes images \(H, C, W\), got inputs of shape \(446,\)"),
        (("lenet-5", (8, 1, 8), 2), "Conv2D.* takes images"),
        (("mlp", (4,), 2, [3, 0]), "outputs must be an integer of at least 1, got 0"),
        (("mlp", (4,), 0), "outputs must be an integer of at least 1, got 0"),
    ],
)
def test_invalid_networks_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        build(describe(*arguments))


def mlp_weights(inputs: int, widths: list[int], classes: int) -> int:
    units = [inputs, *widths, classes]
    return sum(a * b for a, b in itertools.pairwise(units))


def lenet5_weights(widths: list[int]) -> int:
    """On 28 x 28 images with 10 classes: 28 - 4 = 24, pooled 12, - 4 = 8, pooled 4."""
    first, second, hidden = widths
    return 25 * first + 25 * first * second + 16 * second * hidden + 10 * hidden


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 9), st.data())
def test_narrowed_is_the_largest_that_fits(inputs, widths, classes, data):
    counts = {h: mlp_weights(inputs, [min(w, h) for w in widths], classes) for h in range(1, max(widths) + 1)}
    weights = data.draw(st.integers(counts[1], counts[max(widths)] + 5))
    largest = max(h for h, count in counts.items() if count <= weights)
    thin = narrowed(describe("mlp", (inputs,), classes, widths), weights)
    assert thin["widths"] == [min(w, largest) for w in widths]
    assert build(thin).weight_count == counts[largest] <= weights


@pytest.mark.parametrize("weights", [6_050, 43_050, 430_499])
def test_narrowed_lenet_5(weights):
    widths = list(NETWORKS["lenet-5"].size.default)
    largest = max(h for h in range(1, 501) if lenet5_weights([min(w, h) for w in widths]) <= weights)
    thin = narrowed(describe("lenet-5", (28, 1, 28), 10), weights)
    assert thin["widths"] == [min(w, largest) for w in widths]
    assert build(thin).weight_count == lenet5_weights(thin["widths"])
    assert widths == [20, 50, 500]  # the original is untouched


# VGG16, MobileNetV2 and ResNet18

PUBLISHED = [  # parameters (torchvision's documentation), multiply-accumulates in 10^9, to so many decimals
    ("vgg16", 138_365_992, 15.5, 1),
    ("mobilenetv2", 3_504_872, 0.30, 2),
    ("resnet18", 11_689_512, 1.8, 1),
]


def parameters(description: dict) -> int:
    return sum(p.size for p in layers_of(description).parameters())


@pytest.mark.parametrize(("name", "count", "macs", "decimals"), PUBLISHED)
def test_networks_have_the_published_counts(name, count, macs, decimals):
    description = describe(name, (224, 3, 224), 1000)
    assert parameters(description) == count
    assert layers_of(description).output_shape((224, 3, 224)) == (1000,)
    assert round(macs_of(layers_of(description), (224, 3, 224)) / 1e9, decimals) == macs


def test_vgg16_without_its_normalisation_has_the_published_count():
    layers = layers_of(describe("vgg16", (224, 3, 224), 1000)).parts
    assert sum(p.size for x in layers if not isinstance(x, BatchNorm) for p in x.parameters()) == 138_357_544


def test_small_images_keep_their_size_for_longer():
    """ResNet18 for CIFAR: 3x3 stem (9,408 - 1,728 weights less), no pooling, and 10 classes instead of 1000."""
    small = describe("resnet18", (32, 3, 32), 10)
    assert parameters(small) == 11_689_512 - (9_408 - 1_728) - 990 * 513
    assert macs_of(layers_of(small), (32, 3, 32)) == 555_422_720  # published for this form: 0.56 G
    assert parameters(describe("mobilenetv2", (32, 3, 32), 10)) == 3_504_872 - 990 * 1281  # only strides differ
    vgg = layers_of(describe("vgg16", (32, 3, 32), 10))
    assert [p.shape for p in vgg.parameters() if p.shape[-1] == 512] == [(512, 512), (10, 512)]


@pytest.mark.parametrize("name", ["vgg16", "mobilenetv2", "resnet18"])
@pytest.mark.parametrize("side", [32, 64])
def test_narrow_networks_run(name, side):
    net = build(describe(name, (side, 3, side), 5, 0.125), replicas=2)
    net.initialise(generators(2))
    X, ws = np.random.default_rng(0).standard_normal((2, side, 3, side, 2)).astype(np.float32), Workspace()
    Y = net.forward(X, ws)
    assert Y.shape == (2, 5, 2)
    net.backward(np.ones_like(Y), ws)
    assert np.isfinite(net.grad).all()
    assert all((p.grad != 0).any() for p in net.weights)


def test_mobilenet_rounds_to_multiples_of_eight():
    """At width 0.35: 32, 16, 24, ... become 16, 8, 8, ... and 1280 stays; timm's mobilenetv2_035 has 1.68M."""
    weights = [p.shape for p in layers_of(describe("mobilenetv2", (224, 3, 224), 1000, 0.35)).parameters()]
    assert weights[0] == (16, 27)
    assert weights[-2:] == [(1000, 1280), (1000, 1)]
    assert round(parameters(describe("mobilenetv2", (224, 3, 224), 1000, 0.35)) / 1e6, 2) == 1.68
