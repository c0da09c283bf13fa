"""The check-up of a profile; SLURM's commands are played by scripts."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest
from paths import ROOT

from lunet.cli import main
from lunet.errors import ConfigError
from lunet.study import slurm_queue
from lunet.study.cluster_check import (
    GPU_RULES,
    check_at_start,
    minutes_of,
    read_profile,
    requests_of,
)

PROFILE = ROOT / "profiles/slurm"
SBATCH = """\
refuse() { echo "sbatch: error: $1" >&2; exit 1; }
[ "$1" = --version ] && echo slurm 24.11 && exit
case "$*" in *"-A lab"*) ;; *) refuse "Batch job submission failed: Invalid account" ;; esac
case "$*" in *"-p cpu"*"--gpus"*|*"-p old"*) refuse "invalid partition specified" ;; esac
exit 0
"""
SCRIPTS = {
    "sbatch": SBATCH,
    "squeue": "",
    "scontrol": "[ $1 = ping ] && echo Slurmctld is UP && exit; echo 'MinJobAge = 2 sec'",
    "sinfo": "echo 'cpu|up|1-00:00:00|4|(null)'; echo 'gpu|up|infinite|2|gpu:a100:4'",
    "srun": 'while [ "$1" != -c ]; do shift; done; PYTHONPATH=$LUNET exec python3 -c "$2"',
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, script in SCRIPTS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LUNET", str(ROOT))
    monkeypatch.setenv("LUNET_ACCOUNT", "lab")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_shipped_profile_asks_for_two_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNET_ACCOUNT", "lab")
    monkeypatch.setenv("LUNET_GPU_PARTITION", "a100")
    monkeypatch.delenv("LUNET_CPU_PARTITION", raising=False)
    found = {(one.partition, one.gpu): one for one in requests_of(read_profile(PROFILE))}
    assert {one.account for one in found.values()} == {"lab"}
    assert set(found) == {("cpu", False), ("a100", True)}
    assert set(found["a100", True].rules) == GPU_RULES


def test_the_rules_that_ask_for_a_gpu_are_the_workflow_s() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    blocks = re.split(r"^rule (\w+):", text, flags=re.MULTILINE)[1:]
    named = zip(blocks[::2], blocks[1::2], strict=True)
    asking = {name for name, body in named if "gpu=1" in body}
    for base, heir in re.findall(r"^use rule (\w+) as (\w+) with:", text, flags=re.MULTILINE):
        asking |= {heir} if base in asking else set()
    assert asking == GPU_RULES


def test_a_profile_that_fits(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--profile", str(PROFILE)]) == 0
    said = capsys.readouterr().out
    assert "partition gpu: up, limit infinite, 2 nodes, gpu:a100:4" in said
    assert "ended jobs stay in squeue for 2 s" in said
    assert "a file written by a node is visible after" in said
    assert not list(cluster.glob(".lunet-doctor*"))
    check_at_start(["--profile", str(PROFILE), "all"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LUNET_ACCOUNT", "nobody", "Invalid account"),
        ("LUNET_GPU_PARTITION", "old", "invalid partition"),
        ("LUNET_GPU_PARTITION", "cpu", "invalid partition"),
    ],
)
def test_slurm_s_own_words_before_anything_is_submitted(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    name: str, value: str, words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(name, value)
    assert main(["doctor", "--profile", str(PROFILE), "--no-job"]) == 1
    assert re.search(f"{words}.*. Edit the first lines of", capsys.readouterr().out)
    with pytest.raises(ConfigError, match=words):
        check_at_start([f"--profile={PROFILE}", "all"])
    check_at_start(["--profile", str(PROFILE), "-n"])


def test_a_controller_that_is_away_stops_no_start(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "#!/bin/sh\necho 'error: Unable to contact slurm controller' >&2; exit 1\n"
    for name in ("sbatch", "scontrol"):
        (cluster / name).write_text(text)
    check_at_start(["--profile", str(PROFILE)])
    assert main(["doctor", "--profile", str(PROFILE)]) == 1
    assert "Unable to contact slurm controller" in capsys.readouterr().out


def test_a_controller_that_is_slow_stops_no_start(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster / "sbatch").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(slurm_queue.ask, "__kwdefaults__", {"seconds": 0.1})
    check_at_start(["--profile", str(PROFILE)])


def test_what_the_profile_requests_is_checked_whole(cluster: Path) -> None:
    """A partition that demands a quality of service would refuse a request without it."""
    own = cluster / "own"
    own.mkdir()
    text = (PROFILE / "config.yaml").read_text()
    text = text.replace("  slurm_account: ?account\n", "  slurm_account: ?account\n  qos: long\n")
    train = "  train:\n    gpu_model: a100\n    constraint: \"'ib'\"\n"
    (own / "config.yaml").write_text(text.replace("  train:\n", train))
    found = {one.rules: one.options for one in requests_of(read_profile(own))}
    assert found["train",] == ("--gpus", "a100:1", "--qos", "long", "--constraint", "ib")
    assert next(options for rules, options in found.items() if "default" in rules) == (
        "--qos",
        "long",
    )
    check_at_start(["--profile", str(own)])


def test_a_command_line_that_changes_the_requests_is_left_to_slurm(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNET_ACCOUNT", "nobody")
    check_at_start(["--profile", str(PROFILE), "--default-resources", "slurm_account=lab"])


def test_a_partition_in_which_a_training_would_wait_for_ever(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (cluster / "sinfo").write_text("#!/bin/sh\necho 'gpu|up|4:00:00|2|gpu:a100:4'\n")
    assert main(["doctor", "--profile", str(PROFILE), "--no-job"]) == 1
    said = capsys.readouterr().out
    assert "a training may request up to 1440 min and would never start" in said
    assert "export LUNET_LONGEST_MINUTES=240" in said
    monkeypatch.setenv("LUNET_LONGEST_MINUTES", "240")
    assert main(["doctor", "--profile", str(PROFILE), "--no-job"]) == 0
    longest = [rule.get("runtime") for rule in read_profile(PROFILE)["set-resources"].values()]
    assert "min(240, 1440 * attempt)" in longest


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        ("2-12:00:00", 3600), ("12:30:00", 750), ("30:00", 30), ("infinite", math.inf),
        ("7-00:00:00", 10080), ("n/a", math.inf),
    ],
)  # fmt: skip
def test_times_as_slurm_writes_them(limit: str, minutes: float) -> None:
    assert minutes_of(limit) == minutes


def test_a_late_file_system_is_told_with_a_number(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write = f"(sleep 2; touch {cluster}/.lunet-doctor-$PPID) > /dev/null 2>&1 &"
    (cluster / "srun").write_text(f"#!/bin/sh\necho python 3\n{write}\n")
    quick = cluster / "quick"
    quick.mkdir()
    text = (PROFILE / "config.yaml").read_text().replace("latency-wait: 60", "latency-wait: 3")
    (quick / "config.yaml").write_text(text)
    assert main(["doctor", "--profile", str(quick)]) == 1
    assert "latency-wait is 3 s. Set latency-wait: 60" in capsys.readouterr().out


def test_no_profile_and_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check_at_start(["--profile", "profiles/local"])
    check_at_start(["all"])
    assert main(["doctor", "--profile", str(PROFILE)]) == 1
    assert main(["doctor", "--profile", str(tmp_path)]) == 2
