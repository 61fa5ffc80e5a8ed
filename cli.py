"""The command line of nanoprune; nanoprune/lab/commands/ has the commands, one file each."""

from nanoprune.lab.commands import main

if __name__ == "__main__":
    main()
