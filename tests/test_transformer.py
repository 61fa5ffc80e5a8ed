"""The layers of transformers against loops, closed forms and central differences, and what masks promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from nanoprune.defend.record_norms import record_norms
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import (
    GELU,
    Attention,
    Embedding,
    ImageTokens,
    LastToken,
    LayerNorm,
    PositionalEncoding,
    TokenDense,
    TokenMean,
    self_attention,
)
from nanoprune.lab.shrink import shrink
from nanoprune.lab.verify import reference
from nanoprune.lab.verify.gradient import gradients, network
from nanoprune.lab.verify.layers import transformer_block
from nanoprune.lab.zoo.structure import macs
from nanoprune.nn import Dense, Network, Sequential, Workspace, cross_entropy
from nanoprune.nn.sequential import leaves
from nanoprune.prune import Budget, hard_prune

SEEDS = st.integers(0, 2**32 - 1)
SMALL = st.integers(1, 3)
quick = settings(deadline=None, max_examples=30)


def close(ours, oracle, tolerance=1e-11):
    np.testing.assert_allclose(ours, oracle, rtol=0, atol=tolerance * max(1.0, np.abs(oracle).max()))


def text_network(rng, pool, causal=False, tokens=5, length=6, replicas=2, positions=True):
    """Two blocks over tokens, and a classifier; no parameter is 0."""
    encoding = [PositionalEncoding(length, 4)] if positions else []
    blocks = [transformer_block(4, causal), transformer_block(4, causal)]
    body = Sequential(Embedding(tokens, 4), *encoding, *blocks, LayerNorm(4), pool, Dense(4, 3))
    return network(body, (length,), rng, replicas)


def padded_tokens(rng, shape, tokens=5):
    """Tokens (R, T, N), each record with at least one and up to T of them before its padding."""
    R, T, N = shape
    X = rng.integers(1, tokens, shape)
    return np.where(np.arange(T)[:, None] < rng.integers(1, T + 1, (R, 1, N)), X, 0).astype(np.float64)


# The forward passes


@quick
@given(SMALL, st.integers(1, 5), SMALL, SMALL, SMALL, st.booleans(), st.booleans(), SEEDS)
def test_attention_equals_a_loop_over_queries(R, T, heads, d, N, causal, padded, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((R, T, 3 * heads * d, N))
    padding = (rng.random((R, T, N)) < 0.5) & padded
    padding[:, 0] = False  # each query must see a key
    ws = Workspace()
    ws.padding = padding if padded else None
    Y = Attention(heads, causal).forward(X, ws)
    close(Y, reference.attention(X, heads, causal, padding))


def test_one_position_attends_to_itself_and_equal_keys_to_the_mean():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 1, 12, 3))
    close(Attention(2).forward(X, Workspace()), X[:, :, 8:])
    X = rng.standard_normal((2, 5, 12, 3))
    X[:, :, 4:8] = X[:, :1, 4:8]  # equal keys, hence equal weights
    close(Attention(2).forward(X, Workspace()), np.repeat(X[:, :, 8:].mean(axis=1, keepdims=True), 5, axis=1))


def test_layer_norm_has_the_mean_and_variance_of_its_closed_form():
    """With gamma 1 and beta 0 each position has mean 0 and variance v / (v + eps)."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 5, 7, 3)) * 0.01 + 4  # the variance 1e-4 is near eps
    Y = Network(LayerNorm(7), (5, 7), 2, np.float64).initialise([rng, rng]).forward(X, Workspace())
    close(Y.mean(axis=2), np.zeros((2, 5, 3)), 1e-10)
    v = X.var(axis=2)
    close(Y.var(axis=2), v / (v + 1e-5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_is_finite_wherever_its_input_is(dtype):
    """x or 0 far from 0, with the derivatives 1 and 0; the largest float's square is no float."""
    far = np.array([10.0, 1e13, 1e30, np.finfo(dtype).max], dtype)
    x, layer, ws = np.concatenate([far, -far])[None, :, None], GELU(), Workspace()
    with np.errstate(over="ignore"):
        y = layer.forward(x, ws).copy()
        dx = layer.backward(np.ones_like(x), ws)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(dx, x > 0)


def test_gelu_is_x_times_the_normal_distribution_function():
    """Up to 5e-4, the error of the form with tanh; and exactly 0 at 0, x far to the right."""
    x = np.linspace(-6, 6, 1201)[None, :, None]
    y = GELU().forward(x, Workspace())
    assert np.abs(y - x * 0.5 * (1 + erf(x / 2**0.5))).max() < 5e-4
    assert GELU().forward(np.zeros((1, 1, 1)), Workspace())[0, 0, 0] == 0
    assert GELU().forward(np.full((1, 1, 1), 50.0), Workspace())[0, 0, 0] == 50


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_layers_keep_the_dtype(dtype):
    rng = np.random.default_rng(0)
    net = Network(text_network(rng, TokenMean()).template, (6,), 2, dtype).initialise([rng, rng])
    ws = Workspace()
    logits = net.forward(padded_tokens(rng, (2, 6, 3)).astype(dtype), ws)
    assert logits.dtype == dtype
    assert net.backward(np.ones_like(logits), ws, need_dX=True).dtype == dtype


def test_an_embedding_is_a_dense_layer_on_unit_vectors():
    rng = np.random.default_rng(0)
    net = network(Embedding(5, 3), (4,), rng)
    X = rng.integers(0, 5, (2, 4, 6))
    dY = rng.standard_normal((2, 4, 3, 6))
    ws = Workspace()
    Y = net.forward(X.astype(np.float64), ws)
    net.backward(dY, ws)
    unit = np.eye(5)[X]  # (R, T, N, tokens)
    close(Y, np.einsum("rev,rtnv->rten", net.body.W.value, unit))
    close(net.body.W.grad, np.einsum("rten,rtnv->rev", dY, unit))


@pytest.mark.parametrize("wrong", [-1, 5, 0.5, np.nan, np.inf])
def test_an_embedding_refuses_what_is_no_token(wrong):
    net = network(Embedding(5, 3), (4,), np.random.default_rng(0))
    X = np.ones((2, 4, 3))
    X[1, 2, 1] = wrong
    with pytest.raises(ArgumentError, match="tokens must be whole numbers from 0 to 4"):
        net.forward(X, Workspace())


def test_shapes_that_do_not_fit_are_refused_by_name():
    for layer, shape in (
        (Attention(2), (5, 8)),
        (TokenDense(4, 3), (5, 3)),
        (LayerNorm(4), (5, 3)),
        (PositionalEncoding(5, 4), (6, 4)),
        (Embedding(5, 3), (4, 2)),
        (TokenMean(), (4,)),
        (ImageTokens(), (4, 2)),
    ):
        with pytest.raises(ArgumentError, match="takes"):
            layer.output_shape(shape)


def test_pixels_become_tokens_row_by_row():
    X = np.arange(2 * 3 * 4 * 5 * 2.0).reshape(2, 3, 4, 5, 2)
    Y = ImageTokens().forward(X, Workspace())
    for h, w in np.ndindex(3, 5):
        np.testing.assert_array_equal(Y[:, 5 * h + w], X[:, h, :, w])


# Masks and order


@quick
@given(st.sampled_from([TokenMean, LastToken]), st.booleans(), SEEDS)
def test_padding_has_no_influence_on_outputs_and_gradients(pool, causal, seed):
    """More padding, and other parameters of what stands for it, change nothing."""
    rng = np.random.default_rng(seed)
    net, X = text_network(rng, pool(), causal), padded_tokens(rng, (2, 6, 4))
    dY, ws = rng.standard_normal((2, 3, 4)), Workspace()
    logits = net.forward(X, ws).copy()
    net.backward(dY, ws)
    assert not net.body.parts[0].W.grad[:, :, 0].any()  # the vector of padding gets no gradient

    longer = text_network(rng, pool(), causal, length=9)
    of = {}
    for mine, theirs in zip(net.weights + net.biases, longer.weights + longer.biases, strict=True):
        theirs.value[(slice(None), *map(slice, mine.shape))] = mine.value  # of more positions, the others as they are
        of[mine] = theirs
    longer.body.parts[0].W.value[:, :, 0] = 1e3 * rng.standard_normal((2, 4))
    ws = Workspace()
    close(longer.forward(np.concatenate([X, np.zeros((2, 3, 4))], axis=1), ws), logits)
    longer.backward(dY, ws)
    for mine, theirs in of.items():
        close(theirs.grad[(slice(None), *map(slice, mine.shape))], mine.grad)
    assert not longer.body.parts[1].P.grad[:, 6:].any()


@pytest.mark.parametrize("pool", [TokenMean(), LastToken()])
def test_a_record_that_is_all_padding_has_finite_outputs_and_gradients(pool):
    rng = np.random.default_rng(0)
    net, ws = text_network(rng, pool), Workspace()
    X = np.zeros((2, 6, 2))
    X[..., 0] = 1
    logits = net.forward(X, ws)
    net.backward(np.ones_like(logits), ws)
    assert np.isfinite(net.grad).all()
    np.testing.assert_array_equal(logits[..., 1], net.body.parts[-1].b.value[..., 0])  # the bias alone


@quick
@given(st.integers(0, 5), SEEDS)
def test_in_causal_attention_no_output_depends_on_what_is_later(t, seed):
    rng = np.random.default_rng(seed)
    net = network(Sequential(transformer_block(4, causal=True), transformer_block(4, causal=True)), (6, 4), rng)
    X = rng.standard_normal((2, 6, 4, 3))
    before = net.forward(X, Workspace()).copy()
    X[:, t + 1 :] = rng.standard_normal(X[:, t + 1 :].shape)
    np.testing.assert_array_equal(net.forward(X, Workspace())[:, : t + 1], before[:, : t + 1])
    X[:, t] = rng.standard_normal(X[:, t].shape)
    moved = np.abs(net.forward(X, Workspace())[:, t:] - before[:, t:]).max(axis=(0, 2, 3))
    assert (moved > 1e-9).all()  # but every output from there on does


@quick
@given(st.permutations(range(5)), SEEDS)
def test_without_positions_a_permutation_of_the_tokens_permutes_the_outputs(order, seed):
    rng = np.random.default_rng(seed)
    net, X = network(transformer_block(4), (5, 4), rng), rng.standard_normal((2, 5, 4, 3))
    Y = net.forward(X, Workspace()).copy()
    close(net.forward(np.ascontiguousarray(X[:, order]), Workspace()), Y[:, order])


def test_with_positions_the_order_counts():
    rng = np.random.default_rng(0)
    X = padded_tokens(rng, (2, 6, 3))
    X[:, :2] = [[[1], [2]]]
    Y = X.copy()
    Y[:, :2] = X[:, 1::-1]
    for positions in (True, False):
        net = text_network(rng, TokenMean(), positions=positions)
        first, second = net.forward(X, Workspace()).copy(), net.forward(Y, Workspace())
        assert (np.abs(first - second).max() > 1e-6) == positions


# The backward passes


@quick
@given(st.sampled_from([TokenMean, LastToken]), st.booleans(), SEEDS)
def test_gradients_with_padding_equal_central_differences(pool, causal, seed):
    rng = np.random.default_rng(seed)
    net = text_network(rng, pool(), causal)
    ours, oracle = gradients(net, padded_tokens(rng, (2, 6, 3)), rng, tokens=True)["parameters"]
    assert ours == pytest.approx(oracle, rel=1e-5, abs=1e-6)


@quick
@given(SMALL, st.integers(1, 5), SMALL, SMALL, st.booleans(), SEEDS)
def test_the_input_gradient_of_attention_equals_central_differences(R, T, heads, d, causal, seed):
    rng = np.random.default_rng(seed)
    net = network(self_attention(3, heads, heads * d, causal), (T, 3), rng, R)
    for ours, oracle in gradients(net, rng.standard_normal((R, T, 3, 2)), rng).values():
        assert ours == pytest.approx(oracle, rel=1e-6, abs=1e-7)


def single_gradients(net, X, dY):
    """The gradient of each record by itself, (N, R, P), from passes over one record."""
    found, ws = [], Workspace()
    for n in range(X.shape[-1]):
        net.forward(np.ascontiguousarray(X[..., n : n + 1]), ws)
        net.backward(np.ascontiguousarray(dY[..., n : n + 1]), ws)
        found.append(net.grad.copy())
    return np.stack(found)


@quick
@given(st.booleans(), st.sampled_from([1, 300, 1 << 18]), SEEDS)
def test_norms_and_weighted_sums_are_those_of_a_loop_over_records(masked, block, seed):
    """Every layer of a network with padding, and tokens that a record has twice: five of them in six places."""
    rng = np.random.default_rng(seed)
    net, X = text_network(rng, TokenMean()), padded_tokens(rng, (2, 6, 4))
    dY, weight = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 4))
    support = np.ones(net.theta.shape)
    if masked:
        support[:, : net.weight_count] = rng.random(net.W.shape) < 0.5
    single = single_gradients(net, X, dY)  # (N, R, P)
    places, start = {}, 0
    for p in net.weights + net.biases:
        places[p], start = slice(start, start + p.size), start + p.size
    ws = Workspace(defer=True)
    net.forward(X, ws)
    net.backward(dY, ws)
    of_weights = {p: support[:, places[p]].reshape(-1, *p.shape) for p in net.weights} if masked else {}
    assert {layer for layer, *_ in ws.deferred} == {layer for layer in leaves(net.body) if layer.parameters()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nanoprune.defend.place_norms.BLOCK", block)
        for layer, kept, saved in ws.deferred:
            mine = (single * support)[..., np.concatenate([np.arange(start)[places[p]] for p in layer.parameters()])]
            close(record_norms(layer, kept, ws, saved, of_weights), (mine**2).sum(axis=-1).T)
            layer.weight_gradient(kept * weight.reshape(2, *[1] * (kept.ndim - 2), -1), ws, *saved)
    close(net.grad, np.einsum("nrp,rn->rp", single, weight))


def test_replicas_are_trained_as_if_alone():
    rng = np.random.default_rng(0)
    net, X = text_network(rng, TokenMean(), replicas=3), padded_tokens(rng, (3, 6, 4))
    y, ws = rng.integers(0, 3, (3, 4)), Workspace()
    net.backward(cross_entropy(net.forward(X, ws), y)[1], ws)
    for r in range(3):
        alone, ws = net.copy([r]), Workspace()
        alone.backward(cross_entropy(alone.forward(X[r : r + 1], ws), y[r : r + 1])[1], ws)
        close(alone.grad[0], net.grad[r])


def test_multiplications_are_counted_by_hand():
    """Projections 5 (4 12 + 4 4), the products of attention 2 5^2 4, feed-forward 5 (4 6 + 6 4); the embedding none."""
    assert macs(Sequential(Embedding(9, 4), transformer_block(4)), (5,)) == 320 + 200 + 240


# Removal of heads and of hidden units


def heads_of(net):
    return [layer.heads for layer in leaves(net.body) if isinstance(layer, Attention)]


@pytest.mark.parametrize("what", ["values", "outputs", "both heads", "one value"])
def test_a_head_without_values_or_readers_is_removed(what):
    """The block's first attention has two heads of two channels; the outputs stay the same, padding or not."""
    rng = np.random.default_rng(0)
    net, X = text_network(rng, TokenMean(), replicas=1), padded_tokens(rng, (1, 6, 20))
    qkv, _, out = leaves(net.body)[3:6]
    if what == "values":
        qkv.W.value[:, 10:12] = 0  # the second head's; its outputs are the biases of its values
    elif what == "one value":
        qkv.W.value[:, 10:11] = 0
    else:
        out.W.value[:, :, 0 if what == "both heads" else 2 :] = 0
    small = shrink(net)
    assert heads_of(small) == ([2, 2] if what == "one value" else [1, 2])  # a layer keeps at least one head
    close(small.forward(X, Workspace()), net.forward(X, Workspace()))


def feed_forward(net):
    """The bodies of the second residual of each block."""
    return [part.parts[1].body for part in net.body.parts if isinstance(part, Sequential)]


@quick
@given(st.sampled_from(["filter", "channel", "unstructured"]), st.floats(0.1, 0.7), SEEDS)
def test_a_pruned_transformer_shrinks_to_the_same_outputs(scheme, keep, seed):
    rng = np.random.default_rng(seed)
    net, X = text_network(rng, TokenMean(), replicas=1), padded_tokens(rng, (1, 6, 5))
    X[..., 0] = 0  # a record without a token
    hard_prune(net, Budget(net, keep, scheme=scheme))
    small = shrink(net)
    assert small.size <= net.size
    hidden = [part.parts[1].outputs for part in feed_forward(small)]
    if scheme == "filter":
        kept = [int((part.parts[1].W.value[0] != 0).any(axis=1).sum()) for part in feed_forward(net)]
        assert all(
            count <= most for count, most in zip(hidden, kept, strict=True)
        )  # none of the filters that were pruned is left
    close(small.forward(X, Workspace()), net.forward(X, Workspace()), 1e-9)
