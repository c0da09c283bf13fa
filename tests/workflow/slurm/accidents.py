"""Accidents, caused for real on the test cluster, while a study of one run trains through it.

Each accident hits a training in the middle. Afterwards the training must have gone on from its
last state and ended in the same weights and history, bit for bit, as one that was left alone.

    python tests/workflow/slurm/cluster.py up
    python tests/workflow/slurm/accidents.py [NAME ...]     # all: about 15 minutes
    python tests/workflow/slurm/cluster.py down

Prints a table: what happened, what the user saw, epochs trained twice, seconds until the training
went on.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "helpers"))

import cluster
from patience import wait_for
from studies import PROJECT, STATE, WEIGHTS, Checkout, call, configuration, prepared

EPOCHS = 400  # about half a minute on a free core: longer than SLURM needs to miss a node
_QUIET = ("--parsable", "-o", "/dev/null", "-D", "/")
LUNET = str(Path(sys.executable).with_name("lunet"))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    accident: str
    seen: str
    lost_epochs: int
    seconds: float


@dataclass
class Scene:
    """A checkout whose data are prepared, and Snakemake at work in it."""

    checkout: Checkout
    reference: str
    process: subprocess.Popen[bytes] | None = None
    epoch: int = 0
    moment: float = 0.0

    def begin(self, *words: str, epoch: int = 12, **environment: str) -> None:
        """Start Snakemake and wait until the training has come to an epoch."""
        self.process = self.checkout.start(WEIGHTS, *words, **environment)
        wait_for("training", lambda: self.checkout.epoch() >= epoch)
        self.mark()

    def mark(self) -> None:
        """The accident happens now."""
        self.epoch, self.moment = self.checkout.epoch(), time.monotonic()

    def edit_profile(self, old: str, new: str) -> None:
        """As a user edits the profile."""
        path = self.checkout.root / "profiles/slurm/config.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def job(self) -> str:
        """Number of the training's job."""
        (number,) = self.checkout.jobs("RUNNING")
        return number

    def goes_on(self, seconds: float = 180) -> tuple[int, float]:
        """Wait until the training goes on; epochs trained twice, seconds since the accident."""
        wait_for("going on", lambda: "resumes at epoch" in self.checkout.log, seconds)
        (line,) = (row for row in self.checkout.log.splitlines() if row.startswith("resumes"))
        epoch = int(line.split()[3].rstrip(","))
        wait_for("an epoch", self.checkout.epoch)
        return max(self.epoch - epoch + 1, 0), time.monotonic() - self.moment

    def end(self, accident: str, seen: str, *, seconds: float = 240) -> Row:
        """Wait for the training's end and check that nothing shows of the accident."""
        lost, after = self.goes_on(seconds)
        self.finish()
        return Row(accident, seen, lost, after)

    def finish(self) -> None:
        """Snakemake succeeds, the results are those of an undisturbed run, nothing is left over."""
        assert self.process is not None
        assert self.process.wait(240) == 0, self.checkout.output[-3000:]
        assert self.checkout.digest() == self.reference, "other weights than undisturbed"
        assert not (self.checkout.root / STATE / "state.pt").exists()
        assert not list((self.checkout.root / "results").rglob(".part-*"))
        assert not list((self.checkout.root / "results").rglob("*.lock"))
        assert not self.checkout.jobs()

    def stop(self, number: int, seconds: float = 90) -> int:
        """Send Snakemake a signal and wait for its end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def recover(self, *words: str) -> str:
        """Run ``lunet recover``; what it prints."""
        done = subprocess.run(
            [LUNET, "recover", *words],
            cwd=self.checkout.root,
            env=self.checkout.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def last(self, word: str) -> str:
        """The last line of Snakemake's output with a word in it."""
        rows = [row.strip() for row in self.checkout.output.splitlines() if word in row]
        assert rows, f"{word!r} is nowhere in\n{self.checkout.output[-3000:]}"
        return rows[-1]


def cancelled(scene: Scene) -> Row:
    """A person or an administrator cancels the job."""
    scene.begin()
    call("scancel", scene.job())
    row = scene.end("job cancelled (scancel)", "")
    return replace(row, seen=scene.last("SLURM job "))


def requeued(scene: Scene) -> Row:
    """An administrator requeues the job."""
    scene.begin()
    call("scontrol", "requeue", scene.job())
    return scene.end("job requeued (scontrol requeue)", "nothing; SLURM starts the job again")


def preempted(scene: Scene) -> Row:
    """A job of a higher partition takes the node; ours is requeued."""
    scene.begin()
    _urgent_job()
    seen = "with GraceTime: `lunet ended: preempted, ...`, submitted again; else nothing"
    return scene.end("preempted, PreemptMode=REQUEUE", seen)


def preempted_for_good(scene: Scene) -> Row:
    """A job of a higher partition takes the node; ours is cancelled."""
    scene.begin(LUNET_GPU_PARTITION="cheap")
    _urgent_job()
    row = scene.end("preempted, PreemptMode=CANCEL", "")
    return replace(row, seen=scene.last("SLURM job "))


def _urgent_job() -> None:
    """Take the whole GPU node for some seconds."""
    call("sbatch", *_QUIET, "-p", "urgent", "--exclusive", "--wrap", "sleep 8")


def time_limit(scene: Scene) -> Row:
    """The job's minutes are over; SLURM asks the training to leave before that."""
    scene.edit_profile("  train:\n", "  train:\n    runtime: attempt\n")
    scene.edit_profile("TERM@90", "TERM@20")
    scene.begin()
    job = scene.job()
    # the shortest limit is a minute, and a free core trains in less: hold the training up
    call("scancel", "--full", "--signal=STOP", job)
    time.sleep(40)
    call("scancel", "--full", "--signal=CONT", job)
    scene.mark()
    row = scene.end("time limit", "")
    return replace(row, seen=scene.last("lunet ended"))


def memory_limit(scene: Scene) -> Row:
    """The job needs more memory than it asked for."""
    scene.edit_profile("  train:\n", "  train:\n    mem_mb: 250 * 8 ** (attempt - 1)\n")
    scene.process = scene.checkout.start(WEIGHTS)
    wait_for("the limit", lambda: "Trying to restart" in scene.checkout.output)
    scene.mark()
    wait_for("an epoch", scene.checkout.epoch)
    after = time.monotonic() - scene.moment
    scene.finish()
    seen = "status FAILED or OUT_OF_MEMORY; submitted again with twice the memory"
    return Row("memory limit", seen, 0, after)


def node_lost(scene: Scene) -> Row:
    """A node stops answering, with its processes still alive, and comes back."""
    scene.begin()
    cluster.stop_node("g1")
    wait_for("SLURM to notice", lambda: "down" in call("sinfo", "-h", "-n", "g1", "-o", "%t"))
    cluster.start_node("g1")
    return scene.end("node down and back", "nothing; SLURM starts the job again")


def controller_restarted(scene: Scene) -> Row:
    """slurmctld is restarted."""
    scene.begin()
    with cluster.controller_away():
        pass
    scene.finish()
    assert "resumes" not in scene.checkout.log
    return Row("controller restarted", "nothing", 0, 0.0)


def controller_away(scene: Scene) -> Row:
    """slurmctld is away for many looks at the queue, and while the next job is submitted."""
    scene.begin()
    with cluster.controller_away():
        wait_for("a line", lambda: "waiting for SLURM to answer" in scene.checkout.output)
        time.sleep(60)
    wait_for("an answer", lambda: "SLURM answers again" in scene.checkout.output)
    scene.finish()
    assert "resumes" not in scene.checkout.log
    seen = scene.last("waiting for SLURM to answer")
    return Row("controller away for a minute", seen, 0, 0.0)


def controller_away_first(scene: Scene) -> Row:
    """slurmctld is away when the job is submitted."""
    with cluster.controller_away():
        scene.process = scene.checkout.start(WEIGHTS)
        wait_for("a line", lambda: "waits to be submitted" in scene.checkout.output)
    scene.finish()
    assert "Trying to restart" not in scene.checkout.output
    return Row("controller away at the submission", scene.last("waits to be submitted"), 0, 0.0)


def held(scene: Scene) -> Row:
    """A job is held in the queue, and released."""
    blocker = call("sbatch", *_QUIET, "-p", "gpu", "--exclusive", "--wrap", "sleep 600")
    scene.process = scene.checkout.start(WEIGHTS)
    wait_for("the queue", lambda: scene.checkout.jobs("PENDING"))
    (job,) = scene.checkout.jobs("PENDING")
    call("scontrol", "hold", job)
    call("scancel", blocker.strip())
    wait_for("the reason", lambda: "JobHeld" in scene.checkout.output)
    scene.mark()
    call("scontrol", "release", job)
    wait_for("an epoch", scene.checkout.epoch)
    after = time.monotonic() - scene.moment
    scene.finish()
    return Row("job held, then released", scene.last("JobHeld"), 0, after)


def refused(scene: Scene) -> Row:
    """SLURM refuses what the check at the start does not cover; the user mends the profile."""
    wrong = "--signal=TERM@90 --licenses=none_here"
    scene.edit_profile("'--signal=TERM@90'", f"'{wrong}'")
    assert scene.checkout.run(WEIGHTS) == 1
    seen = scene.last("SLURM refuses")
    assert scene.checkout.output.count("SLURM refuses") == 1
    assert "Trying to restart" not in scene.checkout.output
    scene.mark()
    scene.edit_profile(wrong, "--signal=TERM@90")
    scene.process = scene.checkout.start(WEIGHTS)
    scene.finish()
    return Row("SLURM refuses the job", seen, 0, 0.0)


def forgotten(scene: Scene) -> Row:
    """The queue forgets a job between two looks (here: it hides the jobs that have ended)."""
    commands = scene.checkout.root / "commands"
    commands.mkdir()
    real = shutil.which("squeue")
    for name, script in {
        "squeue": f"exec {real} $(echo \" $* \" | sed 's/ --states=all//')",
        "scontrol": "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
    }.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    scene.process = scene.checkout.start(WEIGHTS, PATH=path)
    scene.finish()
    return Row("job dropped from the queue at its end", "nothing", 0, 0.0)


def interrupted_looking(scene: Scene) -> Row:
    """Ctrl-C while Snakemake waits for the queue's answer, which takes long."""
    commands = scene.checkout.root / "commands"
    commands.mkdir()
    (commands / "squeue").write_text(f'#!/bin/sh\nsleep 8; exec {shutil.which("squeue")} "$@"\n')
    (commands / "squeue").chmod(0o755)
    scene.begin(PATH=os.pathsep.join([str(commands), os.environ["PATH"]]))
    assert scene.stop(signal.SIGINT) != 0
    wait_for("the jobs' end", lambda: not scene.checkout.jobs("RUNNING", "PENDING"))
    scene.process = scene.checkout.start(WEIGHTS)
    return scene.end("Ctrl-C during a look at the queue", "jobs are cancelled; start again")


def interrupted(scene: Scene) -> Row:
    """Ctrl-C: Snakemake cancels its jobs; the user starts it again at once."""
    scene.begin()
    assert scene.stop(signal.SIGINT) != 0
    scene.process = scene.checkout.start(WEIGHTS)
    return scene.end("Ctrl-C on Snakemake", "jobs are cancelled; start again")


def terminated(scene: Scene) -> Row:
    """SIGTERM: Snakemake waits for its running jobs; nothing is lost."""
    scene.begin()
    assert scene.process is not None
    scene.process.send_signal(signal.SIGTERM)
    scene.process.wait(240)
    assert scene.checkout.digest() == scene.reference
    assert "resumes" not in scene.checkout.log
    seen = scene.last("Will exit after")
    assert scene.checkout.run(WEIGHTS) == 0
    scene.process = scene.checkout.start(WEIGHTS)
    scene.finish()
    return Row("SIGTERM to Snakemake", seen, 0, 0.0)


def killed(scene: Scene) -> Row:
    """SIGKILL: the job goes on alone; recover awaits it, and nothing is done twice."""
    scene.begin()
    scene.stop(signal.SIGKILL)
    scene.recover("--wait")
    assert "resumes" not in scene.checkout.log
    before = (scene.checkout.root / WEIGHTS).stat().st_mtime_ns
    scene.process = scene.checkout.start(WEIGHTS)
    scene.finish()
    assert (scene.checkout.root / WEIGHTS).stat().st_mtime_ns == before, "trained twice"
    return Row("SIGKILL to Snakemake", "`lunet recover --wait`, start again", 0, 0.0)


def killed_and_ended(scene: Scene) -> Row:
    """SIGKILL; the left-over job is cancelled, and Snakemake started again."""
    scene.begin()
    scene.stop(signal.SIGKILL)
    scene.recover("--cancel")
    scene.process = scene.checkout.start(WEIGHTS)
    return scene.end("SIGKILL to Snakemake, jobs ended", "`lunet recover --cancel`, start again")


def killed_and_careless(scene: Scene) -> Row:
    """SIGKILL; the user unlocks and starts again beside the job that is still training."""
    scene.begin()
    first = scene.job()
    scene.stop(signal.SIGKILL)
    assert scene.checkout.run("--unlock") == 0
    assert scene.checkout.run(WEIGHTS, "--retries", "0") == 1, "two trainings side by side"
    seen = scene.last("is being written by")
    assert f"SLURM job {first}" in seen, seen
    scene.recover("--wait")
    scene.process = scene.checkout.start(WEIGHTS)
    scene.finish()
    return Row("the same job started twice", seen, 0, 0.0)


def two_snakemakes(scene: Scene) -> Row:
    """A second Snakemake is started in the same folder."""
    scene.begin()
    assert scene.checkout.run(WEIGHTS) == 1
    assert scene.last("LockException")
    scene.finish()
    assert "resumes" not in scene.checkout.log
    return Row("two Snakemakes at once", "the second stops: LockException", 0, 0.0)


def edited(scene: Scene) -> Row:
    """The package is broken by an edit while the job waits in the queue."""
    loop = scene.checkout.root / "lunet/training/loop.py"
    before, times = loop.read_text(), loop.stat()
    blocker = call("sbatch", *_QUIET, "-p", "gpu", "--exclusive", "--wrap", "sleep 600")
    scene.process = scene.checkout.start(WEIGHTS)
    wait_for("the queue", lambda: scene.checkout.jobs("PENDING"))
    loop.write_text(before + '\nraise SystemExit("half-finished edit")\n')
    scene.mark()
    call("scancel", blocker.strip())
    wait_for("an epoch", scene.checkout.epoch)
    after = time.monotonic() - scene.moment
    scene.finish()
    loop.write_text(before)
    os.utime(loop, ns=(times.st_atime_ns, times.st_mtime_ns))
    scene.process = scene.checkout.start("-n", WEIGHTS)
    scene.finish()
    assert scene.last("Nothing to be done")
    return Row("the package edited while a job queues", "nothing", 0, after)


def corrupted(scene: Scene) -> Row:
    """The newest state is damaged while nothing runs; the one before is used."""
    scene.begin()
    scene.stop(signal.SIGINT)
    wait_for("the job's end", lambda: not scene.checkout.jobs())  # it saves when it is cancelled
    state = scene.checkout.root / STATE / "state.pt"
    content = bytearray(state.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 4096):
        content[place] ^= 0xFF  # a single byte may lie between two records
    state.write_bytes(content)
    scene.process = scene.checkout.start(WEIGHTS)
    lost, after = scene.goes_on()
    (seen,) = (row for row in scene.checkout.log.splitlines() if "not used" in row)
    scene.finish()
    return Row("corrupted resume state", seen.split(": ", 1)[1], lost, after)


def full_work(scene: Scene) -> Row:
    """The disk of the resume states is full when the job is cancelled; the state before stands."""
    with _small_disk(scene.checkout.root / "work/s/runs", "12m") as disk:
        scene.begin("--retries", "8")
        ballast = _fill(disk)
        scene.mark()
        call("scancel", scene.job())
        seen = _full(scene)
        ballast.unlink()
        return scene.end("disk full in work/", seen)


def full_results(scene: Scene) -> Row:
    """The disk of the results is full when the training ends."""
    with _small_disk(scene.checkout.root / "results/s/runs", "12m") as disk:
        scene.begin("--retries", "8", epoch=40)
        ballast = _fill(disk)
        wait_for("the training's end", lambda: "lunet ended" in scene.checkout.log)
        scene.mark()
        seen = _full(scene)
        ballast.unlink()
        return scene.end("disk full in results/", seen)


def _fill(disk: Path) -> Path:
    """Fill a file system to its last byte; the file that does so.

    Twice, since a state that was just being written frees the place of an older one.
    """
    ballast = disk / "ballast"
    for _ in range(2):
        with ballast.open("ab", buffering=0) as stream:
            try:
                while stream.write(bytes(4096)):
                    continue
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        time.sleep(1.0)
    return ballast


def _full(scene: Scene) -> str:
    wait_for("the failure", lambda: "lunet ended" in scene.checkout.output)
    seen = scene.last("lunet ended")
    assert "full disk" in seen, seen
    return seen


def read_only(scene: Scene) -> Row:
    """The file system of the results becomes read-only for a while."""
    disk = scene.checkout.root / "results/s/runs"
    with _small_disk(disk, "12m"):
        scene.begin("--retries", "8", epoch=40)
        call("mount", "-o", "remount,ro", str(disk))
        wait_for("the training's end", lambda: "lunet ended" in scene.checkout.log)
        scene.mark()
        wait_for("the failure", lambda: "lunet ended" in scene.checkout.output)
        seen = scene.last("lunet ended")
        call("mount", "-o", "remount,rw", str(disk))
        return scene.end("read-only file system", seen)


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own at ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        call("umount", "-l", str(folder))


ACCIDENTS: dict[str, Callable[[Scene], Row]] = {
    function.__name__: function
    for function in (
        cancelled,
        requeued,
        preempted,
        preempted_for_good,
        time_limit,
        memory_limit,
        node_lost,
        controller_restarted,
        controller_away,
        controller_away_first,
        held,
        refused,
        forgotten,
        interrupted_looking,
        interrupted,
        terminated,
        killed,
        killed_and_ended,
        killed_and_careless,
        two_snakemakes,
        edited,
        corrupted,
        full_work,
        full_results,
        read_only,
    )
}


def cause(name: str, template: Checkout, reference: str, folder: Path) -> Row:
    """Cause one accident in a copy of the prepared checkout."""
    scene = Scene(template.copy(folder / name), reference)
    try:
        return ACCIDENTS[name](scene)
    finally:
        if scene.process is not None and scene.process.poll() is None:
            scene.process.kill()
            scene.process.wait()
        if left := scene.checkout.jobs():
            call("scancel", *left)


def stage(folder: Path, *, epochs: int = EPOCHS) -> tuple[Checkout, str]:
    """A prepared checkout, and the digest of its training when nothing happens."""
    template = prepared(folder / "template", configuration(epochs=epochs))
    undisturbed = template.copy(folder / "undisturbed")
    assert undisturbed.run(WEIGHTS, profile="profiles/local") == 0, undisturbed.output
    return template, undisturbed.digest()


# these take the node or the controller away from everybody
ALONE = {
    *("preempted", "preempted_for_good", "node_lost", "held", "edited"),
    *("controller_restarted", "controller_away", "controller_away_first"),
}


def line(name: str, template: Checkout, reference: str, folder: Path) -> str:
    """Cause an accident; its line of the table."""
    try:
        row = cause(name, template, reference, folder)
    except Exception as error:  # whatever it is, the other accidents go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}: {place.line}"
        return f"| {name} | NOT SURVIVED: {type(error).__name__}: {error} ({where}) | | |"
    return f"| {row.accident} | {row.seen} | {row.lost_epochs} | {row.seconds:.0f} s |"


def main() -> int:
    """Cause the accidents that are named, or all; exit code 1 if one was not survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ACCIDENTS))
    parser.add_argument("--at-once", type=int, default=3, help="accidents at the same time")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="length of the training")
    arguments = parser.parse_args()
    names = arguments.names or list(ACCIDENTS)
    os.environ["PYTHONPATH"] = str(PROJECT)
    lines = []
    with tempfile.TemporaryDirectory(prefix="lunet-accidents-") as text:
        folder = Path(text)
        template, reference = stage(folder, epochs=arguments.epochs)
        print("| what happened | what the user saw | epochs trained twice | work went on after |")
        print("|---|---|---|---|", flush=True)
        for workers, wanted in ((arguments.at_once, False), (1, True)):
            chosen = [name for name in names if (name in ALONE) == wanted]
            with ThreadPoolExecutor(workers) as pool:
                started = [pool.submit(line, n, template, reference, folder) for n in chosen]
                for done in as_completed(started):
                    lines.append(done.result())
                    print(lines[-1], flush=True)
    return 1 if any("NOT SURVIVED" in row for row in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
