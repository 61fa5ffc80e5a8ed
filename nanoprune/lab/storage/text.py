"""Untrusted text made safe to print: names in files, messages of servers and libraries, versions, paths.

A terminal obeys control characters: an array named "\\x1b]0;..." changes the window's title, and a name of a megabyte
fills the screen. So all text from a file or a peer passes through here on its way into a message.
"""

from collections.abc import Iterable

MOST = 200  # characters of one foreign text in a message
NAMED = 8  # foreign names in a message


def printable(value: object, most: int = MOST) -> str:
    """`str(value)` on one line of at most `most` characters, with unprintable characters as backslash escapes.

    These are control characters, line feeds, directional marks, undecodable bytes of paths (surrogates) and all others
    that `str.isprintable` refuses. A longer text ends in "...".
    """
    text = str(value)
    shown = "".join(c if c.isprintable() else _escape(c) for c in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: max(most - 3, 0)]}..."


def printable_list(names: Iterable[object], most: int = NAMED) -> str:
    """The first `most` names, each of at most 40 characters, separated by commas, and the number of further names."""
    names = list(names)
    shown = ", ".join(printable(name, 40) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
