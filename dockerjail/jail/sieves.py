"""
The sieves of a process: filters in, what stands before one log out. Pure: told the time.

Which engine a log gets is found out on the log itself (`Sieves.fit`): those there are search a sample
of it, and the fastest goes on. To make them takes up to seconds: who has a loop to keep
running is told that something is `wanted`, makes them (`prepare`) in a thread and has them
taken over (`settle`) in his own. The native ones (`hyperscan.py`) are loaded when the first
log wants them. Without them, or when they were wrong, the plain one does it all.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Final
from weakref import WeakSet, WeakValueDictionary

from dockerjail.jail.audit import flaw, overlooked, shape, with_overlooked
from dockerjail.jail.engine import Engine, plain
from dockerjail.jail.filter import Filter
from dockerjail.jail.hyperscan import Hyperscan, Unavailable
from dockerjail.jail.patience import Watch
from dockerjail.jail.sieve import Candidate, Plan, Sieve, lines
from dockerjail.model import Problem

CROWDED: Final = 0.5
REST: Final = 16
"""If this share of a large chunk comes through to all filters, so many are read without a sieve."""

SAMPLE: Final = 4096
ENOUGH: Final = 32768
"""Bytes of a log that tell what it looks like, at least and at most."""

BUSY: Final = 1024 * 1024
FIT_EVERY: Final = 256 * 1024 * 1024
"""
Bytes after which a log is worth engines that take long to make, and after how many it is looked at
again: four times as many each time, and these at most.
"""

LIGHT: Final = 20
"""Chains up to which whole ones take no longer to make than an idle log is worth: 50 ms."""

ROUNDS: Final = 3
"""How often engines search the sample; the best time of each counts."""

FEW: Final = 100
"""Literals up to which the plain engine is worth trying beside native ones."""

MISSED: Final = 20
"""Lines held back that are told of one by one."""


class Sieves:
    """
    Makes what stands before a log, for as many as there are.

    `native` is whether to look for a faster engine, `audit` how many chunks of a log go by for
    each that is audited (0: none are), `clock` counts seconds of work (without one no engine is
    compared), `wanted` is called when there is something to `prepare`: without it that is done
    at once.

    `engine` names the one that is used, `why` says why it is not native, if it is not.
    `audited` chunks were judged twice, `overlooked` lines had been held back; `problems` tells of these.
    """

    def __init__(
        self,
        *,
        native: bool = True,
        audit: int = 0,
        clock: Callable[[], float] | None = None,
        wanted: Callable[[], None] | None = None,
    ) -> None:
        self.audit = audit
        self.engine = "python"
        self.why = "" if native else "native engines are turned off"
        self.problems: list[Problem] = []
        self.audited = 0
        self.overlooked = 0
        self._native: Hyperscan | None = None
        self._looking = native
        self._clock = clock
        self._wanted = wanted
        self._faulty = False
        self._unsieved: set[Filter] = set()
        self._plans: WeakValueDictionary[tuple[Filter, ...], Plan] = WeakValueDictionary()
        self._sieves: WeakSet[Sieve] = WeakSet()
        self._waiting: dict[Sieve, tuple[bytes, bool]] = {}
        self._made: list[tuple[Sieve, bytes, list[Engine]]] = []

    def sifter(self, filters: Sequence[Filter], names: Sequence[str]) -> "Sifter":
        """Return what stands before a log; `names` are those of the filters' jails."""
        key = tuple(filters)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan(key)
            for each in self._unsieved:
                plan.show_all(each)
        sieve = Sieve(plan=plan)
        self._sieves.add(sieve)
        return Sifter(self, sieve, names)

    # Which engine

    def fit(self, sieve: Sieve, sample: bytes, *, busy: bool) -> None:
        """Have a sieve suit its log; a `busy` one is worth more."""
        self._waiting[sieve] = sample, busy
        if self._wanted is not None:
            self._wanted()
        else:
            self.prepare()
            self.settle()

    def prepare(self) -> None:
        """Make the engines that are wanted; may take seconds, in any thread."""
        if self._looking:
            self._looking = False
            self._load()
        while self._waiting:
            sieve, (sample, busy) = self._waiting.popitem()
            self._made.append((sieve, sample, self._engines(sieve.plan, sample, busy=busy)))

    def settle(self) -> None:
        """Take over what was made; in the thread in which lines are judged."""
        while self._made:
            sieve, sample, engines = self._made.pop()
            if self._faulty:
                engines = [plain(sieve.plan.chains, sample)]
            sieve.engine = self._fastest(engines, sample)

    def _load(self) -> None:
        try:
            found = Hyperscan()
        except Unavailable as error:
            self.why = str(error)
            return
        for make in (found.chains, found.literals):
            wrong = flaw(make)
            if wrong:
                self._distrust(f"{found} fails its test: {wrong}")
                return
        self._native, self.engine = found, str(found)

    def _engines(self, plan: Plan, sample: bytes, *, busy: bool) -> list[Engine]:
        chains, native = plan.chains, self._native
        if native is None:
            return [plain(chains, sample)]
        engines = [native.literals(chains, sample)]
        if busy or len(chains) <= LIGHT:
            if plan.whole is None:
                plan.whole = native.chains(chains)
            engines.append(plan.whole)
        if sum(len(group.literals) for groups in chains.values() for group in groups) <= FEW:
            engines.append(plain(chains, sample))
        return engines

    def _fastest(self, engines: Sequence[Engine], sample: bytes) -> Engine:
        clock = self._clock
        if clock is None or len(engines) == 1:
            return engines[0]

        def time(engine: Engine) -> float:
            begin = clock()
            engine(sample)
            return clock() - begin

        times = [(min(time(engine) for _ in range(ROUNDS)), n) for n, engine in enumerate(engines)]
        return engines[min(times)[1]]

    # What was held back

    def missed(self, sieve: Sieve, name: str, index: int, line: bytes) -> None:
        """Take note of a line that was held back from the filter of a jail, and mend it."""
        self.overlooked += 1
        other = Sieve(plan=sieve.plan)
        seen = f"a line that a filter hits was held back ({shape(line)})"
        if any(index in which for _, _, which in other.candidates(line + b"\n")):
            self._distrust(f"{self.engine}: {seen}", f"jail {name}")
            return
        unsieved = sieve.plan.filters[index]
        self._unsieved.add(unsieved)
        for plan in self._plans.values():
            plan.show_all(unsieved)
        self._tell(
            Problem(
                place=f"jail {name}",
                what=f"{seen}; it sees every line from now on, which costs time",
                remedy="please report it, with the jail's failregexes",
            )
        )

    def _distrust(self, what: str, place: str = "matching") -> None:
        """Do without native engines from now on."""
        self._tell(
            Problem(
                place=place,
                what=f"{what}; lines are searched without it until the next start",
                remedy='please report it; matching.engine = "python" does without it for good',
            )
        )
        self.engine, self.why, self._native, self._faulty = "python", what, None, True
        for plan in self._plans.values():
            plan.whole = None
        for sieve in self._sieves:
            sieve.engine = sieve.plan.plain

    def _tell(self, problem: Problem) -> None:
        if problem not in self.problems and len(self.problems) < MISSED:
            self.problems.append(problem)


class Sifter:
    """
    What stands before one log: a sieve that suits it.

    A log in which most lines matter to all is not sifted. `due` says that the chunk of which the
    candidates were asked for is to be audited.
    """

    def __init__(self, owner: Sieves, sieve: Sieve, names: Sequence[str]) -> None:
        self._owner = owner
        self._sieve = sieve
        self._names = tuple(names)
        self._rest = 0
        self._seen = 0
        self._fit_at = SAMPLE if sieve.plan.chains else float("inf")
        self._sample = b""
        self._chunks = 0
        self.due = False

    @property
    def sees_all(self) -> bool:
        """Whether every line of the next chunk is looked at."""
        audit = self._owner.audit
        return self._rest > 0 or (audit > 0 and (self._chunks + 1) % audit == 0)

    def candidates(self, data: bytes) -> Sequence[Candidate]:
        """Return the lines to look at."""
        self.due = False
        if self._rest:
            self._rest -= 1
            return self._everything(data)
        self._seen += len(data)
        if self._seen >= self._fit_at:
            self._look(data)
        found = self._sieve.candidates(data)
        crowd = CROWDED * len(data)
        if len(data) >= SAMPLE and sum(end - start for start, end, _ in found) > crowd:
            most = len(self._sieve.plan.all) * data.count(b"\n")
            if sum(len(which) for _, _, which in found) > CROWDED * most:
                self._rest = REST
        if self._owner.audit:
            self._chunks += 1
            self.due = self._chunks % self._owner.audit == 0
        return found

    def audited(
        self, data: bytes, shown: Sequence[Candidate], watch: Watch
    ) -> Generator[None, None, Sequence[Candidate]]:
        """Return what is to be shown after an audit; yields whenever others should get their turn."""
        self._owner.audited += 1
        sieve, number = self._sieve, self._chunks // max(1, self._owner.audit)
        found = yield from overlooked(sieve.plan, data, shown, number, watch)
        for start, end, index in found:
            if index not in sieve.plan.always:  # told already, of a line before
                self._owner.missed(sieve, self._names[index], index, data[start:end])
        return with_overlooked(shown, found) if found else shown

    def _look(self, data: bytes) -> None:
        """Look at what the log is like, and have the sieve fitted to that."""
        self._sample += data[: ENOUGH - len(self._sample)]
        if len(self._sample) < SAMPLE:
            return
        busy = self._seen >= BUSY
        self._fit_at = max(BUSY, self._seen + min(3 * self._seen, FIT_EVERY))
        self._owner.fit(self._sieve, self._sample, busy=busy)
        self._sample = b""

    def _everything(self, data: bytes) -> list[Candidate]:
        everybody = self._sieve.plan.all
        return [(start, end, everybody) for start, end in lines(data)]
