"""Build a collection without a server, from a file; a server that follows the store serves it from then on.

python -m examples.bulk_build --store .tridex/store --repository model_repository --address localhost:8001
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from examples.passages import PASSAGES, QUESTION
from tridex.client import Client, NotFound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default=".tridex/store")
    parser.add_argument("--repository", default="model_repository")
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--collection", default="bulk")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        rows = ({"_id": name, "text": text, "words": len(text.split())} for name, text in PASSAGES.items())
        corpus.write_text("\n".join(map(json.dumps, rows)))
        tridex = Path(sys.executable).with_name("tridex")
        command = [str(tridex), "index", "build", str(corpus), "--codec", "int8"]
        command += ["--collection", arguments.collection, "--store", arguments.store]
        subprocess.run([*command, "--repository", arguments.repository], check=True)  # interrupted, it goes on later
    with Client(arguments.address) as client:
        while True:
            try:
                hits = client.search(arguments.collection, QUESTION, top_k=2)
                break
            except NotFound:  # for some 60 ms, until the server has seen it
                time.sleep(0.1)
        print([(hit.id, round(hit.score, 2)) for hit in hits])
        print(client.describe_collection(arguments.collection).fields)


if __name__ == "__main__":
    main()
