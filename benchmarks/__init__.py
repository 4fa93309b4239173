"""What dockerjail costs beside what it replaces: one module each, all of them by `make bench`."""
