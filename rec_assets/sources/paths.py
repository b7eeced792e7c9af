"""Paths with days in them: which files `sales/{date:%Y/%m/%d}/*.csv` stands for, and the day of each.

A path is one of this machine or a URI such as `s3://bucket/sales/*.csv`, which a driver of fsspec reads.
"""

from __future__ import annotations

import datetime as dt
import glob
import re
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
from upath import UPath

from rec_assets.sources.errors import SourceError

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

SUCCESS = "_SUCCESS"
"""The name of a file that says: everything in this folder is whole."""

DONE = (".done", "._SUCCESS")
"""What the name of a file ends in that says: the file beside it, whose name goes before, is whole."""

_UNFINISHED = (".part", ".partial", ".tmp", ".inprogress", ".filepart", ".crdownload")
_NO_DATA = (*_UNFINISHED, *DONE)

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def check_pattern(pattern: str) -> None:
    """Raise a ValueError, in words, unless the pattern is one that this module understands."""
    if uri := _URI.match(pattern):
        _check_uri(pattern, uri[1])
    for placeholder in re.findall(r"\{[^}]*\}?", pattern):
        if placeholder != "{home}" and not re.fullmatch(DATE, placeholder):
            raise ValueError(f"{placeholder} is neither {{home}} nor a date such as {{date:%Y-%m-%d}}")
    parts = _date_parts(pattern)
    if unknown := sorted(parts - DATE_PARTS.keys()):
        raise ValueError(f"a date may use {' '.join(DATE_PARTS)}, not {unknown[0]}; let a * stand for an hour")
    if has_date(pattern) and not _names_a_day(pattern):
        raise ValueError("the date must name year, month and day; a file of many days is an export, without a date")


def _check_uri(pattern: str, protocol: str) -> None:
    if protocol not in fsspec.available_protocols():
        raise ValueError(f"there is no protocol {protocol}://; known are s3, gs, abfs, sftp and others of fsspec")
    if "::" in pattern:
        raise ValueError("a chain of protocols (`::`) can't be listed: name the files themselves")
    if re.match(r"[^/]*//[^/@]*:[^/@]*@", pattern):
        # Paths stand in raw rows and in errors.
        raise ValueError("a path is no place for a password: give it to the driver, in the environment")


def _date_parts(pattern: str) -> set[str]:
    return set(re.findall("%.", "".join(re.findall(DATE, pattern))))


def _names_a_day(pattern: str) -> bool:
    parts = _date_parts(pattern)
    in_year = "%j" in parts or ("%d" in parts and parts & {"%m", "%b", "%B"})
    return bool(in_year and parts & {"%Y", "%y"})


def is_uri(path: str) -> bool:
    """Whether a driver of fsspec reads this; otherwise it is a path of this machine."""
    return _URI.match(path) is not None


@contextmanager
def reaching(where: UPath | str) -> Iterator[None]:
    """Put the errors of a URI's driver into words; those of a path of this machine stay as they are.

    Raises:
        SourceError: the driver isn't installed, or doesn't get there; names the path.
    """
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # drivers have errors of their own, which have no base in common
        if not is_uri(str(where)):
            raise
        if isinstance(error, ImportError):
            raise SourceError(f"{where}: the driver for this path is not installed: {error}") from error
        raise SourceError(f"{where}: not to be reached: {type(error).__name__}: {str(error)[:300]}") from error


def has_date(pattern: str) -> bool:
    """Whether a pattern has a day in it."""
    return "{date:" in pattern


def on_day(pattern: str, day: dt.date) -> str:
    """The pattern with the day filled in."""
    return re.sub(DATE, lambda date: day.strftime(date.group(1)), pattern)


def files_matching(pattern: str) -> list[UPath]:
    """Files that an absolute glob matches, sorted; a folder stands for the files in it.

    Hidden files (`.x`, `_x`), those still being written (`x.part`, `x.tmp`, …) and those that say that another is
    whole (`x.done`) don't count, unless the pattern itself is written so.

    Raises:
        SourceError: a URI's driver isn't installed, or doesn't get there.
    """
    if is_uri(pattern):
        with reaching(pattern):
            return _uris_matching(pattern)
    found: list[UPath] = []
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = UPath(match)
        if not _is_whole(path.name, named=pattern.rsplit("/", 1)[-1]):
            continue
        inside = filter(lambda file: _is_whole(file.name), sorted(path.iterdir())) if path.is_dir() else [path]
        found += [file for file in inside if file.is_file()]
    return found


def _uris_matching(pattern: str) -> list[UPath]:
    root = UPath(pattern.rstrip("/"))
    # Drivers remember what they have listed, some for as long as the process lives: a sensor would see nothing new.
    root.fs.invalidate_cache()
    # Elsewhere than by itself between slashes, fsspec knows no `**`, which then means the same as a *.
    wanted = re.sub(r"[^/]+", lambda name: name[0] if name[0] == "**" else re.sub(r"\*+", "*", name[0]), root.path)
    found: list[str] = []
    for match, info in sorted(root.fs.glob(wanted, detail=True).items()):
        # As on this machine, a * matches no name that begins with a dot.
        if not _is_whole(_name(match), named=root.name) or ("/." in match and "/." not in pattern):
            continue
        if info["type"] == "directory":
            inside = (file["name"] for file in root.fs.ls(match, detail=True) if file["type"] != "directory")
            # A store without folders may keep an empty object in the place of one, and list it as in itself.
            found += [file for file in sorted(inside) if _is_whole(_name(file)) and file.rstrip("/") != match]
        elif not match.endswith("/"):
            found.append(match)
    return [UPath(path, protocol=root.protocol, **root.storage_options) for path in found]


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def files_by_day(pattern: str) -> dict[dt.date, list[UPath]]:
    """Files that an absolute glob with a date matches, by that date; each day's sorted.

    Raises:
        SourceError: a URI's driver isn't installed, or doesn't get there.
    """
    matcher = _matcher(_within_driver(pattern))
    by_day: dict[dt.date, list[UPath]] = {}
    for file in files_matching(re.sub(DATE, lambda date: re.sub("(%.)+", "*", date.group(1)), pattern)):
        if (match := matcher.match(file.path)) and (day := _day_of(match)):
            by_day.setdefault(day, []).append(file)
    return by_day


def folders_of_its_own(pattern: str, file: UPath) -> list[UPath]:
    """Folders above a file that hold, of what the pattern matches, nothing of another day than the file's.

    Without a date in the pattern that is the folder of the file.
    """
    if not has_date(pattern):
        return [file.parent]
    # Of `log/{date:%Y/%m}/{date:%d}/till*/*.csv` the part `log/{date:%Y}/{date:%m}/{date:%d}` names the day.
    parts = re.sub(DATE, lambda date: date[0].replace("/", "}/{date:"), _within_driver(pattern)).split("/")
    beginnings = ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
    matcher = _matcher(next(filter(_names_a_day, beginnings)))
    return [folder for folder in file.parents if matcher.match(folder.path)]


def _within_driver(pattern: str) -> str:
    """A pattern as the driver of its files writes their paths: `bucket/*.csv` for `s3://bucket/*.csv`."""
    return UPath(pattern.rstrip("/")).path if is_uri(pattern) else pattern


def _is_whole(name: str, named: str = "") -> bool:
    hidden = name.startswith((".", "_")) and not named.startswith(name[0])
    return not hidden and (not name.endswith(_NO_DATA) or named.endswith(_NO_DATA))


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
