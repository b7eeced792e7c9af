"""The result of `check-source`, and how to format its texts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import yaml


@dataclass
class SourceCheck:
    """The result of `check-source`.

    Attributes:
        name: Name of the data source.
        topics: Topic → lines that describe how the data source was read.
        errors: Problems that make the data source unusable, each with what to do.
        warnings: Possible mistakes, each with what to do.
        export_days: First and last day to write into the YAML file of an export; None for a daily data source.
        covered_days: First and last day that a bootstrap would cover; None if unknown.
    """

    name: str
    topics: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    export_days: tuple[dt.date, dt.date] | None = None
    covered_days: tuple[dt.date, dt.date] | None = None

    @property
    def ok(self) -> bool:
        """Whether the data source can be used."""
        return not self.errors

    def add(self, topic: str, *lines: str) -> None:
        """Add lines to a topic."""
        self.topics.setdefault(topic, []).extend(lines)

    def to_text(self) -> str:
        """The whole result as text for the terminal."""
        lines = [f"Data source {self.name}"]
        for topic, described in self.topics.items():
            lines += ["", topic, *(f"  {line}" for line in described)]
        if self.export_days:
            lines += ["", "Days of this export, as lines for its YAML file"]
            lines += [f"  first_day: {self.export_days[0]}", f"  last_day: {self.export_days[1]}"]
        if self.warnings:
            lines += ["", "Warnings", *(f"  ! {warning}" for warning in self.warnings)]
        if self.errors:
            lines += ["", "Errors", *(f"  ✗ {error}" for error in self.errors)]
        problems = f"can't be used yet: fix {pluralize(len(self.errors), 'error')}"
        return "\n".join([*lines, "", f"This data source {'can be used' if self.ok else problems}."])


def pluralize(number: int, thing: str) -> str:
    """`1 line`, `1,234 lines`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def format_share(part: int, whole: int) -> str:
    """`none`, `3 (0.01%)`, `12.3%`, `all but 2`, `all`."""
    percent = 100 * part / whole if whole else 0.0
    if part == 0 or part == whole:
        return "all" if part else "none"
    if percent < 0.1:
        return f"{part:,} ({percent:.2g}%)"
    return f"{percent:.1f}%" if percent <= 99.9 else f"all but {whole - part:,}"


def to_inline_yaml(value: object) -> str:
    """A value as one line of YAML, to paste into a file."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6).strip()


def shorten(text: str, length: int) -> str:
    """At most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
