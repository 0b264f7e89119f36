"""What the RAG examples index and ask."""

PASSAGES = {
    "maxsim": "MaxSim lets every query token find its best token of the document, and sums what they find.",
    "late": "Late interaction encodes query and document apart and compares their tokens only at search time.",
    "single": "A bi-encoder squeezes a text into one vector, so rare words and numbers get lost.",
    "triton": "Triton Inference Server batches requests of many users and runs them on a CPU or a GPU.",
    "custard": "Crème brûlée is a custard base under a layer of caramelised sugar.",
}
QUESTION = "How is a document scored by MaxSim?"
