"""
Random configurations, read by fail2ban and by us: the same filters and jails come out.

A small grammar of what people write: variables in every section, overrides in `.local`,
includes, `%(x)s`, `<x>`, `known/`, options in brackets, keys in the jail. A variable
refers only to those named before it, so that none refers to itself; fail2ban keeps one
level of `known/` only, so there is no more here.
"""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.config.fail2ban.read import Fail2ban
from tests.conformance.test_fail2ban_config import as_said, expected_rule
from tests.lab.fail2ban import Fail2banPackage

NAMES = ("alpha", "beta", "gamma", "delta")
FILTERS = ("one", "two", "three")
MODES = ("normal", "extra")
words = st.sampled_from(
    ("x", "y z", "(?:p|q)", r"\d+", "100%%", "a=b", "c: d", "<unknown>", "[^<]*", "# no comment")
)


def references(before: int) -> st.SearchStrategy[str]:
    """Refer to one of the first variables."""
    return st.sampled_from(NAMES[:before]).flatmap(
        lambda name: st.sampled_from((f"%({name})s", f"<{name}>"))
    )


@st.composite
def values(draw: st.DrawFn, place: int, *, known: bool) -> str:
    """Write a value for the variable at `place`."""
    name = NAMES[place]
    parts = [words]
    if place:
        parts.append(references(place))
    if known:
        parts.append(st.just(f"%(known/{name})s"))
    pieces: list[str] = draw(st.lists(st.one_of(parts), max_size=3))
    return "".join(pieces) if draw(st.booleans()) else " ".join(pieces)


@st.composite
def variables(draw: st.DrawFn, *, known: bool = False, least: int = 0) -> list[str]:
    """Write lines that set some of the variables."""
    places = draw(st.sets(st.integers(0, len(NAMES) - 1), min_size=least))
    return [f"{NAMES[place]} = {draw(values(place, known=known))}".rstrip() for place in places]


@st.composite
def regexes(draw: st.DrawFn, key: str, *, host: str = " <HOST>", known: bool = False) -> list[str]:
    """Write a key of several regexes, each in its own line."""
    part = (
        words
        | references(len(NAMES))
        | st.sampled_from(("<part/alpha>", "<mode-<mode>>", "<mode>"))
    )
    lines = [
        "^" + "".join(draw(st.lists(part, max_size=3))) + host
        for _ in range(draw(st.integers(1, 3)))
    ]
    if known:
        lines.insert(draw(st.integers(0, len(lines))), f"%(known/{key})s")
    if draw(st.booleans()):
        lines.insert(0, "")
    return [f"{key} = {lines[0]}".rstrip(), *(f"    {line}" for line in lines[1:])]


@st.composite
def filter_files(draw: st.DrawFn, name: str) -> dict[str, str]:
    """Write a filter: its file, what it includes, what overrides it."""
    # what everything else may refer to
    shared = ["[DEFAULT]", *draw(variables(least=len(NAMES))), "[part]", "alpha = of a part"]
    main = [
        "[INCLUDES]",
        f"before = {name}-common.conf",
        *(["after = late.conf"] if draw(st.booleans()) else []),
        *(["[DEFAULT]", *draw(variables())] if draw(st.booleans()) else []),
        "[Definition]",
        "mode = normal",
        "mode-normal =",
        "mode-extra = more",
        *draw(variables()),
        *draw(regexes("failregex")),
        *(draw(regexes("ignoreregex", host="")) if draw(st.booleans()) else []),
        *(["prefregex = ^<F-CONTENT>%(alpha)s.*</F-CONTENT>$"] if draw(st.booleans()) else []),
        *(["datepattern = ^%%Y <beta>", "    {NONE}"] if draw(st.booleans()) else []),
        *(["maxlines = 4"] if draw(st.booleans()) else []),
        *(["[Init]", *draw(variables())] if draw(st.booleans()) else []),
    ]
    files = {f"{name}-common.conf": shared, f"{name}.conf": main}
    if draw(st.booleans()):
        files[f"{name}.local"] = [
            "[Definition]",
            *draw(variables()),
            *(draw(regexes("failregex", known=True)) if draw(st.booleans()) else []),
            *(draw(regexes("ignoreregex", host="")) if draw(st.booleans()) else []),
        ]
    if draw(st.booleans()):
        files[f"{name}-common.local"] = ["[DEFAULT]", *draw(variables(known=True))]
    return {f"filter.d/{each}": "\n".join(lines) + "\n" for each, lines in files.items()}


options = st.dictionaries(
    st.sampled_from((*NAMES, "mode")),
    st.sampled_from(("", "o", "o p", "o,p", "q]r", "extra", "s<alpha>")),
    max_size=3,
).map(lambda given: ", ".join(f'{key}="{value}"' for key, value in given.items()))


@st.composite
def configurations(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    """Return files, and of each jail that says nothing but its filter, that filter."""
    files = {"filter.d/late.conf": "[Definition]\ngamma = late\n[Init]\ndelta = late\n"}
    for name in FILTERS:
        files |= draw(filter_files(name))
    conf = ["[DEFAULT]", "maxretry = 5", "findtime = 10m", "bantime = %(findtime)s"]
    local = ["[DEFAULT]", "mode = normal", *draw(variables(least=len(NAMES)))]
    if draw(st.booleans()):
        local.append("findtime = 1h 30m")
    plain = {}
    for number in range(12):
        plain[f"plain{number}"] = draw(st.sampled_from(FILTERS)) + f"[{draw(options)}]"
        conf += [f"[plain{number}]", f"filter = {plain[f'plain{number}']}", "logpath = /var/log/x"]
    for number in range(6):
        reference = draw(st.sampled_from(FILTERS)) + draw(
            st.sampled_from(
                ("", "[mode=%(mode)s]", '[beta="x, y", mode=extra]', "[gamma='%(alpha)s']")
            )
        )
        conf += [f"[jail{number}]", f"filter = {reference}", "logpath = /var/log/x"]
        local += [
            f"[jail{number}]",
            *draw(variables()),
            draw(st.sampled_from(("maxretry = %(default/maxretry)s", "maxretry = 3"))),
            *([f"mode = {draw(st.sampled_from(MODES))}"] if draw(st.booleans()) else []),
            *(draw(regexes("failregex", known=draw(st.booleans()))) if draw(st.booleans()) else []),
            *(["ignoreregex ="] if draw(st.booleans()) else []),
        ]
    files |= {"jail.conf": "\n".join(conf) + "\n", "jail.local": "\n".join(local) + "\n"}
    return files, plain


def laid_out(etc: Path, files: dict[str, str]) -> Fail2ban:
    """Write the files into an empty directory and open it."""
    (etc / "filter.d").mkdir(parents=True)
    for name, text in files.items():
        (etc / name).write_text(text)
    found = Fail2ban.open(etc)
    assert found is not None
    return found


@given(configurations())
@settings(deadline=None, max_examples=25)
def test_the_jails_of_any_configuration_mean_what_they_mean_to_fail2ban(
    fail2ban: Fail2banPackage, case: tuple[dict[str, str], dict[str, str]]
) -> None:
    files, plain = case
    with tempfile.TemporaryDirectory(prefix="orc-") as scratch:
        etc = Path(scratch) / "fail2ban"
        ours = laid_out(etc, files)
        questions = [("jail", name, dict[str, str]()) for name in ours.jails]
        names, *answers = fail2ban.ask([("jails", "", {}), *questions], etc=etc)
        assert list(ours.jails) == names
        for name, said in zip(names, answers, strict=True):
            if "error" in said:
                continue  # what is said of a mistake is for unit tests
            jail = ours.jail(name)
            assert as_said(jail.rule) == expected_rule(said)
            assert (jail.maxretry, jail.findtime, jail.bantime) == (
                said["maxretry"],
                said["findtime"],
                said["bantime"],
            )
            if name in plain:
                # as a label writes it
                assert ours.rule(plain[name]) == jail.rule
