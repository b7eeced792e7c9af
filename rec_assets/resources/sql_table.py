"""A table of a SQL database whose rows are replaced all at once, or not at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import pyarrow as pa
import sqlalchemy as sa

from rec_assets.errors import UserError
from rec_assets.files import one_line
from rec_assets.sql_urls import shown_url, without_secrets

_ROWS = 5000
"""Rows of a statement."""


class ExportError(UserError, RuntimeError):
    """The database can't be written; the message says why, without a password. The table is as it was."""


def replace_lists(url: str, name: str, day: dt.date, parts: Iterable[pa.Table]) -> int:
    """Replace all rows of a table with recommendations in one transaction; returns their number.

    Readers see the old rows until the new ones are complete. A missing table is created: customer_id (primary key),
    as_of, products, discover.

    Args:
        url: SQLAlchemy URL of the database.
        name: Table.
        day: As-of day of the lists.
        parts: Tables with customer_id, products, discover.

    Raises:
        ExportError: see the class.
    """
    table = sa.Table(
        name, sa.MetaData(), sa.Column("customer_id", sa.String(512), primary_key=True),
        sa.Column("as_of", sa.Date, nullable=False), sa.Column("products", sa.Text, nullable=False),
        sa.Column("discover", sa.Text, nullable=False),
    )  # fmt: skip
    rows = 0
    try:
        parsed = sa.make_url(url)
        engine = sa.create_engine(parsed)
        try:
            table.create(engine, checkfirst=True)
            with engine.begin() as connection:
                connection.execute(sa.delete(table))
                for part in parts:
                    for batch in part.to_batches(_ROWS):
                        connection.execute(sa.insert(table), [{**row, "as_of": day} for row in batch.to_pylist()])
                        rows += len(batch)
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise ExportError(_describe(error, url, name)) from None
    return rows


def _describe(error: Exception, url: str, name: str) -> str:
    problem = one_line(str(getattr(error, "orig", None) or error))[:500]
    try:
        sa.make_url(url)
    except sa.exc.ArgumentError:
        return "REC_EXPORT__URL is not a SQLAlchemy URL such as postgresql+psycopg://user@host/shop"
    problem, where = without_secrets(problem, url), shown_url(url)
    return f"REC_EXPORT__URL ({where}): the table {name} can't be written, and is as it was: {problem}"
