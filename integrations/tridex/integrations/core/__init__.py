"""What the adapters share: the connection, filters in the server's form, errors as the host's own types.

Knows no framework.
"""

from .connection import Connection, connect
from .errors import host_errors, require
from .filters import Condition, all_of, any_of, compare, none_of

__all__ = ["Condition", "Connection", "all_of", "any_of", "compare", "connect", "host_errors", "none_of", "require"]
