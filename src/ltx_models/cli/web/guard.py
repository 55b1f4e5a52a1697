"""What stands before the page: the token, the addresses that may be asked for, and the files that may be named."""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from ltx_models.cli.web.folder import Folder

COOKIE = "ltx_models_token"
MOST_BODY = 1_000_000  # bytes of what a form sends; files come another way
# All that the page asks for. Gradio answers more, such as files by any address: that is nobody's business here.
ALLOWED = re.compile(
    r"/|/(config|info|theme\.css|favicon\.ico|manifest\.json|alive)|/(assets|static|svelte)/[\w./@+-]+"
    r"|/runs/[\w-]+/[\w./-]+|/gradio_api/(info|config|app_id|startup-events|upload|upload_progress|queue/join|queue/data)"
    r"|/gradio_api/(heartbeat|call|run|cancel|reset)(/[\w-]+)*|/gradio_api/(file|deep_link)(=.*)?"
)
FILE = "/gradio_api/file="
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def is_local(host: str) -> bool:
    """
    Say whether only this machine can reach an address.

    Parameters
    ----------
    host : str
        A name or an address.

    Returns
    -------
    bool
        Whether it is that of the machine itself.

    Examples
    --------
    >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """
    An application of ASGI before another one.

    Parameters
    ----------
    app : callable
        The page.
    folder : Folder
        Outside of which nothing is read.
    token : str
        What whoever asks must know; empty where everyone on this machine may.
    local : bool
        Whether the server listens to this machine alone: then no other name of it is answered, lest a page of
        somebody else's reads this one under a name of its own.
    """

    def __init__(self, app: Callable[..., Any], folder: Folder, token: str, *, local: bool) -> None:
        self._app, self._folder, self._token, self._local = app, folder, token, local

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer what is refused, and hand on the rest."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no other
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        if scope["method"] == "POST" and scope["path"] != "/gradio_api/upload":
            body = await _body(receive)
            if body is None or not self.names_uploads_alone(body):
                await _answer(send, 403, "a file is named that was not uploaded here, or the request is too long")
                return
            receive = _again(body, receive)

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        await self._app(scope, receive, guarded)

    def _refusal(self, scope: Any, headers: dict[str, str]) -> tuple[Any, ...] | None:
        """Give status, text and headers of what is refused, or None."""
        return self._stranger(headers) or self._unknown(scope, headers) or self._elsewhere(scope["path"])

    def _stranger(self, headers: dict[str, str]) -> tuple[Any, ...] | None:
        """Refuse other names of this machine, and pages of other addresses."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._local and not is_local(re.sub(r":\d+$", "", host)):
            return 421, "this server answers to its local address alone"
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "a page of another address may not ask here"
        return None

    def _unknown(self, scope: Any, headers: dict[str, str]) -> tuple[Any, ...] | None:
        """Refuse who does not know the token; who says it in the address gets it as a cookie."""
        if not self._token or self._fits(_cookie(headers.get("cookie", ""))):
            return None
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if given and self._fits(given):
            cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            return 303, "", [(b"location", b"/"), (b"set-cookie", cookie.encode())]
        return 401, "this page needs its token: open the address that 'ltx-models serve' printed"

    def _elsewhere(self, path: str) -> tuple[Any, ...] | None:
        """Refuse addresses that the page does not ask for, and files that are none of its uploads."""
        if not ALLOWED.fullmatch(path) or "/.." in path:
            return 404, "there is no such address here"
        if path.startswith(FILE) and not self._folder.is_upload(path.removeprefix(FILE)):
            return 403, "no such file may be read"
        return None

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def names_uploads_alone(self, body: bytes) -> bool:
        """
        Say whether all files that a request names are uploads.

        Parameters
        ----------
        body : bytes
            JSON.

        Returns
        -------
        bool
            False also where it is no JSON.
        """
        try:
            paths = list(_paths(json.loads(body or b"null")))
        except (ValueError, RecursionError):
            return False
        return all(isinstance(path, str) and self._folder.is_upload(path) for path in paths)


def _paths(value: Any) -> Any:
    """Give every path in a piece of JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "path" and inner is not None:
                yield inner
            yield from _paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner)


def _cookie(text: str) -> str:
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


async def _body(receive: Any) -> bytes | None:
    """Read what a request sends; None where that is too long or the asker left."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > MOST_BODY:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Any) -> Any:
    """Give what was read once more, and then whatever comes."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Any:
        return left.pop() if left else await receive()

    return read


async def _answer(send: Any, status: int, text: str, headers: Any = ()) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers, *HEADERS]})
    await send({"type": "http.response.body", "body": text.encode()})
