"""Code versions of assets that must be made again when the names of their stored columns or files change."""

import hashlib
from collections.abc import Iterable


def with_layout(code_version: str, names: Iterable[str]) -> str:
    """The code version, followed by a digest of the names and their order."""
    return f"{code_version}-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:8]}"
