"""Run by another Python, one with numpy 2 and without torch, against the real server: prints what it saw as JSON."""

import json
import sys

import numpy as np

from tridex.client import Client

address, collection = sys.argv[1:]
with Client(address, timeout_s=60) as client:
    client.upsert(collection, [{"id": "a", "text": "numpy two", "metadata": {"n": 2}}, {"id": "b", "text": "torch"}])
    query = client.encode_query("numpy version two")
    report = {
        "numpy": np.__version__,
        "heavy": sorted({"torch", "transformers", "onnxruntime"} & set(sys.modules)),
        "by_text": [(hit.id, hit.score, hit.metadata) for hit in client.search(collection, "numpy version two")],
        "by_embeddings": [(hit.id, hit.score, hit.metadata) for hit in client.search(collection, query)],
        "reranked": [result.index for result in client.rerank("numpy version two", ["torch", "numpy two"])],
    }
print(json.dumps(report))
