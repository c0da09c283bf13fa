"""Compute before training what a study can resolve, from a pilot or from standard deviations.

The question is whether one preset is non-inferior to another, by the same test as in the study's
claims. --out BASE writes a table (BASE.csv, .md, .tex), a figure of power against subjects
(BASE-figure.svg, .pdf, .png) and BASE.json.

  lunet power --pilot results/hippocampus --margin 0.01
  lunet power --config config/config.yaml --pilot results/quick
  lunet power --pilot results/quick --subjects 187 --folds 5 --seeds 2 --out power
  lunet power --sd-subjects 0.019 --sd-trainings 0.004 --sd-rest 0.008 --subjects 24 --folds 5
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from lunet.commands.arguments import add_json, add_out, only_json, print_json
from lunet.errors import ConfigError

_DRAWN = tuple(f"-figure.{suffix}" for suffix in ("svg", "pdf", "png", "csv"))
_FILES = (".csv", ".md", ".tex", ".json", *_DRAWN)
"""Suffixes of the files that are written to --out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet power``."""
    source = parser.add_argument_group("source of the spread")
    source.add_argument("--pilot", metavar="FOLDER", help="results of finished runs")
    source.add_argument(
        "--presets", nargs="+", default=[], metavar="NAME", help="presets of the pilot to use"
    )
    source.add_argument(
        "--reference", metavar="NAME", help="reference preset of the pilot (default: its best)"
    )
    for name, what in (
        ("subjects", "the subjects' true differences"),
        ("trainings", "the mean of one training"),
        ("rest", "one subject under one training"),
    ):
        source.add_argument(
            f"--sd-{name}", type=float, metavar="SD", help=f"standard deviation of {what}"
        )
    design = parser.add_argument_group("design (values that are not given come from the pilot)")
    for name in ("subjects", "folds", "seeds"):
        design.add_argument(f"--{name}", type=int, metavar="N")
    design.add_argument(
        "--config", metavar="FILE", help="study that sets folds, seeds, metric, margin and level"
    )
    parser.add_argument("--metric", help="metric of the pilot (default: dice)")
    parser.add_argument("--margin", type=float, help="default: 0.01")
    parser.add_argument("--level", type=float, help="one-sided, default: 0.025")
    parser.add_argument("--power", type=float, default=0.8, help="default: 0.8")
    add_json(parser)
    add_out(parser, "BASE", "path without suffix", suffixes=_FILES, required=False)


def run(arguments: argparse.Namespace) -> None:
    """Compute and print the answer; write it to ``--out`` if given."""
    from lunet.files import write_json
    from lunet.reporting import markup
    from lunet.reporting.figures.style import save, style
    from lunet.reporting.power import Question, bought, facts, figure, sentence, table
    from lunet.study.power import question_of

    stated = {
        key: value
        for key in ("metric", "margin", "level", "power")
        if (value := getattr(arguments, key)) is not None
    }
    with only_json(arguments):
        study = _study(arguments)
        question = Question(**(question_of(study) | stated if study else stated))
        _check(question)
        components, design, metric = _given(arguments, study, question.metric)
        question = replace(question, metric=metric)
        found = facts(components, design, question)
        found |= {"sentence": sentence(found), "same_hours_sentence": bought(found)}
    shown = table(found)
    if arguments.out:
        markup.write(shown, arguments.out)
        with style():
            save(figure(found), f"{arguments.out}-figure")
        write_json(f"{arguments.out}.json", found)
    if arguments.json:
        print_json(found)
        return
    print(markup.markdown(shown))
    spread = (f"{value:.4f} ({name})" for name, value in _deviations(components))
    print(f"Standard deviations: {', '.join(spread)}.")
    print(found["same_hours_sentence"])
    print(found["sentence"])


def _check(question: Any) -> None:
    for name, low, high in (("margin", 0, 1e9), ("level", 0, 0.5), ("power", 0.05, 1)):
        value = getattr(question, name)
        if not low < value < high:
            expected = f"a number between {low:g} and {high:g} is needed"
            raise ConfigError(where=f"--{name}", found=f"found {value:g}", expected=expected)


def _deviations(components: Any) -> list[tuple[str, float]]:
    return [(name, getattr(components, name)) for name in ("subjects", "trainings", "rest")]


def _study(arguments: argparse.Namespace) -> Any:
    from lunet.study.config import read_mapping
    from lunet.study.study import study_of

    return study_of(read_mapping(arguments.config)) if arguments.config else None


def _given(arguments: argparse.Namespace, study: Any, metric: str) -> tuple[Any, Any, str]:
    """Components and design, from the pilot or as stated; and the metric's column in the pilot."""
    from lunet.metrics.catalog import column_in
    from lunet.reporting.power import pilot_components, pilot_design, pilot_rows
    from lunet.reporting.units import length_unit
    from lunet.statistics.power import Components, Design
    from lunet.study.power import study_design

    stated = {name: getattr(arguments, f"sd_{name}") for name in ("subjects", "trainings", "rest")}
    sizes = {name: getattr(arguments, name) for name in ("subjects", "folds", "seeds")}
    pilot = arguments.pilot or (study.config.pilot if study else None)
    if pilot is None:
        if stated["subjects"] is None or sizes["subjects"] is None:
            found = "neither a pilot nor --sd-subjects and --subjects"
            raise ConfigError(
                where="--pilot", found=found, expected="one of them is needed for the spread"
            )
        spread: dict[str, Any] = {name: value or 0.0 for name, value in stated.items()}
        known = stated["trainings"] is not None
        defaults = {"folds": 5, "seeds": 2 if known else 1}
        chosen = defaults | {key: value for key, value in sizes.items() if value is not None}
        return Components(**spread, knows_trainings=known), Design(**chosen), metric
    rows = pilot_rows(pilot)
    components = pilot_components(rows, metric, arguments.presets, arguments.reference)
    known_design = study_design(study, rows) if study else pilot_design(rows)
    changes = {key: value for key, value in sizes.items() if value is not None}
    changed = {name: value for name, value in stated.items() if value is not None}
    known = components.knows_trainings or "trainings" in changed
    spread = vars(components) | changed | {"knows_trainings": known}
    own = column_in(metric, length_unit(rows))
    return Components(**spread), Design(**(vars(known_design) | changes)), own
