"""Replace a collection while it is searched: build the next one beside it, switch its alias, and switch back.

python -m examples.aliases --address localhost:8001
"""

from __future__ import annotations

import argparse

from examples.passages import PASSAGES, QUESTION
from tridex.client import Client, Document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--alias", default="passages")
    arguments = parser.parse_args()
    alias, monday, tuesday = arguments.alias, f"{arguments.alias}-monday", f"{arguments.alias}-tuesday"
    with Client(arguments.address) as client:
        client.upsert(monday, [Document(name, text) for name, text in PASSAGES.items()])
        client.set_alias(alias, monday)
        print("monday:", client.search(alias, QUESTION, top_k=1)[0].id)

        # The next one: in another codec, without one passage. Searches of the alias see the old one until the switch.
        texts = [Document(name, text) for name, text in PASSAGES.items() if name != "maxsim"]
        client.upsert(tuesday, texts, codec="int8")
        client.set_alias(alias, tuesday)
        print("tuesday:", client.search(alias, QUESTION, top_k=1)[0].id)

        client.set_alias(alias, monday)
        print("back to monday:", client.search(alias, QUESTION, top_k=1)[0].id)
        client.drop_collection(tuesday)
        print("aliases:", client.aliases())


if __name__ == "__main__":
    main()
