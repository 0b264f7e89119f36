"""Search what its metadata allows: conditions, facets, ranges, and metadata that changes.

python -m examples.filters --address localhost:8001
"""

from __future__ import annotations

import argparse

from tridex.client import Client, Document

FILMS = [
    Document("alien", "A crew is hunted aboard a spaceship.", {"year": 1979, "genres": ["horror", "space"]}),
    Document("arrival", "A linguist talks to visitors from space.", {"year": 2016, "genres": ["drama", "space"]}),
    Document("jaws", "A shark hunts swimmers off a small town.", {"year": 1975, "genres": ["horror", "sea"]}),
    Document("gravity", "Two astronauts drift in orbit.", {"year": 2013, "genres": ["drama", "space"]}),
]
IN_SPACE = {"field": "genres", "operator": "contains", "value": "space"}
AFTER_2000 = {"field": "year", "operator": ">", "value": 2000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--collection", default="films")
    arguments = parser.parse_args()
    films = arguments.collection
    with Client(arguments.address) as client:
        client.upsert(films, FILMS)
        print("fields, inferred:", dict(client.describe_collection(films).fields))
        print("all:", [hit.id for hit in client.search(films, "hunted by a creature")])
        print("in space:", [hit.id for hit in client.search(films, "hunted by a creature", filters=IN_SPACE)])
        both = {"operator": "AND", "conditions": [IN_SPACE, AFTER_2000]}
        print("in space, after 2000:", [hit.id for hit in client.search(films, "hunted by a creature", filters=both)])
        print("genres after 2000:", client.facet(films, "genres", filters=AFTER_2000))
        print("years:", client.min_max(films, "year"))
        client.update_metadata(films, filters=AFTER_2000, metadata={"recent": True})  # encodes nothing
        print(
            "alien and arrival:",
            [document and document.metadata for document in client.get(films, ["alien", "arrival"])],
        )


if __name__ == "__main__":
    main()
