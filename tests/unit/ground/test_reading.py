"""What is read: every reader against damaged files, and the bounds of JSON, YAML and tables."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Annotated, Any, NotRequired, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers_under_test import Reader, damaged, readers, survives

from lunet.errors import ConfigError, DataError, LunetError, shown
from lunet.reading import (
    parse_json,
    read_json,
    read_record,
    read_rows,
    read_spreadsheet,
    typed,
)
from lunet.reading_yaml import parse_yaml, read_yaml
from lunet.settings import Within, convert

EXAMPLES = int(os.environ.get("LUNET_FUZZ", "12"))
"""Damaged files per reader; 120 make 5,000 in all (tests/benchmarks/fuzz.py)."""


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return {reader.name: reader for reader in readers(tmp_path_factory.mktemp("valid"))}


def test_valid_files_are_read(every: dict[str, Reader]) -> None:
    refused = {name: survives(reader, reader.path.read_bytes()) for name, reader in every.items()}
    assert {name: error for name, error in refused.items() if error is not None} == {}
    assert len(refused) > 40


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_damaged_files_are_refused_or_read(every: dict[str, Reader], seed: int) -> None:
    for name, reader in every.items():
        survives(reader, damaged(reader.path.read_bytes(), Random(f"{seed} {name}")))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' * 150 + "1" + "}" * 150, "nested too deeply"),
        ("9" * 5000, "a number of 5000 digits"),
        ("[1e999]", "the number 1e999 is too large"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
    ],
)
def test_json_is_bounded(text: str, found: str) -> None:
    with pytest.raises(DataError, match=found):
        parse_json(text, "file.json")


def test_json_within_bounds() -> None:
    assert parse_json("[" * 100 + "]" * 100, "x")
    assert parse_json('{"a": 1, "a": 1, "b": [1e300, -5, "é"]}', "x")["b"] == [1e300, -5, "é"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{}".encode("utf-16"), "is UTF-16 text"),
        ("{}".encode("utf-32"), "is UTF-32 text"),
        (b'{"a":\n "\xe9"}', "byte 0xe9 in line 2 is not UTF-8"),
        (b'{"a":\n\n "\0"}', "a zero byte in line 3"),
    ],
)
def test_encodings_are_named(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for read, kind in ((read_json, DataError), (read_rows, DataError), (read_yaml, ConfigError)):
        with pytest.raises(kind, match=found):
            read(path)
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(path) == {}


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("a\0b")):
        for read in (read_json, read_rows, read_yaml):
            with pytest.raises(LunetError):
                read(path)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOMB, "more than 100000 values"),
        (BOMB + "b: {<<: *a11}\n", "more than 100000 values"),
        ("a: &a [*a]", "more than 100000 values"),
        ("[" * 150 + "]" * 150, "nested 151 levels deep|nested 150 levels deep"),
        ("[" * 5000, "nested too deeply"),
        ("a: 1\nb: {c: 1, c: 2}", r"`c` \(lines 2 and 2\) given twice"),
        ("a: 2001-99-99", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("{[a]: 1}: 2", "is not YAML"),
        ("a: \x07", "is not YAML"),
    ],
)
def test_yaml_is_bounded(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        parse_yaml(text, "file.yaml")


def test_yaml_within_bounds() -> None:
    assert parse_yaml("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: [*a]}", "x")["d"]["e"] == [{"b": 1}]
    assert parse_yaml("", "x") is None


def test_a_bomb_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    """The whole command, in 600 MB of memory: once it took 1.3 GB to be refused."""
    (tmp_path / "bomb.yaml").write_text(f"study: x\n{BOMB}dataset: *a11\n")
    code = textwrap.dedent("""
        import resource, sys
        resource.setrlimit(resource.RLIMIT_DATA, (600 << 20, 600 << 20))
        from lunet.cli import main
        sys.exit(main(["download", "--config", sys.argv[1], "--out", "x"]))
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bomb.yaml")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "its aliases expand to more than 100000 values" in done.stderr
    assert len(done.stderr) < 1000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "is empty"),
        ("a,b\n1,2,3\n", "line 2: 3 cells, the header has 2"),
        ("a,b\n1,2\n1\n", "line 3: 1 cells"),
        ("a,a\n1,2\n", "column 'a' appears twice"),
        ("b,c\n1,2\n", r"no column a \(columns: b, c\)"),
        ('a,b\n"1,2\n', "line 2: unexpected end of data"),
    ],
)
def test_tables_are_whole(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=found):
        read_rows(path, needed=["a"])


def test_tables_of_spreadsheets(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfa; b\r\n1;x\r\n\r\n2;y,z\r\n")
    wanted = [{"a": "1", "b": "x"}, {"a": "2", "b": "y,z"}]
    assert read_rows(path, separators=",;\t") == wanted


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("id;image\nJörg;a.nii\n".encode("utf-16"), [{"id": "Jörg", "image": "a.nii"}]),
        ("id;image\nJörg;a.nii\n".encode("cp1252"), [{"id": "Jörg", "image": "a.nii"}]),
        (b"\xef\xbb\xbfid\timage\n a \tb,c\n\t\n", [{"id": "a", "image": "b,c"}]),
        (b"sep=;\r\nid;image\r\na;b,c\r\n", [{"id": "a", "image": "b,c"}]),
        (b"id,image,,\r\na,b,,\r\n", [{"id": "a", "image": "b", "": ""}]),
    ],
)
def test_tables_of_spreadsheets_of_all_countries(
    tmp_path: Path, content: bytes, wanted: list[dict[str, str]]
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert read_spreadsheet(path, what="a listing") == wanted


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\xff\xfea\x00b", "is no text"),
        (b"a,b\n\x00,\x00\n", "zero byte in line 2"),
        (b"a,b\n\x81\n", "is no text"),
        (b"", "is empty"),
        (b" , \n", "is empty"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=found):
        read_spreadsheet(path, what="a listing")


class Inner(TypedDict):
    size: list[Annotated[int, Within(1, 10)]]


class Outer(TypedDict):
    name: str
    ratio: NotRequired[float | None]
    inner: NotRequired[Inner]
    either: NotRequired[str | list[str]]


@pytest.mark.parametrize(
    ("value", "key", "found"),
    [
        ([], "^f: ", r"found \[\], a mapping is expected"),
        ({}, "f: name", "missing"),
        ({"name": 3}, "f: name", "found 3, a text is expected"),
        ({"name": "a", "ratio": "x"}, "f: ratio", "a number is expected"),
        ({"name": "a", "ratio": 10**400}, "f: ratio", "an integer of 1329 bits"),
        ({"name": "a", "ratio": True}, "f: ratio", "found True"),
        ({"name": "a", "inner": {"size": [1, 0]}}, r"f: inner\.size\[1\]", "at least 1"),
        ({"name": "a", "inner": {"size": [1, 2.5]}}, r"f: inner\.size\[1\]", "an integer"),
        ({"name": "a", "either": 3}, "f: either", "found 3, a text or a list is expected"),
        ({"name": "a", "either": ["x", 3]}, r"f: either\[1\]", "found 3"),
    ],
)
def test_forms(value: Any, key: str, found: str) -> None:
    with pytest.raises(DataError, match=f"{key}.*{found}"):
        typed(value, Outer, "f")


def test_forms_keep_what_they_do_not_name(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{"name": "a", "ratio": 1, "more": {"x": [1]}}')
    found = read_record(tmp_path / "f.json", Outer)
    assert found == {"name": "a", "ratio": 1.0, "more": {"x": [1]}}
    assert isinstance(found["ratio"], float)
    assert convert(dict[str, int], {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda: 10**10_000,
        lambda: "x" * 10**7,
        lambda: [list(range(1000))] * 1000,
        lambda: {str(n): "y" * 1000 for n in range(1000)},
        lambda: parse_json("[" * 100 + "]" * 100, "x"),
    ],
)
def test_no_value_is_longer_than_a_line(make: Callable[[], Any]) -> None:
    value = make()
    assert len(shown(value)) <= 120
    with pytest.raises(ConfigError) as caught:
        convert(bool, value, "key")
    assert len(str(caught.value)) < 200


def test_messages_are_one_printable_line() -> None:
    error = DataError(where="a\nb\x1b[31m", found="x" * 10**6, expected="y\r\nz")
    assert str(error).isprintable()
    assert len(str(error)) < 1200
