"""
Blocks in, nftables set elements out, through netlink; no program is ever run.

Only `netlink` imports pyroute2.
"""
