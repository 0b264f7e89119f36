"""How the client's gRPC channel behaves: message sizes and retries."""

from __future__ import annotations

import json

from tridex.protocol.limits import MAX_MESSAGE_BYTES

_SERVICE = "inference.GRPCInferenceService"

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            # Every request may be sent twice: searches read, writes leave the same documents behind. Where the answer
            # to a create or drop was lost, the second says that it is there, or gone, already.
            "name": [{"service": _SERVICE}],
            "retryPolicy": {
                "maxAttempts": 5,  # the most that gRPC allows
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        # "Are you ready?" is asked to be told no at once.
        {"name": [{"service": _SERVICE, "method": "ServerReady"}]},
    ]
}

CHANNEL_ARGUMENTS: list[tuple[str, str | int]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # gRPC keeps 256 KiB of a request for its retries by default, and does not retry a larger one.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    # tritonclient sets these only where no other argument is given.
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]
"""Retries count against a call's deadline: they end with it."""
