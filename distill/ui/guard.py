"""The guard before the page: a token or password for every request, and refusals in a sentence."""

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MAX_UPLOAD = 2 << 30  # bytes of one file
MAX_REQUEST = MAX_UPLOAD + (64 << 20)  # bytes of one request that uploads
MAX_FORM = 64 << 20  # bytes of any other request, which is held in memory
UPLOADS = "/gradio_api/upload"
WRONG_SECONDS = 1.0  # before the answer to a wrong password
# What the browser may do with the page: nothing is fetched from elsewhere, and no other page shows it in a frame.
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "connect-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """ASGI middleware: lets in who has the token, from the address once and from a cookie then, or the password.

    Pages of other origins are refused, and, where the page is for this computer alone, other names of its address.
    """

    def __init__(self, app: Any, token: str, password: str | None, port: int, host: str = "127.0.0.1") -> None:
        self._app, self._token, self._password, self._cookie = app, token, password, f"distill_{port}"
        self._is_local = _is_local(host)
        # With a password the cookie is of that password, so that another one closes the page to all who had it.
        self._pass = token if password is None else hmac.digest(token.encode(), password.encode(), "sha256").hex()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it in a sentence."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send)
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif self._equal(request.cookies.get(self._cookie, ""), self._pass):
            await self._app(scope, _limited(receive, _most(request)), send)
        else:
            await (await self._answer(request, receive))(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that comes from elsewhere or is too large, whoever sends it."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if self._is_local and not _is_local(_split(f"//{host}").hostname or ""):
            return _page("expected the address that distill ui printed, found another name; open that address", 403)
        if origin is not None and _split(origin).netloc.lower() != host.lower():
            return _page("expected a request of this page, found one of another page", 403)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _most(request):
            return _page(_too_large(_most(request)), 413)
        return None

    async def _answer(self, request: Request, receive: Receive) -> Response:
        if self._password is None:
            given = request.query_params.get("token", "")
            if given and self._equal(given, self._token):
                return self._let_in(request)
            await asyncio.sleep(WRONG_SECONDS if given else 0)
            found = "a wrong one" if given else "none"
            return _page(
                f"expected the token of this page, found {found}; open the address that distill ui printed", 401
            )
        if request.method == "POST" and request.url.path == "/login":
            given = dict(parse_qsl((await _body(receive)).decode("utf-8", "replace"))).get("password", "")
            if self._equal(given, self._password):
                return self._let_in(request)
            await asyncio.sleep(WRONG_SECONDS)
            return _page("expected the password of this page, found a wrong one; try again", 401, with_form=True)
        return _page("this page needs its password", 401, with_form=True)

    def _let_in(self, request: Request) -> Response:
        rest = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != "token"])
        answer = Response(status_code=303, headers={"location": "/" + (f"?{rest}" if rest else "")})
        answer.set_cookie(self._cookie, self._pass, httponly=True, samesite="strict", path="/")
        return answer

    @staticmethod
    def _equal(given: str, expected: str) -> bool:
        return hmac.compare_digest(given.encode(), expected.encode())


def _is_local(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _most(request: Request) -> int:
    return MAX_REQUEST if request.url.path == UPLOADS else MAX_FORM


def _too_large(most: int) -> str:
    return (
        f"expected at most {MAX_UPLOAD >> 30} GiB, found more" if most == MAX_REQUEST else "expected less, found more"
    )


def _limited(receive: Receive, most: int) -> Receive:
    """`receive` that ends a request whose body is longer than it said or did not say how long it is."""
    left = most

    async def limited() -> MutableMapping[str, Any]:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, _too_large(most))
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", ())}
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return with_headers


async def _body(receive: Receive, most: int = 4096) -> bytes:
    body = b""
    while len(body) <= most:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body[:most]


def _page(text: str, status: int, with_form: bool = False) -> Response:
    form = (
        '<form method="post" action="/login"><label>Password <input type="password" name="password" autofocus></label> '
        "<button>Open</button></form>"
        if with_form
        else ""
    )
    html = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>Distill</title><style>:root{color-scheme:light dark;font-family:system-ui}body{margin:3rem auto;max-width:40rem;"
        f"padding:0 1rem}}</style><h1>Distill</h1><p>{escape(text)}</p>{form}</html>"
    )
    return Response(html, status_code=status, media_type="text/html")
