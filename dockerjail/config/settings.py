"""
The daemon's file and environment in, its settings out; the only I/O of this room.

Environment over file over defaults. What is wrong for all is one `ConfigError` with
every mistake on a line of its own; a wrong jail or filter is left out and is a
`Problem`. Neither file nor environment is ever written.
"""

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dockerjail.config import (
    assigned,
    dotted,
    duration,
    environment,
    jails,
    options,
    places,
    recidive,
    values,
)
from dockerjail.config.borrowed import Borrowed
from dockerjail.config.filters import FilterText, Shipped
from dockerjail.config.labels import LabelPolicy
from dockerjail.config.mistake import Mistake, listed, meant, shown
from dockerjail.errors import ConfigError
from dockerjail.jail.formula import Formula
from dockerjail.jail.growth import Growth
from dockerjail.jail.policy import Aggregate, JailPolicy, Origin, Verify
from dockerjail.model import Blocktype, Mode, Problem, Subject

DEFAULT_PATH = Path("/etc/dockerjail/dockerjail.toml")
DEFAULT_HOST = "unix:///var/run/docker.sock"
LEVELS = ("debug", "info", "warning", "error")
LONGEST_SOCKET = 107
"""Bytes that the kernel takes in the name of a Unix socket (`man 7 unix`)."""


def _zero_or_more(value: object) -> float:
    return duration.parse(value, zero=True)


def _lookback(value: object) -> float | None:
    """Read seconds; None for the word `findtime`."""
    if isinstance(value, str) and value.strip().lower() == "findtime":
        return None
    return _zero_or_more(value)


def _limit(value: object) -> int:
    return values.count(value, least=0, most=1_000_000)


def _level(value: object) -> str:
    return values.choice(value, LEVELS).upper()


def _label_policy(value: object) -> LabelPolicy:
    return LabelPolicy(values.choice(value, tuple(LabelPolicy)))


def _host(value: object) -> str:
    """Check the address of an Engine; empty is fine, and means the default."""
    if value == "":
        return ""
    word = values.text(value)
    remedy = f"write {DEFAULT_HOST} or tcp://HOST:2375"
    if "@" in word and "://" in word and not word.startswith("unix:"):
        # not repeated here either
        what = "the address holds a name or a password, which logs and `status` would show"
        raise Mistake(what, remedy)
    try:
        url = urlsplit(word)
        port = url.port
    except ValueError:
        raise Mistake(f"{shown(word)} is no address of an Engine", remedy) from None
    if word.startswith("/"):
        raise Mistake(f"{shown(word)} has no scheme", f"write unix://{word}")
    if url.scheme == "unix" and not url.netloc and len(url.path) > 1:
        return word
    if url.scheme in ("tcp", "http", "https") and url.hostname and port:
        return word
    if url.scheme in ("tcp", "http", "https") and url.hostname:
        raise Mistake(f"{shown(word)} has no port", f"write {url.scheme}://{url.netloc}:2375")
    raise Mistake(f"{shown(word)} is no address of an Engine", remedy)


def _prefix(value: object) -> str:
    word = values.text(value)
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?", word):
        remedy = "write letters, digits, dots and dashes, such as dockerjail or org.example.jail"
        raise Mistake(f"{shown(word)} is no prefix of a label", remedy)
    return word


def _path(value: object) -> Path:
    word = values.text(value)
    if not PurePosixPath(word).is_absolute() or "\0" in word:
        raise Mistake(f"{shown(word)} is no absolute path", "write the whole path, from / on")
    return Path(word)


def _socket(value: object) -> Path:
    path = _path(value)
    if len(bytes(path)) > LONGEST_SOCKET:
        what = f"{shown(str(path))} is longer than {LONGEST_SOCKET} bytes, the kernel's limit"
        raise Mistake(what, "write a shorter path")
    return path


def _table(value: object) -> str:
    word = values.text(value)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", word):
        remedy = "write a letter, then up to 30 letters, digits and underscores"
        raise Mistake(f"{shown(word)} is no name of a table", remedy)
    return word


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Mistake(f"{shown(value)} is no section")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DockerSettings(_Section):
    """`[docker]`: which Engine, and what its labels may say; `lookback` in seconds, None for a jail's findtime."""

    host: Annotated[str, PlainValidator(_host)] = ""
    label_prefix: Annotated[str, PlainValidator(_prefix)] = "dockerjail"
    labels: Annotated[LabelPolicy, PlainValidator(_label_policy)] = LabelPolicy.DEFINE
    lookback: Annotated[float | None, PlainValidator(_lookback)] = None


class StoreSettings(_Section):
    """`[store]`: where the state is, how many seconds history is kept, and how many bytes of it."""

    path: Annotated[Path, PlainValidator(_path)] = Path("/var/lib/dockerjail/dockerjail.sqlite3")
    keep: Annotated[float, PlainValidator(duration.parse)] = 90 * duration.DAY
    max_size: Annotated[int, PlainValidator(values.size)] = values.GIBIBYTE


class ControlSettings(_Section):
    """`[control]`: the socket that the command line talks to."""

    socket: Annotated[Path, PlainValidator(_socket)] = Path("/run/dockerjail/control.sock")


class FirewallSettings(_Section):
    """
    `[firewall]`: the name of our table in the kernel, and whether it holds bans at all.

    With `owner`, nobody else may change the table, where the kernel has such (Linux 6.9).
    """

    table: Annotated[str, PlainValidator(_table)] = "dockerjail"
    mode: Annotated[Mode, PlainValidator(values.mode)] = Mode.ENFORCE
    owner: Annotated[bool, PlainValidator(values.boolean)] = False


class BudgetSettings(_Section):
    """`[budget]`: how many bans the log of one container may lead to; 0 is no limit."""

    bans_per_minute: Annotated[int, PlainValidator(_limit)] = 200
    active: Annotated[int, PlainValidator(_limit)] = 5000


class Search(StrEnum):
    """What searches the logs: the fastest engine there is, or the one of plain Python."""

    AUTO = "auto"
    PYTHON = "python"


def _search(value: object) -> Search:
    return Search(values.choice(value, tuple(Search)))


class MatchingSettings(_Section):
    """`[matching]`: what searches the logs, and each how many chunks of one are judged twice; 0 is none."""

    engine: Annotated[Search, PlainValidator(_search)] = Search.AUTO
    audit: Annotated[int, PlainValidator(_limit)] = 1000


class LogSettings(_Section):
    """`[log]`: from which level on, by the name that `logging` has for it."""

    level: Annotated[str, PlainValidator(_level)] = "INFO"


class Fail2banSettings(_Section):
    """`[fail2ban]`: whether a fail2ban directory is read, and which."""

    enabled: Annotated[bool, PlainValidator(values.boolean)] = True
    path: Annotated[Path, PlainValidator(_path)] = Path("/etc/fail2ban")


class Defaults(_Section):
    """
    `[defaults]`: what a jail does of which nothing else is said; seconds.

    The names in the file are those of a jail's options, in `ignoreip` also names of hosts
    and files.
    """

    maxretry: Annotated[int, PlainValidator(values.count)] = 5
    findtime: Annotated[float, PlainValidator(duration.parse)] = 600.0
    bantime: Annotated[float | None, PlainValidator(duration.parse_bantime)] = 600.0
    increment: Annotated[bool, PlainValidator(values.boolean)] = Field(
        default=False, alias="bantime.increment"
    )
    factor: Annotated[float, PlainValidator(values.factor)] = Field(
        default=1.0, alias="bantime.factor"
    )
    formula: Annotated[Formula | None, PlainValidator(values.formula)] = Field(
        default=None, alias="bantime.formula"
    )
    multipliers: Annotated[tuple[float, ...], PlainValidator(values.multipliers)] = Field(
        default=(), alias="bantime.multipliers"
    )
    maxtime: Annotated[float | None, PlainValidator(duration.parse_bantime)] = Field(
        default=None, alias="bantime.maxtime"
    )
    rndtime: Annotated[float, PlainValidator(_zero_or_more)] = Field(
        default=0.0, alias="bantime.rndtime"
    )
    overalljails: Annotated[bool, PlainValidator(values.boolean)] = Field(
        default=False, alias="bantime.overalljails"
    )
    decay: Annotated[float | None, PlainValidator(duration.parse_bantime)] = Field(
        default=None, alias="bantime.decay"
    )
    blocktype: Annotated[Blocktype, PlainValidator(values.blocktype)] = Blocktype.DROP
    ipv4_prefix: Annotated[int, PlainValidator(values.ipv4_prefix)] = 32
    ipv6_prefix: Annotated[int, PlainValidator(values.ipv6_prefix)] = 64
    aggregate: Annotated[Aggregate | None, PlainValidator(values.aggregate)] = None
    mode: Annotated[Mode, PlainValidator(values.mode)] = Mode.ENFORCE
    verify: Annotated[Verify, PlainValidator(values.verify)] = Verify.NOTHING
    ignored: Annotated[values.Ignored, PlainValidator(values.ignored)] = Field(
        default=values.NOBODY, alias="ignoreip"
    )

    @property
    def ignoreip(self) -> tuple[Subject, ...]:
        """Whom no jail bans."""
        return self.ignored.addresses

    @property
    def ignorefrom(self) -> tuple[str, ...]:
        """Names of hosts and `file:/path`, for those that no jail bans either."""
        return self.ignored.sources

    @property
    def dormant(self) -> Growth:
        """How bans grow in a jail that has them grow and does not say how."""
        return options.growth(options.UNSAID, self._said())

    def policy(self) -> JailPolicy:
        """Return these numbers as a jail that looks for nothing yet."""
        unnamed = JailPolicy(
            name="",
            origin=Origin.DAEMON,
            ignoreip=self.ignoreip,
            ignorefrom=self.ignorefrom,
        )
        return options.tune(unnamed, self._said())

    def _said(self) -> options.Options:
        """Return all that a jail's options can say, by the names that these have."""
        return {
            field.alias or key: getattr(self, key)
            for key, field in type(self).model_fields.items()
            if key != "ignored"
        }


SECTIONS: Mapping[str, type[_Section]] = {
    "docker": DockerSettings,
    "store": StoreSettings,
    "control": ControlSettings,
    "firewall": FirewallSettings,
    "budget": BudgetSettings,
    "matching": MatchingSettings,
    "log": LogSettings,
    "fail2ban": Fail2banSettings,
    "defaults": Defaults,
}

OPTIONS: Mapping[str, tuple[str, ...]] = {
    **{
        name: tuple(field.alias or key for key, field in section.model_fields.items())
        for name, section in SECTIONS.items()
    },
    "filters": tuple(jails.FILTER),
    "jails": tuple(options.FILE),
    "containers": tuple(assigned.OPTIONS),
}
"""Every option by section, those of one jail, filter or pattern for the last three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    All that the daemon is told.

    `source` is the file that was read, None when there is none. `jails` are all that
    the daemon knows, shipped ones too; `withheld` says for a jail that is written down
    but left out why. `recidive` is the jail that counts the bans of the whole host, if there is
    to be one. `containers` are those that get jails without a label. `docker.host`
    is never empty.
    """

    source: Path | None
    docker: DockerSettings
    store: StoreSettings
    control: ControlSettings
    firewall: FirewallSettings
    budget: BudgetSettings
    matching: MatchingSettings
    log: LogSettings
    fail2ban: Fail2banSettings
    defaults: Defaults
    jails: jails.Jails
    recidive: JailPolicy | None
    filters: Mapping[str, FilterText]
    withheld: Mapping[str, str]
    containers: tuple[assigned.Assigned, ...]
    problems: tuple[Problem, ...]


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """
    Read the settings from `path` and `environ` (by default the process's own).

    Without `path`, from the file that `DOCKERJAIL_CONFIG` names; without that, from
    `/etc/dockerjail/dockerjail.toml`, which need not exist. Raises `ConfigError` with
    every mistake on a line of its own.
    """
    environ = os.environ if environ is None else environ
    source, text = _read(path, environ)
    mistakes: list[Problem] = []
    try:
        tree, twice = dotted.flattened(_parse(text))
    except Mistake as mistake:
        tree, twice = {}, ()
        mistakes.append(mistake.at(str(source)))
    shipped = Shipped()
    names = {*shipped, *_names(tree, "jails"), *_names(tree, "filters")}
    plain = {name: known for name, known in OPTIONS.items() if name != "containers"}
    given = environment.read(environ, sections=plain, names=names)
    place = _Places(source, text, given.variables).of
    mistakes += given.problems
    mistakes += (_twice(path).at(place(path)) for path in twice)
    layers = {"environment": given.tree, "file": tree}

    sections = _validated(_Sections, layers, place, mistakes) or _Sections(**_NOTHING)
    named = _validated(_Named, layers, place, mistakes) or _Named(**_NOTHING)
    docker = _docker(sections.docker, environ, mistakes)
    borrowed = _borrowed(sections.fail2ban, place, mistakes)
    defaults = sections.defaults
    if borrowed is not None:
        # whoever lets an address pass in jail.local means it, whichever filter accuses it
        ignored = defaults.ignored | borrowed.ignored
        defaults = defaults.model_copy(update={"ignored": ignored})
    known = jails.read(
        named.filters,
        named.jails,
        borrowed=borrowed,
        shipped=shipped,
        base=defaults.policy(),
        dormant=defaults.dormant,
        place=place,
    )
    containers, unassigned = assigned.read(
        named.containers, jails=known.jails, withheld=known.withheld, place=place
    )
    counting, unsound = known.jails.counting()
    problems = (
        *(borrowed.problems if borrowed else ()),
        *known.problems,
        *unassigned,
        *unsound,
        *_forgotten(sections.store, defaults, known.jails, counting, place),
    )
    if mistakes:
        raise ConfigError("\n".join(map(str, (*mistakes, *problems))))
    return Settings(
        source=source,
        docker=docker,
        store=sections.store,
        control=sections.control,
        firewall=sections.firewall,
        budget=sections.budget,
        matching=sections.matching,
        log=sections.log,
        fail2ban=sections.fail2ban,
        defaults=defaults,
        jails=known.jails,
        recidive=counting,
        filters=known.filters,
        withheld=known.withheld,
        containers=containers,
        problems=(*_silence(docker, containers, place), *problems),
    )


class _Layered(BaseSettings):
    """Settings from two trees, the environment's over the file's."""

    model_config = SettingsConfigDict(frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """
        Take both trees as they were handed in.

        pydantic-settings' own sources read `os.environ` and the file themselves: they
        want JSON for a list, pass over unknown variables and cannot say the line.
        """
        layers = init_settings()
        return tuple(
            InitSettingsSource(settings_cls, init_kwargs=layers[layer])
            for layer in ("environment", "file")
        )


class _Sections(_Layered):
    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    docker: DockerSettings = DockerSettings()
    store: StoreSettings = StoreSettings()
    control: ControlSettings = ControlSettings()
    firewall: FirewallSettings = FirewallSettings()
    budget: BudgetSettings = BudgetSettings()
    matching: MatchingSettings = MatchingSettings()
    log: LogSettings = LogSettings()
    fail2ban: Fail2banSettings = Fail2banSettings()
    defaults: Defaults = Defaults()
    filters: Any = None
    jails: Any = None
    containers: Any = None


class _Named(_Layered):
    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    filters: Annotated[Mapping[str, Any], PlainValidator(_mapping)] = {}
    jails: Annotated[Mapping[str, Any], PlainValidator(_mapping)] = {}
    containers: Annotated[Mapping[str, Any], PlainValidator(_mapping)] = {}


class _Places:
    """Where each setting was made, for people."""

    def __init__(
        self, source: Path | None, text: str, variables: Mapping[places.Path, str]
    ) -> None:
        self._source = source
        self._text = text
        self._variables = variables
        self._lines: Mapping[places.Path, int] | None = None

    def of(self, path: places.Path) -> str:
        """Return the variable or the file, line and header of the setting at `path`."""
        if path in self._variables:
            return f"environment variable {self._variables[path]}"
        below = sorted(
            name for known, name in self._variables.items() if known[: len(path)] == path
        )
        if self._lines is None:
            self._lines = places.lines(self._text)
        for depth in range(len(path), 0, -1):
            line = self._line(path[:depth])
            if line is not None:
                return f"{self._source} line {line}, {places.header(path)}"
            if below:
                return f"environment variable {below[0]}"
        return f"{self._source}, {places.header(path)}" if self._source else places.header(path)

    def _line(self, path: places.Path) -> int | None:
        """Return the line of a key, also one that is written as TOML's own dotted key."""
        lines = self._lines or {}
        return lines.get(path) or lines.get((*path[:-1], *path[-1].split(".")))


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """Return which file is to be read, and what it holds."""
    named = path or environ.get(environment.FILE, "").strip()
    source = Path(named or DEFAULT_PATH)
    try:
        return source, source.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if not named:
            return None, ""
        remedy = f"write it, or leave out --config and {environment.FILE}"
        raise Mistake(f"{source}: there is no such file", remedy) from None
    except OSError as error:
        remedy = "make it a file that this user may read"
        raise Mistake(f"{source}: cannot be read ({error.strerror})", remedy) from None
    except UnicodeDecodeError as error:
        what = f"{source}: is not UTF-8 (byte {error.start + 1})"
        raise Mistake(what, "save it as UTF-8") from None


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(str(error), text) from None


def _broken(message: str, text: str) -> Mistake:
    """Say where a file is no TOML, and how a regex is written if that is what broke it."""
    found = re.search(r"\s*\(at line (\d+), column (\d+)\)", message)
    if found is None:
        what = message.replace("(at end of document)", "at the end of the file").strip()
        return Mistake(f"is not TOML: {what}", "close the quote or bracket that is open")
    line, column = int(found[1]), int(found[2])
    what = message[: found.start()]
    written = text.split("\n")[line - 1 : line]
    if what.startswith("Cannot ") and dotted.beside("".join(written)):
        remedy = (
            'write "bantime.increment" with its quotes beside bantime: '
            "without them TOML takes bantime for a table"
        )
    elif "\\" in what or ("\\" in "".join(written) and '"' in "".join(written)):
        remedy = "write an expression in single quotes: '…'"
    else:
        remedy = "a text stands in quotes, a table's name in brackets"
    return Mistake(f"is not TOML at line {line} column {column}: {what}", remedy)


def _names(tree: Mapping[str, Any], section: str) -> tuple[str, ...]:
    table = tree.get(section)
    return tuple(table) if isinstance(table, dict) else ()


_NOTHING: Mapping[str, Any] = {"environment": {}, "file": {}}
_Model = TypeVar("_Model", bound="_Layered")


def _validated(
    model: type[_Model],
    layers: Mapping[str, Any],
    place: Callable[[places.Path], str],
    mistakes: list[Problem],
) -> _Model | None:
    """Return a model of both layers, or None after adding each mistake in them."""
    try:
        return model(**layers)
    except ValidationError as error:
        mistakes += (_problem(detail, place) for detail in error.errors())
        return None


def _problem(detail: ErrorDetails, place: Callable[[places.Path], str]) -> Problem:
    """Translate what pydantic found into our words."""
    path = tuple(str(part) for part in detail["loc"])
    cause = detail.get("ctx", {}).get("error")
    if detail["type"] == "extra_forbidden":
        return _unknown(path).at(place(path))
    if isinstance(cause, Mistake) and len(path) > 1:
        return cause.at(place(path))
    remedy = f"write [{path[0]}] on a line of its own, its options below"
    return Mistake(f"{shown(detail['input'])} is no section", remedy).at(place(path))


def _unknown(path: places.Path) -> Mistake:
    *above, key = path
    if above:
        return Mistake("is no setting known here", meant(key, OPTIONS[above[0]]))
    homes = [section for section, known in OPTIONS.items() if key in known]
    if homes:
        sections = " or ".join(
            f"[{home}.NAME]" if home in environment.NAMED else f"[{home}]" for home in homes
        )
        return Mistake("stands in no section", f"write it under {sections}")
    remedy = meant(key, OPTIONS)
    return Mistake("is no section known here", remedy or f"known: {listed(OPTIONS)}")


def _twice(path: places.Path) -> Mistake:
    remedy = f'leave one out: "{path[-1]}" = …, and the same in the table {dotted.TABLE}'
    return Mistake("stands twice", remedy)


def _forgotten(
    store: StoreSettings,
    defaults: Defaults,
    known: jails.Jails,
    counting: JailPolicy | None,
    place: Callable[[places.Path], str],
) -> Iterator[Problem]:
    """Tell who wants to know of bans that are forgotten by then; shipped jails when they run."""
    told = recidive.forgotten(defaults.policy(), store.keep)
    if told is not None:
        yield told.mistake().at(place(("defaults", told.option)))
    own = {name: known[name] for name in sorted(known.own)}
    if counting is not None:
        own.setdefault(counting.name, counting)
    for name, policy in own.items():
        found = recidive.forgotten(policy, store.keep)
        if found is not None and found != told:
            yield found.mistake().at(place(("jails", name, found.option)))


def _docker(
    docker: DockerSettings, environ: Mapping[str, str], mistakes: list[Problem]
) -> DockerSettings:
    """Fill in which Engine is meant where neither file nor environment says."""
    if docker.host:
        return docker
    try:
        host = _host(environ.get("DOCKER_HOST", "").strip()) or DEFAULT_HOST
    except Mistake as mistake:
        mistakes.append(mistake.at("environment variable DOCKER_HOST"))
        return docker
    return docker.model_copy(update={"host": host})


def _borrowed(
    settings: Fail2banSettings, place: Callable[[places.Path], str], mistakes: list[Problem]
) -> Borrowed | None:
    """Open fail2ban's directory; one that was named must be there."""
    if not settings.enabled:
        return None
    found = Borrowed.open(settings.path)
    if found is None and settings.path != Fail2banSettings().path:
        what = f"{shown(str(settings.path))} is no directory with fail2ban's files"
        remedy = "mount it (-v /etc/fail2ban:/etc/fail2ban:ro), or leave path out"
        mistakes.append(Mistake(what, remedy).at(place(("fail2ban", "path"))))
    return found


def _silence(
    docker: DockerSettings,
    containers: Collection[assigned.Assigned],
    place: Callable[[places.Path], str],
) -> Iterator[Problem]:
    """Say that nothing at all is followed, when that is what was asked for."""
    if docker.labels is LabelPolicy.OFF and not any(each.jails for each in containers):
        what = "labels are not read, so no container is followed"
        remedy = (
            "write labels = 'select', 'tune' or 'define', or [containers.\"NAME\"] jails = [...]"
        )
        yield Mistake(what, remedy).at(place(("docker", "labels")))
