"""Search without our client: KServe v2 over gRPC, by tritonclient, or over HTTP, by nothing but JSON.

python -m examples.raw_kserve grpc localhost:8001 COLLECTION "how does it work?"
python -m examples.raw_kserve http localhost:8000 COLLECTION "how does it work?"   # tridex serve --http-inference
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput


def by_grpc(address: str, query: str, parameters: dict[str, Any]) -> list[tuple[str, float]]:
    text = InferInput("QUERY", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([[query.encode()]], object))
    with InferenceServerClient(address) as client:
        answer = client.infer("search", [text], parameters=parameters, timeout=10_000_000)
    ids, scores = answer.as_numpy("IDS"), answer.as_numpy("SCORES")
    assert ids is not None and scores is not None
    return [(found.decode(), score) for found, score in zip(ids[0], scores[0].tolist(), strict=True)]


def by_http(address: str, query: str, parameters: dict[str, Any]) -> list[tuple[str, float]]:
    text = {"name": "QUERY", "datatype": "BYTES", "shape": [1, 1], "data": [query]}
    wanted = [{"name": "IDS"}, {"name": "SCORES"}]
    body = json.dumps({"inputs": [text], "outputs": wanted, "parameters": {**parameters, "timeout": 10_000_000}})
    with urllib.request.urlopen(f"http://{address}/v2/models/search/infer", body.encode(), timeout=10) as answer:
        outputs = {output["name"]: output["data"] for output in json.load(answer)["outputs"]}
    return list(zip(outputs["IDS"], outputs["SCORES"], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=["grpc", "http"])
    parser.add_argument("address")
    parser.add_argument("collection")
    parser.add_argument("query")
    arguments = parser.parse_args()
    search = by_grpc if arguments.protocol == "grpc" else by_http
    for found, score in search(arguments.address, arguments.query, {"collection": arguments.collection, "top_k": 3}):
        print(f"{score:8.4f}  {found}")


if __name__ == "__main__":
    main()
