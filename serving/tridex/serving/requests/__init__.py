"""Tensors and parameters of requests as typed values."""
