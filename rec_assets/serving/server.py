"""The API's processes: uvicorn with its workers, and how they log and count together."""

from __future__ import annotations

import copy
import logging
import os
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from rec_assets.serving.connections import LimitedProtocol, raise_file_limit
from rec_assets.serving.security import RateLimit
from rec_assets.serving.shared_metrics import FOLDER_VARIABLE, shared_folder
from rec_assets.settings import Settings, get_settings


def serve(settings: Settings) -> None:
    """Answer requests until stopped; requests under way are finished first."""
    os.environ["REC_HOME"] = str(settings.root)
    for name in ("storefront_key", "customer_secret"):  # the demo shop's, which no variable may name
        if value := getattr(settings.api, name):
            os.environ[f"REC_API__{name.upper()}"] = value.get_secret_value()
    raise_file_limit()
    get_settings.cache_clear()  # a single worker is this process
    with shared_folder(settings.api.workers) as folder:
        if settings.api.workers > 1:
            os.environ[FOLDER_VARIABLE] = str(folder or "")
        uvicorn.run(
            "rec_assets.serving.api:create_app",
            factory=True,
            host=settings.api.host,
            port=settings.api.port,
            workers=settings.api.workers,
            access_log=False,  # paths hold customers' ids; `metrics.Observe` logs without them
            log_config=_logging(),
            server_header=False,
            http=LimitedProtocol,
            ws="none",
            proxy_headers=bool(settings.api.trusted_proxies),
            forwarded_allow_ips=list(settings.api.trusted_proxies),
            timeout_graceful_shutdown=10,
        )


class FewWarnings(logging.Filter):
    """Of warnings that say the same only some pass: whoever connects can cause them, such as by what is no HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit(per_second=0.1, burst=10)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged."""
        return record.levelno != logging.WARNING or not self._limit.take(str(record.msg))


def _logging() -> dict[str, Any]:
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["default"]["fmt"] = "%(asctime)s %(levelprefix)s %(message)s"
    config["filters"] = {"few": {"()": FewWarnings}}
    config["loggers"]["uvicorn.error"]["filters"] = ["few"]
    config["loggers"]["rec_assets"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
