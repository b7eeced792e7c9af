"""Errors as the API tells them: always a `Problem`, with what to do. What was sent is never sent back.

It may be long, secret or no valid JSON.
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

from rec_assets.serving import schemas
from rec_assets.serving.runtime import DatabaseUnavailable
from rec_assets.serving.security import Refused

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "description": what}
    for status, what in {
        401: "The key is missing, wrong or has expired.",
        403: "The key may not do this, or not for this customer.",
        413: "The body is longer than REC_API__MAX_BODY_KB allows: send fewer events at once.",
        422: "Something in the request is not as described here.",
        429: "Too many requests; `Retry-After` says when to try again.",
        503: "Not ready, or the database doesn't answer.",
    }.items()
}
"""What any route may answer with, for the documentation."""

_HTTP = {
    400: ("no_json", "the body is no JSON in UTF-8"),
    404: ("not_found", "there is nothing at this address; see /docs. A slash in an id is sent as %2F"),
    405: ("method_not_allowed", "this address takes other methods; see /docs"),
}


class NothingTaken(Exception):
    """Of a batch of events, all are refused."""

    def __init__(self, refused: Sequence[schemas.RefusedEvent]) -> None:
        super().__init__(f"{len(refused)} events refused")
        self.refused = refused


def handle_errors(app: FastAPI) -> None:
    """Answer every error with a `Problem`."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return _problem(error.status, error.error, error.message, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error.errors())

    @app.exception_handler(NothingTaken)
    async def nothing_taken(_: Request, error: NothingTaken) -> JSONResponse:
        return _invalid([{"loc": ("events", each.number), "msg": each.message} for each in error.refused])

    @app.exception_handler(ValidationError)
    async def inconsistent(_: Request, error: ValidationError) -> JSONResponse:
        return _invalid(error.errors(include_input=False, include_url=False, include_context=False))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        name, message = _HTTP.get(error.status_code, ("refused", str(error.detail)))
        return _problem(error.status_code, name, message, headers=dict(error.headers or {}))

    @app.exception_handler(Exception)  # logged by Starlette, which answers outside of all middleware
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        headers = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        return _problem(500, "internal", "this is our fault, and the log says why", headers=headers)

    @app.exception_handler(SQLAlchemyError)
    async def database(_: Request, error: SQLAlchemyError) -> JSONResponse:
        if not isinstance(error, DatabaseUnavailable):  # said once, and not by each request
            logging.getLogger(__name__).error("the online state doesn't answer: %s", type(error).__name__)
        message = "the database doesn't answer, or can't be written to; nothing was written, send it again"
        return _problem(503, "database", message, headers={"Retry-After": "2"})


def _invalid(errors: Any) -> JSONResponse:
    fields = [
        {"field": ".".join(str(part) for part in each["loc"]) or "body", "message": str(each["msg"])} for each in errors
    ]
    named = "; ".join(f"{each['field']}: {each['message']}" for each in fields[:3])
    return _problem(422, "invalid", f"not as described in /docs: {named}", fields=fields[:20])


def _problem(
    status: int,
    error: str,
    message: str,
    *,
    fields: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    problem = schemas.Problem(error=error, message=message, fields=fields or [])
    return JSONResponse(problem.model_dump(), status_code=status, headers=headers)
