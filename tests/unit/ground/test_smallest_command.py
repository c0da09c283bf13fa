"""`lunet smallest` on the command line: what it asks Snakemake, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from stub_search import StubMaker

from lunet import cli

DICE = {"unet_small_4f": 0.88, "lunet_small_2f": 0.88}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    content = {
        "study": "search",
        "dataset": {"name": "phantom"},
        "smallest": {"reference": "unet_small_4f", "families": ["lunet_small"], "widths": [2]},
    }
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    return path


def called(monkeypatch: pytest.MonkeyPatch, code: int = 0) -> list[list[str]]:
    """Let the stub make the files that Snakemake is asked for; the commands it was given."""
    commands, maker = [], StubMaker(DICE)

    def run(command: list[str]) -> int:
        commands.append(command)
        if not code:
            maker([word for word in command if word.startswith("results/")])
        return code

    monkeypatch.setattr("lunet.commands.smallest._carry_out", run)
    return commands


def test_snakemake_is_asked_and_the_answer_ends_the_output(config, monkeypatch, capsys) -> None:
    commands = called(monkeypatch)
    Path("Snakefile").touch()
    assert cli.main(["smallest", "--config", str(config), "--", "--cores", "3", "-n"]) == 0
    assert commands[0][-7:-2] == ["--configfile", str(config), "--cores", "3", "-n"]
    assert any(word.endswith("splits.json") for word in commands[0])
    assert not any("/runs/" in word for word in commands[0])
    assert any("/runs/unet_small_4f/fold-0/seed-1/metrics.csv" in word for word in commands[2])
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("The smallest network (by MACs) not inferior to unet_small_4f")


def test_a_failure_of_snakemake_is_told_with_what_to_do(config, monkeypatch, capsys) -> None:
    called(monkeypatch, code=1)
    Path("Snakefile").touch()
    assert cli.main(["smallest", "--config", str(config)]) == 3
    assert "run the same command again to resume the search" in capsys.readouterr().err


def test_it_needs_a_snakefile_and_a_search(config, monkeypatch, capsys) -> None:
    commands = called(monkeypatch)
    assert cli.main(["smallest", "--config", str(config)]) == 2
    assert "--snakefile" in capsys.readouterr().err
    config.write_text(yaml.safe_dump({"study": "search", "dataset": {"name": "phantom"}}))
    Path("Snakefile").touch()
    assert cli.main(["smallest", "--config", str(config)]) == 2
    assert "networks to search among" in capsys.readouterr().err
    assert commands == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_search_leaves_no_snakemake_and_no_job_behind(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Snakemake and one of its jobs, pretended by a shell and a child that notes its signal."""
    job = (
        "import pathlib, signal, sys, time\n"
        "def stop(*_): pathlib.Path('stopped').touch(); sys.exit(75)\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "pathlib.Path('running').touch()\n"
        "while True: time.sleep(0.1)\n"
    )
    (tmp_path / "job.py").write_text(job)
    driver = (
        "import sys\nfrom lunet.commands.smallest import _carry_out\n"
        "from lunet.errors import Interrupted\n"
        "try: _carry_out(['sh', '-c', f'trap : INT; {sys.executable} job.py; exit 1'])\n"
        "except Interrupted as error: print(error); sys.exit(error.exit_code)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "running").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 75
    assert f"{number.name} asked it to stop" in text
    assert (tmp_path / "stopped").exists()
