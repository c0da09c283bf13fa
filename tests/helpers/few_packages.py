"""Start Snakemake as on a cluster with an image: with only the packages that the page names."""

from __future__ import annotations

import re
import sys
from importlib.metadata import packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import ROOT

PAGE = (ROOT / "docs" / "howto" / "install.md").read_text(encoding="utf-8")
START = """
import sys
from importlib.metadata import packages_distributions
from packaging.utils import canonicalize_name

class Refuse:
    known = packages_distributions()
    allowed = set(sys.argv.pop(1).split(",")) | {"lunet"}
    def find_spec(self, name, path=None, target=None):
        owners = {canonicalize_name(owner) for owner in self.known.get(name, ())}
        # Snakemake loads all plugins that are installed
        if owners and not owners & self.allowed and not name.startswith("snakemake"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from snakemake.cli import main
main()
"""


def snakemake_alone() -> list[str]:
    """The first words of a command line of Snakemake that imports no other packages."""
    (names,) = re.findall(r"^pip wheel -w wheels -c envs/constraints.txt (.+)$", PAGE, re.M)
    return [sys.executable, "-c", START, ",".join(sorted(_with_requirements(names.split())))]


def _with_requirements(names: list[str]) -> set[str]:
    """Canonical names of packages and of all that they require, as far as they are installed."""
    owners = [owner for found in packages_distributions().values() for owner in found]
    installed = set(map(canonicalize_name, owners))
    found, waiting = set(), set(map(canonicalize_name, names))
    while waiting:
        name = waiting.pop()
        found.add(name)
        wanted = [Requirement(line) for line in requires(name) or ()]
        needed = [x for x in wanted if x.marker is None or x.marker.evaluate({"extra": ""})]
        waiting |= {canonicalize_name(x.name) for x in needed} & installed - found
    return found
