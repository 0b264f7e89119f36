"""Explained hits to look at: as one HTML page, as an SVG image, and what the terminal shows of them.

Texts and queries are anybody's: everything is escaped, and nothing is loaded or run.
"""

from .html import explanations_html
from .svg import explanations_svg

__all__ = ["explanations_html", "explanations_svg"]
