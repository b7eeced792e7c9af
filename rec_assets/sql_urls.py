"""SQLAlchemy URLs in messages: without passwords, which can also be in the query of a URL."""

from __future__ import annotations

import sqlalchemy as sa


def shown_url(url: str) -> str:
    """Driver, user, host and database of a URL."""
    parsed = sa.make_url(url)
    return parsed.set(query={}).render_as_string(hide_password=True)


def without_secrets(text: str, url: str) -> str:
    """A text without the password of a URL and the values of its query."""
    parsed = sa.make_url(url)
    values = [value for each in parsed.query.values() for value in ([each] if isinstance(each, str) else each)]
    for secret in (*([str(parsed.password)] if parsed.password else []), *filter(None, values)):
        text = text.replace(secret, "***")
    return text
