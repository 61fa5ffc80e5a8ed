"""The command line of nanoprune; nanoprune/commands/ has the commands, one file each."""

from nanoprune.commands import main

if __name__ == "__main__":
    main()
