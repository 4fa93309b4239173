"""
The bans that the store and the kernel have, and who is held by which. Pure: times come in.

A ban stands here when it has been carried out, not when it is decided: what `status` shows and
what is asked about its effect is this.
"""

from collections import Counter
from collections.abc import Collection

from dockerjail.ban.reconcile import BanKey
from dockerjail.model import Ban, Mode, Subject


class Enforced:
    """Bans by jail and subject, also those that are only observed, and since when each stands."""

    def __init__(self) -> None:
        self._bans: dict[BanKey, Ban] = {}
        self._since: dict[BanKey, float] = {}
        self._by_subject: dict[Subject, set[BanKey]] = {}
        self._widths: Counter[tuple[int, int]] = Counter()

    def __len__(self) -> int:
        return len(self._bans)

    @property
    def bans(self) -> Collection[Ban]:
        """All of them, as they are at any moment."""
        return self._bans.values()

    def put(self, ban: Ban, at: float) -> None:
        """Take a ban that stands since `at`, or what became of one; the same goes on since it began."""
        standing = self._bans.get(ban.key)
        if standing is None:
            self._by_subject.setdefault(ban.subject, set()).add(ban.key)
            self._widths[ban.subject.version, ban.subject.prefixlen] += 1
        if standing is None or standing.mode is not ban.mode:
            self._since[ban.key] = at
        self._bans[ban.key] = ban

    def drop(self, key: BanKey) -> None:
        """Let go of a ban, if there is one."""
        if self._bans.pop(key, None) is None:
            return
        del self._since[key]
        subject = key[1]
        self._by_subject[subject].discard(key)
        if not self._by_subject[subject]:
            del self._by_subject[subject]
        width = subject.version, subject.prefixlen
        self._widths[width] -= 1
        if not self._widths[width]:
            del self._widths[width]

    def set_back(self, seconds: float, after: float, now: float) -> None:
        """Follow a clock that was set back; what stands since `after` to `now` goes by its new time."""
        for key, since in self._since.items():
            if not after <= since <= now:
                self._since[key] = since - seconds

    def get(self, key: BanKey) -> tuple[Ban, float] | None:
        """Return the ban that is carried out under this jail and subject, and since when."""
        ban = self._bans.get(key)
        return None if ban is None or ban.mode is Mode.OBSERVE else (ban, self._since[key])

    def holding(self, jail: str, subject: Subject) -> tuple[Ban, float] | None:
        """
        Return a ban that keeps `subject` from what `jail` watches over, and since when.

        One by this jail, by another of its service, or from everything; also of a network around.
        """
        service = jail.partition("@")[2]
        for version, width in self._widths:
            if version != subject.version or width > subject.prefixlen:
                continue
            around = subject if width == subject.prefixlen else subject.supernet(new_prefix=width)
            for key in self._by_subject.get(around, ()):
                found = self.get(key)
                if found is None:
                    continue
                kin = service and key[0].partition("@")[2] == service
                if kin or key[0] == jail or found[0].scope.ports is None:
                    return found
        return None
