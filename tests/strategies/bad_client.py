"""Three clients of which one does what it should not, on few weights."""

import re
from typing import Any

from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.settings import Planning, Training
from tests.strategies.clients import NODES, WatchedWorker
from tests.strategies.tiny import strategy_of as tiny_strategy

BAD = 1
BAD_NODE = NODES[BAD]
GOOD_NODES = {NODES[0], NODES[2]}


def strategy_of(model: str, worker: WatchedWorker, **settings: Any) -> SplitStrategy:
    settings = {
        "training": Training(batch_size=3, sequence_length=9),
        # Few weights: what is tested here does not depend on how many there are.
        "planning": Planning(
            max_rank=4, target_modules=("q_proj", "up_proj"), worker_session_rank=0
        ),
        "fleet": "0.5,0.8,1",
        "worker": worker,
    } | settings
    return tiny_strategy(model, **settings)


def matches(pattern: str, line: str) -> bool:
    return re.search(pattern, line) is not None
