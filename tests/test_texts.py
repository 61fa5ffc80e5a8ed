"""Texts: their readers, networks that are trained on them, and what refuses them."""

import collections
import dataclasses
import io
import lzma
import os
import pathlib
import tarfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.target import attack_model
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.data.text import ALPHABET, CHARACTERS, LANGUAGES, TOPICS, characters, load_agnews, load_names, words
from nanoprune.lab.experiment.columns import description_for
from nanoprune.lab.experiment.queries import label_queries
from nanoprune.lab.experiment.recipes import RECIPES, recipe_for
from nanoprune.lab.workflow.single_model import train_model
from nanoprune.lab.zoo import build

DATA = pathlib.Path(os.environ.get("NANOPRUNE_DATA", "../shared/data"))


def names_tar(texts, pack=bytes):
    """A names.tar with a text for each language, and its folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for language, text in zip(LANGUAGES, texts, strict=True):
            info = tarfile.TarInfo(f"names/{language}.txt")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return pack(stream.getvalue())


def content_sha256(texts):
    import hashlib

    parts = (f"names/{name}.txt".encode() + b"\0" + text for name, text in zip(LANGUAGES, texts, strict=True))
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.fixture
def texts():
    return [f"{language[:3]}\nAbé\nAbé\n\n".encode() for language in LANGUAGES]


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".xz", lzma.compress)])
def test_names_are_read_once_a_language(tmp_path, texts, suffix, pack):
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / f"names.tar{suffix}").write_bytes(names_tar(texts, pack))
    data = load_names(tmp_path, content_sha256(texts))
    assert data.x.shape == (36, 20)
    assert data.y.tolist() == [c for c in range(18) for _ in range(2)]
    assert data.class_names == LANGUAGES
    assert data.tokens == CHARACTERS
    spelled = ["".join(ALPHABET[int(token) - 1] for token in row if token) for row in data.x[:4]]
    assert spelled == ["Ara", "Abé", "Chi", "Abé"]
    with pytest.raises(DataError, match=r"names\.tar.* its texts are not the published ones"):
        load_names(tmp_path)


def test_archives_that_are_broken_or_not_there_are_refused(tmp_path, texts):
    (tmp_path / "names").mkdir()
    with pytest.raises(DataError, match=r"names: names\.tar not found in .*get it from https"):
        load_names(tmp_path)
    good = names_tar(texts)
    for broken in (b"", good[:700], names_tar([b"\xff", *texts[1:]]), lzma.compress(bytes(1 << 22))):
        (tmp_path / "names" / "names.tar").write_bytes(broken)
        with pytest.raises(DataError) as caught:
            load_names(tmp_path, content_sha256([b"\xff", *texts[1:]]))
        assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_characters_are_tokens_of_a_fixed_alphabet(text):
    found = characters(text)
    assert len(found) == 20
    assert found[len(text) :] == [0] * max(0, 20 - len(text))
    for letter, token in zip(text, found, strict=False):
        assert 1 <= token < CHARACTERS
        assert (token == CHARACTERS - 1) == (letter not in ALPHABET)
        assert letter not in ALPHABET or ALPHABET[token - 1] == letter


def test_words_are_hashed_without_capitals_and_cut():
    found = words("The U.S. don't, the\\end 42")
    split = ["the", "u", "s", "don't", "the", "end", "42"]
    assert found == [1 + zlib.crc32(word.encode()) % 4095 for word in split] + [0] * 33
    many = words(" ".join(map(str, range(1000))))
    assert len(many) == 40
    assert all(1 <= token < 4096 for token in many)


def article_file(folder, content):
    import hashlib

    (folder / "agnews").mkdir(exist_ok=True)
    (folder / "agnews" / "test.csv").write_bytes(content)
    return SourceFile("agnews", "test.csv", len(content), hashlib.sha256(content).hexdigest())


def test_articles_are_title_and_text(tmp_path):
    content = b'"3","A ""b""","c, d"\n"1","A b","C d"\n"3","a B","c d"\n'
    data = load_agnews(tmp_path, article_file(tmp_path, content))  # the last has the words of the first
    assert data.y.tolist() == [2, 0]
    assert data.class_names == TOPICS
    assert data.x[0].tolist() == data.x[1].tolist() == words("a b c d")


@pytest.mark.parametrize("content", [b"", b'"5","a","b"\n', b'"1","a"\n', b"\xff,a,b\n", b'"1","a","b\n'])
def test_articles_of_another_form_are_refused(tmp_path, content):
    with pytest.raises(DataError, match="agnews: ") as caught:
        load_agnews(tmp_path, article_file(tmp_path, content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("x", [[[0, 3]], [[-1, 0]], [[0.5, 0]], [[np.nan, 0]]])
def test_a_data_set_refuses_what_is_no_token(x):
    with pytest.raises(DataError, match=r"toy: features .* expected tokens"):
        Dataset.of("toy", np.array(x, float), np.array([0]), 1, tokens=3)


def toy(tokens=9):
    x = np.random.default_rng(0).integers(0, 9, (30, 6))
    return Dataset.of("toy", x if tokens else x / 9, np.arange(30) % 3, 3, tokens=tokens)


def test_the_network_of_a_text_has_its_tokens():
    recipe = recipe_for(toy(), network="transformer-text", members=10)
    net = build(description_for(toy(), recipe))
    assert net.body.parts[0].tokens == 9
    with pytest.raises(ArgumentError, match=r"mlp takes numbers in .*transformer-text"):
        description_for(toy(), recipe_for(toy(), network="mlp"))
    with pytest.raises(ArgumentError, match="transformer-text takes tokens, and toy has none; try mlp"):
        description_for(toy(None), recipe)


def test_shadow_models_attack_a_network_of_texts():
    """A token with noise is none: the attack that needs noisy copies is left out, and says so."""
    x = np.random.default_rng(0).integers(0, 9, (120, 6))
    data = Dataset.of("toy", x, np.arange(120) % 3, 3, tokens=9)
    recipe = recipe_for(data, 40, network="transformer-text", widths=0.25, reference=0, nonmembers=40, minmax=0.0)
    recipe = dataclasses.replace(recipe, dense=dataclasses.replace(recipe.dense, epochs=1))
    results, _ = attack_model(train_model(data, recipe, 0, 1), data, 6, attacks="lira,samia")
    assert "lira_online" in results["attacks"]
    assert "samia" not in results["attacks"]
    assert any(text.startswith("samia: needs outputs for noisy copies") for text in results["refused"])


def test_the_label_only_attack_replaces_tokens_and_keeps_padding():
    data = toy(1000)
    X = data.x.T[None].copy()  # (1, T, N)
    unchanged, *others = label_queries(data)
    np.testing.assert_array_equal(unchanged(X), X)
    shares = []
    for change in others:
        Y = change(X)
        assert Y.dtype == X.dtype
        np.testing.assert_array_equal(Y == 0, X == 0)
        assert ((Y >= 0) & (Y < 1000) & (np.floor(Y) == Y)).all()
        shares.append(((X != Y) & (X > 0)).sum() / (X > 0).sum())
    assert 0 < np.mean(shares) < 0.4  # 5, 10 and 20 per cent of the places


@pytest.mark.skipif(not (DATA / "names").is_dir(), reason="the published files are not there")
def test_the_published_names_and_articles():
    names, articles = load("names", DATA), load("agnews", DATA)
    assert len(names.y) == 18_012
    assert names.y.max() + 1 == names.classes == 18
    assert collections.Counter(names.y.tolist())[LANGUAGES.index("Russian")] == 9340
    assert not (names.x == CHARACTERS - 1).any()  # the alphabet has every character
    assert (names.x > 0).any(axis=1).all()
    assert len(articles.y) == 7599
    assert np.bincount(articles.y).tolist() == [1900, 1900, 1899, 1900]


@pytest.mark.parametrize("name", ["names", "agnews"])
def test_recipes_of_texts_have_room_for_their_splits(name):
    recipe = RECIPES[name]
    assert recipe.network == "transformer-text"
    total = {"names": 18_012, "agnews": 7599}[name]
    assert recipe.members + recipe.reference + recipe.nonmembers <= total
