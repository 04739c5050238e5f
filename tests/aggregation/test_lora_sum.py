"""The sum that is kept for clients with a LoRA of their own, and what each is sent of it."""

import pytest
import torch

from hsplit_flower.aggregation import ClientUpdate
from hsplit_flower.aggregation.lora_sum import LoraSum
from hsplit_flower.errors import AdapterError
from tests.reference.aggregation import dense, relative_error
from tests.strategies.lora_clients import SHAPES, State, config_of, fresh, products


def trained(rank: int, seed: int) -> State:
    random = torch.Generator().manual_seed(seed)
    return {
        key: tensor + 0.1 * torch.randn(tensor.shape, generator=random)
        for key, tensor in fresh(rank).items()
    }


def after_a_round(start: LoraSum) -> LoraSum:
    """Two clients of rank 3 and one of rank 5 train from where LoRA starts."""
    common = start.sent(start.form.ranks, seed=0).updates
    clients = [
        ClientUpdate(num_examples=weight, trained=start.form.updates_of(trained(rank, weight)))
        for weight, rank in ((1, 3), (2, 3), (3, 5))
    ]
    return start.plus(clients, common=common)


def exact() -> State:
    parts = [
        (weight / 6, products(trained(rank, weight))) for weight, rank in ((1, 3), (2, 3), (3, 5))
    ]
    return {name: sum(share * each[name] for share, each in parts) for name in SHAPES}


def test_where_lora_starts_nothing_is_learnt_and_all_is_random() -> None:
    start = LoraSum.starting_from(fresh(3), config_of(3))
    assert all(total.rank == 0 for total in start.sums.values())
    sent = start.sent(start.form.ranks, seed=0)
    assert all(update.rank == 0 for update in sent.updates.values())
    assert all(tensor.any() for key, tensor in sent.state.items() if ".lora_A." in key)
    assert start.held_back_share(sent.updates) == 0.0


@pytest.mark.parametrize("rank", [1, 3, 5, 9])
def test_sent_and_held_back_are_all_of_it(rank: int) -> None:
    known = after_a_round(LoraSum.starting_from(fresh(3), config_of(3)))
    wanted = exact()
    for name, total in known.sums.items():
        assert relative_error(total, wanted[name]) < 1e-6
    ranks = known.form.ranks_at(rank)
    sent = known.with_room(ranks).sent(ranks, seed=0).updates
    left = sum(float((wanted[name] - dense(sent[name])).norm() ** 2) for name in wanted)
    whole = sum(float(matrix.norm() ** 2) for matrix in wanted.values())
    assert known.held_back_share(sent) == pytest.approx(left / whole, abs=1e-6)
    best = sum(float((torch.linalg.svdvals(m)[rank:] ** 2).sum()) for m in wanted.values())
    assert left == pytest.approx(best, rel=1e-4, abs=1e-6 * whole)


def test_a_client_that_does_not_fit_is_named() -> None:
    start = LoraSum.starting_from(fresh(3), config_of(3))
    common = start.sent(start.form.ranks, seed=0).updates
    update = start.form.updates_of(trained(3, 1))["layers.1.up_proj"]
    with pytest.raises(AdapterError, match=r"client 0: weight 'layers\.0\.q_proj'"):
        client = ClientUpdate(num_examples=1, trained={"layers.0.q_proj": update})
        start.plus([client], common=common)
