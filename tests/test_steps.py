"""The steps of a model: those that the package writes are accepted, all others are refused in one line."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import DataError
from nanoprune.lab.audit.shadows import recipe_steps
from nanoprune.lab.data import digits
from nanoprune.lab.experiment.recipes import FULL, RECIPES, Private
from nanoprune.lab.models.model import Model, load_model, save_model
from nanoprune.lab.models.steps import ADMM, PRIVATE, SCHEDULE, STEPS, check_about, check_steps
from nanoprune.lab.zoo import build, describe
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

DATA = digits.load_digits()
RECIPE = RECIPES["digits"]
NET = build(describe("mlp", (64,), 10, [8, 4])).initialise([np.random.default_rng(0)])
ADVERSARY = {"adversary": {"updates": 400, "loss": 0.69, "accuracy": 0.51}}
WRITTEN = {
    "trained": [RECIPE.train_step(1.0, 7) | ADVERSARY],
    "pruned": [RECIPE.train_step(0.0), RECIPE.prune_step(0.1, 1.0) | {"status": "converged"} | ADVERSARY],
    "ratios of each layer": [RECIPE.train_step(0.0), RECIPE.prune_step((0.1, 0.2, 0.3), 0.0)],
    "pruned by magnitude": [dataclasses.replace(RECIPE, solver="magnitude").prune_step(0.1, 0.0)],
    "private": [RECIPE.private_step(200, 1.3, "dense", None)],
    "private, pruned": [RECIPE.private_step(200, 1.3, "admm", 0.1) | {"status": "max_iterations"}],
    "shrunk": [RECIPE.train_step(0.0), {"step": "shrink", "widths": [8, 4]}],
    "imported": [{"step": "import", "file": "resnet18.safetensors", "sha256": "ab" * 32}],
}


def plain(value):
    return json.loads(json.dumps(value))


def about(steps):
    sizes = {"members": 200, "reference": 200, "nonmembers": 1000, "seed": 0}
    return {"dataset": "digits", "data_sha256": DATA.sha256, **sizes, "steps": steps}


@pytest.mark.parametrize("steps", WRITTEN.values(), ids=WRITTEN)
def test_what_the_package_writes_is_accepted(steps, tmp_path):
    check_about(about(plain(steps)), "x")
    save_model(Model(NET, **about(steps)), tmp_path / "m.h5")
    assert load_model(tmp_path / "m.h5").steps == plain(steps)


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *FULL.values()])
def test_every_recipe_of_the_package_fits(recipe):
    check_steps(plain([recipe.train_step(recipe.minmax), *(recipe.prune_step(k, 0.0) for k in recipe.keep)]), "x")


def test_the_schema_names_every_setting():
    """A setting of a recipe that the schema does not have would reach `attack` unchecked."""
    for schema, of in ((SCHEDULE, Schedule), (ADMM, ADMMSettings), (PRIVATE, Private)):
        assert set(schema) == {field.name for field in dataclasses.fields(of)}
    for steps in WRITTEN.values():
        for step in steps:
            assert set(step) <= {"step", "privacy", *STEPS[step["step"]]}


DEEP = {"x": {"x": {"x": {"x": {"x": {"x": 1}}}}}}
HOSTILE = (-1, 0, float("nan"), float("inf"), 1e300, -1e300, 10**30, 10**400, None, True, [], {}, [1], [[]], {"a": 1},
           [None] * 5000, DEEP, "x", "x" * 20_000, "\x1b]0;pwn\x07", "\ud800")  # fmt: skip


def places(value, path=()):
    """The path to every value in plain data."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inside:
        yield from places(entry, (*path, key))


def changed(value, path, new):
    value = copy.deepcopy(value)
    if not path:
        return new
    at = value
    for key in path[:-1]:
        at = at[key]
    if new is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return value


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_readers_of_steps_get_valid_data_or_a_data_error(data):
    """Every value of every step replaced by every hostile one: the result is a valid recipe, or refused in one line."""
    steps = plain(data.draw(st.sampled_from([s for n, s in WRITTEN.items() if n not in ("shrunk", "imported")])))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([p for p in places(steps) if p] or [()]))
        steps = changed(steps, path, data.draw(st.sampled_from([KeyError, *HOSTILE]))) if path else steps
    recipes, refused = [], None
    try:
        check_about(about(steps), "m.h5")
        recipes = recipe_steps(Model(NET, **about(steps)), DATA)
    except DataError as error:
        refused = str(error)
    assert refused is None or (refused.isprintable() and len(refused) < 2000)
    for step, recipe in recipes:
        for part in (recipe.dense, recipe.prune, recipe.retrain):
            assert 1 <= part.epochs <= 10**6
            assert 1 <= part.batch <= 10**8
            assert np.isfinite([part.lr, part.momentum, part.weight_decay]).all()
        assert np.isfinite([recipe.minmax, recipe.admm.rho, recipe.private.clip, recipe.private.rho]).all()
        assert 1 <= recipe.inner_steps <= 10**4
        assert step["step"] in STEPS


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        (
            (0, "epochs"),
            10**12,
            r"m\.h5: model\.steps\[0\]\.epochs is 1000000000000, expected an integer from 1 to 1,000,000",
        ),
        ((0, "lr"), float("nan"), r"model\.steps\[0\]\.lr is nan"),
        ((0, "minmax"), "x", r"model\.steps\[0\]\.minmax is 'x', expected a number"),
        ((0, "adversary", "loss"), None, r"model\.steps\[0\]\.adversary\.loss is None, expected a number"),
        ((0, "step"), "\x1b[31m", r"model\.steps\[0\]\.step is '\\x1b\[31m', expected one of train, prune"),
        ((1, "admm"), [], r"model\.steps\[1\]\.admm is \[\], expected a record"),
        ((1, "prune", "batch"), True, r"model\.steps\[1\]\.prune\.batch is True, expected an integer"),
        ((1, "keep"), [0.5, 2.0], r"model\.steps\[1\]\.keep is \[0\.5, 2\.0\], expected a number from 1e-300 to 1 or"),
        ((1,), None, r"model\.steps\[1\] is None, expected a record"),
        ((), {}, r"model\.steps is \{\}, expected a list of at most 100"),
    ],
)
def test_errors_name_the_field_and_valid_values(path, new, message):
    steps = changed(
        plain(WRITTEN["pruned"]) if len(path) != 3 else [WRITTEN["trained"][0], WRITTEN["pruned"][1]], path, new
    )
    with pytest.raises(DataError, match=message):
        check_about(about(steps), "m.h5")


@pytest.mark.parametrize("name", ["dataset", "data_sha256", "members", "reference", "nonmembers", "seed"])
def test_the_split_is_checked_too(name):
    for new in (-5, 10**300, float("nan"), [], "x" * 1000, KeyError):
        with pytest.raises(DataError, match=rf"model\.{name} is"):
            check_about(changed(about([]), (name,), new), "m.h5")


def test_older_files_without_schemes_and_losses_are_read():
    steps = plain(WRITTEN["pruned"])
    for name in ("scheme", "exempt", "status", "adversary"):
        del steps[1][name]
    for record in (steps[0], steps[1]["prune"], steps[1]["retrain"]):
        del record["augment"], record["loss"]
    check_about(about(steps), "m.h5")
    assert [step["step"] for step, _ in recipe_steps(Model(NET, **about(steps)), DATA)] == ["train", "prune"]
