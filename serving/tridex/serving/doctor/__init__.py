"""What `tridex doctor` finds out: what this machine has, what is missing for `tridex serve`, and what mends it.

Nothing here is imported before it is known to be installed, so that a broken package is a finding and not an end.
"""

from .examination import Report, examine
from .finding import Finding

__all__ = ["Finding", "Report", "examine"]
