"""One session of a tiny model: what it is opened with, and what its client sends."""

import socket

import torch

from hsplit_flower.batches import Batch
from hsplit_flower.settings import SessionSpec
from hsplit_flower.wire.messages import Forward
from tests.families import fields
from tests.rounds import ranks

FAMILY = "llama"
SPEC = SessionSpec(client=0, cut=2, ranks=ranks(FAMILY), learning_rate=1e-2)
BATCHES = [Batch(**fields("right", seed)) for seed in range(4)]
HIDDEN = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(0))
FORWARD = Forward(step=1, hidden=HIDDEN, labels=BATCHES[0].labels)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
