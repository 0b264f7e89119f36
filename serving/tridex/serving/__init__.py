"""What runs inside and around Triton server: the services behind model_repository/, and starting the server itself.

A service is plain Python over numpy and torch, tested without a server; `triton` alone knows the Python backend.
"""
