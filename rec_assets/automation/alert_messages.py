"""The text of an alert: what failed, for which days, why, where to look and what to do.

Dagster: `make_email_on_run_failure_sensor` and dagster-slack send the error of a run, without days, checks or advice.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import Any, Literal

MAX_REASON_LENGTH = 500
MAX_LISTED = 5

Advice = Literal["unreadable", "blocking", "warning", "killed", "error", "rejected"]

ADVICE: dict[Advice, str] = {
    "unreadable": "fix the landed file, or land it again; then run this job again for its day.",
    "blocking": "look at the check in the run. Nothing downstream was materialized, and the champion stays.",
    "warning": "look at the check in the run. It only warns: the assets downstream were materialized.",
    "killed": "nothing, unless it happens again: the process was killed, and Dagster retries the run.",
    "error": "look at the log of the run, fix the cause, and run the job again.",
    "rejected": "nothing: the champion stays. The metadata of release_gate in the run show each gate check.",
}


@dataclass(frozen=True)
class DayRange:
    """The days of a run, both included; empty strings for a run without partitions."""

    first: str = ""
    last: str = ""

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"

    def overlaps(self, other: DayRange) -> bool:
        """Whether the ranges share a day, or both are empty."""
        return self.first <= other.last and other.first <= self.last

    def covers(self, other: DayRange) -> bool:
        """Whether this range includes all days of the other."""
        return self.first <= other.first and other.last <= self.last


@dataclass(frozen=True)
class Problem:
    """One thing that failed.

    Attributes:
        what: "als_model", "check lines_are_unique of cleaned_interactions", "job train_models" or "version 3 of the
            model".
        why: The error message, or the description of the check result.
        advice: The kind of advice to give.
    """

    what: str
    why: str
    advice: Advice


@dataclass(frozen=True)
class Message:
    """One alert: the failures or the rejection in one run that were not reported before.

    Attributes:
        kind: "run_failure", "check_failure" or "rejection".
        job: Name of the job.
        days: Days of the run as text; "" without partitions.
        problems: What failed.
        run_id, url: The run, and its page in the UI.
        failed_at: When the run ended, as text in UTC.
        history: How many repeats were suppressed since the last message; "" for none.
    """

    kind: str
    job: str
    days: str
    problems: list[Problem]
    run_id: str
    url: str
    failed_at: str
    history: str = ""

    @property
    def title(self) -> str:
        """The alert in one line."""
        more = f" and {len(self.problems) - 1} more" if len(self.problems) > 1 else ""
        what = f"{self.problems[0].what}{more}"
        in_job = "" if what == f"job {self.job}" else f" in job {self.job}"
        return f"{what} {self._verb}{f' for {self.days}' if self.days else ''}{in_job}"

    @property
    def _verb(self) -> str:
        return "was rejected" if self.kind == "rejection" else "failed"

    @property
    def text(self) -> str:
        """The whole alert."""
        first, *others = self.problems
        lines = [self.title, f"Why: {first.why}"]
        lines += [f"{other.what} failed too: {other.why}" for other in others[: MAX_LISTED - 1]]
        if len(others) >= MAX_LISTED:
            lines.append(f"and {len(others) - MAX_LISTED + 1} more")
        for advice in dict.fromkeys(problem.advice for problem in self.problems):
            lines.append(f"What to do: {ADVICE[advice]}")
        if self.history:
            lines.append(self.history)
        return "\n".join([*lines, f"{self._verb.capitalize()} at {self.failed_at}: {self.url}"])

    def payload(self, alerts_format: str) -> dict[str, Any]:
        """The JSON to post: for "slack" a text in Slack's format; for "json" the fields, the title and the text."""
        if alerts_format == "slack":
            # Slack reads these three characters as markup.
            return {"text": self.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
        return {**asdict(self), "title": self.title, "text": self.text}


def shorten(text: str, length: int = MAX_REASON_LENGTH) -> str:
    """The text without extra white space, cut to a maximum length."""
    text = "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def format_time(timestamp: float) -> str:
    """A time to the minute, in UTC."""
    return dt.datetime.fromtimestamp(timestamp, dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
