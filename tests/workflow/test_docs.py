"""The documentation does what it says: the tutorial is run, and code on the pages is used."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from paths import ROOT
from snakemake.cli import get_argument_parser

from lunet.cli import STEPS, parser_of
from lunet.models import build
from lunet.reporting.figures.style import save
from lunet.study.study import study_of

DOCS = ROOT / "docs"
BLOCK = re.compile(
    r'^(?P<indent> *)```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^(?P=indent)```$',
    re.DOTALL | re.MULTILINE,
)
NAMES = ("README.md", "CONTRIBUTING.md", "AGENTS.md")
PAGES = [*(ROOT / name for name in NAMES), *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> Iterator[tuple[str, str | None, str]]:
    """Kind, title and text of each block of code on a page, in their order."""
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        lines = found["text"].splitlines()
        yield found["kind"], found["title"], "\n".join(x[len(found["indent"]) :] for x in lines)


@pytest.mark.slow
def test_the_tutorial_runs_as_it_is_written(tmp_path):
    for name in ("Snakefile", "workflow", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    # the commands of the environment that runs the tests; an editable installation, or PYTHONPATH,
    # makes them commands of this source
    folder = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PATH": os.pathsep.join([folder, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
    }
    commands = 0
    for kind, title, text in blocks(DOCS / "tutorial.md"):
        if kind == "yaml" and title:
            settings = yaml.safe_load(text)
            settings["train"] |= {"epochs": 1}  # what is tested is the way, not the network
            settings["train"]["engine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
            (tmp_path / title).parent.mkdir(exist_ok=True)
            (tmp_path / title).write_text(yaml.safe_dump(settings))
        if kind == "console":
            done = subprocess.run(
                ["bash", "-ec", text],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
            commands += 1
    assert commands == 8
    claims = (tmp_path / "results/my_spleens/tables/claims.md").read_text()
    assert "lunet_small_4f" in claims
    assert "n = 10 cases" in claims
    assert (tmp_path / "masks/spleen_1.nii.gz").is_file()
    assert any((tmp_path / "masks").rglob("*.png"))
    assert (tmp_path / "release/README.md").is_file()


def test_the_network_of_its_page_works(tmp_path):
    """Written to a file, it is built and takes any size."""
    pages = blocks(DOCS / "howto" / "network.md")
    (code,) = (text for _, title, text in pages if title == "nets/my_net.py")
    (tmp_path / "my_net.py").write_text(code)
    network = build.build_network(
        str(tmp_path / "my_net.py"),
        "MyNet",
        in_channels=2,
        out_channels=3,
        ndim=3,
        arguments={"width": 4},
    )
    logits = network(torch.randn(1, 2, 7, 4, 5))
    assert logits.shape == (1, 3, 7, 4, 5)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_figure_of_its_page_is_drawn(tmp_path):
    (code,) = (t for kind, _, t in blocks(DOCS / "howto" / "figure.md") if kind == "python")
    names: dict[str, Any] = {}
    exec(code, names)
    cases = pd.DataFrame({"preset": ["b", "a", "b"], "dice": [0.9, 0.5, 0.7]})
    drawing = names["worst_cases"](cases)
    assert drawing.data.to_dict("list") == {"preset": ["b", "a"], "dice": [0.7, 0.5]}
    assert len(save(drawing, tmp_path / "worst")) == 4


def shell_lines(page: Path) -> Iterator[str]:
    """The lines in the shell blocks of a page, fenced or indented; a continued line is one."""
    texts = [text for kind, _, text in blocks(page) if kind in ("console", "text")]
    plain = BLOCK.sub("", page.read_text(encoding="utf-8"))
    texts += [line[4:] for line in plain.splitlines() if line.startswith("    ")]
    yield from "\n".join(texts).replace("\\\n", " ").splitlines()


def commands_of(page: Path) -> Iterator[list[str]]:
    """The words of each `lunet` command in the shell blocks of a page."""
    for line in shell_lines(page):
        words = line.split("#")[0].split()
        if words and words[0] == "lunet":
            yield words[1:]


def test_every_command_and_option_on_the_pages_exists():
    seen = set()
    for page in PAGES:
        for words in commands_of(page):
            if words[0].startswith("--"):
                continue
            assert words[0] in STEPS, f"{page.name}: lunet {' '.join(words)}"
            known = parser_of(words[0])._option_string_actions
            own = words[: words.index("--")] if "--" in words else words  # then come another tool's
            options = {word.split("=")[0] for word in own if word.startswith("--")}
            assert options <= set(known), f"{page.name}: lunet {' '.join(words)}"
            seen.add(words[0])
    assert len(seen) >= 10


def test_snakemake_understands_every_command_on_the_pages():
    """It takes `--apptainer-args "--nv"`, for example, for two options."""
    parser, count = get_argument_parser(), 0
    for page in [*PAGES, ROOT / "profiles" / "slurm" / "README.md"]:
        for line in shell_lines(page):
            for words in re.findall(r"(?<!\S)(?:\.venv/bin/)?snakemake ([^`#&]+)", line):
                try:
                    parser.parse_args(shlex.split(words))
                except SystemExit:
                    pytest.fail(f"{page.name}: snakemake {words}")
                count += 1
    assert count >= 15


def test_every_configuration_on_the_pages_is_accepted(tmp_path, monkeypatch):
    """A block of YAML is a study, or the part of one that a page speaks of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    # files of the reader's
    (tmp_path / "nets/my_net.py").write_text("class MyNet: ...\n")
    (tmp_path / "data/spleens").mkdir(parents=True)
    listing = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}}
    (tmp_path / "data/spleens/dataset.json").write_text(json.dumps(listing))
    count = 0
    for page in PAGES:
        for kind, _, text in blocks(page):
            if kind != "yaml":
                continue
            part = yaml.safe_load(text)
            if part.get("plan") != "auto":
                part.pop("plan", None)  # a file of the reader's
            for variant in part.get("variants", {}).values():
                if "structure" in variant:
                    structure = tmp_path / variant["structure"]
                    structure.parent.mkdir(parents=True)
                    structure.write_text(json.dumps({"arguments": {"widths": [4, 8, 16, 32, 64]}}))
            study = {"study": "s", "dataset": {"name": "Task04_Hippocampus"}} | part
            if list(part.get("variants", {})) and "presets" not in part:
                study["presets"] = list(part["variants"])
            assert study_of(study).task.channels, page.name
            count += 1
    assert count >= 5


def test_files_that_the_pages_name_exist():
    named = re.compile(r"`((?:config|envs|lunet|profiles|tests|workflow)/[\w./-]+\.\w+)`")
    invented = {"lunet/models/my_net.py", "config/my_spleens.yaml", "config/my_data.yaml"}
    invented.add("envs/lunet.sif")  # the reader builds it
    for page in PAGES:
        names = set(named.findall(page.read_text(encoding="utf-8"))) - invented
        missing = {name for name in names if not (ROOT / name).exists()}
        assert missing == set(), page.name


def test_links_of_the_pages_outside_of_the_documentation_lead_somewhere():
    """MkDocs follows the links of `docs/` alone."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
        assert {link for link in links if not (page.parent / link).exists()} == set()
