"""Run by `test_hub.py` in a process of its own, whose hub is a server on the loopback.

Prints what each load left in the cache, or the error that it ended with, as JSON.
"""

import json
import sys
from pathlib import Path

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Parts, load_half

NUM_BLOCKS = 3


def cached(home: Path) -> list[str]:
    """Names of the files that have been downloaded."""
    return sorted(path.name for path in home.glob("hub/models--*/snapshots/*/*"))


def main(home: Path) -> None:
    """Load both halves of one model, then what cannot be loaded."""
    client, worker = Parts.of_client(1, keeps_labels=False), Parts.of_worker(2, NUM_BLOCKS)
    report: dict[str, object] = {}
    for name, parts in (("client", client), ("worker", worker)):
        half = load_half("someone/sharded", parts, revision="v1")
        report[name] = {
            "files": cached(home),
            "sums": {key: float(p.double().sum()) for key, p in half.model.named_parameters()},
        }
    single = load_half("someone/single", client)
    report["single"] = len(list(single.model.parameters()))
    for source in ("someone/pickled", "someone/unknown", "someone/gated"):
        try:
            load_half(source, client)
        except UnsupportedModelError as error:
            report[source] = str(error)
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
