"""Keep ratios of layers: exempt layers, ratios from a file, the checks of recipes, and the costs after pruning."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.shadows import recipe_steps
from nanoprune.lab.audit.validity import sparsity
from nanoprune.lab.commands.prune import prune as prune_command
from nanoprune.lab.data import load
from nanoprune.lab.experiment.keep_file import read_keep_file
from nanoprune.lab.experiment.recipes import RECIPES, recipe_for
from nanoprune.lab.models.model import Model
from nanoprune.lab.report import cost_table
from nanoprune.lab.verify import reference
from nanoprune.lab.zoo import build, describe
from nanoprune.lab.zoo.cost import costs
from nanoprune.lab.zoo.erk import erk
from nanoprune.lab.zoo.keep_ratios import layer_names, layer_ratios
from nanoprune.nn import Conv2D, Dense, Flatten, Network, ReLU, Sequential
from nanoprune.prune import Budget, hard_prune
from nanoprune.prune.budget import SCOPES


def lenet(replicas=1):
    net = build(describe("lenet-5", (28, 1, 28), 10), replicas)
    return net.initialise([np.random.default_rng(r) for r in range(replicas)])


def mlp(replicas=1):
    return build(describe("mlp", (64,), 10, [12, 8]), replicas)


def test_layers_have_names():
    assert layer_names(lenet()) == ["conv1", "conv2", "dense1", "dense2"]
    assert layer_names(mlp()) == ["dense1", "dense2", "dense3"]


@pytest.mark.parametrize(
    ("exempt", "of_lenet", "of_mlp"),
    [
        ((), [0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3]),
        (("first", "last"), [1, 0.3, 0.3, 1], [0.3, 0.3, 1]),  # a dense first layer is not exempt: it has most weights
        (("first",), [1, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3]),
        (("dense1",), [0.3, 0.3, 1, 0.3], [1, 0.3, 0.3]),
    ],
)
def test_one_ratio_leaves_the_exempt_layers_whole(exempt, of_lenet, of_mlp):
    assert layer_ratios(lenet(), 0.3, "layer", exempt) == of_lenet
    assert layer_ratios(mlp(), 0.3, "layer", exempt) == of_mlp
    assert layer_ratios(mlp(), (0.1, 0.2, 0.3), "layer", exempt) == [0.1, 0.2, 0.3]


def test_a_ratio_is_of_each_layer_unless_it_is_of_all():
    assert layer_ratios(mlp(), 0.3) == [0.3, 0.3, 0.3]
    assert layer_ratios(mlp(), 0.3, "global") == [0.3]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 1, 3])), min_size=1, max_size=6),
    st.floats(0.01, 1.0),
)
def test_erk_allocates_weights_in_proportion_to_fan_in_plus_fan_out(sizes, keep):
    layers = [Dense(i, o) if k == 0 else Conv2D(i, o, k) for i, o, k in sizes]
    weights = [layer.W for layer in layers]
    n = np.array([weight.size for weight in weights])
    ratios = np.array(erk(weights, keep))
    np.testing.assert_allclose(ratios, reference.erk(sizes, keep), rtol=1e-9)
    np.testing.assert_allclose((ratios * n).sum(), keep * n.sum(), rtol=1e-12)
    assert (ratios <= 1).all()


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.5, float("nan")])
def test_erk_refuses_a_ratio_outside_its_range(keep):
    with pytest.raises(ArgumentError, match=rf"keep must lie in \(0, 1\], got {keep}"):
        erk([Dense(3, 2).W], keep)


def test_erk_keeps_something_of_each_layer_where_the_largest_weights_are_elsewhere():
    net = build(describe("mobilenetv2", (32, 3, 32), 10, 0.25)).initialise([np.random.default_rng(0)])
    net.weights[0].value[...] *= 1e-3
    of_all = Budget(net, layer_ratios(net, 0.1, "global"), "global").project(net.W)
    budget = Budget(net, layer_ratios(net, 0.1, "erk"), "erk")
    kept = budget.project(net.W)
    first = net.weights[0].size
    assert (of_all[0, :first] == 0).all()  # a dead network
    assert sum(budget.max_nonzero()) == (kept != 0).sum() <= 24_025
    assert (kept != 0).sum() > 24_025 - len(net.weights)
    # a depthwise kernel reads one channel: 48 + 1 + 3 + 3 to 96 + 16 + 1 + 1 of a 1x1 convolution
    ratios = dict(zip(layer_names(net), layer_ratios(net, 0.1, "erk"), strict=True))
    assert ratios["conv5"] * 432 / (ratios["conv22"] * 96 * 16) == pytest.approx(55 / 114)


def test_the_option_has_all_scopes():
    (option,) = (p for p in prune_command.params if p.name == "scope")
    assert tuple(option.type.choices) == SCOPES


def test_the_first_layer_is_exempt_where_it_is_a_convolution_whatever_comes_next():
    narrow = Network(Sequential(Conv2D(1, 2, 3), ReLU(), Flatten(), Dense(8, 2)), (4, 1, 4), 1, "float64")
    assert layer_names(narrow) == ["conv1", "dense1"]
    assert layer_ratios(narrow, 0.3, "layer", ("first",)) == [1.0, 0.3]


def test_an_unknown_exempt_layer_is_refused_with_the_list():
    with pytest.raises(
        ArgumentError, match="exempt must name first, last or layers of dense1, dense2, dense3; got 'c'"
    ):
        layer_ratios(mlp(), 0.3, "layer", ("last", "c"))


# --- files -----------------------------------------------------------------------------------------------------------

NAMES = ["conv1", "conv2", "dense1", "dense2"]


def test_a_file_names_layers_or_their_indices(tmp_path):
    path = tmp_path / "keep.json"
    path.write_text('{"dense1": 0.05, "1": 0.5, "dense2": 1}')
    assert read_keep_file(path, NAMES) == (1.0, 0.5, 0.05, 1.0)
    path.write_text("{}")
    assert read_keep_file(path, NAMES) == (1.0, 1.0, 1.0, 1.0)


BAD = {
    "conv9": ('{"conv9": 0.5}', "no layer 'conv9'; its layers are conv1, conv2, dense1, dense2"),
    "a place beyond": ('{"4": 0.5}', "no layer '4'"),
    "a negative place": ('{"-1": 0.5}', "no layer '-1'"),
    "twice": ('{"conv1": 0.5, "conv1": 0.4}', "conv1 is named twice"),
    "name and place": ('{"conv1": 0.5, "0": 0.4}', "conv1 is named twice"),
    "more than all": ('{"conv1": 1.5}', "the ratio of conv1 must lie in (0, 1], got 1.5"),
    "zero": ('{"conv1": 0}', "the ratio of conv1 must lie in (0, 1], got 0"),
    "NaN": ('{"conv1": NaN}', "not JSON (NaN is not a JSON number)"),
    "no object but a list": ("[]", "not a JSON object"),
    "a place of many digits": ('{"%s": 0.5}' % ("1" * 5000), "the network has no layer '1111"),
    "text": ('{"conv1": "half"}', "got 'half'"),
    "true": ('{"conv1": true}', "got True"),
    "null": ('{"conv1": null}', "got None"),
    "a word for the layer": ("[1]", 'not a JSON object; write one such as {"conv1": 0.1}'),
    "a word after no JSON": ("{", 'write an object such as {"conv1": 0.1}'),
    "an object": ('{"conv1": {"a": 1}}', "the ratio of conv1"),
    "a list": ("[0.5, 0.5]", "not a JSON object"),
    "a number": ("0.5", "not a JSON object"),
    "pairs": ('[["conv1", 0.5]]', "not a JSON object"),
    "no JSON": ("conv1: 0.5", "not JSON"),
    "not UTF-8": (b"\xff\xfe", "not JSON"),
    "deep": ("[" * 100_000, "not JSON"),
    "empty": ("", "not JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_name(case, tmp_path):
    content, named = BAD[case]
    path = tmp_path / "keep.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        read_keep_file(path, NAMES)
    assert str(error.value).startswith(str(path))
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_keep_file(tmp_path / "nowhere.json", NAMES)


# --- recipes and records ---------------------------------------------------------------------------------------------


def test_the_usual_layers_are_exempt_where_a_scheme_is_structured():
    data = load("digits")
    assert recipe_for(data).exempt == ()
    assert recipe_for(data, scheme="unstructured").exempt == ()
    assert recipe_for(data, scheme="filter").exempt == ("first", "last")
    assert recipe_for(data, scheme="filter", exempt=()).exempt == ()
    assert recipe_for(data, scheme="filter", exempt=("dense1",)).exempt == ("dense1",)
    assert recipe_for(data, exempt=("last",)).exempt == ("last",)
    assert recipe_for(data, scheme="1:4").keep == (0.25,)
    assert RECIPES["location30"].scope == "global"


BAD_RECIPES = [
    ({"scheme": "filter", "scope": "global"}, "scope must be layer where scheme is filter, got global"),
    ({"scheme": "2:4", "keep": (0.3,)}, "keep must be 0.5 where scheme is 2:4, got 0.3"),
    ({"scheme": "2:4", "keep": ((0.5, 0.5, 0.4),)}, "keep must be 0.5 where scheme is 2:4, got 0.4"),
    ({"scheme": "2:4", "via": (0.7,)}, "via must be empty where scheme is 2:4, got 0.7"),
    ({"scheme": "rows"}, "scheme must be unstructured, filter"),
    ({"scope": "global", "exempt": ("last",)}, "exempt must be none where scope is global, got last"),
    ({"scope": "erk", "exempt": ("last",)}, "exempt must be none where scope is erk, got last"),
    ({"scope": "erk", "scheme": "filter"}, "scope must be layer where scheme is filter, got erk"),
    ({"scope": "erk", "keep": ((0.5, 0.5, 0.4),)}, "keep must be one ratio where scope is erk, got 0.5,0.5,0.4"),
    ({"keep": ((0.5, 0.5, 0.4),), "exempt": ("last",)}, "exempt is for one ratio for all layers"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_RECIPES)
def test_incompatible_settings_are_refused(changes, message):
    with pytest.raises(ArgumentError) as error:
        recipe_for(load("digits"), **changes)
    assert message in str(error.value)


def pruned_model(recipe, keep):
    data, net = load("digits"), mlp()
    net.initialise([np.random.default_rng(0)])
    hard_prune(net, recipe.budget(net, keep))
    steps = [recipe.train_step(0.0), recipe.prune_step(keep, 0.0)]
    return Model(net, "digits", data.sha256, 200, 200, 1000, 0, json.loads(json.dumps(steps)))


@pytest.mark.parametrize(
    ("changes", "keep"),
    [
        ({"scheme": "filter"}, 0.5),
        ({"scheme": "1:4", "exempt": ("dense2",)}, 0.25),
        ({"scheme": "block:3"}, (0.1, 1, 0.2)),
        ({"scope": "erk"}, 0.2),
    ],
)
def test_a_model_says_its_scheme_and_shadows_repeat_it(changes, keep):
    data = load("digits")
    recipe = recipe_for(data, keep=(keep,), minmax=0.0, **changes)
    model = pruned_model(recipe, keep)
    (_, _), (_, again) = recipe_steps(model, data)
    assert (again.scheme, again.exempt, again.keep) == (recipe.scheme, recipe.exempt, (keep,))
    assert again.scope == recipe.scope
    assert again.budget(model.net, keep).k == recipe.budget(model.net, keep).k
    assert sparsity(model).outcome == "passed"
    model.net.W[...] = 1.0
    assert sparsity(model).outcome == "void"


def test_older_models_without_a_scheme_are_unstructured():
    data = load("digits")
    model = pruned_model(recipe_for(data, minmax=0.0), 0.1)
    for name in ("scheme", "exempt"):
        del model.steps[1][name]
    (_, _), (_, again) = recipe_steps(model, data)
    assert (again.scheme, again.exempt) == ("unstructured", ())
    assert sparsity(model).outcome == "passed"


# --- what is left ----------------------------------------------------------------------------------------------------


def test_costs_of_lenet5_by_hand():
    """Positions of the output: 24 x 24, 8 x 8, 1, 1. With half of the second convolution's 50 filters pruned."""
    net = lenet()
    budget = Budget(net, (1.0, 0.5, 1.0, 1.0), scheme="filter")
    hard_prune(net, budget)
    found = costs(net, budget)
    weights = [500, 25_000, 400_000, 5_000]
    macs = [500 * 576, 25_000 * 64, 400_000, 5_000]
    assert [of["layer"] for of in found["layers"]] == layer_names(net)
    assert [of["shape"] for of in found["layers"]] == [[20, 25], [50, 500], [500, 800], [10, 500]]
    assert [of["asked"] for of in found["layers"]] == [1.0, 0.5, 1.0, 1.0]
    assert [of["kept"] for of in found["layers"]] == [1.0, 0.5, 1.0, 1.0]
    assert [of["macs"][0] for of in found["layers"]] == macs
    assert found["layers"][1]["parameters"] == [25_050, 12_550]
    assert found["layers"][1]["macs"] == [1_600_000, 800_000]
    assert found["layers"][1]["bytes"] == [4 * 25_050, 4 * 12_550 + 25_000 // 8]
    assert found["layers"][0]["bytes"] == [4 * 520, 4 * 520]
    assert found["parameters"] == [431_080, 431_080 - 12_500]
    assert found["macs"] == [sum(macs), sum(macs) - 800_000]
    assert found["asked"] == pytest.approx(1 - 12_500 / sum(weights))
    assert found["kept"] == pytest.approx(1 - 12_500 / sum(weights))


def test_costs_of_odd_sizes_without_a_budget():
    """A layer of one weight counts; the support of 9 weights takes two bytes; nothing was asked for."""
    net = build(describe("mlp", (9,), 1, [1]))
    net.theta[...] = 1
    net.W[0, 4] = 0
    found = costs(net)
    assert found["asked"] is None
    assert [of["asked"] for of in found["layers"]] == [None, None]
    assert [of["kept"] for of in found["layers"]] == [pytest.approx(8 / 9), 1.0]
    assert [of["parameters"] for of in found["layers"]] == [[10, 9], [2, 2]]
    assert [of["bytes"] for of in found["layers"]] == [[40, 4 * 9 + 2], [8, 8]]
    assert all(isinstance(number, int) for of in found["layers"] for number in of["bytes"])


def test_the_table_cuts_no_number_at_80_columns():
    """As for VGG16 at 224x224, whose numbers are the longest."""
    pair = [15_470_264_320, 1_547_026_432]
    row = {
        "layer": "dense1",
        "shape": [1, 1],
        "asked": 0.1,
        "kept": 0.1,
        "parameters": pair,
        "macs": pair,
        "bytes": pair,
    }
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(cost_table({**row, "layers": [row]}))
    text = console.export_text()
    assert text.count("1,547,026,432") == 6
    assert text.count("(10.0x)") == 6


def test_a_global_budget_has_no_ratio_per_layer():
    net = lenet(2)
    budget = Budget(net, [[0.5], [0.1]], "global")
    hard_prune(net, budget)
    found = costs(net, budget, 1)
    assert [of["asked"] for of in found["layers"]] == [None] * 4
    assert found["asked"] == 0.1
    assert found["kept"] == 0.1
    assert sum(round(of["kept"] * np.prod(of["shape"])) for of in found["layers"]) == 43_050
