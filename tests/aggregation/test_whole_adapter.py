"""The aggregation of all weights at once: shapes, what is carried, and whom it refuses."""

from collections.abc import Sequence

import pytest

from hsplit_flower.adapters.low_rank import LowRank, compress
from hsplit_flower.aggregation import ClientUpdate, aggregate_adapters
from hsplit_flower.errors import AdapterError, NonFiniteError
from tests.aggregation.contributions import IN, LAW, OUT, canonical_update, random_factors
from tests.reference.aggregation import dense, relative_error


def test_the_whole_adapter_is_its_weights() -> None:
    """Weights of different shapes; a client without one of them contributes zero to it."""
    shapes = {"q": (40, 30), "up": (50, 20), "k": (12, 30)}
    updates = {
        name: compress(random_factors(rank, *shapes[name]))
        for name, rank in (("q", 4), ("up", 0), ("k", 2))
    }
    first = ClientUpdate(
        num_examples=10,
        trained={"q": random_factors(3, 40, 30), "up": random_factors(2, 50, 20)},
        initial={"q": updates["q"].head(3)},
    )
    second = ClientUpdate(num_examples=30, trained={"up": random_factors(5, 50, 20)})
    result = aggregate_adapters(updates, [first, second])
    wanted = {name: dense(update) for name, update in updates.items()}
    wanted["q"] += 0.25 * (dense(first.trained["q"]) - dense(first.initial["q"]))
    wanted["up"] += 0.25 * dense(first.trained["up"]) + 0.75 * dense(second.trained["up"])
    assert result["k"] is updates["k"]
    for name in shapes:
        assert relative_error(result[name], wanted[name]) <= LAW


def test_without_clients_only_what_is_carried_is_added() -> None:
    updates = {"q": canonical_update(4), "k": canonical_update(2)}
    carried = {"k": random_factors(2)}
    result = aggregate_adapters(updates, [], carried=carried)
    assert result["q"] is updates["q"]
    assert relative_error(result["k"], dense(updates["k"]) + dense(carried["k"])) <= LAW


def _nan(update: LowRank) -> LowRank:
    update.b[3, 0] = float("nan")
    return update


@pytest.mark.parametrize(
    ("trained", "error", "message"),
    [
        ({"v": random_factors(2)}, AdapterError, r"client 1: .*'v'"),
        (
            {"q": random_factors(2, OUT, 31)},
            AdapterError,
            r"client 1: .*'q'.*\[40, 31\].*\[40, 30\]",
        ),
        ({"q": _nan(random_factors(2))}, NonFiniteError, r"client 1: .*'q'.*NaN"),
    ],
)
def test_a_client_that_cannot_be_used_is_named(
    trained: dict[str, LowRank], error: type[Exception], message: str
) -> None:
    clients: Sequence[ClientUpdate] = [
        ClientUpdate(num_examples=1, trained={"q": random_factors(1)}),
        ClientUpdate(num_examples=1, trained=trained),
    ]
    with pytest.raises(error, match=message):
        aggregate_adapters({"q": LowRank.zeros(OUT, IN)}, clients)
