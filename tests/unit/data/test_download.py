"""Downloads from servers that misbehave, local copies, registered sets, two processes at once."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import multiprocessing
import os
import random
import tarfile
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from misbehaving import Behaviour, serve
from patience import patient

from lunet.cli import main
from lunet.data.catalog import remap_of
from lunet.data.catalog_table import CATALOG
from lunet.data.dataset import read_dataset
from lunet.data.download import fetch as fetching
from lunet.data.download import http
from lunet.data.download.download import download
from lunet.data.download.fetch import Patience, Sums, fetch, sums_of
from lunet.data.phantoms.make import make_phantom
from lunet.data.settings import DatasetSettings, PhantomSettings
from lunet.errors import Busy, ConfigError, DataError
from lunet.leftovers import part_of
from lunet.locks import exclusive

HASTE = Patience(timeout=2.0, tries=4, pause=0.01)
CONTENT = random.Random(0).randbytes(400_000)
EXPECTED = Sums(hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def _no_proxy_and_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("LUNET_DATA", raising=False)


class Lines(list[str]):
    """Collects what is said."""

    def __call__(self, line: str) -> None:
        self.append(line)


def get(behaviour: Behaviour, target: Path, expected: Sums = EXPECTED) -> Lines:
    said = Lines()
    with serve(behaviour) as url:
        fetch([url], target, expected=expected, patience=HASTE, log=said)
    return said


def test_a_whole_file_is_announced_and_checked(tmp_path: Path) -> None:
    said = get(Behaviour(CONTENT), tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert "0.4 MB" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.tar.lock", "set.tar"]


def test_cut_connections_are_resumed_where_they_ended(tmp_path: Path) -> None:
    behaviour = Behaviour(CONTENT, cuts=[150_000, 100_000])
    get(behaviour, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert [seen.get("range") for seen in behaviour.seen] == [
        None,
        "bytes=150000-",
        "bytes=250000-",
    ]
    assert behaviour.seen[1]["if-range"] == '"v1"'
    assert behaviour.sent == len(CONTENT)


def test_a_later_call_resumes_an_earlier_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="150000 bytes"):
        get(Behaviour(CONTENT, cuts=[150_000, 0, 0, 0]), tmp_path / "set.tar")
    assert not (tmp_path / "set.tar").exists()
    behaviour = Behaviour(CONTENT)
    get(behaviour, tmp_path / "set.tar")
    assert behaviour.sent == len(CONTENT) - 150_000


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(tmp_path: Path) -> None:
    behaviour = Behaviour(CONTENT, cuts=[150_000], ranges=False)
    said = get(behaviour, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert any("from the beginning" in line for line in said)


def test_a_file_that_changed_meanwhile_is_not_glued_together(tmp_path: Path) -> None:
    other = CONTENT[::-1] + b"longer"
    behaviour = Behaviour(CONTENT, cuts=[150_000], swap=other)
    get(behaviour, tmp_path / "set.tar", Sums(sha256=hashlib.sha256(other).hexdigest()))
    assert (tmp_path / "set.tar").read_bytes() == other


def test_a_changed_file_behind_a_server_without_tags_starts_anew(tmp_path: Path) -> None:
    other = CONTENT[::-1] + b"longer"
    behaviour = Behaviour(CONTENT, cuts=[150_000], tag=None)
    with pytest.raises(DataError):
        get(Behaviour(CONTENT, cuts=[150_000, 0, 0, 0], tag=None), tmp_path / "set.tar")
    behaviour = Behaviour(other, tag=None)
    get(behaviour, tmp_path / "set.tar", Sums(sha256=hashlib.sha256(other).hexdigest()))
    assert (tmp_path / "set.tar").read_bytes() == other


def test_server_errors_are_waited_out(tmp_path: Path) -> None:
    said = get(Behaviour(CONTENT, statuses=[503, 503]), tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert [line for line in said if "503" in line][1].endswith("again in 0.04 s")


def test_a_server_that_never_recovers_is_given_up(tmp_path: Path) -> None:
    behaviour = Behaviour(CONTENT, statuses=[500] * 10)
    with pytest.raises(DataError, match="4 tries without progress"):
        get(behaviour, tmp_path / "set.tar")
    assert len(behaviour.seen) == 4


def test_a_missing_file_is_not_asked_for_again_but_elsewhere(tmp_path: Path) -> None:
    gone = Behaviour(CONTENT, statuses=[404] * 10)
    with serve(gone) as nowhere, serve(Behaviour(CONTENT)) as mirror:
        urls = [nowhere, mirror]
        used, sums = fetch(urls, tmp_path / "a", expected=EXPECTED, patience=HASTE, log=Lines())
    assert used == mirror
    assert sums == EXPECTED
    assert len(gone.seen) == 1
    with pytest.raises(DataError, match="404"):
        get(Behaviour(CONTENT, statuses=[404]), tmp_path / "b")


def test_a_second_mirror_goes_on_where_the_first_died(tmp_path: Path) -> None:
    dying = Behaviour(CONTENT, cuts=[150_000, 0, 0, 0, 0])
    healthy = Behaviour(CONTENT, tag='"other tag"')
    with serve(dying) as first, serve(healthy) as second:
        fetch([first, second], tmp_path / "a", expected=EXPECTED, patience=HASTE, log=Lines())
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert healthy.sent == len(CONTENT) - 150_000


def test_a_file_that_is_here_already_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(CONTENT)
    behaviour = Behaviour(CONTENT)
    get(behaviour, tmp_path / "set.tar")
    assert not behaviour.seen
    (tmp_path / "set.tar").write_bytes(b"something else")
    get(behaviour, tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_no_network_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"refused.*set dataset\.path to a local copy"):
        fetch(
            ["http://127.0.0.1:9/set.tar"],
            tmp_path / "set.tar",
            expected=EXPECTED,
            patience=HASTE,
            log=Lines(),
        )


def test_a_stalled_connection_is_left_and_resumed(tmp_path: Path) -> None:
    said = get(Behaviour(CONTENT, stall=4.0), tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert any("timed out" in line for line in said)


def test_a_wrong_checksum_keeps_the_file_aside_and_says_both_sums(tmp_path: Path) -> None:
    wrong = b"<html>maintenance</html>"
    with pytest.raises(DataError) as caught:
        get(Behaviour(wrong), tmp_path / "set.tar")
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert EXPECTED.sha256 is not None
    assert EXPECTED.sha256 in str(caught.value)
    assert (tmp_path / "set.tar.bad").read_bytes() == wrong
    assert not (tmp_path / "set.tar").exists()
    get(Behaviour(CONTENT), tmp_path / "set.tar")


@pytest.mark.parametrize("lie", [50, -50])
def test_a_wrong_length_never_passes(tmp_path: Path, lie: int) -> None:
    with pytest.raises(DataError, match=r"without progress|wrong checksum"):
        get(Behaviour(CONTENT, lie=lie, ranges=False), tmp_path / "set.tar")
    assert not (tmp_path / "set.tar").exists()


def test_cuts_that_never_get_further_are_given_up(tmp_path: Path) -> None:
    behaviour = Behaviour(CONTENT, cuts=[100_000, 150_000] * 20, ranges=False)
    with pytest.raises(DataError, match="without progress"):
        get(behaviour, tmp_path / "set.tar")
    assert len(behaviour.seen) <= 10


def test_a_server_that_tells_no_length(tmp_path: Path) -> None:
    get(Behaviour(CONTENT, announce=False), tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_a_full_disk_is_said_before_and_during(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_copy", full)
        with pytest.raises(DataError, match=r"the disk is full.*Free some space"):
            get(Behaviour(CONTENT), tmp_path / "a")
    usage = fetching.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(DataError, match="400000 bytes are needed, 1000 are free"):
        get(Behaviour(CONTENT), tmp_path / "b")


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirection_leads_to_http_only(tmp_path: Path, place: str) -> None:
    behaviour = Behaviour(CONTENT, redirect=place)
    with pytest.raises(DataError, match=r"redirects to (file|ftp)|302"):
        get(behaviour, tmp_path / "set.tar")
    assert len(behaviour.seen) == 1


def test_a_redirection_to_http_is_followed_and_one_from_https_is_not(tmp_path: Path) -> None:
    with serve(Behaviour(CONTENT)) as there:
        get(Behaviour(CONTENT, redirect=there), tmp_path / "set.tar")
        secure = urllib.request.Request("https://example.org/set.tar")
        handler = http._Redirections()
        with pytest.raises(http.Refused, match="from https to http"):
            handler.redirect_request(secure, None, 302, "", {}, there)


def test_retry_after_is_waited_and_a_long_one_is_not(tmp_path: Path) -> None:
    said = get(Behaviour(CONTENT, statuses=[429], retry_after="1"), tmp_path / "set.tar")
    assert any(line.endswith("again in 1 s") for line in said)
    with pytest.raises(DataError, match="asks to wait 86400 s"):
        get(Behaviour(CONTENT, statuses=[503], retry_after="86400"), tmp_path / "b")
    past = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert http.wait_of(past) == 0.0  # type: ignore[arg-type]
    assert http.wait_of({"Retry-After": "soon"}) is None  # type: ignore[arg-type]


def test_a_head_that_never_ends_is_left(tmp_path: Path) -> None:
    said = get(Behaviour(CONTENT, dribble=0.1), tmp_path / "set.tar")
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert any("timed out" in line for line in said)


def test_a_server_that_drips_is_given_up(tmp_path: Path) -> None:
    slow = Patience(timeout=0.2, least_rate=1e9, tries=2, pause=0.01)
    behaviour = Behaviour(CONTENT, pace=0.1)
    with serve(behaviour) as url, pytest.raises(DataError, match=r"fewer than 1e.09 bytes per"):
        fetch([url], tmp_path / "a", expected=EXPECTED, patience=slow, log=Lines())
    assert len(behaviour.seen) == 2


@pytest.mark.parametrize("announce", [True, False])
def test_a_file_much_larger_than_it_should_be_is_refused(tmp_path: Path, announce: bool) -> None:
    behaviour = Behaviour(CONTENT * 4, announce=announce)
    with serve(behaviour) as url, pytest.raises(DataError, match=r"are expected|than expected"):
        fetch([url], tmp_path / "a", expected=Sums(), size=1000, patience=HASTE, log=Lines())
    assert len(behaviour.seen) == 1


def test_an_address_without_a_host_is_asked_once(tmp_path: Path) -> None:
    said = Lines()
    urls = ["http://no-such-host.invalid/set.tar"]
    with pytest.raises(DataError):
        fetch(urls, tmp_path / "a", expected=EXPECTED, patience=HASTE, log=said)
    assert not any("again in" in line for line in said)


def test_plain_http_without_a_digest_is_told(tmp_path: Path) -> None:
    said = get(Behaviour(CONTENT), tmp_path / "set.tar", Sums())
    assert "the file cannot be checked" in said[0]


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_digest_and_validator_nothing_is_joined(tmp_path: Path, tag: str | None) -> None:
    other = CONTENT[::-1]
    behaviour = Behaviour(CONTENT, cuts=[150_000], tag=tag)
    with serve(behaviour) as url:
        cut = Patience(timeout=2.0, tries=1)
        with pytest.raises(DataError, match="150000 bytes"):
            fetch([url], tmp_path / "a", expected=Sums(), patience=cut, log=Lines())
        behaviour.content = other
        fetch([url], tmp_path / "a", expected=Sums(), patience=HASTE, log=Lines())
    assert (tmp_path / "a").read_bytes() == other


@pytest.mark.parametrize("secret", ["", "?token=s3cret"])
def test_another_file_of_a_server_that_ignores_the_condition_is_not_joined(
    tmp_path: Path, secret: str
) -> None:
    other = CONTENT[::-1]
    behaviour = Behaviour(CONTENT, cuts=[150_000], swap=other, heeds_if_range=False)
    said = Lines()
    with serve(behaviour) as url:
        fetch([url + secret], tmp_path / "a", expected=Sums(), patience=HASTE, log=said)
    assert (tmp_path / "a").read_bytes() == other
    assert "s3cret" not in "".join(said)


def test_a_file_of_the_same_length_behind_a_server_without_tags(tmp_path: Path) -> None:
    other = CONTENT[::-1]
    behaviour = Behaviour(CONTENT, cuts=[150_000, 0, 0, 0], tag=None)
    with pytest.raises(DataError):
        get(behaviour, tmp_path / "set.tar")
    sums = Sums(sha256=hashlib.sha256(other).hexdigest())
    said = Lines()
    with serve(Behaviour(other, tag=None)) as url:
        url += "?token=s3cret"
        fetch([url], tmp_path / "set.tar", expected=sums, patience=HASTE, log=said)
    assert (tmp_path / "set.tar").read_bytes() == other
    assert any("fetching it again from the beginning" in line for line in said)
    assert "s3cret" not in "".join(said)


def test_only_http_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="file:///etc/passwd"):
        fetch(["file:///etc/passwd"], tmp_path / "a", expected=Sums())


# --- whole data sets -------------------------------------------------------------------------


def make_archive(path: Path, *, name: str = "Task04_Hippocampus", junk: str | None = None) -> Path:
    listing = {
        "name": "Hippocampus",
        "relase": "1.0",
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "modality": {"0": "MRI"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": [],
    }
    files = {
        f"{name}/dataset.json": json.dumps(listing).encode(),
        f"{name}/imagesTr/a.nii.gz": b"image",
        f"{name}/imagesTr/._a.nii.gz": b"macintosh",
        f"{name}/labelsTr/a.nii.gz": b"label",
    }
    with tarfile.open(path, "w") as tar:
        for member, content in (files | ({junk: b"x"} if junk else {})).items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def source(folder: Path) -> dict[str, object]:
    return json.loads((folder / "source.json").read_text())


def test_a_local_archive_is_a_local_copy_with_its_own_digest(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "mine.tar")
    digest = sums_of(archive).sha256
    settings = DatasetSettings(name="Task04_Hippocampus", path=str(archive), sha256=digest)
    out = download(settings, tmp_path / "raw", log=Lines())
    assert source(out)["kind"] == "local copy"
    assert source(out)["archive_sha256"] == digest
    assert source(out)["version"] == "1.0"
    assert {path.name for path in (out / "imagesTr").iterdir()} == {"a.nii.gz"}
    assert archive.exists()


def test_a_local_archive_with_another_digest_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "mine.tar")
    settings = DatasetSettings(name="hippocampus", path=str(archive), sha256="0" * 64)
    with pytest.raises(DataError, match=f"{sums_of(archive).sha256}, {'0' * 64} is expected"):
        download(settings, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_an_archive_that_climbs_out_leaves_nothing(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "mine.tar", junk="../evil")
    words = ["--name", "hippocampus", "--path", str(archive), "--out", str(tmp_path / "raw")]
    assert main(["download", *words]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"mine.tar", ".raw.lock"}


def test_a_local_folder_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(make_archive(tmp_path / "a.tar")) as tar:
        tar.extractall(tmp_path / "data", filter="data")
    monkeypatch.setenv("LUNET_DATA", str(tmp_path / "data"))
    out = download(DatasetSettings(name="hippocampus"), tmp_path / "raw", log=Lines())
    image = out / "imagesTr" / "a.nii.gz"
    assert image.is_symlink()
    assert image.read_bytes() == b"image"
    assert not (out / "imagesTr" / "._a.nii.gz").exists()
    assert source(out)["kind"] == "local copy"
    with_digest = DatasetSettings(name="x", path=str(tmp_path / "data"), sha256="00")
    with pytest.raises(ConfigError, match=r"dataset\.sha256"):
        download(with_digest, tmp_path / "other")


def test_an_archive_in_the_environment_s_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(tmp_path / "Task04_Hippocampus.tar")
    monkeypatch.setenv("LUNET_DATA", str(tmp_path))
    out = download(DatasetSettings(name="hippocampus"), tmp_path / "raw", log=Lines())
    assert source(out)["path"] == str(tmp_path / "Task04_Hippocampus.tar")
    named = DatasetSettings(name="hippocampus", path=str(tmp_path))
    assert source(download(named, tmp_path / "other", log=Lines())) == source(out)


def test_a_mirror_gives_a_data_set_and_the_archive_goes(tmp_path: Path) -> None:
    content = make_archive(tmp_path / "origin.tar", name="mine").read_bytes()
    with serve(Behaviour(content, cuts=[2000])) as url:
        settings = DatasetSettings(
            name="mine", mirrors=(url,), sha256=hashlib.sha256(content).hexdigest()
        )
        out = download(settings, tmp_path / "raw", patience=HASTE, log=Lines())
    assert source(out)["url"] == url
    assert source(out)["kind"] == "local copy"
    assert not list(tmp_path.glob(".mine.tar*[!k]"))


def test_done_is_done_and_something_else_is_kept(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "mine.tar")
    settings = DatasetSettings(name="hippocampus", path=str(archive))
    out = download(settings, tmp_path / "raw", log=Lines())
    before = (out / "source.json").stat().st_mtime_ns
    said = Lines()
    download(settings, out, log=said)
    assert "is complete" in said[0]
    assert (out / "source.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="holds something else"):
        download(DatasetSettings(name="phantom"), out, log=Lines())
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"notes/thesis\.tex exists and was not written"):
        download(settings, tmp_path / "notes", log=Lines())
    assert (tmp_path / "notes" / "thesis.tex").exists()


def test_a_damaged_earlier_result_is_told_and_left_overs_go(tmp_path: Path) -> None:
    settings = DatasetSettings(name="hippocampus", path=str(make_archive(tmp_path / "mine.tar")))
    dead = tmp_path / part_of(tmp_path / "raw").name.replace(f"-{os.getpid()}-", "-0-")
    dead.mkdir()
    users = tmp_path / ".raw.part"  # a name that only looks like one of ours
    users.mkdir()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / ".snakemake_timestamp").touch()
    out = download(settings, tmp_path / "raw", log=Lines())
    assert users.exists()
    assert not dead.exists()
    (out / "source.json").unlink()
    with pytest.raises(DataError, match="only a part"):
        download(settings, out, log=Lines())


@pytest.mark.parametrize(("kind", "name"), [("brats2021", "BraTS2021"), ("heart_mr", "MM-WHS_MR")])
def test_a_registered_set_is_imported_from_its_published_layout(
    tmp_path: Path, kind: str, name: str
) -> None:
    published = PhantomSettings(kind=kind, subjects=2, scale=0.5, layout="published")  # type: ignore[arg-type]
    folder = make_phantom(published, tmp_path / "published")
    settings = DatasetSettings(name=name, path=str(folder))
    out = download(settings, tmp_path / "raw", log=Lines())
    assert source(out)["kind"] == "registered"
    dataset = read_dataset(out, settings)
    assert dataset.rule.remap == remap_of(settings)
    assert [case.labelled for case in dataset.cases] == [True, True]
    assert all(len(case.images) == len(dataset.task.channels) for case in dataset.cases)
    with zipfile.ZipFile(tmp_path / "given.zip", "w") as archive:
        for path in sorted(folder.rglob("*.nii.gz")):
            archive.write(path, path.relative_to(tmp_path))
    zipped = DatasetSettings(name=name, path=str(tmp_path / "given.zip"))
    unpacked = download(zipped, tmp_path / "unpacked", log=Lines())
    for case, original in zip(read_dataset(unpacked, zipped).cases, dataset.cases, strict=True):
        for ours, theirs in zip(case.images, original.images, strict=True):
            assert not ours.is_symlink()
            assert ours.read_bytes() == theirs.read_bytes()
    assert not (unpacked / ".unpacked").exists()


def test_only_the_official_sum_makes_an_official_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_archive(tmp_path / "mine.tar")
    official = replace(CATALOG["Task04_Hippocampus"], md5=sums_of(archive).md5)
    monkeypatch.setitem(CATALOG, "Task04_Hippocampus", official)
    settings = DatasetSettings(name="hippocampus", path=str(archive))
    assert source(download(settings, tmp_path / "raw", log=Lines()))["kind"] == "official"


@pytest.mark.parametrize("name", ["BraTS2021", "BraTS2023", "HarP", "MM-WHS_MR"])
def test_a_registered_set_says_where_to_register_and_what_is_expected(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataError, match=r"Register at http.*nii\.gz.*set dataset\.path"):
        download(DatasetSettings(name=name), tmp_path / "raw", log=Lines())


def test_wrong_paths_and_contents_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: does not exist"):
        download(DatasetSettings(name="x", path=str(tmp_path / "nowhere")), tmp_path / "raw")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no known layout"):
        download(DatasetSettings(name="x", path=str(tmp_path / "empty")), tmp_path / "raw")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match="no known layout"):
        download(DatasetSettings(name="x", path=str(tmp_path / "file.txt")), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_a_phantom_is_made_and_recorded(tmp_path: Path) -> None:
    settings = DatasetSettings(name="phantom", phantom=PhantomSettings(subjects=1, seed=5))
    out = download(settings, tmp_path / "raw", log=Lines())
    assert source(out)["kind"] == "phantom"
    assert len(json.loads((out / "dataset.json").read_text())["training"]) == 2
    published = DatasetSettings(name="phantom", phantom=PhantomSettings(layout="published"))
    with pytest.raises(ConfigError, match="layout 'project'"):
        download(published, tmp_path / "other", log=Lines())


def _process(url: str, digest: str, out: str) -> None:
    settings = DatasetSettings(name="mine", mirrors=(url,), sha256=digest)
    download(settings, out, patience=Patience(timeout=patient(5)), log=Lines())


def test_two_processes_at_once_fetch_once(tmp_path: Path) -> None:
    content = make_archive(tmp_path / "origin.tar", name="mine").read_bytes()
    behaviour = Behaviour(content, pace=0.1)
    start = multiprocessing.get_context("fork").Process
    with serve(behaviour) as url:
        words = (url, hashlib.sha256(content).hexdigest(), str(tmp_path / "raw"))
        both = [start(target=_process, args=words) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join(timeout=patient(8))
    assert [process.exitcode for process in both] == [0, 0]
    assert behaviour.sent == len(content)
    assert source(tmp_path / "raw")["name"] == "mine"


def test_a_lock_that_stays_held_is_said(tmp_path: Path) -> None:
    said = Lines()
    second = exclusive(tmp_path / "lock", wait=0.3, log=said)
    with exclusive(tmp_path / "lock"), pytest.raises(Busy, match="held by another process"):
        second.__enter__()
    assert "waiting" in said[0]
    with exclusive(tmp_path / "lock", wait=0):
        pass


@pytest.mark.skipif(
    "LUNET_TEST_DATA" not in os.environ, reason="LUNET_TEST_DATA names no folder of real data"
)
def test_the_real_subset_is_a_local_copy(tmp_path: Path) -> None:
    archive = Path(os.environ["LUNET_TEST_DATA"]) / "Task04_Hippocampus.tar"
    settings = DatasetSettings(name="Task04_Hippocampus", path=str(archive))
    out = download(settings, tmp_path / "raw", log=Lines())
    assert source(out)["kind"] == "local copy"
    assert str(source(out)["archive_sha256"]).startswith("231e9529a81c38c4")
    assert len(list((out / "labelsTr").iterdir())) == 187
