"""The report: whole in one file, no script error, readable on a phone, sortable."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from patience import patient
from study_of_numbers import DICE, write_study

from lunet.cli import main
from lunet.files import write_json
from lunet.reporting.html.page import (
    Claim,
    Claims,
    Folded,
    Section,
    Shown,
    Text,
    html_page,
    picture,
)
from lunet.reporting.markup import Column, Table, cell, read_table
from lunet.statistics.registration import digest

PRESETS = (*DICE, "atlas_prior")
STATISTICS = {"resamples": 100, "reference": "lunet_small_2f"}
SETTINGS = json.dumps({"statistics": STATISTICS, "report": {"title": "A <study> & more"}})
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
_PROBE = """
<script>
const heads = document.querySelectorAll("#table-joint th button");
heads[2].click();
const cells = [...document.querySelectorAll("#table-joint tbody tr")].map((r) => r.cells[2]);
document.body.dataset.order = cells.map((c) => c.textContent).join(" ");
document.body.dataset.wide = document.documentElement.scrollWidth - window.innerWidth;
const broken = [...document.images].filter((i) => i.complete && !i.naturalWidth);
document.body.dataset.broken = broken.length;
</script>
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = write_study(tmp_path_factory.mktemp("study"), folds=2, seeds=1, cases=16, epochs=3)
    words = ["--results", str(study), "--presets", *PRESETS, "--folds", "0", "1"]
    words += ["--settings", SETTINGS]
    for name in ("joint", "accuracy", "claims", "comparisons", "protocol"):
        assert main(["table", name, *words, "--out", str(study / "tables" / name)]) == 0
    for name in ("pareto_parameters", "boxplot"):
        assert main(["figure", name, *words, "--out", str(study / "figures" / name)]) == 0
    assert main(["report", *words, "--out", str(study / "report.html")]) == 0
    return study / "report.html"


def test_report_needs_no_other_file(report: Path) -> None:
    text = report.read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in text
    assert "url(" not in text


def test_report_tells_claims_numbers_methods_and_origin(report: Path) -> None:
    text = report.read_text()
    assert "A &lt;study&gt; &amp; more" in text
    assert "is better than lunet_small_2f" in text
    assert "353,949" in text
    assert "trained for 3 epochs with Adam at a learning rate of 0.01" in text
    assert "The non-inferiority margin was 0.01 in Dice (there is no protocol.json" in text
    assert "0123abc" in text
    assert "32 cases" in text
    assert "1 missed, 0 spurious, 0 both empty" in text
    assert text.count("data:image/svg+xml;base64,") == 2


def test_a_margin_is_never_without_its_metric(report: Path) -> None:
    text = report.read_text()
    found = re.findall(r"\bmargin (?:of |is |was |: )?[0-9.]+([^<]{0,12})", text)
    assert len(found) > 2
    assert [after for after in found if not re.match(" (in )?Dice", after)] == []


def test_same_inputs_give_the_same_report(report: Path, tmp_path: Path) -> None:
    words = ["--results", str(report.parent), "--presets", *PRESETS, "--folds", "0", "1"]
    assert main(["report", *words, "--settings", SETTINGS, "--out", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").read_bytes() == report.read_bytes()


def test_what_was_changed_after_the_runs_is_told(report: Path, tmp_path: Path) -> None:
    """A protocol that was stated with another margin, before the runs."""
    results = tmp_path / "study"
    shutil.copytree(report.parent, results)
    stated = {"statistics": STATISTICS | {"metric": "dice", "margin": 0.005}, "presets": [*DICE]}
    stated |= {"folds": [0, 1], "seeds": [0]}
    content = {"stated": stated, "digest": digest(stated), "time": "2026-01-02T03:04:05Z"}
    content |= {"settings": {}, "settings_digest": ""}
    write_json(results / "protocol.json", content)
    words = ["--results", str(results), "--presets", *PRESETS, "--folds", "0", "1"]
    words += ["--settings", SETTINGS]
    told = "Changed after the runs: margin was 0.005."
    assert main(["table", "claims", *words, "--out", str(results / "tables" / "claims")]) == 0
    claims = read_table(results / "tables" / "claims.json")
    assert told in claims.note
    assert "stated before the runs" not in claims.note
    assert all(row[1].lines[0].endswith(told) for row in claims.rows)
    assert main(["report", *words, "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert page.count(told) >= 6
    assert main(["figure", "differences", *words, "--out", str(tmp_path / "changed")]) == 0
    # the same protocol, kept
    stated["statistics"]["margin"] = 0.01
    write_json(results / "protocol.json", content | {"digest": digest(stated)})
    assert main(["figure", "differences", *words, "--out", str(tmp_path / "kept")]) == 0
    drawn = {name: (tmp_path / f"{name}.svg").read_text() for name in ("changed", "kept")}
    assert {name: told in text for name, text in drawn.items()} == {"changed": True, "kept": False}
    assert main(["report", *words, "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "0.01 in Dice (stated before the runs, on 2026-01-02T03:04:05Z)" in page


HOSTILE = '"><script>alert(1)</script><b onclick="x'


def test_page_escapes_every_text_and_attribute(tmp_path: Path) -> None:
    """A label, a preset or a title may hold anything; none of it becomes markup."""
    column = (Column(HOSTILE, text=True),)
    table = Table(HOSTILE, HOSTILE, column, ((cell(HOSTILE, HOSTILE),),), (), HOSTILE)
    image = tmp_path / "a' onload='x.svg"
    image.write_text('<svg width="100pt"></svg>')
    parts = [
        Text(HOSTILE),
        Text(HOSTILE, "heading"),
        Claims([Claim(HOSTILE, HOSTILE)]),
        Shown(table),
        picture(image, HOSTILE),
        Folded(HOSTILE, [Text(HOSTILE)]),
    ]
    page = html_page(HOSTILE, HOSTILE, [Section(HOSTILE, HOSTILE, parts)])
    reader = Tags()
    reader.feed(page)
    assert reader.tags.count("script") == 1  # the page's own
    assert not reader.attributes & {"onclick", "onload", "onerror"}
    assert page.count("alert(1)&lt;/script&gt;") >= 14


class Tags(HTMLParser):
    """Tags and names of attributes as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def style_of(report: Path) -> str:
    return report.read_text().split("<style>")[1].split("</style>")[0]


def rules_of(style: str) -> dict[str, str]:
    """Selector -> declarations of a flat list of rules."""
    found = re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", style, flags=re.S))
    rules: dict[str, str] = {}
    for selectors, content in found:
        for selector in selectors.split(","):
            rules[selector.strip()] = rules.get(selector.strip(), "") + content
    return rules


def test_paper_shows_every_column_and_every_folded_part(report: Path) -> None:
    paper = rules_of(style_of(report).split("@media print {")[1])
    assert "overflow: visible" in paper[".scroll"]
    for cells in ("td", "td.long", "th", "th button"):
        assert "white-space: normal" in paper[cells]
        assert "overflow-wrap: anywhere" in paper[cells]
    assert "position: static" in paper["td:first-child"]
    for whole in ("figure", "tr", "ul.claims li"):
        assert "break-inside: avoid" in paper[whole]
    assert "break-after: avoid" in paper["figcaption"]
    assert "max-width: 100%" in paper["figure img"]
    assert "min-width: 0 !important" in paper["figure img"]
    assert "content-visibility: visible" in paper["details::details-content"]
    assert 'addEventListener("beforeprint"' in report.read_text()
    assert "loading=" not in report.read_text()  # what was not scrolled to is printed, too


def test_dark_pages_are_printed_light(report: Path) -> None:
    """Every colour of the light page has one for the dark screen, and none for paper."""
    light, dark = style_of(report).split("@media screen and (prefers-color-scheme: dark) {")
    names = set(re.findall(r"--[a-z-]+(?=:)", light))
    assert names
    assert set(re.findall(r"--[a-z-]+(?=:)", dark.split("}")[0])) == names
    assert "prefers-color-scheme" not in dark


def test_letters_are_legible_on_a_phone(report: Path) -> None:
    """At least 10 px: in the main figure by its style, in the others by their least width."""
    text = report.read_text()
    view = re.search(r'<svg viewBox="0 0 (\d+) \d+"', text)
    assert view
    sizes = re.findall(
        r"(?:@media \(max-width: ([0-9.]+)rem\) \{ )?\.chart text \{[^}]*?font-size: ([0-9.]+)px",
        style_of(report),
    )
    assert len(sizes) == 3
    for screen in range(320, 2000, 10):
        units = [float(size) for most, size in sizes if not most or screen <= 16 * float(most)][-1]
        shown = min(screen - 32, 48 * 16)  # padding of the page; width of the figure
        assert units * shown / int(view[1]) >= 10, screen
    pictures = re.findall(r"min-width: ([0-9.]+)rem\" alt", text)
    assert len(pictures) == text.count("data:image/")
    for name, least in zip(("pareto_parameters", "boxplot"), pictures, strict=True):
        svg = (report.parent / "figures" / f"{name}.svg").read_text()
        points = re.search(r'width="([0-9.]+)pt"', svg)
        assert points
        assert 6.0 * 16 * float(least) / float(points[1]) >= 9.9


def test_the_answer_comes_first(report: Path) -> None:
    """Sentence, one figure, a table of five columns, error and limits; then everything else."""
    text = report.read_text()
    sections = re.findall(r'<section id="(\w+)">', text)
    assert sections == ["answer", "comparisons", "quality", "methods", "checklists", "provenance"]
    assert re.findall(r'<a href="#(\w+)">', text) == sections
    answer = text.split('<section id="answer">')[1].split("</section>")[0]
    places = [answer.index(part) for part in ("<strong>", "<svg", "<table", "Error:", "Limits:")]
    assert places == sorted(places)
    assert answer.count("<svg") == 1
    assert answer.count("<table") == 1
    assert answer.split("</thead>")[0].count("<th ") == 5
    claims = read_table(report.parent / "tables" / "claims.json").records
    sentences = [row["sentence"] for row in claims if row["label"] == "mean over labels"]
    assert re.findall(r"<strong>(.*?)</strong>", answer)[0] in sentences
    for name in DICE:
        assert re.search(rf"<title>{name}: [0-9,]+ parameters", answer)
    assert 'class="level margin"' in answer
    assert "margin 0.01" in answer
    assert "32 cases of 16 subjects" in answer
    assert "one seed each" in answer


def test_the_answer_of_a_search_comes_first(report: Path, tmp_path: Path) -> None:
    results = tmp_path / "study"
    shutil.copytree(report.parent, results)
    states = {"unet_small_4f": "the reference", "unet_small_2f": "non-inferior"}
    states |= {"lunet_small_2f": "inferior", "mednext_small": "not trained"}
    candidates = [
        {"name": name, "family": name[:-3], "cost": 1000.0 * (1 + place), "parameters": 9}
        | {"state": state, "folds": 2 * (place in (1, 2))}
        | (
            {"estimate": -0.001 * place, "ci_low": -0.02, "ci_high": 0.02}
            if place in (1, 2)
            else {}
        )
        for place, (name, state) in enumerate(states.items())
    ]
    found = {"sentence": "The smallest is <this>.", "reference": "unet_small_4f", "metric": "dice"}
    found |= {"margin": 0.03, "cost": "macs", "candidates": candidates}
    write_json(results / "smallest" / "verdict.json", found)
    words = ["--results", str(results), "--presets", *PRESETS, "--folds", "0", "1"]
    assert main(["report", *words, "--settings", SETTINGS, "--out", str(tmp_path / "r.html")]) == 0
    answer = (tmp_path / "r.html").read_text().split('<section id="answer">')[1]
    answer = answer.split("</section>")[0]
    assert "<strong>The smallest is &lt;this&gt;.</strong>" in answer
    assert answer.count("<svg") == 1
    assert "margin 0.03" in answer
    marks = re.findall(r'<g class="mark ([\w -]+?)"', answer)
    assert sorted(marks) == ["inferior", "non-inferior", "the-reference"]
    rows = answer.split("<tbody>")[1].count("<tr>")
    assert rows == len(candidates)
    assert "not trained" in answer
    assert ">0<" not in answer.split("<tbody>")[1]  # no folds of differences, so a dash


def test_the_report_reads_the_json_of_its_tables(report: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    shutil.copytree(report.parent / "tables", tables)
    for path in [*tables.glob("*.md"), *tables.glob("*.csv"), *tables.glob("*.tex")]:
        path.unlink()
    words = ["--results", str(report.parent), "--presets", *PRESETS, "--folds", "0", "1"]
    words += ["--settings", SETTINGS, "--tables", str(tables), "--out", str(tmp_path / "r.html")]
    assert main(["report", *words]) == 0
    assert (tmp_path / "r.html").read_bytes() == report.read_bytes()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_browser_shows_it_without_error(report: Path, tmp_path: Path, width: int) -> None:
    probe = tmp_path / "probe.html"
    probe.write_text(report.read_text().replace("</body>", f"{_PROBE}</body>"))
    # a headless window is never narrower than 500 px: the phone is a frame of its width
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="probe.html" width="{width}" height="800" onload="document.title ='
        ' JSON.stringify(Object.assign({}, this.contentDocument.body.dataset))"></iframe>'
    )
    words = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files"]
    words += ["--enable-logging=stderr", "--window-size=1400,900", "--virtual-time-budget=3000"]
    shot = f"--screenshot={tmp_path / 'page.png'}"
    done = subprocess.run(
        [*words, shot, "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=patient(25),
    )
    assert "CONSOLE" not in done.stderr
    assert (tmp_path / "page.png").stat().st_size > 10_000
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stdout[-500:]
    seen = json.loads(title[1])
    assert seen["order"].split() == ["2,569", "9,929", "88,807", "102,725", "353,949", "–"]
    assert int(seen["wide"]) <= 0
    assert seen["broken"] == "0"


def test_one_network_alone_has_a_report(report: Path, tmp_path: Path) -> None:
    """Nothing to compare: the table of claims has no row, and the page says so."""
    words = ["--results", str(report.parent), "--presets", "unet_small_4f", "atlas_prior"]
    alone = SETTINGS.replace("lunet_small_2f", "unet_small_4f")
    words += ["--folds", "0", "1", "--settings", alone]
    assert main(["table", "claims", *words, "--out", str(tmp_path / "claims")]) == 0
    out = tmp_path / "r.html"
    assert main(["report", *words, "--tables", str(tmp_path), "--out", str(out)]) == 0
    assert "One network alone: there is nothing to compare." in out.read_text()
