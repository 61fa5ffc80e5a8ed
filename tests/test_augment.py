"""Random crops and mirror images, against a loop over the samples; what is drawn is the same for all threads."""

import numpy as np
import pytest
import strict_cupy
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_training import core_train, train

from nanoprune.backend import to_device, to_host, xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.data.augment import PAD, CropFlip, augmentation
from nanoprune.lab.engine.evaluation import accuracy
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.nn import Dense, Flatten, Network, Sequential, Workspace
from nanoprune.records import Records
from nanoprune.schedule import Schedule


@pytest.fixture(params=[np, strict_cupy.module], ids=["numpy", "cupy"])
def backend(request):
    with single_threaded_blas():
        xp.choose(request.param)
        yield
        xp.choose(np)


def seeded(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([7, r]) for r in range(count)]


def by_hand(image: np.ndarray, down: int, right: int, mirrored: int) -> np.ndarray:
    """One image (H, C, W): padded, cropped, mirrored."""
    H, _, W = image.shape
    padded = np.pad(image, ((PAD, PAD), (0, 0), (PAD, PAD)))
    view = padded[PAD + down : PAD + down + H, :, PAD + right : PAD + right + W]
    return view[:, :, ::-1] if mirrored else view


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 9), st.integers(1, 3), st.integers(1, 9))
def test_every_sample_is_the_crop_that_was_drawn_for_it(seed, R, side, C, N):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((R, side, C, side + 1, N)).astype(np.float32)
    drawn = CropFlip().draw(rng.spawn(R), N)
    before = X.copy()
    view = CropFlip()(X, drawn, Workspace())
    for r in range(R):
        for n in range(N):
            np.testing.assert_array_equal(view[r, ..., n], by_hand(X[r, ..., n], *drawn[r, n]))
    np.testing.assert_array_equal(X, before)


def test_both_backends_see_the_same(backend):
    X = np.random.default_rng(0).random((2, 8, 3, 8, 5)).astype(np.float32)
    drawn = CropFlip().draw(seeded(2), 5)
    view = to_host(CropFlip()(to_device(X), to_device(drawn), Workspace()))
    for r in range(2):
        for n in range(5):
            np.testing.assert_array_equal(view[r, ..., n], by_hand(X[r, ..., n], *drawn[r, n]))


def test_what_is_drawn():
    drawn = CropFlip().draw(seeded(2), 20_000)
    assert drawn.shape == (2, 20_000, 3)
    for i, values in enumerate((range(-4, 5), range(-4, 5), range(2))):
        for r in range(2):
            found, counts = np.unique(drawn[r, :, i], return_counts=True)
            assert found.tolist() == list(values)
            expected = 20_000 / len(values)
            assert ((counts - expected) ** 2 / expected).sum() < 30  # chi-squared of 8 degrees: 1 in 5,000 is larger
    assert (drawn[0] != drawn[1]).any()
    np.testing.assert_array_equal(CropFlip().draw(seeded(2)[1:], 20_000)[0], drawn[1])  # each replica's own


def test_another_name_is_refused():
    with pytest.raises(ArgumentError, match="augment must be one of none, crop-flip, got 'mixup'"):
        augmentation("mixup")
    plan, crop_flip, members = Schedule(1, augment="mixup"), Schedule(1, augment="crop-flip"), np.arange(2)[None]
    with pytest.raises(ArgumentError, match="augment must be one of"):
        train(Network(Dense(2, 2), (2,)), Records(np.eye(2), np.arange(2)), members, plan, seeded(1))
    with pytest.raises(ArgumentError, match="augment must be none in the core, got 'crop-flip'"):
        core_train(Network(Dense(2, 2), (2,)), Records(np.eye(2), np.arange(2)), members, crop_flip, seeded(1))


# In training


def images(dtype: str = "float64") -> Records:
    rng = np.random.default_rng(5)
    return Records(rng.random((40, 6, 2, 6)).astype(dtype), rng.integers(0, 3, 40))


def linear(R: int, dtype: str = "float64") -> Network:
    return Network(Sequential(Flatten(), Dense(72, 3)), (6, 2, 6), R, dtype).initialise(seeded(R))


def trained(augment: str, threads: int = 1, epochs: int = 3) -> tuple[Network, np.ndarray]:
    net, members = linear(2), np.stack([g.permutation(40)[:21] for g in seeded(2)])
    with single_threaded_blas():
        plan = Schedule(epochs, batch=8, augment=augment)
        losses = train(net, images(), members, plan, seeded(2), group=ProcessGroup(threads))
    return net, losses


def test_threads_do_not_change_what_is_drawn():
    alone, losses = trained("crop-flip")
    for threads in (2, 3):
        shared, others = trained("crop-flip", threads)
        np.testing.assert_allclose(shared.theta, alone.theta, rtol=1e-10)
        np.testing.assert_allclose(others, losses, rtol=1e-10)


def test_training_sees_the_views_and_evaluation_the_records():
    """The loss of the first epoch in one batch, by hand; and the accuracy, which nothing random may change."""
    net, records = linear(1), images()
    rng = seeded(1)[0]
    members = np.arange(40)[None]
    order, drawn = rng.permutation(40), rng.integers((-4, -4, 0), (5, 5, 2), (40, 3))
    W, b = np.array(net.weights[0].value[0]), np.array(net.biases[0].value[0, :, 0])
    expected = []
    for i, how in zip(order, drawn, strict=True):
        logits = W @ by_hand(records.x[i], *how).ravel() + b
        expected.append(np.log(np.exp(logits).sum()) - logits[records.y[i]])
    right = accuracy(net, records, members)
    assert (accuracy(net, records, members) == right).all()
    with single_threaded_blas():
        losses = train(net, records, members, Schedule(1, batch=40, augment="crop-flip"), seeded(1))
    np.testing.assert_allclose(losses[0, 0], np.mean(expected), rtol=1e-10)


def test_without_augmentation_nothing_is_drawn():
    generators = seeded(2)
    before = [generator.bit_generator.state for generator in generators]
    assert augmentation("none").draw(generators, 9).shape == (2, 9, 0)
    assert [generator.bit_generator.state for generator in generators] == before
