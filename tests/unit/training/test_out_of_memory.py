"""A CPU whose memory does not suffice, for real: a limit of the process's address space."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from tiny_training import prepare

_UNDER_A_LIMIT = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from tiny_training import TINY, job
from lunet.errors import LunetError
from lunet.training.run import run_training

data, place, mebibytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * 2**20,) * 2)
try:
    run_training(job(data, place, replace(TINY, batch_size=6)))
except LunetError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_a_full_memory_of_the_cpu_is_told(tmp_path: Path) -> None:
    data = prepare(tmp_path / "d", shapes=((96, 96, 96),) * 7, validation=1)
    words = [sys.executable, "-c", _UNDER_A_LIMIT, str(data), str(tmp_path), "300"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "tests" / "helpers"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    told = done.stdout
    assert done.returncode == 0, done.stderr
    found = re.search(
        r"batches of 6 x .*: (\d.\d+) GiB more were needed, (\d.\d+) GiB are free", told
    )
    assert found is not None, told
    assert float(found[1]) >= float(found[2])
    assert "train.batch_size" in told
    assert "train.patch" in told
    assert not (tmp_path / "out").exists()
