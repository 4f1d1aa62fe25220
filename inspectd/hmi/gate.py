"""What every request passes: by which name it calls us, whence it comes, and who makes it.

An ASGI middleware, for pages and WebSockets alike. It puts the `Person` into `scope["person"]`.
"""

from __future__ import annotations

from http.cookies import SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inspectd.hmi.accounts import Accounts
from inspectd.hmi.settings import Settings

OPEN = ("/static/", "/login", "/healthz")
"""What nobody needs to log in for."""
RELAYED = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via")
"""What a proxy adds."""
SAFE = frozenset({"GET", "HEAD"})
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'{sockets}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none, browsers send forms without the page's origin
    "cache-control": "no-store",
}
POLICY_VIOLATION = 1008
"""RFC 6455, 7.4.1."""


class Gate:
    """See the module."""

    def __init__(self, app: ASGIApp, settings: Settings, accounts: Accounts) -> None:
        self._app, self._settings, self._accounts = app, settings, accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through with its person, or answer why not."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        below = self._settings.below
        if below:  # whether the proxy leaves it in the path or takes it off
            path = scope["path"]
            whole = path if path == below or path.startswith(f"{below}/") else below + path
            scope = {**scope, "root_path": below, "path": whole}
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return
        person = self._accounts.person(token_of(headers, self._settings.cookie))
        path = path_of(scope)
        if person is None and not path.startswith(OPEN):
            if scope["type"] == "http" and scope["method"] == "GET":
                response = RedirectResponse(f"{scope.get('root_path', '')}/login", 303)
                await response(scope, receive, send)
            else:
                await _refuse(scope, receive, send, 401, "The session is over, and nothing was done. Log in again.")
            return
        scope["person"] = person
        await self._app(scope, receive, self._with_headers(scope, headers.get("host", ""), send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._settings.is_named(host):
            return 421, f"This page is not called {host[:80]!r}. If it is, start inspectd hmi with --name for it."
        if any(name in headers for name in RELAYED) and not self._accounts.has_users:
            return 403, "This page is reached through a proxy, by whomever; start inspectd hmi with --users."
        acts = scope["type"] == "websocket" or scope["method"] not in SAFE
        if acts and not self._is_ours(headers.get("origin", ""), host):
            return 403, "This request comes from another site, and nothing was done."
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        """Whether an Origin header names this page: as the Host header does, or as a proxy shows it."""
        try:
            found = urlsplit(origin)
            port = found.port
        except ValueError:
            return False
        if found.netloc.lower() == host.lower():
            return True
        return found.hostname in self._settings.lower_names and port in (None, self._settings.port)

    def _with_headers(self, scope: Scope, host: str, send: Send) -> Send:
        is_static = path_of(scope).startswith("/static/")
        # 'self' does not cover sockets in browsers before 2022
        sockets = "".join(f" ws://{name} wss://{name}" for name in (host, *self._settings.names) if name)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    if name in headers:  # a page of its own kind says so itself
                        continue
                    is_asked_again = name == "cache-control" and is_static  # after an upgrade
                    headers[name] = "no-cache" if is_asked_again else value.replace("{sockets}", sockets)
                if scope["scheme"] == "https":
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        return sending


def path_of(scope: Scope) -> str:
    """Return the path below where the page is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def token_of(headers: Headers, name: str) -> str | None:
    """Return the session's token; None: there is none."""
    cookie: SimpleCookie = SimpleCookie()
    try:
        cookie.load(headers.get("cookie", ""))
    except Exception:  # noqa: BLE001 - http.cookies raises CookieError, and more with odd bytes
        return None
    return cookie[name].value if name in cookie else None


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()  # the handshake
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": why[:120]})
        return
    is_page = "text/html" in Headers(scope=scope).get("accept", "")
    response = PlainTextResponse(why, status) if is_page else JSONResponse({"ok": False, "message": why}, status)
    await response(scope, receive, send)
