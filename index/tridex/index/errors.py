"""What can be wrong with a request to the index.

TokenIndexError
├── CollectionNotFoundError   no collection or alias of that name
├── CollectionExistsError     the name means something already
├── CollectionInUseError      dropping a collection that an alias leads to
├── CheckpointMismatchError   token embeddings of another checkpoint than the collection's
├── InvalidFieldError         a declaration of metadata fields that cannot be
├── InvalidDocumentError      a document that cannot be stored
└── InvalidFilterError        a filter that cannot be evaluated
"""


class TokenIndexError(Exception):
    """The base of this module's errors; the message names the argument, its value and what was expected."""


class CollectionNotFoundError(TokenIndexError):
    """No collection or alias of that name."""


class CollectionExistsError(TokenIndexError):
    """A collection or an alias of that name is there already."""


class CollectionInUseError(TokenIndexError):
    """An alias leads to the collection, so it cannot be dropped."""


class CheckpointMismatchError(TokenIndexError):
    """The collection holds token embeddings of another checkpoint: scores against it would mean nothing."""


class InvalidFieldError(TokenIndexError):
    """A declaration of metadata fields that cannot be."""


class InvalidDocumentError(TokenIndexError):
    """A document that cannot be stored."""


class InvalidFilterError(TokenIndexError):
    """A filter that is malformed, beyond a limit, or about a field that the collection does not declare."""
