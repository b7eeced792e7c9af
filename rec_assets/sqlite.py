"""SQLite files as SQLAlchemy URLs, as MLflow, Dagster and Optuna open them."""

from __future__ import annotations

import re
from pathlib import Path

_PREFIX = "sqlite:///"

_INVALID_IN_URL = re.compile(r"\?|%[0-9A-Fa-f]{2}")
"""`?` begins a URL's query, and SQLAlchemy 2.1 decodes `%20`. Quoting does not help: Dagster makes its own URLs from
plain paths, and SQLAlchemy 2.0 does not unquote."""


def sqlite_url(file: Path) -> str:
    """The URL of a file. Its path must have no `invalid_sqlite_characters`."""
    return f"{_PREFIX}{file}"


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for the URL of a server."""
    return Path(url.removeprefix(_PREFIX)) if url.startswith(_PREFIX) else None


def invalid_sqlite_characters(folder: Path) -> str | None:
    """The characters in a path, if any, with which SQLAlchemy would open another file."""
    found = _INVALID_IN_URL.search(str(folder))
    return None if found is None else found[0]
