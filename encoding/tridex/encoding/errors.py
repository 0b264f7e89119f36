"""What may be wrong with an exported encoder or with how it is asked for."""

from __future__ import annotations

from tridex.common import TridexError


class ArtifactError(TridexError):
    """There is no exported encoder, or it is not what the export wrote."""


class UnknownDeviceError(TridexError):
    """The encoder cannot run on the device that was named."""


class ProviderError(TridexError):
    """ONNX Runtime's provider for a device cannot be loaded."""
