"""Paths with days in them: which files `sales/{date:%Y/%m/%d}/*.csv` stands for, and the day of each."""

from __future__ import annotations

import datetime as dt
import glob
import re
from pathlib import Path

DATE = r"\{date:([^}]+)\}"
"""The place of a date in a pattern; the group is its strftime pattern."""

DATE_PARTS = {
    "%Y": r"(?:19|20)\d{2}",
    "%y": r"\d{2}",
    "%m": r"(?:0[1-9]|1[0-2])",
    "%b": r"[A-Z][a-z]{2}",
    "%B": r"[A-Z][a-z]+",
    "%d": r"(?:0[1-9]|[12]\d|3[01])",
    "%j": r"[0-3]\d{2}",
}
"""What a date may be made of. Each matches no more than it must, to find a date amid other digits."""

_UNFINISHED = (".part", ".partial", ".tmp", ".inprogress", ".filepart", ".crdownload")


def check_pattern(pattern: str) -> None:
    """Raise a ValueError, in words, unless the pattern is one that this module understands."""
    for placeholder in re.findall(r"\{[^}]*\}?", pattern):
        if placeholder != "{home}" and not re.fullmatch(DATE, placeholder):
            raise ValueError(f"{placeholder} is neither {{home}} nor a date such as {{date:%Y-%m-%d}}")
    parts = set(re.findall("%.", "".join(re.findall(DATE, pattern))))
    if unknown := sorted(parts - DATE_PARTS.keys()):
        raise ValueError(f"a date may use {' '.join(DATE_PARTS)}, not {unknown[0]}; let a * stand for an hour")
    names_a_day = "%j" in parts or ("%d" in parts and parts & {"%m", "%b", "%B"})
    if has_date(pattern) and not (names_a_day and parts & {"%Y", "%y"}):
        raise ValueError("the date must name year, month and day; a file of many days is an export, without a date")


def has_date(pattern: str) -> bool:
    """Whether a pattern has a day in it."""
    return "{date:" in pattern


def on_day(pattern: str, day: dt.date) -> str:
    """The pattern with the day filled in."""
    return re.sub(DATE, lambda date: day.strftime(date.group(1)), pattern)


def files_matching(pattern: str) -> list[Path]:
    """Files that an absolute glob matches, sorted; a folder stands for the files in it.

    Hidden files (`.x`, `_x`) and those still being written (`x.part`, `x.tmp`, …) don't count, unless the
    pattern itself is written so.
    """
    found: list[Path] = []
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        if not _is_whole(path.name, named=pattern.rsplit("/", 1)[-1]):
            continue
        inside = filter(lambda file: _is_whole(file.name), sorted(path.iterdir())) if path.is_dir() else [path]
        found += [file for file in inside if file.is_file()]
    return found


def files_by_day(pattern: str) -> dict[dt.date, list[Path]]:
    """Files that an absolute glob with a date matches, by that date; each day's sorted."""
    matcher = _matcher(pattern)
    by_day: dict[dt.date, list[Path]] = {}
    for file in files_matching(re.sub(DATE, lambda date: re.sub("%.", "*", date.group(1)), pattern)):
        if (match := matcher.match(file.as_posix())) and (day := _day_of(match)):
            by_day.setdefault(day, []).append(file)
    return by_day


def _is_whole(name: str, named: str = "") -> bool:
    hidden = name.startswith((".", "_")) and not named.startswith(name[0])
    return not hidden and (not name.endswith(_UNFINISHED) or named.endswith(_UNFINISHED))


def _matcher(pattern: str) -> re.Pattern[str]:
    """A regular expression that finds the parts of a date in a path; its groups are Y, m, d and so on."""
    out, seen = "", set()
    for position, piece in enumerate(re.split(DATE, pattern)):
        if position % 2 == 0:
            out += _as_regex(piece)
            continue
        for token in re.split("(%.)", piece):
            if token not in DATE_PARTS:
                out += re.escape(token)
            elif token in seen:
                out += f"(?P={token[1]})"
            else:
                out += f"(?P<{token[1]}>{DATE_PARTS[token]})"
                seen.add(token)
    return re.compile(out + "(?:/[^/]+)?$")  # the pattern may name a folder


def _as_regex(pattern: str) -> str:
    """A glob without a date as a regular expression."""
    out = ""
    for token in re.split(r"(\*\*/|\*+|\?|\[!?\]?[^]]*\])", pattern):
        if token == "**/":
            out += "(?:[^/]+/)*"
        elif token.startswith("*"):
            out += "[^/]*"
        elif token == "?":
            out += "[^/]"
        elif re.fullmatch(r"\[.+\]", token):
            negated = token[1] == "!"
            characters = re.sub(r"([\\\[\]^])", r"\\\1", token[1 + negated : -1])
            out += f"[{'^' * negated}{characters}]"
        else:
            out += re.escape(token)
    return out


def _day_of(match: re.Match[str]) -> dt.date | None:
    """The day that a date's parts name, if it's written just as its pattern writes it."""
    parts = match.groupdict()
    pattern = " ".join(f"%{name}" for name in parts)
    written = " ".join(parts.values())
    try:
        day = dt.datetime.strptime(written, pattern).date()
    except ValueError:
        return None
    return day if day.strftime(pattern) == written else None
