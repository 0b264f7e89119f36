"""A RAG chain in LangChain's expression language over a running server; the model is a fake, so it works offline.

python -m examples.rag_langchain --address localhost:8001
"""

from __future__ import annotations

import argparse

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from examples.passages import PASSAGES, QUESTION
from tridex.integrations.langchain import TridexRetriever, TridexVectorStore

PROMPT = ChatPromptTemplate.from_template("Answer from this context alone.\n\n{context}\n\nQuestion: {question}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--collection", default="rag-langchain")
    arguments = parser.parse_args()

    store = TridexVectorStore(arguments.collection, arguments.address)
    store.add_texts(PASSAGES.values(), [{"topic": name} for name in PASSAGES], ids=list(PASSAGES))
    retriever = TridexRetriever(collection=arguments.collection, connection=store.connection, k=2)
    model = FakeListChatModel(responses=["(the answer of a model)"])

    chain = (
        {"context": retriever | as_text, "question": RunnablePassthrough()}
        | PROMPT
        | show
        | model  # here stands the model of your choice
        | StrOutputParser()
    )
    print(chain.invoke(QUESTION))


def as_text(documents: list[Document]) -> str:
    """The context: documents with their scores."""
    return "\n".join(f"[{found.metadata['relevance_score']:.2f}] {found.page_content}" for found in documents)


def show(prompt: PromptValue) -> PromptValue:
    """Prints what the model is given."""
    print(prompt.to_string(), end="\n\n")
    return prompt


if __name__ == "__main__":
    main()
