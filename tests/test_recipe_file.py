"""Recipes as files: what is written is read back, what is changed is changed, what does not fit is refused by name."""

import dataclasses
import json

import pytest
from click.testing import CliRunner

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.commands import main
from nanoprune.lab.experiment.recipe_file import read_recipe, write_recipe
from nanoprune.lab.experiment.recipes import FULL, RECIPES
from nanoprune.lab.models.model import load_model


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *FULL.values()])
def test_every_recipe_is_read_back_as_it_was_written(recipe, tmp_path):
    other = RECIPES["digits" if recipe is not RECIPES["digits"] else "mnist"]
    write_recipe(recipe, tmp_path / "r.json")
    assert read_recipe(tmp_path / "r.json", other) == recipe


def test_a_file_with_some_fields_changes_those_alone(tmp_path):
    (tmp_path / "r.json").write_text(
        '{"widths": [64, 32], "dense": {"epochs": 30, "lr": 1}, "keep": [0.1, [0.2, 0.3]], "scope": "layer"}'
    )
    base = RECIPES["thyroid"]
    expected = dataclasses.replace(
        base,
        widths=(64, 32),
        scope="layer",
        keep=(0.1, (0.2, 0.3)),
        dense=dataclasses.replace(base.dense, epochs=30, lr=1),
    )
    assert read_recipe(tmp_path / "r.json", base) == expected


REFUSED = {
    "an unknown field": ({"epochs": 3}, "a recipe has no epochs, but network"),
    "one inside": ({"dense": {"epoch": 3}}, "dense.a recipe has no epoch"),
    "a text for a number": ({"members": "many"}, "members is 'many'"),
    "true for a number": ({"seeds": True}, "seeds is True, expected an integer"),
    "a fraction of a count": ({"members": 10.5}, "members is 10.5"),
    "a huge number": ({"members": 10**12}, "members is 1000000000000"),
    "a number for a record": ({"dense": 3}, "dense.3, expected a record"),
    "a value that cannot be": ({"keep": [2]}, "keep must lie in (0, 1], got 2"),
    "one inside that cannot be": ({"dense": {"momentum": 2}}, "momentum must lie in [0, 1)"),
    "no record": ([1], "expected a record"),
}


@pytest.mark.parametrize(("values", "said"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line_that_names_the_file(values, said, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(values))
    with pytest.raises(DataError) as caught:
        read_recipe(tmp_path / "r.json", RECIPES["thyroid"])
    assert said in str(caught.value)
    assert "r.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_is_not_written_over_another_file(tmp_path):
    (tmp_path / "r.json").write_text("mine")
    with pytest.raises(ArgumentError, match="already exists; --overwrite"):
        write_recipe(RECIPES["digits"], tmp_path / "r.json")
    with pytest.raises(ArgumentError, match=r"name it \.json"):
        write_recipe(RECIPES["digits"], tmp_path / "r.toml")


def test_train_saves_the_recipe_it_used_and_reads_it_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output

    sizes = ["--members", 60, "--reference", 0, "--nonmembers", 60]
    run("train", "digits", "--epochs", 2, *sizes, "--save-recipe", "r.json", "--out", "a.h5")
    assert json.loads((tmp_path / "r.json").read_text())["dense"]["epochs"] == 2
    run("train", "digits", "--recipe", "r.json", "--out", "b.h5")
    a, b = load_model("a.h5"), load_model("b.h5")
    assert a.steps == b.steps
    assert a.net.theta.tobytes() == b.net.theta.tobytes()
