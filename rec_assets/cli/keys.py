"""Commands about API keys and customer tokens: keys add, token, list, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rec_assets.settings import get_settings

if TYPE_CHECKING:
    from rec_assets.serving.database.keys import Key
    from rec_assets.serving.database.online_state import OnlineState


@click.group()
def keys() -> None:
    """Add, list and revoke API keys."""


@keys.command("add")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True,
    type=click.Choice(["read", "events", "sales", "admin", "simulate"]),
    help="What the key allows; you can repeat it. Purchases and returns need `events` and `sales`.",
)  # fmt: skip
@click.option("--days", type=click.IntRange(1), help="Days until the key expires; default: never.")
@click.option("--public", is_flag=True, help="For browsers: acts for a customer only with a customer token.")
def add_key(name: str, scopes: tuple[str, ...], days: int | None, public: bool) -> None:
    """Create a key called NAME, and print it. Only its digest is stored, so it can't be shown again."""
    import datetime as dt

    now = dt.datetime.now(dt.timezone.utc)
    expires = None if days is None else now + dt.timedelta(days=days)
    try:
        click.echo(open_online_state().add_key(name, scopes, now, expires, is_public=public))
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@keys.command("token")
@click.argument("customer_id")
@click.option("--days", type=click.IntRange(1), default=1, show_default=True, help="Days until the token expires.")
def make_token(customer_id: str, days: int) -> None:
    """Print a customer token. It lets a public key act for CUSTOMER_ID. Your server makes such tokens too."""
    import datetime as dt

    from rec_assets.serving.http.security import customer_token

    secret = get_settings().api.customer_secret
    if secret is None:
        raise click.ClickException("set REC_API__CUSTOMER_SECRET to a secret of 32 characters or more")
    until = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=days)
    click.echo(customer_token(secret.get_secret_value(), customer_id, until))


@keys.command("list")
def list_keys() -> None:
    """Print the name, the scopes and the expiry of each key."""
    from tabulate import tabulate

    def expiry(key: Key) -> str:
        return f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"

    rows = [(key.name, ", ".join(sorted(key.scopes)), key.is_public, expiry(key)) for key in _existing_keys()]
    headers = ["name", "scopes", "public", "expires (UTC)"]
    click.echo(tabulate(sorted(rows), headers=headers) if rows else "there are no keys")


@keys.command("revoke")
@click.argument("name")
def revoke_key(name: str) -> None:
    """Revoke all keys called NAME at once."""
    count = open_online_state().revoke_key(name) if _existing_keys() else 0
    if not count:
        raise click.ClickException(f"there is no key called {name!r}; `rec-assets keys list` shows the keys")
    click.echo(f"revoked {count} key{'s' if count > 1 else ''} called {name!r}")


def open_online_state() -> OnlineState:
    """Open the database of the API; create it if it doesn't exist."""
    from sqlalchemy.exc import SQLAlchemyError

    from rec_assets.serving.database.online_state import OnlineState

    settings = get_settings()
    settings.serving.mkdir(parents=True, exist_ok=True)
    location = "REC_API__DATABASE_URL" if settings.api.database_url else settings.online_file
    try:
        online = OnlineState(settings.online_url)
        online.create()
    except (SQLAlchemyError, ImportError) as error:
        why = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise click.ClickException(f"can't open the API's database ({location}): {why}") from None
    return online


def _existing_keys() -> list[Key]:
    """The keys of the API, without creating a database."""
    settings = get_settings()
    exists = settings.api.database_url is not None or settings.online_file.exists()
    return list(open_online_state().keys().values()) if exists else []
