"""Text that is not ours, made fit to be shown: names in files, words of servers and libraries, versions, paths.

A terminal obeys control characters: an array named "\\x1b]0;..." changes the window's title, and one of a megabyte
fills the screen. So whatever comes from a file or a peer passes through here on its way into a message.
"""

from collections.abc import Iterable

MOST = 200  # characters of one foreign text in a message
NAMED = 8  # foreign names in a message


def printable(value: object, most: int = MOST) -> str:
    """`str(value)` on one line: at most `most` characters, those that do not print as backslash escapes.

    Escaped are control characters, line feeds, directional marks, undecodable bytes of paths (surrogates) and whatever
    else `str.isprintable` refuses. A longer text ends in "...".
    """
    text = str(value)
    shown = "".join(c if c.isprintable() else _escape(c) for c in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: max(most - 3, 0)]}..."


def printable_list(names: Iterable[object], most: int = NAMED) -> str:
    """The first `most` names, each of at most 40 characters, with commas between them, and how many more there are."""
    names = list(names)
    shown = ", ".join(printable(name, 40) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
