"""The search engine: a batch of parsed searches to the tensors of their answers."""
