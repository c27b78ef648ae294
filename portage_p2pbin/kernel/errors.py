"""Every deliberate failure, sorted by what the operator does next.

There are four answers to a failure, and one class for each: mend the settings (:class:`SettingsError`), try again later or
elsewhere (:class:`UnavailableError`), distrust what was sent (:class:`RefusedError`), and report a bug (anything else).
The exit codes of every command follow from the class alone.

Errors carry fields, not sentences; the sentence is made when somebody prints it.  An attacker who controls the input chooses
the text of some fields, so :func:`printable` makes every field safe for a terminal before it is shown.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

MOST_SHOWN = 300
"""Characters of one untrusted field that are shown; the rest is cut, so that an error is never longer than a screen."""


class ExitCode(IntEnum):
    """What a command's exit code tells its caller."""

    DONE = 0
    BUG = 1
    SETTINGS = 2
    UNAVAILABLE = 3
    REFUSED = 4


def printable(text: str) -> str:
    """Return `text` with control and unprintable characters escaped and cut to :data:`MOST_SHOWN` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text[: MOST_SHOWN + 1])
    return shown if len(shown) <= MOST_SHOWN else shown[:MOST_SHOWN] + "…"


class P2pbinError(Exception):
    """Base of all deliberate failures.  Raise one of the subclasses."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG


class SettingsError(P2pbinError):
    """Something that the operator set, or did not set, keeps us from going on.

    `what` names the setting and what is wrong with it; `remedy` is what to do about it, as a sentence.
    """

    exit_code = ExitCode.SETTINGS

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{printable(self.what)}. {self.remedy}"


class UnavailableError(P2pbinError):
    """What was asked for cannot be had now: nobody has it, or nobody answered.  Nothing is wrong with it.

    `what` names the thing; `reason` says why it is not to be had.
    """

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.what)} is not available now: {printable(self.reason)}"


class RefusedError(P2pbinError):
    """Something that was sent to us breaks a rule.  Whoever sent it is wrong or lying; asking again will not help.

    `rule` is its number in docs/protocol.rst ("P9.7"); `what` names the thing; `reason` says how it breaks the rule.
    """

    exit_code = ExitCode.REFUSED

    def __init__(self, rule: str, what: str, reason: str) -> None:
        super().__init__(rule, what, reason)
        self.rule = rule
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.what)} refused by {printable(self.rule)}: {printable(self.reason)}"


class DecodeError(RefusedError):
    """Bytes from outside are not what their format says.  The only exception that leaves a decoder."""
