"""The lines that a training prints for its user."""

from __future__ import annotations

import sys

from tqdm import tqdm


def log(line: str) -> None:
    """Print one line to standard error, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)
