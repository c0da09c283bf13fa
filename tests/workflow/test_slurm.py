"""On a real SLURM: a cancelled training goes on, two never write at once, no secret is written.

The other accidents are in ``slurm/accidents.py``, which takes minutes.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

sys.path.insert(0, str(Path(__file__).with_name("slurm")))

import accidents
import cluster
from patience import wait_for
from studies import (
    PROJECT,
    SECRET,
    TRAIN_LOG,
    WEIGHTS,
    Checkout,
    call,
    configuration,
    prepared,
)

from lunet.cli import main
from lunet.study.cluster_check import GPU_RULES
from lunet.study.profile import read_profile

pytestmark = pytest.mark.slow
EPOCHS = 60


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A running cluster; another run of the tests on this machine waits for its turn."""
    try:
        with cluster.running():
            yield
    except cluster.Unavailable as error:
        pytest.skip(f"no SLURM here: {error}")


@pytest.fixture(scope="module")
def scenes(slurm, tmp_path_factory) -> Iterator[dict[str, Checkout]]:
    """Two accidents at the same time, each in a checkout of its own."""
    folder = tmp_path_factory.mktemp("slurm")
    template, reference = accidents.stage(folder, epochs=EPOCHS)
    with ThreadPoolExecutor() as pool:
        cancelled = pool.submit(accidents.cause, "cancelled", template, reference, folder)
        twice = pool.submit(two_writers, template.copy(folder / "twice"), reference)
        yield {"row": cancelled, "twice": twice, "folder": folder}


def two_writers(checkout: Checkout, reference: str) -> str:
    """Submit the training's command twice; what the second says of the first."""
    assert checkout.run("-n", "-p", WEIGHTS, profile="profiles/local") == 0, checkout.output
    pattern = r"^Shell command: (lunet train .*)$"
    (command,) = re.findall(pattern, checkout.output, flags=re.MULTILINE)
    (checkout.root / TRAIN_LOG).parent.mkdir(parents=True, exist_ok=True)
    second_log = checkout.root / "second.log"
    first = submit(checkout, command)
    wait_for("the first", lambda: checkout.epoch() >= 3)
    call("scontrol", "suspend", first)  # else it may be done before the second has started
    second = submit(checkout, command.replace(TRAIN_LOG, str(second_log)))
    wait_for("the second's end", lambda: second not in checkout.jobs())
    assert first in checkout.jobs("SUSPENDED")
    call("scontrol", "resume", first)
    wait_for("the first's end", lambda: first not in checkout.jobs())
    assert checkout.digest() == reference
    return second_log.read_text().replace(f"SLURM job {first},", "the first,")


def submit(checkout: Checkout, command: str) -> str:
    path = f"PATH={Path(sys.executable).parent}:$PATH"
    words = ["sbatch", "--parsable", "-p", "cpu", "-o", "/dev/null", "-D", str(checkout.root)]
    done = subprocess.run(
        [*words, "--wrap", f"{path} {command}"],
        env=checkout.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_cancelled_training_ends_in_the_same_weights(scenes):
    row = scenes["row"].result()
    assert row.lost_epochs <= 1


def test_a_second_writer_stops_with_a_clear_line(scenes):
    said = scenes["twice"].result()
    assert "is being written by the first" in said
    assert "lunet ended: owned by another process" in said


def test_no_secret_of_the_submitter_is_written(scenes):
    scenes["row"].result()
    root = scenes["folder"] / "cancelled"
    assert (root / "logs/slurm").is_dir()
    for path in (path for path in root.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path


def test_nothing_is_left_in_the_queue(scenes):
    scenes["row"].result()
    scenes["twice"].result()
    assert str(scenes["folder"]) not in call("squeue", "-h", "-t", "PD,R", "-o", "%Z")


def test_the_check_up_says_what_this_cluster_refuses(slurm, monkeypatch, capsys):
    """Every request of the profile, tested by the real sbatch; then a GPU where there is none."""
    monkeypatch.setenv("LUNET_ACCOUNT", "test")
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "partition gpu, account test, a GPU: accepted" in said
    assert "a file written by a node is visible" in said
    monkeypatch.setenv("LUNET_GPU_PARTITION", "cpu")
    assert main(["doctor", "--no-job"]) == 1
    assert "Requested node configuration is not available" in capsys.readouterr().out


def test_a_job_of_several_steps_starts_no_snakemake_for_each(slurm, tmp_path):
    """But for the training, which SLURM has to reach by a signal."""
    config = configuration(epochs=2) | {"folds": [0, 1], "seeds": [0, 1], "runs_per_gpu": 2}
    config |= {"folds_per_job": "all", "seeds_per_job": "all"}
    checkout = prepared(tmp_path / "study", config)
    runs = [f"fold-{fold}/seed-{seed}" for fold in (0, 1) for seed in (0, 1)]
    scores = [f"results/s/runs/lunet_small_1f/{run}/metrics.csv" for run in runs]
    assert checkout.run(*scores, seconds=180) == 0, checkout.output
    logs = (checkout.root / "logs/slurm").rglob("*.log")
    starts = {path.parent.name: path.read_text().count("Building DAG") for path in logs}
    assert starts == {
        "group_run_lunet_small_1f_predict_train_preset": 2,
        "group_score_lunet_small_1f_evaluate_preset": 1,
    }
    for run in runs:
        log = checkout.root / "results/s/logs/lunet_small_1f" / run / "predict.log"
        assert log.read_text().startswith("predicted by the job of the training")


class Resources(dict[str, Any]):
    """Resources of a job, as Snakemake's: also attributes."""

    __getattr__ = dict.__getitem__


def resources_of(profile: dict[str, Any], rule: str) -> Resources:
    """What a rule requests in its first attempt."""
    given = profile["default-resources"] | profile["set-resources"].get(rule, {})
    texts = ("slurm_account", "slurm_partition")
    found = Resources(
        (key, eval(value, {}, {"attempt": 1}) if isinstance(value, str) else value)
        for key, value in given.items()
        if key not in texts
    )
    found |= {key: given[key] for key in texts}
    return Resources(found | ({"gpu": 1} if rule in GPU_RULES else {}))


def test_slurm_accepts_every_rule_as_the_plugin_submits_it(slurm, monkeypatch, tmp_path):
    """On a cluster whose CPU partition has no GPU; nothing is submitted."""
    monkeypatch.setenv("LUNET_ACCOUNT", "test")
    profile = read_profile(PROJECT / "profiles/slurm")
    rules = re.findall(
        r"^(?:rule|checkpoint|use rule \w+ as) (\w+)",
        "".join(path.read_text() for path in (PROJECT / "workflow/rules").glob("*.smk")),
        flags=re.MULTILINE,
    )
    assert set(profile["set-resources"]) <= set(rules)
    refused = {}
    for rule in rules:
        resources = resources_of(profile, rule)
        job = SimpleNamespace(
            resources=resources,
            threads=profile["set-threads"].get(rule, 1),
            is_group=lambda: False,
            rule=SimpleNamespace(name=rule),
            name=rule,
        )
        parameters = {
            "run_uuid": "lunet_test",
            "slurm_logfile": str(tmp_path / "log"),
            "comment_str": rule,
            "account": f"-A {resources.slurm_account}",
            "partition": f"-p {resources.slurm_partition}",
            "workdir": str(tmp_path),
        }
        command = shlex.split(get_submit_command(job, parameters) + set_gres_string(job))
        done = subprocess.run(
            [*command, "--test-only", "--wrap", "true"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            refused[rule] = done.stderr
        assert ("--gpus=1" in command) == (rule in GPU_RULES)
    assert not refused
    # it can refuse: the same request of a GPU where there is none
    wrong = ["sbatch", "--test-only", "-p", "cpu", "--gpus=1", "--wrap", "true"]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode
