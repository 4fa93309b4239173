"""
Tables, chains, sets and rules as netlink messages, by pyroute2's codecs.

In: the pieces of a `Ruleset`. Out: messages that ask the kernel to make them, and to echo them
with their handles. Nothing is sent from here. A rule takes pyroute2 a millisecond, so what it made is
kept: after somebody deleted the table it is to be whole again at once.
"""

import struct
from functools import lru_cache
from typing import Any

from dockerjail.nft import messages
from dockerjail.nft.messages import APPEND, CREATE, ECHO, Kind, Message
from dockerjail.nft.netlink import (
    nft_chain_msg,
    nft_rule_msg,
    nft_set_msg,
    nft_table_msg,
)
from dockerjail.nft.ruleset import (
    GC_INTERVAL_MS,
    Chain,
    Expression,
    Rule,
    Ruleset,
    Set,
    Value,
    Verdict,
)

_ACCEPT = 1


def everything(table: str, rules: Ruleset) -> list[Message]:
    """Write down a ruleset for `table`."""
    return [
        *(set_(table, number, one) for number, one in enumerate(rules.sets, 1)),
        *(chain(table, one) for one in rules.chains),
        *(rule(table, one) for one in rules.rules),
    ]


_kept = lru_cache(maxsize=1024)


def _encoded(kind: Kind, flags: int, shape: Any, about: str, /, **values: Any) -> Message:
    """Let one of pyroute2's message classes encode attributes, in the order given."""
    message = shape()
    message["nfgen_family"] = messages.INET
    message["attrs"] = [[shape.prefix + name.upper(), value] for name, value in values.items()]
    message["header"]["type"] = message["header"]["flags"] = 0
    message.encode()
    headers = 20
    return Message(kind, flags, bytes(message.data)[headers:], about)


@_kept
def table_(table: str, flags: int) -> Message:
    """Write down a table with flags of linux/netfilter/nf_tables.h."""
    return _encoded(
        Kind.NEWTABLE, CREATE | ECHO, nft_table_msg, f"table {table}", name=table, flags=flags
    )


@_kept
def set_(table: str, number: int, one: Set) -> Message:
    """Write down a set; `number` is what the same batch may call it."""
    values: dict[str, Any] = {
        "table": table,
        "name": one.name,
        "key_type": one.key_type,
        "key_len": one.key_length,
        "id": number,
        # that the key is big-endian, for `nft list` to print ranges
        "userdata": [("NFTNL_UDATA_SET_KEYBYTEORDER", struct.pack("=I", 2))],
    }
    if one.interval:
        values["flags"] = {"NFT_SET_INTERVAL"}
    else:
        values["flags"] = {"NFT_SET_TIMEOUT"}
        values["gc_interval"] = GC_INTERVAL_MS
        values["expr"] = {"attrs": [("NFTA_EXPR_NAME", "counter")]}
    return _encoded(Kind.NEWSET, CREATE | ECHO, nft_set_msg, f"set {one.name}", **values)


@_kept
def chain(table: str, one: Chain) -> Message:
    """Write down a chain."""
    values: dict[str, Any] = {"table": table, "name": one.name}
    if one.hook is not None:
        hook: list[tuple[str, int | str]] = [
            ("NFTA_HOOK_HOOKNUM", one.hook),
            ("NFTA_HOOK_PRIORITY", one.priority),
        ]
        if one.device:
            hook.append(("NFTA_HOOK_DEV", one.device))
        values |= {"hook": {"attrs": hook}, "policy": _ACCEPT, "type": "filter"}
    return _encoded(Kind.NEWCHAIN, CREATE | ECHO, nft_chain_msg, f"chain {one.name}", **values)


@_kept
def rule(table: str, one: Rule) -> Message:
    """Write down a rule, to stand behind those that its chain has."""
    return _encoded(
        Kind.NEWRULE,
        CREATE | APPEND | ECHO,
        nft_rule_msg,
        f"rule of chain {one.chain}: {one.comment}",
        table=table,
        chain=one.chain,
        expressions=[_expression(step) for step in one.expressions],
        userdata=one.comment,
    )


def _expression(step: Expression) -> dict[str, Any]:
    prefix = f"NFTA_{step.name.upper()}_"
    values = [(prefix + name.upper(), _value(value)) for name, value in step.attributes]
    return {"attrs": [("NFTA_EXPR_NAME", step.name), ("NFTA_EXPR_DATA", {"attrs": values})]}


def _value(value: Value) -> Any:
    if isinstance(value, bytes):
        return {"attrs": [("NFTA_DATA_VALUE", value)]}
    if isinstance(value, Verdict):
        verdict: list[tuple[str, int | str]] = [("NFTA_VERDICT_CODE", value.code)]
        if value.chain:
            verdict.append(("NFTA_VERDICT_CHAIN", value.chain))
        return {"attrs": [("NFTA_DATA_VERDICT", {"attrs": verdict})]}
    return value
