"""dockerjail: bans the addresses that misbehave in container logs."""

__version__ = "0.1.0"
