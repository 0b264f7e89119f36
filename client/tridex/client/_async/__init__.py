"""The client, written once for asyncio; `make generate` makes the synchronous one in `_sync` of it."""
