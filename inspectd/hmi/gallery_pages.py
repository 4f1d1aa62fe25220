"""The gallery's pages: parts of the past, one of them large, and what is taken away of them."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

from inspectd.hmi.gallery import CAMERA, LARGE_PX, THUMB_PX, Entry, Filter, Found, Gallery, GalleryError
from inspectd.hmi.server import Server
from inspectd.records import Outcome, Reason

NOT_OK = frozenset({Outcome.NG, Outcome.FAULT})
VERDICTS = {
    "": ("ng, fault", NOT_OK),
    "ng": ("ng", frozenset({Outcome.NG})),
    "fault": ("fault", frozenset({Outcome.FAULT})),
    "ok": ("ok", frozenset({Outcome.OK})),
    "any": ("all", frozenset(Outcome)),
    "marked": ("marked", frozenset(Outcome)),
}
FOREVER = "private, max-age=31536000, immutable"
"""A picture of a name never changes."""
CHUNK = 1 << 18
MOST_PLACE = 2**63 - 1
"""What SQLite takes."""

Render = Callable[..., Response]


class GalleryPages:
    """The handlers; `render(request, template, **more)` makes a page."""

    def __init__(self, server: Server, render: Render) -> None:
        self._server, self._render = server, render
        self._exporting = asyncio.Semaphore(1)
        self._gallery = Gallery(server.settings.journal, server.settings.archive)

    async def gallery(self, request: Request) -> Response:
        """What is found, as a page, a table or pictures."""
        asked = request.query_params
        try:
            wanted, before = _filter(asked), _place(asked.get("before"))
        except (ValueError, OverflowError):
            return PlainTextResponse("The address of this page is not what was expected; go back to the gallery.", 400)
        trouble, found = None, Found([], None, None)
        try:
            match asked.get("as"):
                case "csv":
                    async with self._exporting:
                        table = await run_in_threadpool(self._gallery.csv, wanted)
                    return _download(table.encode("utf-8-sig"), "text/csv; charset=utf-8", "parts.csv")
                case "zip":
                    async with self._exporting:
                        return await self._zipped(wanted)
            found = await run_in_threadpool(self._gallery.find, wanted, before)
        except GalleryError as error:
            trouble = str(error)
        except OSError as error:
            trouble = f"The pictures cannot be put together: {error.strerror or error}."
        shown = {key: asked.get(key, "") for key in ("camera", "verdict", "reason", "recipe", "since", "until")}
        more = urlencode({key: value for key, value in asked.items() if key not in ("before", "as")})
        return self._render(
            request,
            "gallery.html",
            asked=shown,
            cameras=sorted({*self._server.wall.cameras, *([wanted.camera] if wanted.camera else [])}),
            verdicts=[(value, text) for value, (text, _) in VERDICTS.items()],
            reasons=[one.value for one in Reason],
            found=found,
            trouble=trouble,
            query=more,
            thumb_px=THUMB_PX,
        )

    async def part(self, request: Request) -> Response:
        """One part, and its neighbours."""
        camera, epoch, seq = (request.path_params[key] for key in ("camera", "epoch", "seq"))
        if not CAMERA.fullmatch(camera) or seq > MOST_PLACE:
            return PlainTextResponse("This is no address of a part.", 404)
        try:
            part, near = await run_in_threadpool(self._gallery.part, camera, epoch, seq)
        except GalleryError as error:
            return PlainTextResponse(str(error), 404)
        map_ = b""
        if part.picture is not None:
            try:
                found = await run_in_threadpool(self._gallery.map_of, camera, part.picture)
                map_ = b"" if found is None else found.tobytes()
            except GalleryError:  # damaged, or gone meanwhile: the page says so where the picture would be
                pass
        return self._render(
            request,
            "part.html",
            part=part,
            near=near,
            facts=_facts(part),
            map=base64.b64encode(map_).decode(),
            header_json=msgspec.json.encode(part.header).decode().replace("<", "\\u003c"),
            thumb_px=THUMB_PX,
            large_px=LARGE_PX,
        )

    async def picture(self, request: Request) -> Response:
        """A picture: as it is kept, or as a JPEG of some size."""
        camera, name = request.path_params["camera"], request.path_params["name"]
        headers = {"cache-control": FOREVER}
        try:
            if "px" not in request.query_params:
                path = await run_in_threadpool(self._gallery.path_of, camera, name)
                return FileResponse(path, headers=headers, filename=name)
            most_px = THUMB_PX if request.query_params["px"] == str(THUMB_PX) else LARGE_PX
            jpeg = await run_in_threadpool(self._gallery.picture, camera, name, most_px)
        except GalleryError as error:
            return PlainTextResponse(str(error), 404)
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    async def _zipped(self, wanted: Filter) -> Response:
        file = tempfile.TemporaryFile(dir=self._server.settings.state)  # noqa: SIM115 - it is read while it is sent
        try:
            await run_in_threadpool(self._gallery.zip, wanted, file)
        except BaseException:
            file.close()
            raise
        size = file.tell()
        file.seek(0)

        def chunks() -> Any:
            with file:
                while chunk := file.read(CHUNK):
                    yield chunk

        response = StreamingResponse(chunks(), media_type="application/zip")
        response.headers["content-disposition"] = 'attachment; filename="parts.zip"'
        response.headers["content-length"] = str(size)
        return response


def _filter(asked: QueryParams) -> Filter:
    """Return what an address asks for; ValueError: it is no such thing."""
    verdict = asked.get("verdict", "")
    if verdict not in VERDICTS:
        raise ValueError(verdict)
    camera = asked.get("camera") or None
    if camera is not None and not CAMERA.fullmatch(camera):
        raise ValueError(camera)
    return Filter(
        camera=camera,
        verdicts=VERDICTS[verdict][1],
        reason=asked.get("reason") or None,
        recipe=asked.get("recipe") or None,
        since=_utc(asked.get("since_utc") or asked.get("since", "")),
        until=_utc(asked.get("until_utc") or asked.get("until", "")),
        marked=verdict == "marked",
    )


def _place(text: str | None) -> int | None:
    """Return where a page begins; ValueError: it is no such place."""
    place = int(text) if text else None
    if place is not None and not 0 <= place <= MOST_PLACE:
        raise ValueError(text)
    return place


def _utc(text: str) -> str | None:
    """Return a time as the journal writes it; ValueError. Where nobody says where (a script does), it is UTC."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _facts(part: Entry) -> list[tuple[str, Any]]:
    header = part.header
    return [
        ("score", None if header.score is None else f"{header.score:.6g}"),
        ("threshold", None if header.threshold is None else f"{header.threshold:.6g}"),
        ("share of good parts that score higher", None if header.p is None else f"{header.p:.4g}"),
        ("regions", len(header.regions) or None),
        ("Recipe", header.recipe),
        ("Model", header.model),
        ("picture number", header.frame),
        ("epoch", header.epoch),
    ]


def _download(data: bytes, kind: str, name: str) -> Response:
    return Response(data, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
