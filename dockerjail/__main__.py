"""`python -m dockerjail` is the `dockerjail` command."""

from dockerjail.cli.main import main

main()
