"""The calls by which a server is administered, which no caller may make."""

from __future__ import annotations

from collections.abc import Callable

import tritonclient.grpc as triton

CLOSED: dict[str, Callable[[triton.InferenceServerClient], object]] = {
    "code upload": lambda raw: raw.load_model("new", config="{}", files={"file:1/model.py": b"raise SystemExit"}),
    "load": lambda raw: raw.load_model("search"),
    "unload": lambda raw: raw.unload_model("search"),
    "repository index": lambda raw: raw.get_model_repository_index(),
    "model config": lambda raw: raw.get_model_config("search"),
    "shared memory": lambda raw: raw.register_system_shared_memory("region", "/region", 64),
    "shared memory gone": lambda raw: raw.unregister_system_shared_memory(),
    "shared memory status": lambda raw: raw.get_system_shared_memory_status(),
    "CUDA memory": lambda raw: raw.register_cuda_shared_memory("region", b"", 0, 64),
    "CUDA memory gone": lambda raw: raw.unregister_cuda_shared_memory(),
    "CUDA memory status": lambda raw: raw.get_cuda_shared_memory_status(),
    "log settings": lambda raw: raw.get_log_settings(),
    "log to a file": lambda raw: raw.update_log_settings({"log_file": "/tmp/by-a-caller"}),
    "trace settings": lambda raw: raw.get_trace_settings(),
    "trace to a file": lambda raw: raw.update_trace_settings(settings={"trace_file": "/tmp/by-a-caller"}),
}
