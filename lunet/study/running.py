"""Which Snakemakes run in this folder, on any of the hosts that share it."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from lunet.files import write_json
from lunet.locks import HEARTBEAT, Owner, is_alive, myself, read_owner

_SIGNS = Path(".snakemake/running")


def announce() -> None:
    """Let :func:`snakemakes` know of this process until its end.

    People log in to different hosts, so a heartbeat tells whether it is alive. It is no lock:
    Snakemake has its own, and nothing happens to a process whose sign was removed.
    """
    me = myself()
    sign = (_SIGNS / f"{me.token}.json").resolve()
    write_json(sign, asdict(me))
    atexit.register(sign.unlink, missing_ok=True)
    threading.Thread(target=_beat, args=(sign, me), daemon=True).start()


def _beat(sign: Path, me: Owner) -> None:
    pause = threading.Event()
    while not pause.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            if sign.exists():
                os.utime(sign)
            else:  # this process was suspended, and taken for dead
                write_json(sign, asdict(me))


def snakemakes() -> Iterator[str]:
    """Process and host of each Snakemake that runs here; signs of dead ones are removed."""
    for sign in sorted(_SIGNS.glob("*.json")):
        owner = read_owner(sign)
        if owner is not None and is_alive(sign):
            yield owner.describe()
        else:
            sign.unlink(missing_ok=True)
