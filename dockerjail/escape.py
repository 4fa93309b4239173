"""
Text that others chose, for an operator's terminal: any text in, one harmless line out. Pure.

Log lines, names, labels and answers of the Engine may hold what a terminal obeys (ESC, CR, LF,
BEL, U+0080 to U+009F) or hides by (bidirectional overrides, zero-width characters). The command
line and the daemon's own log write them through `plain`. In JSON they are escaped by JSON's own
means, so nothing is lost there.
"""


def plain(text: str) -> str:
    r"""Return `text` with everything escaped that is no printable character: `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
