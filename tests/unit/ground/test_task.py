from __future__ import annotations

import json

from lunet.task import Task, task_from_dict


def test_the_order_of_channels_survives_json_with_sorted_keys() -> None:
    task = Task(
        channels=("T2", "FLAIR"),
        labels={"oedema": 2, "necrosis": 1, "enhancing": 4},
        regions={"core": (1, 4), "active": (4,), "whole": (1, 2, 4)},
    )
    assert list(task.labels) == ["necrosis", "oedema", "enhancing"]
    assert task.names == ("whole", "core", "active")
    again = task_from_dict(json.loads(json.dumps(task.as_dict(), sort_keys=True)))
    assert (list(again.labels), again.names, again.channels) == (
        list(task.labels),
        task.names,
        ("T2", "FLAIR"),
    )
    assert again == task
