"""The catalog's facts, and what the settings make of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lunet.data.catalog import entry_of, find_dataset, remap_of, task_of
from lunet.data.catalog_table import CATALOG
from lunet.data.settings import DatasetSettings, PhantomSettings
from lunet.errors import ConfigError, DataError

DECATHLON = [entry for name, entry in CATALOG.items() if name.startswith("Task")]


def test_ten_decathlon_tasks_with_their_sums() -> None:
    assert len(DECATHLON) == 10
    assert sum(entry.train for entry in DECATHLON) == 1741
    assert sum(entry.test for entry in DECATHLON) == 886
    for entry in DECATHLON:
        assert entry.md5 is not None
        assert len(entry.md5) == 32
        assert int(entry.md5, 16) >= 0
        assert entry.urls[0].endswith(f"/{entry.name}.tar")
        assert entry.licence == "CC-BY-SA 4.0"
    assert len({entry.md5 for entry in DECATHLON}) == 10


FETCHED_BY_HAND = {
    *("HarP", "BraTS2021", "BraTS2023", "MM-WHS_CT", "MM-WHS_MR", "AMOS22", "FLARE22", "ACDC"),
    *("KiTS23", "BTCV", "TotalSegmentator_v2"),
}


@pytest.mark.parametrize("name", sorted(FETCHED_BY_HAND))
def test_sets_that_are_fetched_by_hand_say_where_and_what(name: str) -> None:
    entry = CATALOG[name]
    assert entry.access in ("registered", "by hand")
    assert not entry.urls
    assert entry.home.startswith("http")
    assert ".nii.gz" in entry.expected


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_every_entry_is_a_valid_task(name: str) -> None:
    settings = DatasetSettings(name=name)
    task = task_of(settings)
    assert task.channels == CATALOG[name].channels
    assert set(remap_of(settings).values()) <= set(task.labels.values())


def test_brats_regions_are_nested_and_codes_differ_by_year() -> None:
    for name in ("BraTS2021", "BraTS2023"):
        regions = {
            key: set(ids) for key, ids in task_of(DatasetSettings(name=name)).regions.items()
        }
        assert regions["ET"] < regions["TC"] < regions["WT"]
    assert remap_of(DatasetSettings(name="BraTS2021")) == {4: 3}
    assert remap_of(DatasetSettings(name="BraTS2023")) == {}


def test_names_are_found_short_and_in_any_case() -> None:
    assert find_dataset("hippocampus").name == "Task04_Hippocampus"
    assert find_dataset("TASK09_spleen").name == "Task09_Spleen"
    assert find_dataset("brats2021").name == "BraTS2021"


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'Task04_Hippocampus'"):
        entry_of(DatasetSettings(name="Task4_Hipocampus"))


def test_own_data_set_must_say_its_labels_and_channels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.labels"):
        task_of(DatasetSettings(name="mine", path=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"dataset\.channels"):
        task_of(DatasetSettings(name="mine", path=str(tmp_path), labels={"tumour": 1}))
    with pytest.raises(DataError, match=r"dataset\.path: .*does not exist"):
        task_of(DatasetSettings(name="mine", path=str(tmp_path / "none")))
    task = task_of(
        DatasetSettings(
            name="mine", path="/d", labels={"tumour": 1}, channels=("T1",), dimensions=2
        )
    )
    assert (task.labels, task.channels, task.dimensions) == ({"tumour": 1}, ("T1",), 2)


def test_settings_override_the_catalog() -> None:
    task = task_of(DatasetSettings(name="hippocampus", labels={"whole": 1}, channels=("T1w",)))
    assert (task.labels, task.channels, task.out_channels) == ({"whole": 1}, ("T1w",), 1)
    plain = task_of(DatasetSettings(name="BraTS2021", regions={}))
    assert plain.regions == {}
    assert plain.out_channels == 4
    relabelled = task_of(DatasetSettings(name="BraTS2021", labels={"tumour": 1}))
    assert relabelled.regions == {}


def test_remap_of_the_settings_wins_and_is_checked() -> None:
    assert remap_of(DatasetSettings(name="BraTS2021", remap={"4": 1, "2": 1})) == {4: 1, 2: 1}
    with pytest.raises(ConfigError, match="'four'"):
        remap_of(DatasetSettings(name="BraTS2021", remap={"four": 3}))


@pytest.mark.parametrize(
    ("kind", "imitated"),
    [("hippocampus", "Task04_Hippocampus"), ("brats2023", "BraTS2023"), ("heart_ct", "MM-WHS_CT")],
)
def test_phantoms_have_the_task_of_what_they_imitate(kind: str, imitated: str) -> None:
    settings = DatasetSettings(name="phantom", phantom=PhantomSettings(kind=kind))  # type: ignore[arg-type]
    assert task_of(settings) == task_of(DatasetSettings(name=imitated))
    entry = entry_of(settings)
    assert entry is not None
    assert (entry.access, entry.md5, entry.urls, entry.remap) == ("synthetic", None, (), {})


def test_sides_of_one_subject_share_a_group() -> None:
    hippocampus, spleen = find_dataset("hippocampus"), find_dataset("spleen")
    assert hippocampus.group_of("hippocampus_003") == hippocampus.group_of("hippocampus_004")
    assert hippocampus.group_of("hippocampus_004") != hippocampus.group_of("hippocampus_005")
    assert spleen.group_of("spleen_3") != spleen.group_of("spleen_4")


def test_catalog_needs_nothing_heavy() -> None:
    code = (
        "import sys, lunet.data.catalog;"
        "heavy = {'numpy', 'torch', 'nibabel', 'pandas', 'yaml'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
