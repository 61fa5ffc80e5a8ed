"""`python -m nanoprune` and the command `nanoprune`."""

from nanoprune.commands import main

if __name__ == "__main__":
    main()
