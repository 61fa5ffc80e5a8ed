"""`python -m nanoprune` and the command `nanoprune`."""

from nanoprune.lab.commands import main

if __name__ == "__main__":
    main()
