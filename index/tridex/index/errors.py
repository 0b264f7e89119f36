"""What can be wrong with a request to the index.

TokenIndexError
├── CollectionNotFoundError   no collection of that name
├── CollectionExistsError     creating what is there
├── CheckpointMismatchError   token embeddings of another checkpoint than the collection's
└── InvalidDocumentError      a document that cannot be stored
"""


class TokenIndexError(Exception):
    """The base of this module's errors; the message names the argument, its value and what was expected."""


class CollectionNotFoundError(TokenIndexError):
    """No collection of that name."""


class CollectionExistsError(TokenIndexError):
    """A collection of that name is there already."""


class CheckpointMismatchError(TokenIndexError):
    """The collection holds token embeddings of another checkpoint: scores against it would mean nothing."""


class InvalidDocumentError(TokenIndexError):
    """A document that cannot be stored."""
