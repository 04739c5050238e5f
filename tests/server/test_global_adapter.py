"""The global adapter: what it takes over, gives out, and refuses."""

import pytest
import torch
from flwr.app import ArrayRecord

from hsplit_flower.adapters import LowRank, from_state_dict, to_state_dict
from hsplit_flower.errors import AdapterError, ConfigError, NonFiniteError
from hsplit_flower.server.global_adapter import GlobalAdapter
from hsplit_flower.types import Span, Start
from tests.reference.aggregation import dense, relative_error
from tests.rounds import architecture, global_update

LLAMA = architecture("llama")
NAME = "model.layers.1.mlp.gate_proj"


def record(updates: dict[str, LowRank]) -> ArrayRecord:
    return ArrayRecord(to_state_dict(updates))


def random_update(rank: int = 3, name: str = NAME) -> LowRank:
    weight = next(weight for weight in LLAMA.weights if weight.name == name)
    return LowRank(
        b=torch.randn(weight.out_features, rank), a=torch.randn(rank, weight.in_features)
    )


def test_it_starts_from_nothing_for_every_weight() -> None:
    adapter = GlobalAdapter(LLAMA, start=Start.RESTART)
    assert adapter.ranks == dict.fromkeys([weight.name for weight in LLAMA.weights], 0)
    assert len(adapter.arrays()) == 0
    adapter.adopt(adapter.arrays())
    assert set(adapter.updates) == {weight.name for weight in LLAMA.weights}


def test_what_is_adopted_is_given_out_as_it_was_but_kept_in_canonical_form() -> None:
    given = {NAME: random_update(6)}
    adapter = GlobalAdapter(LLAMA, start=Start.RESTART)
    arrays = record(given)
    adapter.adopt(arrays)
    assert adapter.arrays() is arrays
    assert relative_error(adapter.updates[NAME], dense(given[NAME])) < 1e-6
    norms = adapter.updates[NAME].b.norm(dim=0)
    assert bool((norms[:-1] >= norms[1:]).all()), "largest direction first"
    assert adapter.ranks[NAME] == 6
    assert sum(adapter.ranks.values()) == 6


def test_each_client_gets_the_weights_below_its_cut() -> None:
    adapter = GlobalAdapter(LLAMA, start=Start.RESTART)
    adapter.adopt(record(global_update("llama")))
    for cut in (1, 2, 3):
        below = from_state_dict(adapter.below(Span(start=0, stop=cut)).to_torch_state_dict())
        wanted = {w.name for w in LLAMA.weights if w.block < cut and adapter.ranks[w.name]}
        assert set(below) == wanted
        assert all(torch.equal(below[name].b, adapter.updates[name].b) for name in wanted)


def test_aggregating_makes_new_arrays() -> None:
    adapter = GlobalAdapter(LLAMA, start=Start.RESTART)
    first = adapter.arrays()
    trained = {NAME: random_update()}
    adapter.aggregate({1: trained, 2: {}}, {1: 30, 2: 10})
    assert adapter.arrays() is not first
    assert relative_error(adapter.updates[NAME], 0.75 * dense(trained[NAME])) < 1e-6
    again = GlobalAdapter(LLAMA, start=Start.RESTART)
    again.adopt(adapter.arrays())
    assert relative_error(again.updates[NAME], dense(adapter.updates[NAME])) < 1e-6


def test_what_a_cap_cuts_off_comes_back_and_does_not_follow_another_adapter() -> None:
    adapter = GlobalAdapter(LLAMA, start=Start.RESTART, rank_cap=2)
    trained = random_update(4)
    adapter.aggregate({1: {NAME: trained}}, {1: 1})
    assert adapter.ranks[NAME] == 2
    assert 0 < adapter.dropped_energy < 1
    cut_off = dense(trained) - dense(adapter.updates[NAME])

    other = record({NAME: random_update(1)})
    adapter.adopt(other)
    adopted = dense(adapter.updates[NAME])
    adapter.aggregate({1: {NAME: trained.scale(1e-9)}}, {1: 1})
    assert relative_error(adapter.updates[NAME], adopted) < 1e-4
    assert cut_off.norm() > 1e-2 * adopted.norm()


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        ({"model.layers.9.mlp.gate_proj": LowRank.zeros(4, 4)}, AdapterError, "not among the 21"),
        ({NAME: LowRank.zeros(5, 16)}, AdapterError, r"\[5, 16\], wanted \[24, 16\]"),
        (
            {NAME: LowRank(b=torch.full((24, 1), torch.nan), a=torch.ones(1, 16))},
            NonFiniteError,
            "NaN or infinity",
        ),
    ],
)
def test_a_client_s_update_is_checked_before_it_is_used(
    update: dict[str, LowRank], error: type[Exception], message: str
) -> None:
    adapter = GlobalAdapter(LLAMA, start=Start.RESTART)
    with pytest.raises(error, match=message):
        adapter.check(update)


def test_an_adapter_of_another_model_is_refused() -> None:
    adapter = GlobalAdapter(LLAMA, start=Start.RESTART)
    with pytest.raises(ConfigError, match="the model lacks"):
        adapter.adopt(record({"transformer.h.0.attn.c_attn": random_update()}))
    with pytest.raises(ConfigError, match=r"of \[16, 24\], the model's is \[24, 16\]"):
        adapter.adopt(record({NAME: LowRank(b=torch.ones(16, 1), a=torch.ones(1, 24))}))
    assert sum(adapter.ranks.values()) == 0
