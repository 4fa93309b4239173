"""
The options of a jail, the same words in the daemon's file and in a label. Pure.

In: an option's name and value as written. Out: the value as a policy holds it, and
policies changed by such values.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from dockerjail.config import duration, values
from dockerjail.jail.growth import Growth
from dockerjail.jail.policy import JailPolicy
from dockerjail.jail.rule import Rule

Options = Mapping[str, Any]
"""Values by option name, each as its reader in `READERS` returned it."""

RULE: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {
        "failregex": values.regexes,
        "ignoreregex": values.regexes,
        "prefregex": values.regex,
        "datepattern": values.regexes,
        "maxlines": values.lines,
        "usedns": values.usedns,
        "prefix": values.prefix,
        "format": values.format,
        "field": values.selector,
        "where": values.conditions,
        "address": values.selectors,
        "user": values.selector,
        "trusted_proxies": values.addresses,
    }
)
"""What a `Rule` consists of, in the order that a reader of a filter wants."""

DEFINING: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {
        "filter": values.reference,
        **RULE,
    }
)
"""What says which lines count; who sets one of these has defined the jail."""

INCREMENT = "bantime.increment"
"""Whether the bans of those who come back grow; without it `GROWTH` says nothing."""

GROWTH: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {
        "bantime.factor": values.factor,
        "bantime.formula": values.formula,
        "bantime.multipliers": values.multipliers,
        "bantime.maxtime": duration.parse_bantime,
        "bantime.rndtime": partial(duration.parse, zero=True),
        "bantime.overalljails": values.boolean,
        "bantime.decay": duration.parse_bantime,
    }
)
"""How they grow; what stands behind the dot is the field of a `Growth`."""

TUNING: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {
        "maxretry": values.count,
        "findtime": duration.parse,
        "bantime": duration.parse_bantime,
        "ports": values.ports,
        "scope": values.scope,
        "blocktype": values.blocktype,
        "stream": values.streams,
        "ipv4_prefix": values.ipv4_prefix,
        "ipv6_prefix": values.ipv6_prefix,
        "aggregate": values.aggregate,
        "mode": values.mode,
        "verify": values.verify,
        INCREMENT: values.boolean,
        **GROWTH,
    }
)
"""What says how many failures ban for how long from where, and how."""

UNSAID = Growth()
"""How bans grow where nothing but `bantime.increment` is said."""

_FIELDS = tuple(option for option in TUNING if option != INCREMENT and option not in GROWTH)

LABEL = MappingProxyType({**DEFINING, **TUNING})
"""All that a label may set, if the daemon's policy lets it."""

FILE = MappingProxyType({**LABEL, "enabled": values.boolean, "ignoreip": values.ignored})
"""All that the daemon's own file may set."""


def define(policy: JailPolicy, options: Options) -> JailPolicy:
    """Return `policy` with what `options` says of its rule in place of its own, as fail2ban does."""
    return replace(policy, rule=rule(policy.rule, options))


def rule(base: Rule, options: Options) -> Rule:
    """Return `base` with what `options` says of it."""
    return replace(base, **{key: options[key] for key in RULE if key in options})


def tune(policy: JailPolicy, options: Options, *, dormant: Growth = UNSAID) -> JailPolicy:
    """
    Return `policy` with the tuning `options` in place of its own.

    `dormant` is how its bans would grow, where they do not yet and `options` have them grow.
    """
    changes = {option: options[option] for option in _FIELDS if option in options}
    if "stream" in changes:
        changes["streams"] = changes.pop("stream")
    if options.get(INCREMENT, policy.growth is not None):
        changes["growth"] = growth(policy.growth or dormant, options)
    else:
        changes["growth"] = None
    return replace(policy, **changes)


def growth(base: Growth, options: Options) -> Growth:
    """Return `base` with what `options` say of it, whether or not anything is to grow."""
    said = {option: options[option] for option in GROWTH if option in options}
    return replace(base, **{option.partition(".")[2]: value for option, value in said.items()})
