"""Untrusted text in messages: on one line, of bounded length, without control characters."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoprune.lab.storage.text import printable, printable_list

HOSTILE = st.text(st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Lu", "Zs")), max_size=400)


@given(HOSTILE, st.integers(3, 300))
def test_no_control_characters_remain_and_the_length_is_bounded(text, most):
    shown = printable(text, most)
    assert len(shown) <= most
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode("utf-8")  # a surrogate could not be


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_plain_text_is_unchanged(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("\x1b]0;pwn\x07", r"\x1b]0;pwn\x07"), ("a\nerror: b", r"a\nerror: b"), ("\udcff.jpg", r"\udcff.jpg")],
)
def test_escapes_are_those_of_python(text, expected):
    assert printable(text) == expected


def test_a_long_list_of_names_is_cut_and_counted():
    text = printable_list([f"{'x' * 1000}{i}" for i in range(20_000)])
    assert len(text) < 400
    assert text.endswith("and 19,992 more")


def test_a_short_list_is_shown_whole():
    assert printable_list(["a", "b"]) == "a, b"
