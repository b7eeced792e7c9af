"""The API's processes: uvicorn with its workers, and how they log and count together."""

from __future__ import annotations

import copy
import os
import tempfile
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from rec_assets.settings import Settings, get_settings


def serve(settings: Settings) -> None:
    """Answer requests until stopped; requests under way are finished first."""
    # Of this server alone: others may serve the same folder, which needn't be ours to write to.
    with tempfile.TemporaryDirectory(prefix="rec_assets-metrics-") as folder:
        os.environ |= {"PROMETHEUS_MULTIPROC_DIR": folder, "REC_HOME": str(settings.root)}
        for name in ("storefront_key", "customer_secret"):  # the demo shop's, which no variable may name
            if value := getattr(settings.api, name):
                os.environ[f"REC_API__{name.upper()}"] = value.get_secret_value()
        get_settings.cache_clear()  # a single worker is this process
        uvicorn.run(
            "rec_assets.serving.api:create_app",
            factory=True,
            host=settings.api.host,
            port=settings.api.port,
            workers=settings.api.workers,
            access_log=False,  # paths hold customers' ids; `metrics.Observe` logs without them
            log_config=_logging(),
            server_header=False,
            timeout_graceful_shutdown=10,
        )


def _logging() -> dict[str, Any]:
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["default"]["fmt"] = "%(asctime)s %(levelprefix)s %(message)s"
    config["loggers"]["rec_assets"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
