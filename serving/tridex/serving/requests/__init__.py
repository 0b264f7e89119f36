"""Parsed requests: frozen typed values made of a raw request's tensors and parameters, where it enters its model."""
