"""The ledger of reported causes: decides when a failure is reported, and when a repeat is suppressed.

Dagster: its failure sensors send one message for each failed run. They can't suppress repeats of the same cause.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from rec_assets.automation.alert_messages import DayRange, Problem, format_time

MAX_OPEN_DAYS = 50
EXPIRY_SECONDS = 30 * 86_400

_VARIABLE_PARTS = (
    re.compile(r"0x[0-9a-f]+"),
    re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),
    re.compile(r"\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b"),
    re.compile(r"\d+(?:[-+.,:/t ]*\d+)*"),
)


def normalize_reason(why: str) -> str:
    """The text without numbers, dates, times and ids, and without the lines that are then duplicates."""
    text = why.lower()
    for pattern in _VARIABLE_PARTS:
        text = pattern.sub("#", text)
    return "\n".join(dict.fromkeys(" ".join(line.split()) for line in text.splitlines()))


@dataclass
class ReportedCause:
    """The state of one cause. Its fields are stored in sensor cursors.

    Attributes:
        reported: When it was last reported.
        seen: When it last happened.
        suppressed: How often it was suppressed since the last report.
        succeeded: Whether the same step or check has succeeded since, for other days.
        open: The days for which it failed and has not succeeded since.
    """

    reported: float
    seen: float
    suppressed: int = 0
    succeeded: bool = False
    open: list[DayRange] = field(default_factory=list)


Causes = dict[str, dict[str, ReportedCause]]
"""What failed → hash of the normalized reason → cause."""


class AlertLedger:
    """The reported causes.

    A cause is what failed (a step, a check or a job) and the normalized reason. It is due for a report in three cases:
    it is new; it failed again after a success; or its last report is at least `repeat_hours` old. A success for other
    days doesn't count: a broken file that is retried between successful days gives one message.

    Args:
        repeat_hours: Hours after which a cause that still fails is reported again.
        causes: The causes so far; updated in place.
    """

    def __init__(self, repeat_hours: float, causes: Causes) -> None:
        self.repeat_seconds, self.causes = repeat_hours * 3600, causes

    def record_failure(self, problem: Problem, days: DayRange, at: float) -> str | None:
        """Record a failure; returns None to suppress it, else a text about the earlier failures ("" for none)."""
        causes = self.causes.setdefault(problem.what, {})
        key = hashlib.sha256(normalize_reason(problem.why).encode()).hexdigest()[:16]
        cause = causes.get(key)
        if cause is None:
            causes[key] = ReportedCause(reported=at, seen=at, open=[days])
            return ""
        failed_again = cause.succeeded and not any(days.overlaps(other) for other in cause.open)
        cause.seen, cause.open = at, [*(other for other in cause.open if other != days), days][-MAX_OPEN_DAYS:]
        if not failed_again and at - cause.reported < self.repeat_seconds:
            cause.suppressed += 1
            return None
        times, since = cause.suppressed + (0 if failed_again else 1), format_time(cause.reported)
        cause.reported, cause.suppressed, cause.succeeded = at, 0, False
        return f"{times} more {'time' if times == 1 else 'times'} since {since}" if times else ""

    def record_success(self, what: str, days: DayRange) -> None:
        """Record a success, and delete the causes that it resolves."""
        for key, cause in list(self.causes.get(what, {}).items()):
            cause.succeeded = True
            cause.open = [other for other in cause.open if not days.covers(other)]
            if not cause.open:
                del self.causes[what][key]
        if not self.causes.get(what):
            self.causes.pop(what, None)

    def delete_expired(self, now: float) -> None:
        """Delete the causes that last happened so long ago that a new failure is reported anyway."""
        max_age = self.repeat_seconds + EXPIRY_SECONDS
        for what, causes in list(self.causes.items()):
            self.causes[what] = {key: cause for key, cause in causes.items() if now - cause.seen < max_age}
            if not self.causes[what]:
                del self.causes[what]
