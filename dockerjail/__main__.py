"""`python -m dockerjail` is the `dockerjail` command."""

from dockerjail.cli.entry import main

main()
