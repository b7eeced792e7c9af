"""What an alert says, and when it is said again: texts, and the ledger of causes. Plain Python, no Dagster.

A cause is what failed (a step, a check or a job) and why, with all that differs from one time to the next taken out of
the words. It is reported once, and then held back and counted for as long as it goes on.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

WHY_LENGTH = 500
LISTED = 5
OPEN_DAYS = 50
FORGET_SECONDS = 30 * 86_400

Advice = Literal["unreadable", "blocking", "warning", "killed", "error", "rejected"]

ADVICE: dict[Advice, str] = {
    "unreadable": "fix the landed file, or land it again; then run this again for its day.",
    "blocking": "look at the check in the run; nothing downstream was made, and the champion stays.",
    "warning": "look at the check in the run; it only warns, and what comes next was made all the same.",
    "killed": "nothing, unless it goes on: the process was killed, and the work is picked up again.",
    "error": "look at the log of the run, fix the cause, and run it again.",
    "rejected": "nothing has to be: the champion stays. Each rule with its number is in the run, at release_gate.",
}


@dataclass(frozen=True)
class DayRange:
    """The days that a run was for, both included; empty texts where it has none."""

    first: str = ""
    last: str = ""

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"

    def overlaps(self, other: DayRange) -> bool:
        """Whether they have a day in common, or neither has any."""
        return self.first <= other.last and other.first <= self.last

    def covers(self, other: DayRange) -> bool:
        """Whether all days of the other are among these."""
        return self.first <= other.first and other.last <= self.last


@dataclass(frozen=True)
class FailureCause:
    """One thing that failed.

    Attributes:
        what: "als_model", "check lines_are_unique of cleaned_interactions", "job train" or "version 3 of the model".
        why: The error's own words, or the check's description.
        advice: The kind of advice that goes with it.
    """

    what: str
    why: str
    advice: Advice


@dataclass(frozen=True)
class Message:
    """One alert: what failed, or was rejected, in one run and isn't already known.

    Attributes:
        kind: "run_failure", "check_failure" or "rejection".
        job: Name of the job.
        days: For which days, in words; "" where the run has none.
        problems: What failed.
        run_id, url: The run, and where it can be looked at.
        failed_at: When the run ended, UTC, in words.
        history: What was held back since the last message; "" where nothing was.
    """

    kind: str
    job: str
    days: str
    problems: list[FailureCause]
    run_id: str
    url: str
    failed_at: str
    history: str = ""

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Message:
        """From what `asdict` made of one."""
        return cls(**{**stored, "problems": [FailureCause(**problem) for problem in stored["problems"]]})

    @property
    def title(self) -> str:
        """In a line."""
        more = f" and {len(self.problems) - 1} more" if len(self.problems) > 1 else ""
        what = f"{self.problems[0].what}{more}"
        where = "" if what == f"job {self.job}" else f" in job {self.job}"
        return f"{what} {self._verb}{f' for {self.days}' if self.days else ''}{where}"

    @property
    def _verb(self) -> str:
        return "was rejected" if self.kind == "rejection" else "failed"

    @property
    def text(self) -> str:
        """In full, for people."""
        first, *others = self.problems
        lines = [self.title, f"Why: {first.why}"]
        lines += [f"{other.what} failed as well: {other.why}" for other in others[: LISTED - 1]]
        if len(others) >= LISTED:
            lines.append(f"and {len(others) - LISTED + 1} more")
        for advice in dict.fromkeys(problem.advice for problem in self.problems):
            lines.append(f"What to do: {ADVICE[advice]}")
        if self.history:
            lines.append(self.history)
        return "\n".join([*lines, f"{self._verb.capitalize()} at {self.failed_at}: {self.url}"])

    def payload(self, form: str) -> dict[str, Any]:
        """What is posted: "slack", a text as Slack and its like read it; or "json", the fields and the text."""
        if form == "slack":
            # Slack reads these three as markup wherever they stand.
            return {"text": self.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
        return {**asdict(self), "title": self.title, "text": self.text}


def shorten(text: str, length: int = WHY_LENGTH) -> str:
    """The text without spare white space, cut where it is too long."""
    text = "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def in_words(timestamp: float) -> str:
    """A time for people: to the minute, UTC."""
    return dt.datetime.fromtimestamp(timestamp, dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


_VARYING = (
    re.compile(r"0x[0-9a-f]+"),
    re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),
    re.compile(r"\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b"),
    re.compile(r"\d+(?:[-+.,:/t ]*\d+)*"),
)


def normalized(why: str) -> str:
    """The words without numbers, dates, times and ids; lines that are then equal count once, however many they were."""
    text = why.lower()
    for pattern in _VARYING:
        text = pattern.sub("#", text)
    return "\n".join(dict.fromkeys(" ".join(line.split()) for line in text.splitlines()))


@dataclass
class Cause:
    """What the ledger knows of one cause.

    Attributes:
        reported: When it was last reported.
        seen: When it last happened.
        held: How often it happened since it was reported.
        succeeded: Whether the same step or check has succeeded since, for other days.
        open: The days for which it failed and hasn't succeeded since.
    """

    reported: float
    seen: float
    held: int = 0
    succeeded: bool = False
    open: list[DayRange] = field(default_factory=list)


class Ledger:
    """Which causes were reported.

    A cause is due when it is new, when it comes back after that step or check has succeeded, and when it was last
    reported `repeat_hours` ago or more. A success for other days is none for a day that goes on failing: one broken
    file that is tried over and over, between days that go well, is one message.

    Args:
        repeat_hours: After how long a cause that goes on is reported again.
        causes: By what failed, and the hash of the normalized words.
    """

    def __init__(self, repeat_hours: float, causes: dict[str, dict[str, Cause]] | None = None) -> None:
        self.repeat_seconds, self.causes = repeat_hours * 3600, causes or {}

    def failed(self, problem: FailureCause, days: DayRange, at: float) -> str | None:
        """Note a failure; None where it is held back, else how often it was before, in words ("" for never)."""
        causes = self.causes.setdefault(problem.what, {})
        key = hashlib.sha256(normalized(problem.why).encode()).hexdigest()[:16]
        cause = causes.get(key)
        if cause is None:
            causes[key] = Cause(reported=at, seen=at, open=[days])
            return ""
        came_back = cause.succeeded and not any(days.overlaps(other) for other in cause.open)
        cause.seen, cause.open = at, [*(other for other in cause.open if other != days), days][-OPEN_DAYS:]
        if not came_back and at - cause.reported < self.repeat_seconds:
            cause.held += 1
            return None
        times, since = cause.held + (0 if came_back else 1), in_words(cause.reported)
        cause.reported, cause.held, cause.succeeded = at, 0, False
        return f"{times} more {'time' if times == 1 else 'times'} since {since}" if times else ""

    def succeeded(self, what: str, days: DayRange) -> None:
        """Note a success: the causes it ends are forgotten."""
        for key, cause in list(self.causes.get(what, {}).items()):
            cause.succeeded = True
            cause.open = [other for other in cause.open if not days.covers(other)]
            if not cause.open:
                del self.causes[what][key]
        if not self.causes.get(what):
            self.causes.pop(what, None)

    def forget(self, now: float) -> None:
        """Drop what hasn't happened for so long that it would be reported as new anyway."""
        memory = self.repeat_seconds + FORGET_SECONDS
        for what, causes in list(self.causes.items()):
            self.causes[what] = {key: cause for key, cause in causes.items() if now - cause.seen < memory}
            if not self.causes[what]:
                del self.causes[what]

    def to_dict(self) -> dict[str, Any]:
        """For the cursor."""
        return {what: {key: asdict(cause) for key, cause in causes.items()} for what, causes in self.causes.items()}

    @classmethod
    def from_dict(cls, repeat_hours: float, stored: dict[str, Any]) -> Ledger:
        """From what `to_dict` made of one."""

        def cause(each: dict[str, Any]) -> Cause:
            return Cause(**{**each, "open": [DayRange(**days) for days in each["open"]]})

        causes = {what: {key: cause(each) for key, each in found.items()} for what, found in stored.items()}
        return cls(repeat_hours, causes)
