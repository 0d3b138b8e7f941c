"""The guard before the page: a token or password for every request, and refusals in a sentence."""

import asyncio
import contextlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response

from distill.ui import admission
from distill.ui.admission import Tries, client_of

MAX_UPLOAD = 2 << 30  # bytes of one file
MAX_REQUEST = MAX_UPLOAD + (64 << 20)  # bytes of one request that uploads
MAX_FORM = 32 << 20  # bytes of any other request, which is held in memory
MAX_FORMS = 64 << 20  # bytes of all of those at once
MOST_UPLOADS = 24  # at once
UPLOADS = "/gradio_api/upload"
STALL_SECONDS = 60.0  # for the next part of a request
LOGIN_SECONDS = 10.0  # for all of a stranger's form
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
        self._tries, self._uploads, self._forms = Tries(), 0, 0
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
        connection = scope.get("state", {}).pop("connection", None)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif self._equal(request.cookies.get(self._cookie, ""), self._pass):
            if connection is not None:
                connection.is_let_in = True
            await self._serve(request, receive, send)
        else:
            await (await self._answer(request, receive))(scope, receive, send)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        """Serve a request of somebody who was let in, unless too many of them are served."""
        if request.url.path != UPLOADS:
            body = _Body(receive, MAX_FORM, self._add_to_forms)
            try:
                await self._app(request.scope, body, send)
            finally:
                self._forms -= body.size
            return
        if self._uploads >= MOST_UPLOADS:
            text = f"expected {MOST_UPLOADS} uploads at once or fewer, found more; wait until they end"
            await sentence_page(text, 503)(request.scope, receive, send)
            return
        self._uploads += 1
        try:
            await self._app(request.scope, _Body(receive, MAX_REQUEST), send)
        finally:
            self._uploads -= 1

    def _add_to_forms(self, size: int) -> None:
        if self._forms + size > MAX_FORMS:
            raise CutOff(503, "expected fewer long forms at once, found more; try again")
        self._forms += size

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that comes from elsewhere or is too large, whoever sends it."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if self._is_local and not _is_local(_split(f"//{host}").hostname or ""):
            return sentence_page(
                "expected the address that distill ui printed, found another name; open that address", 403
            )
        if origin is not None and _split(origin).netloc.lower() != host.lower():
            return sentence_page("expected a request of this page, found one of another page", 403)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _most(request):
            return sentence_page(_too_large(_most(request)), 413)
        return None

    async def _answer(self, request: Request, receive: Receive) -> Response:
        if self._password is None:
            given, is_try = request.query_params.get("token", ""), True
        else:
            is_try = request.method == "POST" and request.url.path == "/login"
            given = await _password(receive) if is_try else ""
        expected = self._token if self._password is None else self._password
        if not given:
            return self._nobody(is_try)
        async with self._tries.one(client_of(request.client.host if request.client else "")) as may_try:
            if not may_try:
                return sentence_page(
                    "expected one try after another, found many at once; wait a moment and try again", 429
                )
            if self._equal(given, expected):
                return self._let_in(request)
            await asyncio.sleep(admission.WRONG_SECONDS)
        return self._nobody(True, "a wrong one")

    def _nobody(self, is_try: bool, found: str = "none") -> Response:
        """The answer to somebody who is not let in."""
        if self._password is None:
            text = f"expected the token of this page, found {found}; open the address that distill ui printed"
            return sentence_page(text, 401)
        if is_try:
            return sentence_page(f"expected the password of this page, found {found}; try again", 401, with_form=True)
        return sentence_page("this page needs its password", 401, with_form=True)

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


class CutOff(HTTPException, MultiPartException):
    """A request that ends before its body does. Gradio's parser of uploads removes the files of such a request."""

    def __init__(self, status: int, message: str) -> None:
        HTTPException.__init__(self, status, message)
        self.message = message


class _Body:
    """`receive` that ends a request whose body is too long, does not come, or is cut off."""

    def __init__(self, receive: Receive, most: int, add: Callable[[int], None] | None = None) -> None:
        self._receive, self._most, self._add = receive, most, add
        self._is_whole, self.size = False, 0

    async def __call__(self) -> MutableMapping[str, Any]:
        if self._is_whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), STALL_SECONDS)
        except TimeoutError:
            raise CutOff(408, f"expected the next part in {STALL_SECONDS:.0f} s, found none; send it again") from None
        if message["type"] == "http.disconnect":
            raise CutOff(400, "expected the whole request, found a part of it; send it again")
        size = len(message.get("body", b""))
        if self.size + size > self._most:
            raise CutOff(413, _too_large(self._most))
        if self._add is not None:
            self._add(size)
        self.size += size
        self._is_whole = not message.get("more_body")
        return message


def _with_headers(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", ())}
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return with_headers


async def _password(receive: Receive, most: int = 4096) -> str:
    """The password in a form of somebody who was not let in."""
    body, is_whole = b"", False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOGIN_SECONDS):
            while not is_whole and len(body) <= most:
                message = await receive()
                body += message.get("body", b"")
                is_whole = not message.get("more_body")
    return dict(parse_qsl(body[:most].decode("utf-8", "replace"))).get("password", "")


def sentence_page(text: str, status: int, with_form: bool = False) -> Response:
    """A page with one sentence, and the form that asks for the password."""
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
