"""
`<name>` in the values of filters and actions, before a regex's own tags. Pure.

In: a value, and a function that says what a name stands for. Out: the value with all known
names replaced, the innermost first, again and again until nothing changes: `<mdre-<mode>>`
is `<mdre-normal>` is a list of regexes. What nobody knows stays as it is: `<HOST>`.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from dockerjail.config.fail2ban.mistakes import wrong

MOST: Final = 25
"""How often one name can be replaced in one value; fail2ban's own number."""

LONGEST: Final = 1_000_000
"""Characters that a value can come to."""

_TAG = re.compile(r"<([^ <>]+)>")

Lookup = Callable[[str], str | None]
"""Returns what a name stands for, None when it is nobody's."""


def fill(text: str, lookup: Lookup, *, own: str = "", place: str) -> str:
    """
    Return `text`, the value of the option `own`, with its names replaced.

    Raises `Fail2banError` at `place` for a value that would contain itself.
    """
    replaced: Counter[str] = Counter()
    position, changed = 0, False
    while True:
        tag = _TAG.search(text, position)
        if tag is None:
            if not changed:
                return text
            position, changed = 0, False
            continue
        name = tag[1]
        value = lookup(name)
        if value is None:
            position = tag.end()
            continue
        replaced[name] += 1
        if name == own or replaced[name] > MOST:
            raise wrong(place, f"<{name}> stands for itself", f"write what <{name}> is to be")
        text = text.replace(tag[0], value)
        if len(text) > LONGEST:
            raise wrong(place, f"<{name}> makes it grow without end", "write fewer <…>")
        position, changed = tag.start(), True
