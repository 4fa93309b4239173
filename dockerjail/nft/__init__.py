"""
Blocks in, nftables set elements out, through netlink; no program is ever run.

Only `kernel` (the packet filter) and `host` (this host's addresses) import
pyroute2.
"""
