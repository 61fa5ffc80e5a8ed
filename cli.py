"""The command line of nanoprune without installing it; nanoprune/lab/commands/ has the commands, one file each."""

if __name__ == "__main__":
    from nanoprune.__main__ import run

    run()

from nanoprune.lab.commands import main

__all__ = ["main"]
