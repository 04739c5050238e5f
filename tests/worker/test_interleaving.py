"""Sessions that take turns on one base do not meet."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import Labels, Start
from hsplit_flower.wire.messages import Backward, Forward, LastHidden, Loss, Reply
from hsplit_flower.worker import Stage
from tests.rounds import architecture, global_update, ranks
from tests.worker.steps import (
    AT_CLIENT,
    FAMILY,
    SPEC,
    backward,
    factors_of,
    forward,
    is_equal,
    without_labels,
)
from tests.workers import load_worker

SPECS = [
    SPEC,
    AT_CLIENT.replace(client=1, cut=1, seed=1, lora_alpha=2.0),
    SPEC.replace(
        client=2,
        cut=3,
        ranks={w.name: 3 for w in architecture(FAMILY).weights},
        start=Start.RESTART,
    ),
    AT_CLIENT.replace(client=3, cut=2, ranks={}, weight_decay=0.1),
    SPEC.replace(client=4, cut=1, ranks={w.name: 1 for w in architecture(FAMILY).weights}),
]


def _requests(spec: SessionSpec) -> list[Forward | Backward]:
    requests: list[Forward | Backward] = []
    for step in (1, 2, 3):
        seed = 100 * spec.client + step
        if spec.labels is Labels.CLIENT:
            requests += [without_labels(step, seed), backward(step, seed + 50)]
        else:
            requests.append(forward(step, seed))
    requests[0] = replace(requests[0], probe=True)
    return requests


def _tensors(reply: Reply) -> list[Tensor]:
    if isinstance(reply, LastHidden):
        return [reply.hidden]
    loss = [torch.tensor(reply.loss_sum)] if isinstance(reply, Loss) else []
    return [reply.gradient, *loss]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sessions_do_not_affect_each_other(name: str) -> None:
    """Five of them, of other cuts, ranks, starts and label modes, take turns; each alone, the same.

    Those that keep their labels have a forward pass in flight while others step.
    """
    every = ranks(name)
    specs = [
        spec.replace(
            ranks=every if spec.ranks is SPEC.ranks else dict.fromkeys(every, spec.client % 4)
        )
        for spec in SPECS
    ]
    alone = []
    for spec in specs:
        stage = Stage(load_worker(name))
        stage.load_update(global_update(name))
        session = stage.open(spec)
        replies = [stage.handle(session, request) for request in _requests(spec)]
        alone.append((replies, factors_of(session), session.importance))
    stage = Stage(load_worker(name))
    stage.load_update(global_update(name))
    sessions = [stage.open(spec) for spec in specs]
    waiting = [_requests(spec) for spec in specs]
    together: list[list[Reply]] = [[] for _ in specs]
    while any(waiting):
        for index, requests in enumerate(waiting):
            if requests:
                together[index].append(stage.handle(sessions[index], requests.pop(0)))
    for session, got, (replies, factors, importance) in zip(sessions, together, alone, strict=True):
        assert session.importance == importance
        assert is_equal(factors_of(session), factors)
        for a, b in zip(got, replies, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(_tensors(a), _tensors(b), strict=True))
