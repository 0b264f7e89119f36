"""A RAG pipeline of Haystack over a running server; the model is a fake that answers with its prompt.

python -m examples.rag_haystack --address localhost:8001
"""

from __future__ import annotations

import argparse

from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import MockChatGenerator
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ChatMessage
from haystack.document_stores.types import DuplicatePolicy

from examples.passages import PASSAGES, QUESTION
from haystack_integrations.components.retrievers.tridex import TridexRetriever
from haystack_integrations.document_stores.tridex import TridexDocumentStore

TEMPLATE = """Answer from this context alone.
{% for document in documents %}
[{{ "%.2f" % document.score }}] {{ document.content }}{% endfor %}

Question: {{ question }}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--collection", default="rag-haystack")
    arguments = parser.parse_args()

    store = TridexDocumentStore(arguments.collection, address=arguments.address)
    documents = [Document(id=name, content=text, meta={"topic": name}) for name, text in PASSAGES.items()]
    DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE).run(documents)

    pipeline = Pipeline()
    pipeline.add_component("retriever", TridexRetriever(store, top_k=2))
    pipeline.add_component("prompt", ChatPromptBuilder([ChatMessage.from_user(TEMPLATE)], required_variables="*"))
    pipeline.add_component("model", MockChatGenerator())  # here stands the model of your choice
    pipeline.connect("retriever.documents", "prompt.documents")
    pipeline.connect("prompt.prompt", "model.messages")

    answer = pipeline.run({"retriever": {"query": QUESTION}, "prompt": {"question": QUESTION}})
    print(answer["model"]["replies"][0].text)


if __name__ == "__main__":
    main()
