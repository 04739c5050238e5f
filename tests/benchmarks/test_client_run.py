"""The round that the memory benchmark measures."""

import pytest
import torch

from benchmarks.tools.client_run import ClientRun, NoisyWorker, live_peak_bytes
from benchmarks.tools.memory_comparison import predicted_bytes
from benchmarks.tools.small_models import costs_of, small, update_ranks
from hsplit_flower.costs import Workload
from hsplit_flower.settings import SessionSpec
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import Backward, Forward, Gradient, LastHidden, Loss

WORKLOAD = Workload(batch_size=2, sequence_length=32)


@pytest.mark.parametrize("update_share", [0.0, 1.0])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("labels", list(Labels))
@pytest.mark.one_in(3)
def test_a_real_round_takes_what_is_predicted(
    labels: Labels, checkpointing: bool, update_share: float
) -> None:
    config, costs = small("llama", quick=True), costs_of("llama", WORKLOAD, True)
    ranks = {weight.name: 2 for weight in costs.weights}
    run = ClientRun(
        config=config,
        workload=WORKLOAD,
        cut=4,
        ranks=ranks,
        update_ranks=update_ranks(costs, update_share),
        labels=labels,
        checkpointing=checkpointing,
    )
    predicted, measured = predicted_bytes(run, costs), live_peak_bytes(run)
    assert 0.99 * measured <= predicted <= 1.1 * measured


def test_noise_has_the_shapes_of_a_worker() -> None:
    hidden = torch.zeros(2, 3, 4)
    server = NoisyWorker(SessionSpec(client=0, cut=1))
    reply = server.exchange(Forward(step=1, hidden=hidden, labels=torch.ones(2, 3).long()))
    assert isinstance(reply, Loss)
    assert reply.gradient is not None and reply.gradient.shape == hidden.shape
    # Hidden state there, gradient back, four bytes a number, and labels.
    assert 2 * 24 * 4 + 6 * 4 <= server.message_bytes < 2 * 24 * 4 + 6 * 4 + 150
    client = NoisyWorker(SessionSpec(client=0, cut=1, labels=Labels.CLIENT))
    assert isinstance(client.exchange(Forward(step=1, hidden=hidden)), LastHidden)
    assert isinstance(client.exchange(Backward(step=1, gradient=hidden)), Gradient)
    assert client.message_bytes >= 4 * 24 * 4
