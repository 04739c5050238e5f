"""Prints pip constraints that hold every dependency at the oldest version pyproject.toml admits.

The developer tools are no promise to users: they stay at the versions of constraints.txt.
"""

import re
import sys
from itertools import chain
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(\[\w+\])?>=(?P<version>[\w.]+)(?P<marker>.*)")


def lower_bounds() -> list[str]:
    """One pinned requirement for every dependency, those of extras included, and developer tool."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins, extras = [], dict(project["optional-dependencies"])
    tools = {re.split(r"[^\w-]", tool)[0] for tool in extras.pop("dev")}
    for dependency in [*project["dependencies"], *chain(*extras.values())]:
        found = REQUIREMENT.fullmatch(dependency)
        if found is None:
            raise ValueError(f"a dependency needs a lower bound and nothing else: {dependency!r}")
        pins.append(f"{found['name']}=={found['version']}{found['marker']}")
    tested = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return pins + [pin for pin in tested if pin.partition("==")[0] in tools]


if __name__ == "__main__":
    print("\n".join(lower_bounds()))
