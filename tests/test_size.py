"""Sizes of networks: a multiplier or a width for each layer, and the dense network of a pruned one's size."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError
from nanoprune.lab.zoo import build, describe, layers_of, narrowed, size_of, widths_of
from nanoprune.lab.zoo.build import weight_count


@pytest.mark.parametrize("width", [0, -1, float("nan"), 17, True, "1"])
def test_multipliers_out_of_range_are_refused(width):
    with pytest.raises(ArgumentError, match=r"width of resnet18 must be a number in \(0, 16\], got"):
        describe("resnet18", (32, 3, 32), 10, width)


def test_widths_and_multiplier_are_kept_by_descriptions():
    assert describe("resnet18", (32, 3, 32), 10, 0.25)["width"] == 0.25
    for name, size in (("resnet18", 0.25), ("lenet-5", (2, 3, 4)), ("mlp", (5,))):
        assert size_of(describe(name, (32, 3, 32), 10, size)) == size
    with pytest.raises(ArgumentError, match=r"widths of mlp must be a list of numbers like \[512, 256, 128\], got 0.5"):
        describe("mlp", (4,), 2, 0.5)


@settings(deadline=None, max_examples=12)
@given(st.sampled_from(["vgg16", "resnet18", "mobilenetv2"]), st.sampled_from([0.05, 0.13, 0.25]), st.data())
def test_narrowed_is_the_largest_multiplier_that_fits(name, width, data):
    """Every layer by the same factor, of all thousandths; counted one by one, also where the widths were given."""
    description = describe(name, (32, 3, 32), 10, width)
    wide = widths_of(description)
    assert weight_count(describe(name, (32, 3, 32), 10, wide)) == weight_count(description)
    sizes = [[max(1, math.floor(i / 1000 * w + 0.5)) for w in wide] for i in range(1, 1001)]
    counts = [weight_count(describe(name, (32, 3, 32), 10, size)) for size in sizes[::50] + sizes[-1:]]
    weights = data.draw(st.integers(counts[0], counts[-1] + 5))
    thin = narrowed(description, weights)
    assert thin == describe(name, (32, 3, 32), 10, thin["widths"])
    place = max(i for i, size in enumerate(sizes) if size == thin["widths"])
    assert weight_count(thin) <= weights
    assert place == 999 or weight_count(describe(name, (32, 3, 32), 10, sizes[place + 1])) > weights
    assert narrowed(thin, weight_count(thin)) == thin


@pytest.mark.parametrize(("name", "layers"), [("vgg16", 14), ("mobilenetv2", 52), ("resnet18", 20)])
def test_each_layer_may_have_its_own_width(name, layers):
    """The widths of a multiplier give the same shapes; widths of another number, or that do not fit, are refused."""
    usual = describe(name, (32, 3, 32), 10, 0.25)
    widths = widths_of(usual)
    assert len(widths) == layers
    shapes = [p.shape[0] for p in layers_of(usual).parameters() if p.prunable]
    assert shapes == [*widths, 10]
    assert repr(layers_of(describe(name, (32, 3, 32), 10, widths))) == repr(layers_of(usual))
    with pytest.raises(ArgumentError, match=f"widths of {name} must be {layers} numbers or a multiplier, got 2"):
        describe(name, (32, 3, 32), 10, [64, 128])
    if name != "vgg16":  # beside a shortcut, or before a depthwise convolution, one channel more does not fit
        at = {"resnet18": 2, "mobilenetv2": 6}[name]
        odd = [width + (i == at) for i, width in enumerate(widths)]
        with pytest.raises(ArgumentError, match=r"takes (images|inputs)"):
            build(describe(name, (32, 3, 32), 10, odd))


def test_narrow_mobilenet_is_as_small_as_it_has_to_be():
    """Its own rounding leaves 8 channels and all of the 1,280: no multiplier has a tenth of the weights of 0.25."""
    description = describe("mobilenetv2", (32, 3, 32), 10, 0.25)
    tenth = weight_count(description) // 10
    assert weight_count(describe("mobilenetv2", (32, 3, 32), 10, 0.001)) > tenth
    assert 0.9 * tenth < weight_count(narrowed(description, tenth)) <= tenth
