"""What may be wrong with an exported encoder or with how it is asked for."""

from __future__ import annotations

from tridex.common import TridexError
from tridex.common.device import DeviceError


class ArtifactError(TridexError):
    """There is no exported encoder, or it is not what the export wrote."""


class UnknownDeviceError(DeviceError):
    """The encoder cannot run on the device that was named."""


class ProviderError(DeviceError):
    """ONNX Runtime's provider for a device cannot be loaded, or computes something else."""
