"""From training to a release: exported models were audited and do not identify their members."""

import json
import re

import pytest
from click.testing import CliRunner

import cli
from nanoprune.lab.models.model import load_model


def run(*arguments):
    found = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    model, pruned, int8 = (folder / f"{name}.h5" for name in ("model", "pruned", "int8"))
    run("train", "digits", "--out", model, "--members", 211, "--epochs", 3, "--seed", 7919)
    short = ["--epochs", 2, "--iterations", 2, "--retrain-epochs", 1]
    run("prune", model, "--keep", 0.1, "--out", pruned, "--release", "8 x 8 images of digits", *short)
    said = run("quantise", pruned, "--out", int8)
    attacked = run("attack", int8, "--shadows", 6, "--json", folder / "audit.json")
    to = ["--weights", "int8", "--audit", folder / "audit.json", "--licence", "MIT"]
    run("export", int8, "--to", "c", *to, "--out", folder / "net.c", "--card", "8 x 8 images of digits")
    return folder, said, attacked


def test_release_and_export_reveal_nothing_about_the_members(released):
    folder, *_ = released
    model = load_model(folder / "int8.h5")
    names = [
        "pruned.safetensors",
        "pruned.card.md",
        "pruned.card.json",
        "net.c",
        "net.h",
        "net.card.md",
        "net.card.json",
    ]
    for name in names:
        data = (folder / name).read_bytes()
        text = re.sub(
            r"= \{.*?\}", "", data.decode("latin-1"), flags=re.DOTALL
        )  # an index in an array may be any number
        assert model.data_sha256 not in text
        for number in (model.seed, model.members):
            assert not re.search(rf"(?<![\d.]){number}(?!\d)", text), name
            assert number.to_bytes(8, "little") not in data
        assert str(folder) not in text
        assert "seed" not in text.replace("Seed, split and data files stay with the author", "")


def test_the_card_has_the_measured_figures_of_the_release(released):
    folder, *_ = released
    audit = json.loads((folder / "audit.json").read_text())
    card = json.loads((folder / "net.card.json").read_text())
    model = load_model(folder / "int8.h5")
    accuracy = audit["strongest"]["accuracy"]
    assert card["audit"]["strongest_attack"] == audit["strongest"]["attack"]
    assert card["audit"]["attack_accuracy"]["value"] == round(100 * accuracy["value"], 1)
    assert card["audit"]["test_accuracy"]["value"] == round(100 * audit["test_accuracy"], 1)
    assert card["audit"]["test_accuracy"]["low"] < card["audit"]["test_accuracy"]["high"]
    assert card["weights"]["nonzero"] == int(model.net.nonzero()[0])
    words = (folder / "net.card.md").read_text()
    assert f"{100 * accuracy['value']:.1f}%" in words
    assert ("it leaks" in words) == (accuracy["low"] > 0.5)
    assert 'license: "MIT"' in words


def test_the_release_without_audit_says_so(released):
    folder, *_ = released
    assert "Not audited" in (folder / "pruned.card.md").read_text()


def test_users_are_warned_that_model_files_identify_members(released):
    _, said, attacked = released
    assert re.search(r"int8 weights; [\d.]+% of 256 random records are in the same class as before", said)
    assert attacked.splitlines()[-1].startswith("int8.h5 identifies its members")


def test_what_cannot_be_released_is_refused_before_the_work(released, tmp_path, data_dir, monkeypatch):
    """Files that are there already, and a network that no release can have."""
    folder, *_ = released
    tokens = tmp_path / "tokens.h5"
    small = ["--members", 60, "--reference", 20, "--nonmembers", 60, "--epochs", 1, "--data-dir", data_dir]
    run("train", "names", "--out", tokens, *small)
    monkeypatch.setattr("nanoprune.lab.workflow.single_model.prune_model", lambda *_: pytest.fail("pruned"))
    (tmp_path / "p.card.md").write_text("mine")
    for model, named in ((folder / "model.h5", "p.card.md already exists"), (tokens, "Embed")):
        words = ["prune", model, "--keep", 0.5, "--out", tmp_path / "p.h5", "--release", "names"]
        more = ["--data-dir", data_dir] if model == tokens else []
        found = CliRunner().invoke(cli.main, [str(a) for a in [*words, *more]])
        assert found.exit_code == 2, found.output
        (line,) = found.stderr.splitlines()
        assert named in line
    assert (tmp_path / "p.card.md").read_text() == "mine"
    assert not (tmp_path / "p.h5").exists()
