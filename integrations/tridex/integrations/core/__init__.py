"""What the adapters share: the connection, filters in the server's form, errors as the host's own types.

Knows no framework.
"""
