"""Whether a rule can work: a rule in, what keeps it from it out. Pure; answers are remembered."""

from functools import lru_cache

from dockerjail.config.options import RULE
from dockerjail.errors import FilterError
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Format, Rule


@lru_cache(maxsize=1024)
def flaw(rule: Rule) -> tuple[str, str] | None:
    """Say what keeps a rule from working: the option, and the filter's own words."""
    if rule.format is Format.TEXT and rule.structured:
        option = next(key for key in ("where", "address", "field") if getattr(rule, key))
        return "format", f"is text, and {option} asks for fields; write json, logfmt or auto"
    try:
        Filter(rule)
    except FilterError as error:
        what = str(error)
        option = what.partition(" ")[0]
        return (option if option in RULE else "failregex"), what
    return None
