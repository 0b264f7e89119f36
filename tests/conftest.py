"""What all tests share: how Hypothesis runs."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """A busy machine is no fault of what is tested: by default an example that takes 0.2 s fails, or many together."""
    if config.pluginmanager.hasplugin("hypothesispytest"):  # the tests of a GPU need none
        from hypothesis import HealthCheck, settings

        settings.register_profile("tridex", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("tridex")
