"""
Files, environment and labels in, settings and jail policies out.

Every mistake becomes a `Problem` that names its place and its remedy.
"""
