"""The services over a tiny random checkpoint."""

from services import checkpoint, context, repository

__all__ = ["checkpoint", "context", "repository"]
