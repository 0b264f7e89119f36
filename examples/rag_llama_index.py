"""A RAG query engine of LlamaIndex over a running server; the model is a fake that answers with its prompt.

python -m examples.rag_llama_index --address localhost:8001
"""

from __future__ import annotations

import argparse

from llama_index.core import Document
from llama_index.core.llms import MockLLM

from examples.passages import PASSAGES, QUESTION
from tridex.integrations.llama_index import TridexIndex, TridexRerank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--collection", default="rag-llama-index")
    arguments = parser.parse_args()

    documents = [Document(id_=name, text=text, metadata={"topic": name}) for name, text in PASSAGES.items()]
    index = TridexIndex.from_documents(documents, collection=arguments.collection, connection=arguments.address)

    # BM25 finds four nodes, and late interaction keeps the best two; without `mode` it would find them itself.
    engine = index.as_query_engine(
        llm=MockLLM(),  # here stands the model of your choice
        similarity_top_k=4,
        search_options={"mode": "bm25"},
        node_postprocessors=[TridexRerank(connection=index.connection, top_n=2)],
    )
    response = engine.query(QUESTION)
    for found in response.source_nodes:
        print(f"[{found.score:.2f}] {found.text}")
    print(f"\n{response}")


if __name__ == "__main__":
    main()
