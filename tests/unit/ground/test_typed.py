"""Typed settings: what is accepted, and how mistakes are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jsonschema
import pytest

from lunet.errors import ConfigError
from lunet.settings import build_settings, plain, replace, schema, setting


@dataclass(frozen=True)
class Inner:
    rate: float = setting(0.1, doc="a rate", minimum=0, maximum=1)
    kind: Literal["a", "b"] = setting("a", doc="a kind")


@dataclass(frozen=True)
class Outer:
    name: str = setting(doc="a name")
    size: tuple[int, ...] | None = setting(None, doc="a size", minimum=1)
    pair: tuple[float, float] = setting((0.0, 1.0), doc="a pair")
    inner: Inner = setting(Inner(), doc="nested")
    table: dict[str, int] = setting({}, doc="a table")


def test_numbers_take_the_declared_type():
    one, other = build_settings(Inner, {"rate": 1}), build_settings(Inner, {"rate": 1.0})
    assert one == other
    assert isinstance(one.rate, float)


def test_words_that_yaml_takes_for_truth_values():
    @dataclass(frozen=True)
    class Switch:
        state: Literal["auto", "on", "off"] = setting("auto", doc="a state")

    assert [build_settings(Switch, {"state": value}).state for value in (True, False)] == [
        "on",
        "off",
    ]


def test_a_text_that_yaml_meant_as_a_number():
    assert build_settings(Inner, {"rate": "1e-3"}).rate == 0.001


@pytest.mark.parametrize(
    ("value", "where", "text"),
    [
        ({}, "name", "required"),
        ({"name": "x", "sise": [1]}, "sise", "did you mean 'size'"),
        ({"name": 3}, "name", "a text"),
        ({"name": "x", "size": [0]}, "size[0]", "at least 1"),
        ({"name": "x", "size": [1.5]}, "size[0]", "an integer"),
        ({"name": "x", "size": [True]}, "size[0]", "an integer"),
        ({"name": "x", "pair": [1]}, "pair", "2 are expected"),
        ({"name": "x", "inner": {"rate": 2}}, "inner.rate", "at most 1"),
        ({"name": "x", "inner": {"rate": float("nan")}}, "inner.rate", "finite"),
        ({"name": "x", "inner": {"kind": "c"}}, "inner.kind", "'c'"),
        ({"name": "x", "inner": 3}, "inner", "mapping"),
        ({"name": "x", "table": {"k": "v"}}, "table.k", "an integer"),
    ],
)
def test_mistakes_name_the_key(value, where, text):
    with pytest.raises(ConfigError) as caught:
        build_settings(Outer, value)
    assert caught.value.where == where
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_plain_is_the_way_back():
    settings = build_settings(Outer, {"name": "x", "size": [1, 2], "inner": {"kind": "b"}})
    assert build_settings(Outer, plain(settings)) == settings


def test_replace_merges_nested_keys():
    settings = build_settings(Outer, {"name": "x", "inner": {"kind": "b"}})
    changed = replace(settings, {"inner": {"rate": 0.5}})
    assert changed.inner == Inner(rate=0.5, kind="b")
    assert settings.inner.rate == 0.1


def test_replace_takes_a_free_table_as_a_whole():
    settings = build_settings(Outer, {"name": "x", "table": {"old": 1, "both": 2}})
    assert replace(settings, {"table": {"both": 3}}).table == {"both": 3}
    assert replace(settings, {"size": [4]}).table == {"old": 1, "both": 2}


def test_schema_accepts_and_refuses_as_build_does():
    description = schema(Outer)
    jsonschema.Draft202012Validator.check_schema(description)
    jsonschema.validate({"name": "x", "size": [1, 2]}, description)
    for wrong in ({}, {"name": "x", "sise": [1]}, {"name": "x", "inner": {"rate": 2}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, description)
