"""
A rule in, what is wrong with it although it compiles out. Pure: no clock, no I/O.

Nothing on the line may depend on this room: `check` and `regex` ask it.
"""
