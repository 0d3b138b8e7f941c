"""Tries of a password: one after another for each client, and few that wait."""

import asyncio

import pytest

from distill.ui.admission import MOST_WAITING, Tries, client_of


def test_tries_of_one_client_wait_for_each_other() -> None:
    at_once, most, refused = 0, 0, 0

    async def guess(tries: Tries, client: str) -> None:
        nonlocal at_once, most, refused
        async with tries.one(client) as may_try:
            if not may_try:
                refused += 1
                return
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1

    async def all_guess() -> Tries:
        tries = Tries()
        await asyncio.gather(*(guess(tries, "a") for _ in range(100)))
        return tries

    tries = asyncio.run(all_guess())
    assert (most, refused) == (1, 100 - MOST_WAITING)
    assert tries._locks == {}


def test_clients_do_not_wait_for_others() -> None:
    async def both() -> bool:
        tries = Tries()
        async with tries.one("a"), asyncio.timeout(5), tries.one("b") as may_try:
            return may_try

    assert asyncio.run(both())


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_a_client_of_ipv6_is_its_network(host: str, client: str) -> None:
    assert client_of(host) == client
