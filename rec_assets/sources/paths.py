"""Path patterns with dates: find the files of `sales/{date:%Y/%m/%d}/*.csv`, and the day of each file.

A path is local or a URI such as `s3://bucket/sales/*.csv`, which an fsspec driver reads. Functions that read a URI
raise a `SourceError` if its driver is not installed or fails.
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

_PLACEHOLDER = r"\{date:([^}]+)\}"
"""Placeholder of a date in a pattern; the group is its strftime pattern."""

DATE_PARTS = {
    "%Y": r"(?:19|20)\d{2}",
    "%y": r"\d{2}",
    "%m": r"(?:0[1-9]|1[0-2])",
    "%b": r"[A-Z][a-z]{2}",
    "%B": r"[A-Z][a-z]+",
    "%d": r"(?:0[1-9]|[12]\d|3[01])",
    "%j": r"[0-3]\d{2}",
}
"""Part of a date → regular expression, strict enough to find a date between other digits."""

SUCCESS_MARKER = "_SUCCESS"
"""Name of a success marker: all files in its folder are complete."""

DONE_SUFFIXES = (".done", "._SUCCESS")
"""Suffixes of a success marker for one file: `x.csv.done` means that `x.csv` is complete."""

_UNFINISHED = (".part", ".partial", ".tmp", ".inprogress", ".filepart", ".crdownload")
_NOT_DATA = (*_UNFINISHED, *DONE_SUFFIXES)

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def check_pattern(pattern: str) -> str:
    """Return the pattern; raise a ValueError if this module doesn't support it."""
    if uri := _URI.match(pattern):
        if uri[1] not in fsspec.available_protocols():
            raise ValueError(f"unknown protocol {uri[1]}://; known: s3, gs, abfs, sftp and others of fsspec")
        if "::" in pattern:
            raise ValueError("a chain of protocols (`::`) is not supported: use the path of the files")
        if re.match(r"[^/]*//[^/@]*:[^/@]*@", pattern):  # raw lines and errors show paths
            raise ValueError("a path can't have a password: set it in the environment, for the driver")
    for placeholder in re.findall(r"\{[^}]*\}?", pattern):
        if placeholder != "{home}" and not re.fullmatch(_PLACEHOLDER, placeholder):
            raise ValueError(f"{placeholder} is not {{home}} or a date such as {{date:%Y-%m-%d}}")
    parts = _date_parts(pattern)
    if unknown := sorted(parts - DATE_PARTS.keys()):
        raise ValueError(f"a date can have {' '.join(DATE_PARTS)}, not {unknown[0]}; for an hour, use *")
    if has_date(pattern) and not _has_full_date(pattern):
        raise ValueError("the date must have year, month and day; the path of an export of many days has no date")
    return pattern


def _date_parts(pattern: str) -> set[str]:
    return set(re.findall("%.", "".join(re.findall(_PLACEHOLDER, pattern))))


def _has_full_date(pattern: str) -> bool:
    parts = _date_parts(pattern)
    in_year = "%j" in parts or ("%d" in parts and parts & {"%m", "%b", "%B"})
    return bool(in_year and parts & {"%Y", "%y"})


def is_uri(path: str) -> bool:
    """Whether an fsspec driver reads this path; otherwise it is local."""
    return _URI.match(path) is not None


@contextmanager
def driver_errors(where: UPath | str) -> Iterator[None]:
    """Convert errors of a URI's driver to a `SourceError` with the path. Errors of local paths are unchanged."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # the errors of drivers have no common base class
        if not is_uri(str(where)):
            raise
        if isinstance(error, ImportError):
            raise SourceError(f"{where}: the driver for this path is not installed: {error}") from error
        raise SourceError(f"{where}: can't be read: {type(error).__name__}: {str(error)[:300]}") from error


def has_date(pattern: str) -> bool:
    """Whether a pattern has a date."""
    return "{date:" in pattern


def path_on_day(pattern: str, day: dt.date) -> str:
    """The pattern for one day."""
    return re.sub(_PLACEHOLDER, lambda date: day.strftime(date.group(1)), pattern)


def files_matching(pattern: str) -> list[UPath]:
    """Files that match an absolute glob, sorted; a folder means the files in it.

    Hidden files (`.x`, `_x`), unfinished files (`x.part`, `x.tmp`, …) and success markers (`x.done`) are ignored,
    unless the pattern itself has such a name.
    """
    if is_uri(pattern):
        with driver_errors(pattern):
            return _uris_matching(pattern)
    files: list[UPath] = []
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = UPath(match)
        if not _is_data(path.name, pattern_name=pattern.rsplit("/", 1)[-1]):
            continue
        inside = filter(lambda file: _is_data(file.name), sorted(path.iterdir())) if path.is_dir() else [path]
        files += [file for file in inside if file.is_file()]
    return files


def _uris_matching(pattern: str) -> list[UPath]:
    root = UPath(pattern.rstrip("/"))
    # Drivers cache listings, some until the process ends: a sensor would never see new files.
    root.fs.invalidate_cache()
    # fsspec supports `**` only as a complete path segment; elsewhere it means *.
    glob_path = re.sub(r"[^/]+", lambda name: name[0] if name[0] == "**" else re.sub(r"\*+", "*", name[0]), root.path)
    paths: list[str] = []
    for match, info in sorted(root.fs.glob(glob_path, detail=True).items()):
        # As for local paths, * doesn't match a name that begins with a dot.
        if not _is_data(_name(match), pattern_name=root.name) or ("/." in match and "/." not in pattern):
            continue
        if info["type"] == "directory":
            inside = (file["name"] for file in root.fs.ls(match, detail=True) if file["type"] != "directory")
            # A store without folders can have an empty object for a folder, and list it as its own content.
            paths += [file for file in sorted(inside) if _is_data(_name(file)) and file.rstrip("/") != match]
        elif not match.endswith("/"):
            paths.append(match)
    return [UPath(path, protocol=root.protocol, **root.storage_options) for path in paths]


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def files_by_day(pattern: str) -> dict[dt.date, list[UPath]]:
    """Day → sorted files that match an absolute glob with a date."""
    matcher = _date_matcher(_without_protocol(pattern))
    by_day: dict[dt.date, list[UPath]] = {}
    for file in files_matching(re.sub(_PLACEHOLDER, lambda date: re.sub("(%.)+", "*", date.group(1)), pattern)):
        if (match := matcher.match(file.path)) and (day := _day_of(match)):
            by_day.setdefault(day, []).append(file)
    return by_day


def folders_of_one_day(pattern: str, file: UPath) -> list[UPath]:
    """Parent folders of a file that have no file of another day, by the pattern.

    Without a date in the pattern, the result is the folder of the file.
    """
    if not has_date(pattern):
        return [file.parent]
    # In `log/{date:%Y/%m}/{date:%d}/till*/*.csv`, the part `log/{date:%Y}/{date:%m}/{date:%d}` has the day.
    parts = re.sub(_PLACEHOLDER, lambda date: date[0].replace("/", "}/{date:"), _without_protocol(pattern)).split("/")
    beginnings = ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
    matcher = _date_matcher(next(filter(_has_full_date, beginnings)))
    return [folder for folder in file.parents if matcher.match(folder.path)]


def _without_protocol(pattern: str) -> str:
    """The pattern without its protocol, as in the driver's paths: `bucket/*.csv` for `s3://bucket/*.csv`."""
    return UPath(pattern.rstrip("/")).path if is_uri(pattern) else pattern


def _is_data(name: str, pattern_name: str = "") -> bool:
    hidden = name.startswith((".", "_")) and not pattern_name.startswith(name[0])
    return not hidden and (not name.endswith(_NOT_DATA) or pattern_name.endswith(_NOT_DATA))


def _date_matcher(pattern: str) -> re.Pattern[str]:
    """A regular expression for the parts of a date in a path; its groups are Y, m, d and so on."""
    out, seen = "", set()
    for position, piece in enumerate(re.split(_PLACEHOLDER, pattern)):
        if position % 2 == 0:
            out += _as_regex(piece)
            continue
        for token in re.split("(%.)", piece):
            if token not in DATE_PARTS:
                out += re.escape(token)
            else:
                out += f"(?P={token[1]})" if token in seen else f"(?P<{token[1]}>{DATE_PARTS[token]})"
                seen.add(token)
    return re.compile(out + "(?:/[^/]+)?$")  # the pattern can be a folder


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
    """The day of the matched parts; None if the text is not exactly what the pattern would write."""
    parts = match.groupdict()
    pattern = " ".join(f"%{name}" for name in parts)
    text = " ".join(parts.values())
    try:
        day = dt.datetime.strptime(text, pattern).date()
    except ValueError:
        return None
    return day if day.strftime(pattern) == text else None
