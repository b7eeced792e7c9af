"""What the API gives to browsers: its documentation, the widget for a shop's pages, and a demo shop that uses it."""

import datetime as dt
from pathlib import Path
from typing import Any

import fastapi_swagger
import numpy as np
from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from rec_assets.serving.runtime import ServingRuntime
from rec_assets.serving.security import customer_token

PAGES = Path(__file__).with_name("pages")

_SWAGGER = Path(fastapi_swagger.__file__).with_name("resources")

SHOWN_CUSTOMERS = 12


def add_pages(app: FastAPI, live: ServingRuntime, storefront_key: str | None, customer_secret: str | None) -> None:
    """Serve the documentation, the widget and, given a key for it, the demo shop.

    The secret signs the tokens of the demo shop's customers.
    """

    def file(address: str, path: Path, media_type: str) -> None:
        @app.get(address, include_in_schema=False)
        def found() -> FileResponse:
            return FileResponse(path, media_type=media_type, headers=_CACHED)

    file("/docs", PAGES / "docs.html", "text/html")
    file("/docs/docs.js", PAGES / "docs.js", "text/javascript")
    file("/docs/swagger-ui.css", _SWAGGER / "swagger-ui.css", "text/css")
    file("/docs/swagger-ui-bundle.js", _SWAGGER / "swagger-ui-bundle.js", "text/javascript")
    file("/widget.js", PAGES / "widget.js", "text/javascript")

    if storefront_key is None:
        return

    @app.get("/", include_in_schema=False)
    def start() -> RedirectResponse:
        return RedirectResponse("/storefront/storefront.html")

    @app.get("/storefront/setup.json", include_in_schema=False)
    def setup() -> dict[str, Any]:
        customers: list[str] = []
        if live.engine is not None:
            ids = live.engine.recommender.index.histories.customers
            places = np.linspace(0, len(ids) - 1, min(SHOWN_CUSTOMERS, len(ids))).astype(int)
            customers = [ids[place].decode() for place in places]
        until = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
        tokens = {each: customer_token(customer_secret, each, until) for each in customers} if customer_secret else {}
        return {"api": "", "key": storefront_key, "customers": customers, "tokens": tokens}

    app.mount("/storefront", StaticFiles(directory=PAGES))


_CACHED = {"Cache-Control": "public, max-age=3600"}
