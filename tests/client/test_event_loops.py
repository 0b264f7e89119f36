"""One AsyncClient on several event loops, one after the other and at the same time."""

from __future__ import annotations

import asyncio
import threading

from tridex.client import AsyncClient


def test_one_client_on_loops_that_come_and_go(triton):
    triton.answer = lambda _: {"ROWS": [['{"count": 3}']]}
    client = AsyncClient(triton.address)
    assert [asyncio.run(client.count("docs")) for _ in range(3)] == [3, 3, 3]

    counted = []
    threads = [threading.Thread(target=lambda: counted.append(asyncio.run(client.count("docs")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [3] * 4

    async def within():
        async with AsyncClient(triton.address) as other:
            return await other.count("docs") + await client.count("docs")

    assert [asyncio.run(within()) for _ in range(2)] == [6, 6]
    asyncio.run(client.close())
