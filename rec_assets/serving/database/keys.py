"""API keys: create, revoke and list them. The database holds only digests."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from rec_assets.serving.database.connection import OnlineDatabase
from rec_assets.serving.database.tables import ADMIN, KEYS, SCOPES, SIMULATE
from rec_assets.serving.database.tables import keys as _keys


@dataclass(frozen=True)
class Key:
    """An API key without its secret.

    Attributes:
        scopes: What the key may do.
        expires: None: never.
        is_public: Whether everybody can see it in web pages. To act for a customer, such a key needs a customer token.
    """

    name: str
    scopes: frozenset[str]
    expires: dt.datetime | None = None
    is_public: bool = False

    def has_expired(self, now: dt.datetime) -> bool:
        """Whether the key has expired."""
        return self.expires is not None and self.expires <= now


class KeyStore(OnlineDatabase):
    """API keys."""

    def add_key(
        self, name: str, scopes: Sequence[str], now: dt.datetime, expires: dt.datetime | None = None, *,
        is_public: bool = False,
    ) -> str:  # fmt: skip
        """Create a key and return it. It can't be shown again, because only its digest is stored.

        Raises:
            ValueError: a scope is unknown, there is none, or one can't be public.
        """
        unknown = set(scopes) - set(SCOPES)
        if unknown or not scopes:
            raise ValueError(f"scopes are {', '.join(SCOPES)}, not {', '.join(sorted(unknown)) or 'none'}")
        for scope in (ADMIN, SIMULATE):
            if is_public and scope in scopes:
                raise ValueError(f"a public key can't have the scope {scope!r}")
        key = f"rec_{secrets.token_urlsafe(24)}"
        row = {
            "digest": key_digest(key), "name": name, "scopes": ",".join(sorted(set(scopes))), "is_public": is_public,
            "created": now.timestamp(), "expires": expires.timestamp() if expires else None,
        }  # fmt: skip
        with self._begin_change(KEYS) as connection:
            connection.execute(sa.insert(_keys).values(**row))
        return key

    def revoke_key(self, name: str) -> int:
        """Delete all keys with this name; returns the number."""
        with self._begin_change(KEYS) as connection:
            return connection.execute(sa.delete(_keys).where(_keys.c.name == name)).rowcount

    def keys(self) -> dict[str, Key]:
        """`key_digest` → key."""
        with self._reader.connect() as connection:
            rows = connection.execute(sa.select(_keys)).all()
        keys = {}
        for row in rows:
            expires = None if row.expires is None else dt.datetime.fromtimestamp(row.expires, dt.timezone.utc)
            keys[row.digest] = Key(row.name, frozenset(row.scopes.split(",")), expires, row.is_public)
        return keys


def key_digest(key: str) -> str:
    """SHA-256 of a key. A slow hash is not needed, because keys are long and random."""
    return hashlib.sha256(key.encode()).hexdigest()
