"""The pages on which a camera is calibrated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from inspectd.config import CameraConfig
from inspectd.config_file import load
from inspectd.errors import UsageError
from inspectd.hmi import commands
from inspectd.hmi.accounts import Person, Role
from inspectd.hmi.bodies import json_response, object_of
from inspectd.hmi.calibrations import Busy
from inspectd.hmi.server import Server
from inspectd.wire.requests import ModelRequest

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""The report has its pictures and styles in itself, and runs nothing."""
FEWEST, MOST = 8, 5000

Render = Callable[..., Response]


class CalibrationPages:
    """The handlers; `render(request, template, **more)` makes a page."""

    def __init__(self, server: Server, render: Render) -> None:
        self._server, self._render = server, render

    async def page(self, request: Request) -> Response:
        """A camera's live picture, and its calibration."""
        name = request.path_params["name"]
        person: Person | None = request.scope["person"]
        if name not in self._server.wall.cameras:
            return PlainTextResponse(f"No camera {name!r} was heard of.", 404)
        if person is None or not person.role.may(Role.ENGINEER):
            return PlainTextResponse("Calibrating needs the role engineer.", 403)
        return self._render(request, "calibrate.html", camera=name, why_not=self._server.calibrations.why_not)

    async def status(self, request: Request) -> Response:
        """How far it is."""
        name = request.path_params["name"]
        known = name in self._server.wall.cameras
        return json_response({"ok": known, "result": self._server.calibrations.status(name) if known else None})

    async def report(self, request: Request) -> Response:
        """The report of the last run."""
        name = request.path_params["name"]
        path = self._server.calibrations.report(name) if name in self._server.wall.cameras else None
        try:
            text = "" if path is None else await run_in_threadpool(path.read_text, "utf-8")
        except OSError as error:
            return PlainTextResponse(f"The report {path} cannot be read: {error.strerror}.", 404)
        if path is None:
            return PlainTextResponse("There is no report yet.", 404)
        return HTMLResponse(text, headers={"content-security-policy": REPORT_POLICY})

    async def act(self, request: Request) -> Response:
        """Begin, stop, go on, install, roll back: JSON in, JSON out."""
        person: Person = request.scope["person"]
        name, what = request.path_params["name"], request.path_params["what"]
        acts: dict[str, Callable[[str, dict[str, Any], dict[str, str]], Awaitable[Any]]] = {
            "begin": self._begin,
            "resume": self._resume,
            "stop": self._stop,
            "install": self._install,
            "rollback": self._roll_back,
        }
        if what not in acts or name not in self._server.wall.cameras:
            return JSONResponse({"ok": False, "message": f"There is no {what!r} for camera {name!r}."}, 404)
        try:
            commands.check_role(person, Role.ENGINEER)
            fields = await object_of(request)
            signed = {} if what == "stop" else commands.signature(person, fields)
            result = await acts[what](name, fields, signed)
        except Busy as error:
            return JSONResponse({"ok": False, "message": str(error)}, 409)
        except UsageError as error:
            return JSONResponse({"ok": False, "message": str(error)}, 400)
        except commands.NotDoneError as error:
            return JSONResponse({"ok": False, "message": str(error)}, error.status)
        return json_response({"ok": True, "result": result})

    async def _begin(self, camera: str, fields: dict[str, Any], signed: dict[str, str]) -> None:
        await self._server.calibrations.begin(camera, _parts(fields), signed["by"], signed["why"], resumes=False)

    async def _resume(self, camera: str, fields: dict[str, Any], signed: dict[str, str]) -> None:
        await self._server.calibrations.begin(camera, _parts(fields), signed["by"], signed["why"], resumes=True)

    async def _stop(self, camera: str, _: dict[str, Any], __: dict[str, str]) -> None:
        self._server.calibrations.stop(camera)

    async def _install(self, camera: str, fields: dict[str, Any], signed: dict[str, str]) -> list[str]:
        model = await run_in_threadpool(self._model_of, camera)
        run_name, despite = str(fields.get("run_name")), bool(fields.get("despite_marked"))
        then = partial(self._judge_by, camera, model, signed)
        return await self._server.calibrations.install(camera, run_name, model, then, despite_marked=despite)

    async def _roll_back(self, camera: str, _: dict[str, Any], signed: dict[str, str]) -> list[str]:
        model = await run_in_threadpool(self._model_of, camera)
        return await self._server.calibrations.roll_back(model, partial(self._judge_by, camera, model, signed))

    async def _judge_by(self, camera: str, model: Path, signed: dict[str, str]) -> list[str]:
        """Have the daemon judge by what lies there now; NotDoneError: it does not, and what lies there says so."""
        settings = self._server.settings
        asked = msgspec.convert({"cmd": "model", "camera": camera, "path": str(model), **signed}, ModelRequest)
        patience_s = commands.COMMANDS["model"].patience_s
        try:
            result = await run_in_threadpool(commands.ask, settings.control, settings.keys, asked, patience_s)
        except commands.NotDoneError as error:
            why = f"{model} was changed, and judges from the daemon's next start on; now it does not: {error}"
            raise commands.NotDoneError(why, error.status) from None
        return [f"{camera} is judged by {result['model']} from now on."]

    def _model_of(self, camera: str) -> Path:
        """Return the folder that the configuration names for a camera; NotDoneError: it names none, or several."""
        config = self._server.settings.config
        if config is None:
            raise commands.NotDoneError("Start inspectd hmi with --config: it says where models are.", 409)
        cameras = load(config).cameras
        found = next((one for one in cameras if one.name == camera), None)
        if found is None or found.model is None:
            raise commands.NotDoneError(
                f"The configuration names no single model of {camera} (it may have recipes or areas); install it with "
                "`inspectd install`.",
                409,
            )
        if sum(path == found.model for one in cameras for path in _models_of(one)) > 1:
            raise commands.NotDoneError(
                f"{found.model} is not the model of {camera} alone; install the run with `inspectd install`, under a "
                "name of its own.",
                409,
            )
        return Path(found.model)


def _models_of(camera: CameraConfig) -> Iterator[str | None]:
    """Yield each model that the configuration names for a camera."""
    yield camera.model
    for area in (camera.areas or {}).values():
        yield area.model
    for recipe in (camera.recipes or {}).values():
        yield recipe.model
        for area in (recipe.areas or {}).values():
            yield area.model


def _parts(fields: dict[str, Any]) -> int | None:
    """Return how many parts are asked for; None: as many as usual. NotDoneError: it is no such number."""
    parts = fields.get("parts")
    if parts is not None and not (isinstance(parts, int) and FEWEST <= parts <= MOST):
        raise commands.NotDoneError(f"parts is {parts!r}; expected a whole number from {FEWEST} to {MOST}.", 400)
    return parts
