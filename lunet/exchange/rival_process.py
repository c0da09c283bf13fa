"""Runs a script of this package with the interpreter of another tool's environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lunet.errors import ConfigError, LunetError
from lunet.exchange.rival_settings import Tool
from lunet.pages import TEMPLATES

_VERSION = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"


def require_tool(tool: Tool, python: str, where: str) -> str:
    """The version of a tool that an interpreter finds; nothing of the tool is imported.

    Parameters
    ----------
    tool
        The tool.
    python
        The interpreter; ``~`` and ``$NAME`` are expanded.
    where
        Key of the configuration or argument that names it.

    Raises
    ------
    ConfigError
        If it cannot be started, or does not find a version that is supported.
    """
    package = tool.package
    install = f"python -m venv rival && rival/bin/pip install {package}"
    try:
        done = subprocess.run(
            [_expanded(python), "-c", _VERSION, package],
            env=_environment({}),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise ConfigError(
            where=where,
            found=f"{python} cannot be started ({error.strerror})",
            expected=f"the Python interpreter of {tool.title}'s environment is expected",
            action=f"Name it, or make one: `{install}`",
        ) from error
    version = done.stdout.strip()
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    if done.returncode != 0 or tuple(numbers) < tool.least:
        raise ConfigError(
            where=where,
            found=f"{package} {version}" if version else f"{python} does not find {package}",
            expected=f"version {'.'.join(map(str, tool.least))} or later is needed",
            action=f"Install it there: `{_expanded(python)} -m pip install -U {package}`",
        )
    return version


def run_script(
    script: str,
    job: Mapping[str, Any],
    *,
    python: str,
    folders: Mapping[str, Path],
    threads: int | None = None,
    capture: bool = False,
) -> str:
    """Run a script of ``lunet/templates`` until it ends; it is stopped when this process is.

    Parameters
    ----------
    script
        Its file name.
    job
        Its argument, passed as JSON.
    python
        The interpreter.
    folders
        The folders by nnU-Net's names: ``raw``, ``preprocessed``, ``results``.
    threads
        Threads of its numerical libraries; None leaves them as they are.
    capture
        Whether standard output is returned; otherwise it goes where this process writes.

    Raises
    ------
    LunetError
        If it fails. What it said is on standard error.
    """
    own = {f"nnUNet_{name}": str(path.absolute()) for name, path in folders.items()}
    if threads:
        own |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [_expanded(python), str(TEMPLATES / script), json.dumps(job)]
    process = subprocess.Popen(
        command,
        env=_environment(own),
        stdout=subprocess.PIPE if capture else None,
        text=True,
        start_new_session=True,  # so that it ends with the processes that it starts
    )
    with process, _stopped_with_this_process(process):
        output, _ = process.communicate()
    if process.returncode != 0:
        raise LunetError(
            where=f"{script} with {python}",
            found=f"ended with exit code {process.returncode}",
            expected="0 is expected",
            action="Its own messages are above; a killed process (-9) ran out of memory",
        )
    return output or ""


def _expanded(python: str) -> str:
    return os.path.expanduser(os.path.expandvars(python))


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment without the paths of this package's own modules."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return kept | dict(own)


@contextmanager
def _stopped_with_this_process(process: subprocess.Popen[str]) -> Iterator[None]:
    """Pass SIGTERM on; whatever ends the block, the process and its own processes end, too."""

    def stop(number: int, frame: object) -> None:
        del frame
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
