"""Pages for browsers: the API documentation, the widget for a shop's pages, and a demo shop."""

import datetime as dt
from pathlib import Path
from typing import Any

import fastapi_swagger
import numpy as np
from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from rec_assets.serving.http.dependencies import WorkerState
from rec_assets.serving.http.placeholders import draw_category
from rec_assets.serving.http.security import customer_token

PAGES = Path(__file__).with_name("pages")

_SWAGGER = Path(fastapi_swagger.__file__).with_name("resources")

MAX_CUSTOMERS = 12
"""Customers to choose from in the demo shop."""


def add_pages(app: FastAPI, state: WorkerState) -> None:
    """Add the documentation, the widget and, if the settings have a `storefront_key`, the demo shop."""

    def add_file(address: str, path: Path, media_type: str) -> None:
        @app.get(address, include_in_schema=False)
        def file() -> FileResponse:
            return FileResponse(path, media_type=media_type, headers={"Cache-Control": "public, max-age=3600"})

    add_file("/docs", PAGES / "docs.html", "text/html")
    add_file("/docs/docs.js", PAGES / "docs.js", "text/javascript")
    add_file("/docs/swagger-ui.css", _SWAGGER / "swagger-ui.css", "text/css")
    add_file("/docs/swagger-ui-bundle.js", _SWAGGER / "swagger-ui-bundle.js", "text/javascript")
    add_file("/widget.js", PAGES / "widget.js", "text/javascript")

    runtime, storefront_key, secret = state.runtime, state.settings.api.storefront_key, state.customer_secret
    if not storefront_key:
        return

    @app.get("/", include_in_schema=False)
    def start() -> RedirectResponse:
        return RedirectResponse("/storefront/storefront.html")

    @app.get("/storefront/setup.json", include_in_schema=False)
    def setup() -> dict[str, Any]:
        customers: list[str] = []
        if runtime.engine is not None:
            ids = runtime.engine.recommender.index.histories.customers
            positions = np.linspace(0, len(ids) - 1, min(MAX_CUSTOMERS, len(ids))).astype(int)
            customers = [ids[position].decode() for position in positions]
        expires = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
        tokens = {each: customer_token(secret, each, expires) for each in customers} if secret else {}
        return {"api": "", "key": storefront_key.get_secret_value(), "customers": customers, "tokens": tokens}

    @app.get("/storefront/drawings/{category:path}", include_in_schema=False)
    def drawing(category: str) -> Response:
        return Response(draw_category(category), media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})

    if (images := state.settings.api.storefront_images) is not None:
        app.mount("/storefront/images", StaticFiles(directory=images))
    app.mount("/storefront", StaticFiles(directory=PAGES))
