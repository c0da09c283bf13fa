"""Shared fixtures: where the real data lie; chance that repeats itself."""

from __future__ import annotations

import os
import random

# small networks on contended cores: one thread is faster, and results don't depend on their number
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

# a red test must mean a wrong line: every run draws the same examples. To look for new ones:
# HYPOTHESIS_PROFILE=explore
hypothesis.settings.register_profile("repeat", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.fixture(autouse=True)
def _same_chance() -> None:
    """Each test starts from the same state of the global generators, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real labelled data, named by ``LUNET_TEST_DATA``."""
    folder = os.environ.get("LUNET_TEST_DATA")
    if not folder:
        pytest.skip("LUNET_TEST_DATA names no folder of real data")
    return Path(folder)
