"""Nothing that leaves the machine carries passwords, tokens, users' names or their folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import tiny_training
from small_networks import BINARY, save_run

from lunet.cli import main
from lunet.data.download.download import download
from lunet.data.download.fetch import Patience
from lunet.data.settings import DatasetSettings
from lunet.errors import ConfigError, DataError
from lunet.files import write_json
from lunet.public import public, public_path, public_text, public_url
from lunet.reading import read_json
from lunet.training.run import run_training

USER, PASSWORD, TOKEN = "hannahsecret", "hunter2secret", "sesamesecret"
PLANTED = (USER, PASSWORD, TOKEN)
URL = f"https://{USER}:{PASSWORD}@mirror.example:8443/data/set.tar?X-Amz-Signature={TOKEN}#x"


def secrets_in(folder: Path) -> list[str]:
    """Files below a folder that hold a planted secret, and which."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found += [f"{path.name}: {word}" for word in PLANTED if word.encode() in content]
    return found


def test_addresses() -> None:
    assert public_url(URL) == "https://mirror.example:8443/data/set.tar"
    assert public_url("http://[::bad") == "http://"
    told = public_text(f"URL can't contain control characters. '/set.tar?sig={TOKEN}'; see {URL}")
    assert not any(word in told for word in PLANTED)
    assert "https://mirror.example:8443/data/set.tar" in told


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert public_path("results/x/weights.safetensors") == "results/x/weights.safetensors"
    assert public_path(tmp_path / "a" / "b") == "a/b"
    assert public_path(f"/home/{USER}/runs/weights.safetensors") == "weights.safetensors"


def test_values_keep_what_is_no_secret() -> None:
    kept = {
        "licence": "CC-BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/",
        "citation": "Someone et al. 2020, doi:10.1000/182; and/or others",
        "unit": "mm/s, 1/2",
        "image": "imagesTr/a.nii.gz",
        "numbers": [1, 2.5, None, True],
    }
    assert public(kept) == kept
    planted = {"path": f"/home/{USER}/data set/x", "a": [f"see ~/{USER}/b/c.tar"], "url": URL}
    assert not any(word in str(public(planted)) for word in PLANTED)


def test_a_failing_mirror(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://{USER}:{PASSWORD}@127.0.0.1:9/set.tar?token={TOKEN}"
    lines: list[str] = []
    settings = DatasetSettings(name="mine", mirrors=(url, f"{url} with a space"))
    patience = Patience(timeout=1, tries=1, pause=0.01)
    with pytest.raises(DataError) as caught:
        download(settings, tmp_path / "raw", patience=patience, log=lines.append)
    told = "\n".join([str(caught.value), *lines, *capsys.readouterr()])
    assert "127.0.0.1:9/set.tar" in told
    assert not any(word in told for word in PLANTED)
    assert secrets_in(tmp_path) == []
    with pytest.raises(ConfigError) as refused:
        download(dataclasses.replace(settings, mirrors=(URL.replace("https", "ftp"),)),
                 tmp_path / "raw", log=lines.append)  # fmt: skip
    assert not any(word in str(refused.value) for word in PLANTED)


def test_a_mirror_may_name_an_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_TOKEN", TOKEN)
    asked: list[list[str]] = []

    def fetch(urls: list[str], *_: object, **__: object) -> None:
        asked.append(list(urls))
        raise DataError(where="x", found="stop")

    monkeypatch.setattr("lunet.data.download.download.fetch", fetch)
    settings = DatasetSettings(name="mine", mirrors=("https://m.example/a?t=$MIRROR_TOKEN",))
    with pytest.raises(DataError, match="stop"):
        download(settings, tmp_path / "raw", log=lambda line: None)
    assert asked == [[f"https://m.example/a?t={TOKEN}"]]


def test_the_record_of_a_training(tmp_path: Path) -> None:
    data = tiny_training.prepare(tmp_path / "data")
    recipe = dataclasses.replace(tiny_training.TINY, epochs=1)
    first = tiny_training.job(data, tmp_path / "home" / USER, recipe)
    run_training(first)
    second = tiny_training.job(
        data, tmp_path / "second", recipe, init=first.out / "weights.safetensors"
    )
    run_training(second)
    assert read_json(second.out / "run.json")["init"] == "weights.safetensors"
    assert secrets_in(second.out) == []


@pytest.mark.slow
def test_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run and a manifest as earlier versions wrote them, secrets and all."""
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    run = tmp_path / "run"
    save_run(run, BINARY)
    write_json(run / "run.json", {
        "init": f"/home/{USER}/x/weights.safetensors",
        "settings": {"recipe": {"source": f"as in {URL}"}},
    })  # fmt: skip
    source = {"kind": "local copy", "path": f"/home/{USER}/data/set", "url": URL, "licence": "CC0"}
    about = {"name": f"/home/{USER}/mine", "source": source}
    write_json(tmp_path / "manifest.json", {"dataset": about, "digest": "abc"})
    words = ["export", str(run), "--manifest", str(tmp_path / "manifest.json"), "--pt2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert secrets_in(tmp_path / "out") == []
    assert read_json(tmp_path / "out" / "data.json")["source"] == {
        "kind": "local copy",
        "path": "set",
        "url": "https://mirror.example:8443/data/set.tar",
        "licence": "CC0",
    }
    assert read_json(tmp_path / "out" / "run.json")["init"] == "weights.safetensors"
    package = str(Path(__file__).parents[3]).encode()
    for name in ("model.onnx", "model.pt2"):  # exporters note where the code lies
        content = (tmp_path / "out" / name).read_bytes()
        assert package not in content, name
        assert b"site-packages" not in content, name
        assert b"lunet/models/" not in content, name
