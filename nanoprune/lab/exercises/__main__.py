"""python -m nanoprune.lab.exercises check CHAPTER [FILE]"""

import pathlib
import sys

from nanoprune.errors import NanopruneError
from nanoprune.lab.exercises import report


def main(words: list[str]) -> int:
    if len(words) not in (2, 3) or words[0] != "check" or not words[1].isdecimal():
        print("usage: python -m nanoprune.lab.exercises check CHAPTER [FILE]", file=sys.stderr)
        return 2
    try:
        lines, passed = report(int(words[1]), pathlib.Path(words[2]) if len(words) == 3 else None)
    except NanopruneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
