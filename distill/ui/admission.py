"""Who may try a token or a password, and how often."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

WRONG_SECONDS = 1.0  # before the answer to a wrong one
MOST_WAITING = 8  # tries of one client that wait for each other


class Tries:
    """Tries of each client, one after another: a wrong one holds back the next of the same client."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def one(self, client: str) -> AsyncIterator[bool]:
        """Wait for the tries before; False where too many wait."""
        lock, waiting = self._locks.get(client, (asyncio.Lock(), 0))
        if waiting >= MOST_WAITING:
            yield False
            return
        self._locks[client] = (lock, waiting + 1)
        try:
            async with lock:
                yield True
        finally:
            left = self._locks[client][1] - 1
            if left:
                self._locks[client] = (lock, left)
            else:
                del self._locks[client]


def client_of(host: str) -> str:
    """The client behind an address; of IPv6 its network, of which one client has all addresses."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
