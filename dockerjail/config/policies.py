"""
A container and the daemon's settings in, the jails of that container out. Pure.

Called at each change of a container, so it is quick: whether expressions compile is
remembered. One wrong label takes its jail with it and no other.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from dockerjail.config import duration, labels, options, recidive
from dockerjail.config.flaw import flaw
from dockerjail.config.jails import with_filter
from dockerjail.config.mistake import Mistake, listed, meant, shown
from dockerjail.config.recidive import RECIDIVE
from dockerjail.config.settings import Settings
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind, Verify
from dockerjail.jail.rule import Format
from dockerjail.model import Container, Mode, Problem

WIDEST_IPV4 = 24
WIDEST_IPV6 = 48
"""The shortest prefixes that a label may ask for: what one customer may have, not a provider."""

MOST_EXPRESSIONS = 200
"""Of the jails that one container's labels define; thousands would hold up everybody's lines."""


def policies(
    container: Container, settings: Settings
) -> tuple[tuple[JailPolicy, ...], tuple[Problem, ...]]:
    """
    Return the jails of `container`, and what is wrong with them.

    They are those that its labels ask for, and those that the daemon's file gives it
    (`[containers]`). None means that the container is not followed. The place of a
    problem is `container NAME, label KEY`.
    """
    prefix = settings.docker.label_prefix
    asked = labels.read(container.labels, prefix=prefix, policy=settings.docker.labels)
    given = [each for each in settings.containers if each.covers(container)]
    assigned = dict.fromkeys(name for each in given for name in each.jails)
    chooser = _Chooser(settings, asked, frozenset(assigned))
    # a label that names jails in a wrong way has been told so
    if asked.enabled and not (asked.jails or asked.broken or asked.problems or assigned):
        chooser.report("enable", _nothing(prefix, settings))
    wanted = dict.fromkeys((*asked.jails, *assigned))
    chosen = tuple(policy for name in wanted for policy in chooser.choose(name))
    written = asked.format or next((each.format for each in given if each.format), None)
    if written is not None:
        chosen = tuple(_written(policy, written) for policy in chosen)
    problems = (
        replace(problem, place=f"container {container.name}, {problem.place}")
        for problem in (*asked.problems, *chooser.problems)
    )
    return chosen, tuple(problems)


def longest_findtime(settings: Settings) -> float:
    """
    Return how many seconds any jail may count back: failures older than that are history.

    A jail that counts bans does not count: these are remembered for as long as history is.
    """
    return max(duration.DAY, settings.jails.longest_findtime)


def _written(policy: JailPolicy, format: Format) -> JailPolicy:
    """Return `policy` for lines of `format`, unless its filter says itself how they are."""
    if policy.recidive or policy.rule.format is not Format.AUTO:
        return policy
    if format is Format.TEXT and policy.rule.structured:
        return policy
    if policy.rule.maxlines > 1:
        return policy  # what is put together of several lines is text
    return replace(policy, rule=replace(policy.rule, format=format, prefix=""))


def _as_shipped(policy: JailPolicy) -> JailPolicy:
    """Return a jail that only came with fail2ban, kept to the ports of the service that asks."""
    return replace(
        policy,
        origin=Origin.SHIPPED,
        scope=ScopeKind.AUTO,
        ports=None if policy.and_published else policy.ports,
        and_published=False,
    )


def _excess(said: options.Options, policy: JailPolicy) -> Iterator[tuple[str, Mistake]]:
    """Yield what a label asks for beyond what it may; what the daemon's own jail has, it may."""
    remedy = f"write %s, or set it for jail {policy.name} in the daemon's file"
    if said.get("findtime", 0.0) > max(duration.DAY, policy.findtime):
        what = f"{duration.format(said['findtime'])} is longer than a label may ask for"
        yield "findtime", Mistake(what, remedy % "1d at most")
    for option, widest in (("ipv4_prefix", WIDEST_IPV4), ("ipv6_prefix", WIDEST_IPV6)):
        own: int = getattr(policy, option)
        if option in said and said[option] < min(widest, own):
            what = f"/{said[option]} is wider than a label may ask for"
            yield option, Mistake(what, remedy % f"{min(widest, own)} at least")


def _nothing(prefix: str, settings: Settings) -> Mistake:
    known = listed(settings.jails)
    remedy = f"add {prefix}.jails=NAME" + (f" (known: {known})" if known else "")
    if settings.docker.labels is labels.LabelPolicy.DEFINE:
        remedy += f", or {prefix}.jail.NAME.failregex=… to define one"
    return Mistake("is true, but no jail is named", remedy)


class _Chooser:
    """Turns what one container asks for into policies."""

    def __init__(self, settings: Settings, asked: labels.Labels, assigned: Collection[str]) -> None:
        self._settings = settings
        self._assigned = assigned
        self._prefix = settings.docker.label_prefix
        self._options = asked.options
        self._expressions = 0
        self.problems: list[Problem] = []

    def report(self, key: str, mistake: Mistake) -> None:
        """Note what is wrong with the label `key`, given without its prefix."""
        self.problems.append(mistake.at(f"label {self._prefix}.{key}"))

    def choose(self, name: str) -> Iterator[JailPolicy]:
        """Yield the jail `name` as this container wants it, or nothing and a problem."""
        said = self._options.get(name, {})
        defining = [option for option in options.DEFINING if option in said]
        # A jail of which nothing is said can only have been listed.
        key = f"jail.{name}.{next(iter([*defining, *said]))}" if said else "jails"
        if name in self._settings.withheld:
            what = f"jail {name} {self._settings.withheld[name]}"
            self.report(key, Mistake(what, "mend it there, or take another"))
            return
        try:
            policy = self._defined(name, said) if defining else self._known(name)
            self._weigh(policy)
        except Mistake as mistake:
            self.report(key, mistake)
            return
        flawed = None if policy.recidive else flaw(policy.rule)
        if flawed is not None:
            option, why = flawed
            self.report(f"jail.{name}.{option}" if option in said else key, Mistake(why))
            return
        excess = [*_excess(said, policy)]
        for beyond, refusal in excess:
            self.report(f"jail.{name}.{beyond}", refusal)
        if excess:
            return
        dormant = self._settings.jails.dormant(name)
        tuned = options.tune(policy, self._granted(said, policy), dormant=dormant)
        tuned = self._scoped(tuned, said, asked=policy.scope)
        by_label = "ports" in said
        tuned = replace(
            tuned,
            ports_by_label=by_label,
            and_published=tuned.and_published and not by_label,
        )
        self._remember(tuned, said, key)
        yield tuned

    def _weigh(self, policy: JailPolicy) -> None:
        """Refuse a jail of the label's own making that makes too many."""
        if policy.origin is Origin.LABEL:
            rule = policy.rule
            expressions = max(1, len(rule.failregex) + len(rule.ignoreregex))
            if self._expressions + expressions > MOST_EXPRESSIONS:
                what = f"with this jail the labels define more than {MOST_EXPRESSIONS} expressions"
                raise Mistake(what, "write fewer, or define it in the daemon's file")
            self._expressions += expressions

    def _granted(self, said: options.Options, policy: JailPolicy) -> options.Options:
        """Return what is `said` without what would undo a caution of the daemon's own."""
        refused = {}
        if policy.mode is Mode.OBSERVE and said.get("mode") is Mode.ENFORCE:
            refused["mode"] = "the daemon only observes here"
        if policy.verify is not Verify.NOTHING and said.get("verify") is Verify.NOTHING:
            refused["verify"] = f"the daemon asks for {policy.verify} here"
        for option, why in refused.items():
            what = f"is passed over: {why}, and a label cannot take that back"
            remedy = f"write {option} for jail {policy.name} in the daemon's file"
            self.report(f"jail.{policy.name}.{option}", Mistake(what, remedy))
        return {option: value for option, value in said.items() if option not in refused}

    def _remember(self, policy: JailPolicy, said: options.Options, key: str) -> None:
        """Say that a jail counts bans which are forgotten by then, if the daemon's file did not."""
        keep = self._settings.store.keep
        found = recidive.forgotten(policy, keep)
        if found is None or found == recidive.forgotten(self._settings.defaults.policy(), keep):
            return
        if found.option in said:
            key = f"jail.{policy.name}.{found.option}"
        elif policy.name in self._settings.jails.own:
            return
        self.report(key, found.mistake())

    def _known(self, name: str) -> JailPolicy:
        jails = self._settings.jails
        if name in jails:
            # Whom the daemon's file gives a shipped jail is trusted with it as with one of its own.
            if name in self._assigned:
                return replace(jails[name], origin=Origin.DAEMON)
            return _as_shipped(jails[name]) if jails.stock(name) else jails[name]
        remedy = meant(name, jails)
        if self._settings.docker.labels is labels.LabelPolicy.DEFINE:
            own = f"{self._prefix}.jail.{name}.failregex=… to define it here"
            remedy = f"{remedy}, or {own}" if remedy else f"write {own}"
        raise Mistake(f"there is no jail {shown(name)}", remedy)

    def _defined(self, name: str, said: options.Options) -> JailPolicy:
        """Return a jail of the label's own making; a known one lends what is not said."""
        settings = self._settings
        if name == RECIDIVE:
            option = next(option for option in options.DEFINING if option in said)
            raise recidive.defined(option)
        policy = settings.jails.get(name) or replace(settings.defaults.policy(), name=name)
        if "filter" in said:
            if said["filter"] not in settings.filters:
                what = f"there is no filter {shown(said['filter'])}"
                raise Mistake(what, meant(said["filter"], settings.filters))
            policy = with_filter(policy, name, settings.filters[said["filter"]])
        policy = options.define(policy, said)
        if not policy.rule.failregex and not policy.rule.address:
            remedy = f"write {self._prefix}.jail.{name}.failregex=… or .filter=…"
            raise Mistake("there is nothing to look for: no failregex", remedy)
        # Whatever it borrows, its lines are of the label's choosing: it is trusted less.
        return replace(
            policy,
            origin=Origin.LABEL,
            scope=ScopeKind.AUTO,
            ports=None if policy.and_published else policy.ports,
            and_published=False,
        )

    def _scoped(self, policy: JailPolicy, said: options.Options, *, asked: ScopeKind) -> JailPolicy:
        """Take back a scope that only the daemon's file may give; it gave `asked`."""
        if policy.scope is ScopeKind.AUTO or asked is ScopeKind.HOST:
            return policy
        what = "is passed over: a label keeps to its own service's ports"
        remedy = f'write scope = "host" for jail {policy.name} in the daemon\'s file, or scope=auto'
        if said.get("scope") is ScopeKind.HOST:
            self.report(f"jail.{policy.name}.scope", Mistake(what, remedy))
        return replace(policy, scope=ScopeKind.AUTO)
