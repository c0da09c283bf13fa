"""`lunet smallest` on the command line: what it asks Snakemake, and how it ends."""

from __future__ import annotations

import subprocess
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

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess:
        commands.append(command)
        if not code:
            maker([word for word in command if word.startswith("results/")])
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr("lunet.commands.smallest.subprocess.run", run)
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
