"""Parts of cards over a run: who is told to lease how much, and what is refused."""

import pytest
from flwr.app import Message

from hsplit_flower.errors import ConfigError, NoCardError
from tests.strategies.budget_run import instructions_in, run
from tests.strategies.clients import NODES, WatchedWorker


def test_every_client_is_told_the_part_of_a_card_to_lease(
    model: str, worker: WatchedWorker
) -> None:
    sent: list[Message] = []
    # Nothing here runs in Ray: they say so instead of training without a lease, and once is enough.
    with pytest.raises(NoCardError, match="does not run in Ray"):
        run(
            model,
            worker,
            rounds=3,
            lease_card_gb=1e-3,
            before=lambda _, message: sent.append(message),
        )
    told = instructions_in(sent)
    assert [one.server_round for one in told] == [1] * len(NODES)
    for one in told:
        assert one.lease_card_bytes == 1e6
        assert one.lease_gpu_fraction == pytest.approx(one.budget_bytes / 1e6, abs=1e-4)


def test_a_lease_larger_than_any_card_ends_the_run_before_it_trains(
    model: str, worker: WatchedWorker
) -> None:
    sent: list[str] = []
    with pytest.raises(ConfigError, match=r"device 2: .*larger than a card"):
        run(
            model,
            worker,
            rounds=1,
            lease_card_gb=2.6e-4,
            before=lambda _, message: sent.append(message.metadata.message_type),
        )
    assert sent == [], "not even what devices have is asked"


def test_parts_of_cards_are_for_simulated_fleets(model: str, worker: WatchedWorker) -> None:
    with pytest.raises(ConfigError, match="name a fleet, or leave lease_card_gb out"):
        run(model, worker, rounds=1, lease_card_gb=1e-3, fleet="")
