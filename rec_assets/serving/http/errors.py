"""Error responses: always an `ErrorResponse` that says how to fix the request.

They never contain values from the request, which may be long, secret or invalid JSON.
"""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from rec_assets.serving.database.guard import DatabaseUnavailable
from rec_assets.serving.http import schemas
from rec_assets.serving.http.security import RequestRejected

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ErrorResponse, "description": description}
    for status, description in {
        401: "The key is missing, invalid or expired.",
        403: "The key lacks a scope, or the customer token is missing or invalid.",
        413: "The body is larger than REC_API__MAX_BODY_KB: send fewer events at once.",
        422: "A part of the request is invalid.",
        429: "Too many requests; `Retry-After` is the number of seconds to wait.",
        503: "The API is not ready, or the database is unavailable.",
    }.items()
}
"""Error responses of every route, for the OpenAPI schema."""

_MESSAGES = {
    400: ("invalid_json", "the body is not JSON in UTF-8"),
    404: ("not_found", "this address does not exist; see /docs. Encode a slash in an id as %2F"),
    405: ("method_not_allowed", "this address has other methods; see /docs"),
}


class AllEventsRejected(Exception):
    """All events of a batch are rejected."""

    def __init__(self, rejected: Sequence[schemas.RejectedEvent]) -> None:
        self.rejected = rejected


def add_error_handlers(app: FastAPI) -> None:
    """Respond to every error with an `ErrorResponse`."""

    @app.exception_handler(RequestRejected)
    async def rejected(_: Request, error: RequestRejected) -> JSONResponse:
        return _error_response(error.status, error.error, error.message, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error.errors())

    @app.exception_handler(AllEventsRejected)
    async def all_events_rejected(_: Request, error: AllEventsRejected) -> JSONResponse:
        return _invalid([{"loc": ("events", each.index), "msg": each.message} for each in error.rejected])

    @app.exception_handler(ValidationError)
    async def invalid_model(_: Request, error: ValidationError) -> JSONResponse:
        return _invalid(error.errors(include_input=False, include_url=False, include_context=False))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        code, message = _MESSAGES.get(error.status_code, ("rejected", str(error.detail)))
        return _error_response(error.status_code, code, message, headers=dict(error.headers or {}))

    @app.exception_handler(Exception)  # Starlette logs the error and responds outside of all middleware
    async def internal_error(_: Request, error: Exception) -> JSONResponse:
        headers = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        return _error_response(500, "internal_error", "an error in the API; see its log", headers=headers)

    @app.exception_handler(SQLAlchemyError)
    async def database_error(_: Request, error: SQLAlchemyError) -> JSONResponse:
        if not isinstance(error, DatabaseUnavailable):  # logged once, by the guard
            logging.getLogger(__name__).error("the database failed: %s", type(error).__name__)
        message = "the database is unavailable or not writable; nothing was written, so send the request again"
        return _error_response(503, "database_unavailable", message, headers={"Retry-After": "2"})


def _invalid(errors: Any) -> JSONResponse:
    fields = [{"field": ".".join(map(str, each["loc"])) or "body", "message": str(each["msg"])} for each in errors]
    first = "; ".join(f"{each['field']}: {each['message']}" for each in fields[:3])
    return _error_response(422, "invalid_request", f"not as described in /docs: {first}", fields=fields[:20])


def _error_response(
    status: int, error: str, message: str, fields: Sequence[dict[str, str]] = (), headers: dict[str, str] | None = None
) -> JSONResponse:
    content = schemas.ErrorResponse(error=error, message=message, fields=list(fields))
    return JSONResponse(content.model_dump(), status_code=status, headers=headers)
