"""SQLite files as the URLs by which SQLAlchemy, and so MLflow, Dagster and Optuna, open them: there and back."""

from __future__ import annotations

import re
from pathlib import Path

_PREFIX = "sqlite:///"

_NOT_AS_URL = re.compile(r"\?|%[0-9A-Fa-f]{2}")
"""A URL's query begins with the one, and SQLAlchemy 2.1 reads the other as an escaped character. Quoting is no way out:
Dagster makes its own URLs from plain paths, and SQLAlchemy 2.0 doesn't unquote."""


def sqlite_url(file: Path) -> str:
    """The URL of a file, whose path `unfit_for_sqlite` must not refuse."""
    return f"{_PREFIX}{file}"


def sqlite_file(url: str) -> Path | None:
    """The file of such a URL; None where it is a server's."""
    return Path(url.removeprefix(_PREFIX)) if url.startswith(_PREFIX) else None


def unfit_for_sqlite(folder: Path) -> str | None:
    """The characters in a path, if any, that lead SQLAlchemy to another file."""
    found = _NOT_AS_URL.search(str(folder))
    return None if found is None else found[0]
