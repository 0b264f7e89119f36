"""Fine-tuning ColBERT models on triplets (examples, model, trainer), recorded in MLflow (tracking).

The modules are imported one by one: the command line imports this package for every command, and torch takes seconds.
"""
