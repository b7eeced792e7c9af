"""Settings of the export of recommendations to a SQL table."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class ExportSettings(BaseModel):
    """Settings of the export of recommendations, as `REC_EXPORT__…`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of the database that gets the lists, such as "
        "`postgresql+psycopg://user@host/shop`. By default, nothing is exported.",
    )
    table: str = Field(
        "recommendations", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", description="Table of the lists. It is created."
    )
    size: int = Field(20, ge=1, le=1000, description="Number of products in each list; at most the recipe's list size.")
