"""
Every error dockerjail raises on purpose.

* DockerjailError
    * ConfigError             the operator can mend it; the daemon does not start
        * FilterError         a failregex that does not compile or lacks <HOST>
    * EngineError
        * EngineUnavailable   transient: retried with back-off
        * LogsUnreadable      permanent for that container: given up, said once
        * ContainerGone       the container is removed: its tail ends
        * ContainerUnknown    nothing can be learned of one container just now
    * StoreError              the state cannot be read or written, and waiting does not help
        * StoreUnavailable    transient (disk full, locked): what is unwritten waits
        * StoreDamaged        the file cannot be trusted: begun anew with what the kernel holds
    * FirewallError           the kernel refused a change; left to reconcile
        * FirewallUnavailable no right, no nf_tables, wrong namespace: the daemon stops
    * Overdue                 a regex takes too long on a line: that line is given up
    * Refused                 an operator's order that must not be carried out
    * DaemonUnreachable       the command line found nobody at the control socket
"""


class DockerjailError(Exception):
    """Base of every error raised by dockerjail itself."""


class ConfigError(DockerjailError):
    """A setting, a file or a label is wrong."""


class FilterError(ConfigError):
    """A filter that cannot work as it is written."""


class EngineError(DockerjailError):
    """The Docker Engine did not do what was asked."""


class EngineUnavailable(EngineError):
    """The Docker Engine cannot be reached just now; `what` is wrong, and the `remedy`."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class LogsUnreadable(EngineError):
    """The container's log cannot be read, now or later."""


class ContainerGone(EngineError):
    """The container does not exist any more."""


class ContainerUnknown(EngineError):
    """The Engine does not say what it should about one container; others are fine."""


class StoreError(DockerjailError):
    """Ban state could not be read or written."""


class StoreUnavailable(StoreError):
    """Ban state cannot be read or written just now; `what` is wrong, and the `remedy`."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class StoreDamaged(StoreError):
    """What is stored is not what was written; the `remedy` is for a file that is not ours."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


class FirewallError(DockerjailError):
    """The kernel refused a change to the ruleset."""


class FirewallUnavailable(FirewallError):
    """The packet filter cannot be used at all from here."""


class Overdue(DockerjailError):
    """A regex takes longer than a line may; raised in its midst. `regex` says which, in words."""

    regex = "a regex"


class Refused(DockerjailError):
    """An order that would do harm or make no sense; the message says which."""


class DaemonUnreachable(DockerjailError):
    """No daemon answers at the control socket."""
