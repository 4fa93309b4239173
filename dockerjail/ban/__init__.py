"""
Offences in, bans out.

The warden is the only writer of ban state: store first, then kernel. Everything
beside it in this room is pure.
"""
