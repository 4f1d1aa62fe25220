"""The pages and what they ask for: a Starlette application.

Everything is addressed relative to where the application is mounted, so that a proxy may show it below a path.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jinja2
import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from inspectd.hmi import commands, feed, words
from inspectd.hmi.accounts import Person, Role, TooManyError
from inspectd.hmi.bodies import body_of, json_response, object_of
from inspectd.hmi.calibration_pages import CalibrationPages
from inspectd.hmi.gallery import CAMERA
from inspectd.hmi.gallery_pages import GalleryPages
from inspectd.hmi.gate import Gate, token_of
from inspectd.hmi.server import Server
from inspectd.watching import GONE_S

LOG = logging.getLogger(__name__)

HERE = Path(__file__).parent
MOST_BROWSERS = 250


class Pages:
    """The handlers; one object for one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "pages"), autoescape=True, undefined=jinja2.StrictUndefined
        )
        self._browsers = 0
        self._logins = CapacityLimiter(1)
        """Logins wait for each other, and hold up nobody else."""

    async def wall(self, request: Request) -> Response:
        """All cameras."""
        return self.page(request, "wall.html", cameras=sorted(self._server.wall.cameras))

    async def camera(self, request: Request) -> Response:
        """One camera, large, with what can be asked of it."""
        name = request.path_params["name"]
        if not CAMERA.fullmatch(name):
            return PlainTextResponse(f"{name!r} is no name of a camera.", 404)
        return self.page(request, "camera.html", camera=name)  # it may be heard of later

    async def login(self, request: Request) -> Response:
        """The form, and what it sends."""
        if request.method == "GET":
            return self.page(request, "login.html", wrong=None)
        try:
            fields = parse_qs((await body_of(request)).decode(errors="replace"))
        except commands.NotDoneError as error:
            return PlainTextResponse(str(error), error.status)
        name, password = (fields.get(key, [""])[0] for key in ("name", "password"))
        address = request.client.host if request.client else ""
        try:
            login = partial(self._server.accounts.login, name, password, address)
            token = await to_thread.run_sync(login, limiter=self._logins)
        except TooManyError as error:
            return self.page(request, "login.html", status=429, wrong=str(error))
        if token is None:
            LOG.warning("wrong name or password from %s", address)
            return self.page(request, "login.html", status=403, wrong="wrong name or password")
        response = RedirectResponse(f"{_root(request)}/", 303)
        self._set_cookie(request, response, token)
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        self._server.accounts.logout(token_of(request.headers, self._server.settings.cookie) or "")
        response = RedirectResponse(f"{_root(request)}/", 303)
        response.delete_cookie(self._server.settings.cookie, path=_root(request) or "/")
        return response

    async def command(self, request: Request) -> Response:
        """One command for the daemon: JSON in, JSON out."""
        person: Person = request.scope["person"]
        try:
            fields = await object_of(request)
            asked, command = commands.build(person, request.path_params["name"], fields)
            settings = self._server.settings
            result = await run_in_threadpool(commands.ask, settings.control, settings.keys, asked, command.patience_s)
        except commands.NotDoneError as error:
            return JSONResponse({"ok": False, "message": str(error)}, error.status)
        return json_response({"ok": True, "result": result})

    async def reset(self, request: Request) -> Response:
        """Begin a new count."""
        person: Person = request.scope["person"]
        try:
            commands.check_role(person, Role.OPERATOR)
            signed = commands.signature(person, await object_of(request))
        except commands.NotDoneError as error:
            return JSONResponse({"ok": False, "message": str(error)}, error.status)
        self._server.counts.reset(signed["by"], signed["why"])
        LOG.info("a new count was begun by %(by)s: %(why)s", signed)
        return json_response({"ok": True, "result": None})

    async def feed(self, socket: WebSocket) -> None:
        """What changes, as it does."""
        if self._browsers >= MOST_BROWSERS:
            await socket.close(1013, "There are too many browsers on this page.")
            return
        await socket.accept()
        self._come(1)
        server = self._server
        one = feed.Feed(server.wall, socket.query_params.get("camera"), server.count)
        token = token_of(socket.headers, server.settings.cookie)
        known = socket.scope["person"].name

        def may_look() -> bool:
            person = server.accounts.person(token)
            return person is not None and person.name == known

        try:
            await feed.run(one, server.changed, socket.send_bytes, socket.receive_text, server.trouble, may_look)
            await socket.close(1008, "The session is over.")
        except (WebSocketDisconnect, TimeoutError, RuntimeError, KeyError):
            pass  # it went, or speaks otherwise; it comes again by itself
        finally:
            self._come(-1)

    def _come(self, count: int) -> None:
        self._browsers += count
        self._server.watch(self._browsers)

    async def healthz(self, request: Request) -> Response:
        """That the page is served, how long ago the daemon was heard, and whether the asker may look."""
        heard_ns = self._server.wall.daemon_heard_ns
        age_s = None if heard_ns is None else round((time.monotonic_ns() - heard_ns) / 1e9, 1)
        is_known = request.scope.get("person") is not None
        said = {"ok": True, "daemon_age_s": age_s, "browsers": self._browsers, "is_known": is_known}
        return json_response(said)

    def _set_cookie(self, request: Request, response: Response, token: str) -> None:
        is_secure = request.scope["scheme"] == "https"
        path = _root(request) or "/"
        name = self._server.settings.cookie
        response.set_cookie(name, token, httponly=True, samesite="strict", secure=is_secure, path=path)

    def page(self, request: Request, template: str, *, status: int = 200, **more: Any) -> Response:
        """Return a page made of a template."""
        person: Person | None = request.scope.get("person")
        language = words.choose(request, self._server.settings.language)
        text = self._templates.get_template(template).render(
            root=_root(request),
            person=person,
            role=None if person is None else person.role.value,
            roles=[] if person is None else [one.value for one in Role if person.role.may(one)],
            can_login=self._server.accounts.has_users,
            language=language,
            say=words.Sayer(language),
            words=msgspec.json.encode(words.for_pages(language)).decode().replace("<", "\\u003c"),
            gone_s=GONE_S,
            **more,
        )
        response = HTMLResponse(text, status)
        if "language" in request.query_params:
            response.set_cookie(words.COOKIE, language, samesite="strict", path=_root(request) or "/")
        return response


def build(server: Server) -> Starlette:
    """Return the application of a server."""
    pages = Pages(server)
    gallery, calibration = GalleryPages(server, pages.page), CalibrationPages(server, pages.page)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with server.running():
            yield

    return Starlette(
        lifespan=lifespan,
        middleware=[Middleware(Gate, settings=server.settings, accounts=server.accounts)],
        routes=[
            Route("/", pages.wall),
            Route("/camera/{name}", pages.camera),
            Route("/calibrate/{name}", calibration.page),
            Route("/calibrate/{name}/status", calibration.status),
            Route("/calibrate/{name}/report", calibration.report),
            Route("/calibrate/{name}/{what}", calibration.act, methods=["POST"]),
            Route("/gallery", gallery.gallery),
            Route("/part/{camera}/{epoch}/{seq:int}", gallery.part),
            Route("/kept/{camera}/{name}", gallery.picture),
            Route("/login", pages.login, methods=["GET", "POST"]),
            Route("/logout", pages.logout, methods=["POST"]),
            Route("/do/reset", pages.reset, methods=["POST"]),
            Route("/do/{name}", pages.command, methods=["POST"]),
            WebSocketRoute("/feed", pages.feed),
            Route("/healthz", pages.healthz),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
    )


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))
