"""Settings of the real-time API."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class ApiSettings(BaseModel):
    """Settings of the real-time API, as `REC_API__…`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address that the API listens on. Use `0.0.0.0` for all addresses.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on.")
    workers: int = Field(
        1, ge=1, description="Number of worker processes. Each loads the index; all share the online state."
    )
    database_url: SecretStr | None = Field(
        None,
        description="Online state, as `postgresql+psycopg://user@host/shop`. The default is SQLite under `REC_HOME`.",
    )
    allowed_origins: tuple[str, ...] = Field(
        (), description='Origins of web pages that may call the API, as `["https://shop.example"]`.'
    )
    requests_per_second: float = Field(
        100,
        gt=0,
        description="Rate limit of a worker per key and client address. An expensive request counts as several.",
    )
    burst: int = Field(200, ge=1, description="Number of requests that may exceed the rate limit at once.")
    max_body_kb: int = Field(512, ge=1, description="Maximum size of a request body in kilobytes.")
    max_connections: int = Field(
        4000, ge=1, description="Maximum number of connections of a worker. One client address may hold a quarter."
    )
    request_timeout_seconds: float = Field(
        20,
        gt=0,
        description="Time limit in seconds for the headers, for the body, and for the client to read the response.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description='Addresses or networks of proxies whose `X-Forwarded-For` header is trusted, as `["10.0.0.5"]`.'
    )
    customer_secret: SecretStr | None = Field(
        None, min_length=32, description="Secret that signs the tokens with which a public key acts for a customer."
    )
    storefront_key: SecretStr | None = Field(
        None,
        description="API key of the demo storefront, which its visitors can see. By default, there is no storefront.",
    )
    storefront_images: Path | None = Field(
        None, description="Folder of pictures that the demo storefront serves under /storefront/images."
    )
    event_retention_days: int = Field(35, ge=2, description="Number of days that the online state keeps events.")

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(
                    f"{proxy!r} is no address or network, such as 10.0.0.5 or 10.0.0.0/24 ({error})"
                ) from None
        return proxies
