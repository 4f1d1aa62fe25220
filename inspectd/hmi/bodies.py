"""What pages send and get: JSON, of a bounded size."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from inspectd.hmi.commands import NotDoneError

LARGEST = 16_384
"""Bytes of what a page sends."""


async def body_of(request: Request) -> bytes:
    """Return what was sent; NotDoneError: it is too much."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise NotDoneError(f"More than {LARGEST} bytes were sent; nothing was done.", 413)
    return body


async def object_of(request: Request) -> dict[str, Any]:
    """Return the JSON object that was sent, an empty one for nothing; NotDoneError: it is none."""
    try:
        return msgspec.json.decode(await body_of(request) or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotDoneError(f"What was sent is no JSON object: {error}.", 400) from None


def json_response(value: Any) -> Response:
    """Return an answer."""
    return Response(msgspec.json.encode(value), media_type="application/json")
