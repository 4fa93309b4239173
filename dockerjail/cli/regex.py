"""
`dockerjail regex`: what a filter finds in a log, and whom its jail would have banned.

Made for whoever knows fail2ban-regex: the same arguments in the same order, the same
layout. Reads a log and the configuration; needs no daemon, changes nothing.
"""

import asyncio
import codecs
import re
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from dockerjail.cli import show
from dockerjail.cli.trial import KEPT, Match, Suspect, Trial, Wanted, chunks, clock
from dockerjail.config import duration, values
from dockerjail.config.fail2ban import filters as fail2ban_filters
from dockerjail.config.fail2ban import reference
from dockerjail.config.fail2ban.files import Files
from dockerjail.config.filters import parse
from dockerjail.config.mistake import Mistake, meant
from dockerjail.config.options import RULE, TUNING
from dockerjail.config.policies import policies
from dockerjail.config.settings import Settings, load
from dockerjail.docker.client import DockerEngine
from dockerjail.docker.cursor import dialect
from dockerjail.docker.frames import reader as frames_of
from dockerjail.docker.inspect import readable
from dockerjail.docker.lines import Lines
from dockerjail.errors import ConfigError, ContainerGone, FilterError, LogsUnreadable
from dockerjail.escape import plain
from dockerjail.jail.ignore import Ignore
from dockerjail.jail.patience import LIMIT
from dockerjail.jail.policy import JailPolicy
from dockerjail.jail.rule import NOTHING, Rule
from dockerjail.lint.lint import Finding, lint
from dockerjail.model import Chunk, Subject, written
from dockerjail.service.ticker import ticking
from dockerjail.stamp import NANO

Json = dict[str, Any]

PIECE: Final = 1 << 18
"""Bytes of a file that are read at once."""

LARGE: Final = 1 << 23
"""Bytes from which on a file is worth a progress bar."""

ROWS: Final = 50
"""Addresses that a table shows; `-v` shows all."""

_FILE: Final = re.compile(r"[\w./~+@-]+")
"""What is no line of a log: such lines have blanks, or are JSON."""

_REFERENCE: Final = re.compile(r"[\w.-]+\[[\w.?-]+\s*=.*\]\Z", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says; numbers are as they were written."""

    words: tuple[str, ...]
    container: str = ""
    since: str = ""
    tail: int | None = None
    out: str = ""
    all_matched: bool = False
    all_missed: bool = False
    all_ignored: bool = False
    no_missed: bool = False
    no_ignored: bool = False
    verbose: bool = False
    encoding: str = "utf-8"
    rule: Json = field(default_factory=dict)
    numbers: Json = field(default_factory=dict)
    json: bool = False
    lint: bool = False
    config: Path | None = None


class WrongUsage(ConfigError):
    """Arguments that do not go together."""


def changes(**options: str | None) -> Json:
    """Read options of a rule or a jail; raises `WrongUsage`, which names the option."""
    found = {}
    for name, text in options.items():
        if text is not None:
            try:
                found[name] = {**RULE, **TUNING}[name](text)
            except Mistake as mistake:
                raise WrongUsage(f"--{name}: {mistake}") from None
    return found


def encoding(name: str) -> str:
    """Return Python's name of an encoding; raises `WrongUsage`."""
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise WrongUsage(f"--encoding: {name!r} is not known; write utf-8 or latin-1") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """A jail to try, and in words where its filter came from; `fail2ban` reads it as well."""

    policy: JailPolicy
    origin: str
    fail2ban: bool = False


def regex(asked: Asked) -> int:
    """Try a filter; return 0, or 4 when it was linted and something was found."""
    log, word, ignoreregex = _arguments(asked)
    settings = load(asked.config)
    if asked.container:
        return asyncio.run(_try_container(asked, settings, word, ignoreregex))
    chosen = _tuned(_choose(word, settings), asked, ignoreregex)
    if log is None:
        return _linted(asked, chosen)
    trial = _trial(asked, settings, chosen)
    source, pieces, size = _open(log)
    began = time.monotonic()
    head = [("log", source), ("encoding", asked.encoding)]
    _introduce(asked, chosen, head)
    with _progress(size) as advance, ticking(trial.watch):
        literal = not (log == "-" or size)
        for chunk in chunks(advance(pieces), samples=not literal, encoding=asked.encoding):
            trial.feed(chunk)
    return _conclude(asked, chosen, trial, time.monotonic() - began)


# What is asked for


def _arguments(asked: Asked) -> tuple[str | None, str, str]:
    """Tell log, filter and ignoreregex apart."""
    words = list(asked.words)
    log = None
    if not asked.container and (asked.since or asked.tail is not None):
        option = "--since" if asked.since else "--tail"
        raise WrongUsage(f"{option} is for --container; a file is read as a whole")
    if asked.since:
        _ago(asked.since)
    if not asked.container and not (asked.lint and len(words) == 1):
        if len(words) < 2:
            raise WrongUsage(
                "a log and a filter are needed: dockerjail regex LOG FILTER, "
                "or dockerjail regex --container NAME FILTER"
            )
        log = words.pop(0)
    if not 1 <= len(words) <= 2:
        raise WrongUsage("too many arguments; write LOG FILTER [IGNOREREGEX], each in quotes")
    return log, words[0], words[1] if len(words) > 1 else ""


def _choose(word: str, settings: Settings, known: Iterable[JailPolicy] = ()) -> _Chosen:
    """Find the jail or filter that `word` names; what is no name is a failregex."""
    base = settings.defaults.policy()
    for policy in known:
        if policy.name == word:
            _reads(policy)
            return _Chosen(policy=policy, origin=f"jail {word} of the container")
    named = _REFERENCE.match(word) is not None or re.fullmatch(r"[\w.-]+", word) is not None
    if named and word in settings.jails:
        policy = settings.jails[word]
        _reads(policy)
        return _Chosen(policy=policy, origin=f"jail {word}", fail2ban=_borrowed(settings, word))
    if named and word in settings.filters:
        text = settings.filters[word]
        policy = replace(base, name=text.name, rule=text.rule, streams=text.streams)
        return _Chosen(
            policy=policy, origin=f"filter {word}", fail2ban=_borrowed(settings, text.name)
        )
    file = _file(word)
    if file is not None:
        path, options = file
        ours = path.suffix == ".toml"
        rule = _toml(path) if ours else _conf(path, options)
        policy = replace(base, name=path.stem, rule=rule)
        return _Chosen(policy=policy, origin=f"filter file {path}", fail2ban=not ours)
    if named and "<" not in word and "(" not in word:
        what = f"there is no jail or filter {word!r}"
        raise Mistake(what, meant(word.partition("[")[0], {*settings.jails, *settings.filters}))
    rule = replace(NOTHING, failregex=values.regexes(word))
    return _Chosen(policy=replace(base, name="regex", rule=rule), origin="")


def _reads(policy: JailPolicy) -> None:
    """Raise if a jail looks at no line."""
    if policy.recidive:
        what = f"jail {policy.name} counts the bans of other jails, and looks at no line"
        raise Mistake(what, "write one of those, a filter or a regex")


def _borrowed(settings: Settings, name: str) -> bool:
    """Say whether a name is one of fail2ban's."""
    path = settings.fail2ban.path
    return settings.fail2ban.enabled and (path / "filter.d" / f"{name}.conf").is_file()


def _file(word: str) -> tuple[Path, str] | None:
    """Return the filter file that `word` is the path of, and its options in brackets."""
    path, bracket, options = word.partition("[")
    if not path.endswith((".toml", ".conf", ".local")) or "\n" in word:
        return None
    if Path(path).is_file():
        return Path(path), bracket + options
    if "/" in path and "<" not in word:
        raise ConfigError(f"{path}: there is no such filter file; write its path, or a regex")
    return None


def _toml(path: Path) -> Rule:
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except Mistake as mistake:
        raise ConfigError(f"{path}: {mistake}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _conf(path: Path, options: str) -> Rule:
    """Read a fail2ban filter wherever it lies; what it includes is looked for beside it."""
    found = reference.one(path.stem + options)
    files = Files(path.parent.absolute())
    merged = files.configuration(path.stem).merged
    definition = fail2ban_filters.definition(merged, found, jail={}, place=str(path))
    return fail2ban_filters.read(path.stem, definition, jail={}, places={}).rule


def _tuned(chosen: _Chosen, asked: Asked, ignoreregex: str) -> _Chosen:
    """Apply the options of the command line."""
    changes = dict(asked.rule)
    if ignoreregex:
        file = _file(ignoreregex)
        if file is None:
            changes["ignoreregex"] = values.regexes(ignoreregex)
        elif file[0].suffix == ".toml":
            changes["ignoreregex"] = _toml(file[0]).ignoreregex
        else:
            changes["ignoreregex"] = _conf(*file).ignoreregex
    policy = replace(chosen.policy, rule=replace(chosen.policy.rule, **changes), **asked.numbers)
    return replace(chosen, policy=policy)


def _trial(
    asked: Asked, settings: Settings, chosen: _Chosen, gateways: Iterable[Subject] = ()
) -> Trial:
    reasons = dict.fromkeys(settings.defaults.ignoreip, "in ignoreip")
    reasons |= dict.fromkeys(gateways, "the gateway of the container's network")
    wanted = Wanted(
        matched=asked.all_matched or asked.verbose,
        missed=asked.all_missed and not asked.out,
        ignored=asked.all_ignored,
    )
    told = _Teller(asked.out).tell if asked.out else (lambda _: None)
    try:
        return Trial(chosen.policy, ignore=Ignore(reasons), wanted=wanted, told=told)
    except FilterError as error:
        if chosen.origin:
            raise FilterError(f"{chosen.origin}: {error}") from None
        raise


# The log


def _open(log: str) -> tuple[str, Iterator[bytes], int]:
    """Return what the log is called, its bytes and their number if it is a file."""
    if log == "-":
        return "standard input", iter(lambda: sys.stdin.buffer.read(PIECE), b""), 0
    path = Path(log)
    try:
        is_file = path.is_file() or path.is_fifo()
    except (OSError, ValueError):
        is_file = False
    if is_file:
        return log, _bytes(path), max(path.stat().st_size, 1)
    if _FILE.fullmatch(log):
        what = "is a directory" if path.is_dir() else "there is no such log"
        raise ConfigError(f"{log}: {what}; write a file, -, or a line in quotes")
    return "this line", iter([log.encode("utf-8", "surrogateescape")]), 0


def _bytes(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


async def _try_container(asked: Asked, settings: Settings, word: str, ignoreregex: str) -> int:
    async with DockerEngine(settings.docker.host) as engine:
        version = await engine.version()
        container = await engine.inspect(asked.container)
        if container is None:
            raise ContainerGone(
                f"there is no container {asked.container!r}; docker ps -a lists them all"
            )
        able, problem = readable(container)
        if not able and problem is not None:
            raise LogsUnreadable(str(problem))
        known, _ = policies(container, settings)
        chosen = _tuned(_choose(word, settings, known), asked, ignoreregex)
        trial = _trial(asked, settings, chosen, map(ip_network, container.gateways))
        began = time.monotonic()
        _introduce(asked, chosen, [("container", container.name)])
        since = None
        if asked.since:
            since = int((time.time() - _ago(asked.since)) * NANO)
        habits = dialect(version)
        reader = frames_of(container, habits)
        lines = Lines(container, {}, dialect=habits)
        body = engine.logs(container, follow=False, since=since, tail=asked.tail)
        with ticking(trial.watch):
            async with body as pieces:
                async for data in pieces:
                    _feed(trial, lines.feed(reader.feed(data)))
            _feed(trial, lines.feed(reader.finish()))
            _feed(trial, lines.finish())
    return _conclude(asked, chosen, trial, time.monotonic() - began)


def _ago(text: str) -> float:
    try:
        return duration.parse(text)
    except Mistake as mistake:
        raise WrongUsage(f"--since: {mistake}") from None


def _feed(trial: Trial, found: Iterable[Chunk]) -> None:
    for chunk in found:
        trial.feed(chunk)


@contextmanager
def _progress(size: int) -> Iterator[Any]:
    """Show how far a large file is read, where somebody sees it."""
    if size < LARGE or not show.err.is_terminal:
        yield lambda pieces: pieces
        return
    columns = (TextColumn("reading"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=show.err, transient=True) as bar:
        task = bar.add_task("reading", total=size)

        def advance(pieces: Iterator[bytes]) -> Iterator[bytes]:
            for piece in pieces:
                yield piece
                bar.advance(task, len(piece))

        yield advance


# What is said


class _Teller:
    """Prints one thing of each match, for scripts (`--out`)."""

    def __init__(self, out: str) -> None:
        self._out = out

    def tell(self, match: Match) -> None:
        """Print a line, even an empty one, so that there is one per match."""
        print("\t".join(map(plain, self._say(match).split("\t"))))

    def _say(self, match: Match) -> str:
        if "<" in self._out:
            return re.sub(r"<(?:F-)?([\w-]+)>", lambda tag: self._one(tag[1], match), self._out)
        return self._one(self._out, match)

    def _one(self, name: str, match: Match) -> str:
        key = name.lower().replace("-", "_")
        match key:
            case "id" | "ip" | "host":
                return who(match)
            case "msg":
                return match.text
            case "row":
                return f"[{who(match)!r},\t{match.at!r},\t{dict(match.hit.fields)!r}],"
            case "time":
                return "" if match.at is None else repr(match.at)
            case _:
                return match.hit.fields.get(key, "")


def who(match: Match) -> str:
    """Write whose failure a match is."""
    return str(match.hit.address) if match.hit.address is not None else match.hit.name


def _introduce(asked: Asked, chosen: _Chosen, log: Sequence[tuple[str, str]]) -> None:
    if asked.out or asked.json:
        return
    rule = chosen.policy.rule
    rows: list[tuple[str, str]] = []
    if chosen.origin:
        rows.append(("filter", chosen.origin))
    else:
        rows += [("failregex line", source) for source in rule.failregex]
    if rule.ignoreregex and not chosen.origin:
        rows += [("ignoreregex line", source) for source in rule.ignoreregex]
    if rule.maxlines > 1:
        rows.append(("maxlines", str(rule.maxlines)))
    rows += [("datepattern", source) for source in rule.datepattern]
    _say("\nRunning tests\n=============\n")
    for name, value in (*rows, *log):
        _say(f"Use {name:>16} : {value}")


def _conclude(asked: Asked, chosen: _Chosen, trial: Trial, took: float) -> int:
    found = lint(chosen.policy.rule, fail2ban=chosen.fail2ban) if asked.lint else ()
    if asked.json:
        show.as_json(_report(asked, chosen, trial, took, found))
    elif not asked.out:
        _results(asked, chosen, trial, took)
        _forecast(asked, trial)
        if asked.lint:
            _findings(found)
    return 4 if found else 0


def _linted(asked: Asked, chosen: _Chosen) -> int:
    """Lint without a log."""
    Trial(chosen.policy, ignore=Ignore(), wanted=Wanted())
    found = lint(chosen.policy.rule, fail2ban=chosen.fail2ban)
    if asked.json:
        show.as_json({"lint": [asdict(each) for each in found]})
    else:
        _findings(found)
    return 4 if found else 0


def _results(asked: Asked, chosen: _Chosen, trial: Trial, took: float) -> None:
    rule = chosen.policy.rule
    _say("\n\nResults\n=======\n")
    _say(f"Failregex: {trial.matched} total")
    _say("|-  #) [# of hits] regular expression")
    few = len(rule.failregex) <= 5 or asked.verbose
    for number, source in enumerate(rule.failregex):
        if trial.hits[number] or few:
            _say(f"| {number + 1:3}) [{trial.hits[number]}] {source}")
            if asked.verbose:
                for match in trial.matched_lines:
                    if match.hit.regex == number:
                        at = "" if match.at is None else f"  {clock(match.at)}"
                        _say(f"|      {who(match)}{at}")
    if not few and not any(trial.hits.values()):
        _say(f"|   none of {len(rule.failregex)}: -v lists them")
    if trial.hits[-1]:
        _say(f"|   -) [{trial.hits[-1]}] {_where(rule)}")
    _say("`-")
    _say(f"\nIgnoreregex: {trial.ignored} total")
    unread = f", {trial.unread} of a stream that the jail does not read" if trial.unread else ""
    _say(
        f"\nLines: {trial.lines} lines, {trial.ignored} ignored, "
        f"{trial.matched} matched, {trial.missed} missed{unread}"
    )
    if trial.slow.overdue:
        _say(
            f"Too slow: {trial.slow.overdue} of the missed lines took longer than "
            f"{LIMIT * 1000:.0f} ms, as the daemon gives them up; the last of them in "
            f"{trial.slow.regex}"
        )
    _say(f"[processed in {took:.2f} sec]\n")
    if asked.all_matched:
        _list("Matched", [match.text for match in trial.matched_lines])
    if not asked.no_ignored:
        _list("Ignored", trial.ignored_lines, trial.ignored, everything=asked.all_ignored)
    if not asked.no_missed:
        missed = [text + (f"   ({why})" if why else "") for text, why in trial.missed_lines]
        _list("Missed", missed, trial.missed, everything=asked.all_missed)


def _list(kind: str, texts: Sequence[str], count: int = 0, *, everything: bool = True) -> None:
    count = max(count, len(texts))
    if not count:
        return
    if count > KEPT and not everything:
        _say(
            f"{kind} line(s): too many to print.  "
            f"Use --print-all-{kind.lower()} to print all {count} lines"
        )
        return
    _say(f"|- {kind} line(s):")
    for text in texts:
        _say(f"|  {text}")
    _say("`-")


def _where(rule: Rule) -> str:
    """Write the conditions of a rule that has no failregex."""
    ways = [
        " and ".join(f"{name} = {' | '.join(allowed)}" for name, allowed in condition)
        for condition in rule.where
    ]
    return "; or ".join(ways) or "every structured line"


def _forecast(asked: Asked, trial: Trial) -> None:
    forecast, policy = trial.forecast, trial.policy
    if not trial.matched:
        return
    bantime = duration.format(policy.bantime)
    show.heading("Forecast")
    _say(
        f"with maxretry = {policy.maxretry}, findtime = {duration.format(policy.findtime)}, "
        f"bantime = {bantime}"
    )
    if forecast.untimed and not forecast.suspects and not forecast.spared:
        _say("no time in these lines: no forecast")
        return
    rows = [*forecast.banned, *forecast.others]
    shown = rows if asked.verbose else rows[:ROWS]
    if rows:
        show.table(
            ["ADDRESS", "#FAILURES", "BANNED", "UNTIL", "#BANS"],
            [_row(suspect) for suspect in shown],
        )
    if len(rows) > len(shown):
        _say(f"… and {len(rows) - len(shown)} more: -v")
    for address, (why, count) in forecast.spared.items():
        _say(f"never banned: {address}, {why} ({show.many(count, 'failure')})")
    if forecast.untimed:
        _say(f"no time in {show.many(forecast.untimed, 'matched line')}: not counted here")
    if forecast.names:
        _say(f"only a name in {show.many(forecast.names, 'line')}: the daemon would look it up")


def _row(suspect: Suspect) -> Sequence[str]:
    if not suspect.bans:
        return written(suspect.subject), str(suspect.failures), "no", "", "0"
    return (
        written(suspect.subject),
        str(suspect.failures),
        clock(suspect.bans[0][0]),
        clock(suspect.bans[-1][1]),
        str(len(suspect.bans)),
    )


def _findings(found: Sequence[Finding]) -> None:
    show.heading("Lint")
    if not found:
        _say("nothing was found")
    for each in found:
        show.out.print(Text.assemble(("!!  ", "bold red"), plain(str(each))))
        if each.line:
            _say(f"    line:  {each.line}")
        if each.safer:
            _say(f"    safer: {each.safer}")


def _report(
    asked: Asked, chosen: _Chosen, trial: Trial, took: float, found: Sequence[Finding]
) -> Json:
    policy, forecast = trial.policy, trial.forecast
    report: Json = {
        "filter": chosen.origin or None,
        "lines": trial.lines,
        "matched": trial.matched,
        "ignored": trial.ignored,
        "missed": trial.missed,
        "unread": trial.unread,
        "too_slow": trial.slow.overdue,
        "seconds": round(took, 3),
        "failregex": [
            {"regex": source, "hits": trial.hits[number]}
            for number, source in enumerate(policy.rule.failregex)
        ],
        "forecast": {
            "maxretry": policy.maxretry,
            "findtime": policy.findtime,
            "bantime": policy.bantime,
            "addresses": [
                {
                    "address": written(suspect.subject),
                    "failures": suspect.failures,
                    "bans": [{"at": at, "until": until} for at, until in suspect.bans],
                }
                for suspect in (*forecast.banned, *forecast.others)
            ],
            "never_banned": [
                {"address": str(address), "why": why, "failures": count}
                for address, (why, count) in forecast.spared.items()
            ],
            "without_time": forecast.untimed,
            "names": forecast.names,
        },
        "lint": [asdict(each) for each in found],
    }
    if asked.all_matched or asked.verbose:
        report["matched_lines"] = [
            {
                "address": who(match),
                "at": match.at,
                "regex": match.hit.regex + 1,
                "fields": dict(match.hit.fields),
                "line": match.text,
            }
            for match in trial.matched_lines
        ]
    if not asked.no_missed:
        report["missed_lines"] = [{"line": text, "why": why} for text, why in trial.missed_lines]
    if not asked.no_ignored:
        report["ignored_lines"] = trial.ignored_lines
    return report


def _say(text: str) -> None:
    """Print a text that an attacker may have chosen, line by line."""
    for line in text.split("\n"):
        show.out.print(Text(plain(line)))
