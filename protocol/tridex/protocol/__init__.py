"""What travels between the parts: every tensor, request parameter and limit of the served models, in one place.

Knows nothing of the other parts and imports numpy only, so that clients stay light.
"""
