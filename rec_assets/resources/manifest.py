"""The manifest of a partition: which Parquet files are the partition, and their fingerprint and checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

MANIFEST = "_manifest.json"


class Part(NamedTuple):
    """A Parquet file that was written but belongs to no partition yet.

    Attributes:
        name: Its file name in the partition.
        digest: Its `content_hash`.
        rows, bytes: Its size.
        checksum: CRC-32 of all its bytes.
    """

    name: str
    digest: str
    rows: int
    bytes: int
    checksum: int


@dataclass(frozen=True)
class Manifest:
    """Content of a partition.

    Attributes:
        files: File names, in order.
        rows: Number of rows in all files.
        bytes: Size of all files.
        fingerprint: SHA-256 over the files' pages and schemas; equal for equal content.
        sources: For a raw table: each landed file that it was read from → SHA-256 of that file.
        checksums: CRC-32 of each whole file. Files with equal content may have different checksums, because Java's
            footers differ.
    """

    files: list[str]
    rows: int
    bytes: int
    fingerprint: str
    sources: dict[str, str] = field(default_factory=dict)
    checksums: list[int] = field(default_factory=list, compare=False)

    @classmethod
    def from_parts(cls, parts: Sequence[Part], sources: Mapping[str, str]) -> Manifest:
        """The manifest of a partition that consists of these parts."""
        return cls(
            [part.name for part in parts], sum(part.rows for part in parts), sum(part.bytes for part in parts),
            hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest(), dict(sources),
            [part.checksum for part in parts],
        )  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Manifest | None:
        """A manifest from the text of its file; None if the file is damaged."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    @property
    def text(self) -> str:
        """Text of the manifest's file."""
        return json.dumps(asdict(self), indent=1)
