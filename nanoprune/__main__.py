"""`python -m nanoprune` and the command `nanoprune`: cli.py, which a wheel carries inside of the package."""

try:
    from nanoprune.cli import main
except ModuleNotFoundError:  # a checkout, where cli.py stands at the top
    from cli import main

if __name__ == "__main__":
    main()
