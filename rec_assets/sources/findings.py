"""What a look at a source found, and how to say it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import yaml


@dataclass
class SourceCheck:
    """What a look at a source found.

    Attributes:
        name: The source's name.
        understood: Lines in plain words, by topic.
        errors: What keeps the source from being used, each with what to do.
        warnings: What looks like a mistake and may be none.
        days: First and last day to write into the YAML file of an export; None for a daily source.
        covers: First and last day that a bootstrap would cover; None where that can't be made out.
    """

    name: str
    understood: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    days: tuple[dt.date, dt.date] | None = None
    covers: tuple[dt.date, dt.date] | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing keeps the source from being used."""
        return not self.errors

    def say(self, topic: str, *lines: str) -> None:
        """Add lines to a topic."""
        self.understood.setdefault(topic, []).extend(lines)

    def to_text(self) -> str:
        """All of it, for people."""
        lines = [f"Source {self.name}"]
        for topic, said in self.understood.items():
            lines += ["", topic, *(f"  {line}" for line in said)]
        if self.days:
            lines += ["", "The days of this export, as lines for its YAML file"]
            lines += [f"  first_day: {self.days[0]}", f"  last_day: {self.days[1]}"]
        if self.warnings:
            lines += ["", "Worth a look", *(f"  ! {warning}" for warning in self.warnings)]
        if self.errors:
            lines += ["", "Wrong", *(f"  ✗ {error}" for error in self.errors)]
        problems = f"can't be used yet: {count(len(self.errors), 'problem')}, named above"
        return "\n".join([*lines, "", f"This source {'can be used' if self.ok else problems}."])


def count(number: int, thing: str) -> str:
    """`1 line`, `1,234 lines`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def share(part: int, whole: int) -> str:
    """`none`, `3 (0.01%)`, `12.3%`, `all but 2`, `all`."""
    percent = 100 * part / whole if whole else 0.0
    if part == 0 or part == whole:
        return "all" if part else "none"
    if percent < 0.1:
        return f"{part:,} ({percent:.2g}%)"
    return f"{percent:.1f}%" if percent <= 99.9 else f"all but {whole - part:,}"


def as_yaml(value: object) -> str:
    """A value as it may be pasted into a YAML file, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6).strip()


def shortened(text: str, length: int) -> str:
    """At most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
