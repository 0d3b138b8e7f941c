"""Connections of the page's server: few enough, none of them waiting for ever."""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 200  # connections at once; a browser opens six
BACKLOG = 64  # connections that the system keeps until they are accepted
HEAD_SECONDS = 10.0  # for the head of a request, and for a stranger to read the answer
READ_SECONDS = 600.0  # for a reader who was let in to go on reading: a player that pauses does not
KEEP_ALIVE_SECONDS = 5  # between requests


class Connection(H11Protocol):
    """A connection that is closed when its request does not come, or when its answer is not read.

    When there are too many, the oldest of those that were not let in is closed.
    """

    is_let_in = False
    began = 0.0
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app_state = {**self.app_state, "connection": self}  # by which the guard finds it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, and make room."""
        super().connection_made(transport)
        self.began = self.loop.time()
        self._end_after(HEAD_SECONDS)
        if len(self.connections) > most_connections():
            strangers = [one for one in self.connections if isinstance(one, Connection) and not one.is_let_in]
            min(strangers, key=lambda one: one.began, default=self).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time that was left."""
        self._end_after(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; a whole head ends the time that was left for it."""
        super().data_received(data)
        if self._is_answering():
            self._end_after(None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self._is_answering():
            self._end_after(HEAD_SECONDS)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._end_after(READ_SECONDS if self.is_let_in else HEAD_SECONDS)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._end_after(None if self._is_answering() else HEAD_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP. A request that is answered meanwhile has nobody to be answered to."""
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection now, whatever was to be sent."""
        self.connections.discard(self)
        self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _end_after(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.abort)


def most_connections() -> int:
    """How many connections are kept, of the files that the process may have open."""
    if sys.platform == "win32":
        return MOST
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 3)
