from __future__ import annotations

import json
import os
import socket
from importlib import metadata

from lunet.provenance import stamp


def test_stamp_is_plain_json_and_names_versions() -> None:
    found = stamp()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["packages"]["torch"] == metadata.version("torch")
    assert found["cpu"]


def test_stamp_gives_nothing_of_the_environment_away(monkeypatch) -> None:
    monkeypatch.setenv("LUNET_SECRET", "sesame-4711")
    text = json.dumps(stamp())
    assert "sesame-4711" not in text
    assert socket.gethostname() not in text
    assert os.path.expanduser("~") not in text or os.path.expanduser("~") == "/"
