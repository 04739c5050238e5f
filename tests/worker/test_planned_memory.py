"""What a plan says that a worker needs, against what one that is really hosted takes."""

import pytest
import torch
from transformers import AutoConfig

from hsplit_flower.costs import Workload, trace_costs, worker_half_bytes, worker_memory
from hsplit_flower.costs.metering import LiveBytes
from hsplit_flower.settings import Model, PlanSettings, SessionSpec, Worker
from hsplit_flower.wire.messages import Forward
from hsplit_flower.worker.hosting import HostedWorker, host_worker
from hsplit_flower.worker.worker import SplitWorker
from tests.costs.real_step import bytes_of
from tests.families import checkpoint

ROWS, POSITIONS, STEPS, RANK = 16, 24, 2, 2
SETTINGS = PlanSettings(min_cut=1)
SECRET = "a secret of some length"


def _train(worker: HostedWorker, specs: list[SessionSpec], width: int) -> None:
    tokens = [worker.open(spec) for spec in specs]
    for step in range(1, STEPS + 1):
        for token in tokens:
            hidden = torch.randn(ROWS, POSITIONS, width)
            labels = torch.ones(ROWS, POSITIONS, dtype=torch.int64)
            worker.exchange(
                token, Forward(step=step, hidden=hidden, labels=labels, probe=step == 1)
            )


@pytest.mark.parametrize("cuts", [(1, 2), (2, 2, 2)])
def test_a_hosted_worker_takes_what_is_planned(cuts: tuple[int, ...]) -> None:
    model = str(checkpoint("llama"))
    config = AutoConfig.from_pretrained(model)
    costs = trace_costs(config, Workload(batch_size=ROWS, sequence_length=POSITIONS))
    ranks = {weight.name: RANK for weight in costs.weights}
    specs = [
        SessionSpec(
            client=number,
            cut=cut,
            ranks={w.name: RANK for w in costs.weights if w.block >= cut},
        )
        for number, cut in enumerate(cuts)
    ]
    worker = host_worker(Model(name=model), Worker(operator_token=SECRET, device="cpu"))
    try:
        half = worker._stage.half.model
        resident = [*half.parameters(), *half.buffers()]
        # It was loaded for the smallest cut, whichever are chosen.
        held_bytes = bytes_of(list(half.parameters()))
        assert held_bytes == worker_half_bytes(costs, SETTINGS)
        live = LiveBytes(ignore=resident)
        # In the thread that runs the steps: modes belong to a thread.
        worker._executor.call(live.__enter__)
        _train(worker, specs, config.hidden_size)
        worker._executor.call(lambda: live.__exit__(None, None, None))
    finally:
        worker.stop()
    # The request's hidden state was made in another thread.
    measured = live.peak_bytes + held_bytes + costs.hidden_bytes
    needed = worker_memory(costs, sessions=[(cut, ranks) for cut in cuts], settings=SETTINGS)
    predicted = needed.total_bytes - 2 * costs.wire_hidden_bytes
    # Too high: gradients of all sessions are counted in, which only a joint pass has at once.
    assert measured <= predicted <= 1.2 * measured


def test_batches_get_what_update_and_sessions_leave() -> None:
    model = str(checkpoint("llama"))
    worker = host_worker(Model(name=model), Worker(operator_token=SECRET, device="cpu"))
    small = SplitWorker(
        worker._stage.half, model=model, memory_bytes=200_000.0, flops_per_second=1e9
    )
    try:
        free = small._executor._limits.max_tokens
        spec = SessionSpec(client=0, cut=1, ranks={w.name: 4 for w in small._stage._weights})
        tokens = [small.open(spec)]
        one = small._executor._limits.max_tokens
        tokens += [small.open(spec) for _ in range(20)]
        assert free > one > small._executor._limits.max_tokens == 1
        for token in tokens:
            small.close(token)
        assert small._executor._limits.max_tokens == free
    finally:
        small.stop()
        worker.stop()
