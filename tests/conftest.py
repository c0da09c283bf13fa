"""Shared fixtures: where the real data lie."""

from __future__ import annotations

import os

# small networks on contended cores: one thread is faster, and results don't depend on their number
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real labelled data, named by ``LUNET_TEST_DATA``."""
    folder = os.environ.get("LUNET_TEST_DATA")
    if not folder:
        pytest.skip("LUNET_TEST_DATA names no folder of real data")
    return Path(folder)
