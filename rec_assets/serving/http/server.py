"""The server process: uvicorn with its workers, their shared metrics, and logging."""

from __future__ import annotations

import copy
import logging
import os
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from rec_assets.serving.http.connections import LimitedProtocol, raise_file_limit
from rec_assets.serving.http.rate_limit import RateLimit
from rec_assets.serving.http.shared_metrics import FOLDER_VARIABLE, shared_folder
from rec_assets.settings import Settings, get_settings


def serve(settings: Settings) -> None:
    """Run the API until the process is stopped. Requests in progress are completed first."""
    os.environ["REC_HOME"] = str(settings.root)
    for name in ("storefront_key", "customer_secret"):  # the demo shop creates them when it starts
        if value := getattr(settings.api, name):
            os.environ[f"REC_API__{name.upper()}"] = value.get_secret_value()
    raise_file_limit()
    get_settings.cache_clear()  # a single worker runs in this process
    with shared_folder(settings.api.workers) as folder:
        if settings.api.workers > 1:
            os.environ[FOLDER_VARIABLE] = str(folder or "")
        uvicorn.run(
            "rec_assets.serving.api:create_app",
            factory=True,
            host=settings.api.host,
            port=settings.api.port,
            workers=settings.api.workers,
            access_log=False,  # paths contain customer ids; `MetricsMiddleware` logs without them
            log_config=_log_config(),
            server_header=False,
            http=LimitedProtocol,
            ws="none",
            proxy_headers=bool(settings.api.trusted_proxies),
            forwarded_allow_ips=list(settings.api.trusted_proxies),
            timeout_graceful_shutdown=10,
        )


class WarningLimit(logging.Filter):
    """Limits the rate of equal warnings: anybody who connects can cause them, for example with invalid HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit(per_second=0.1, burst=10)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record."""
        return record.levelno != logging.WARNING or not self._limit.take(str(record.msg))


def _log_config() -> dict[str, Any]:
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["default"]["fmt"] = "%(asctime)s %(levelprefix)s %(message)s"
    config["filters"] = {"warning_limit": {"()": WarningLimit}}
    config["loggers"]["uvicorn.error"]["filters"] = ["warning_limit"]
    config["loggers"]["rec_assets"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
