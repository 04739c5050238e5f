"""A run follows its recipe from round to round, also where it is resumed."""

from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from hsplit_flower import StepDone
from hsplit_flower.client.app import describe_device, split_train
from hsplit_flower.errors import ConfigError
from tests.strategies.clients import (
    NUM_EXAMPLES,
    NUM_STEPS,
    WatchedWorker,
    batches,
    client_app,
    node_configs,
    partition_of,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of, training

RECIPE: dict[str, Any] = {
    "schedule": "linear",
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.2,
    "label_smoothing": 0.1,
    "max_gradient_norm": 0.5,
}
RATE = training().learning_rate


def _app(told: list[StepDone]) -> ClientApp:
    """Clients that say how many steps they take, and hear of each."""
    app = ClientApp()

    @app.query()
    def query(msg: Message, context: Context) -> Message:
        num_examples = NUM_EXAMPLES[partition_of(context)]
        return describe_device(msg, context, num_examples, num_steps=NUM_STEPS)

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        server_round = int(msg.content.config_records["config"]["server-round"])
        some = batches(partition_of(context), server_round, steps=2 * NUM_STEPS)
        return split_train(msg, context, some, on_step=told.append)

    return app


def test_rates_go_over_the_run_and_a_resumed_one_has_the_same(
    model: str, worker: WatchedWorker
) -> None:
    told: list[StepDone] = []
    first = strategy_of(model, worker=worker, training=training(**RECIPE))
    second = strategy_of(model, worker=worker, training=training(**RECIPE))
    with LocalGrid(_app(told), node_configs()) as grid:
        result = first.start(grid, num_rounds=2)
        assert set(result.train_metrics_clientapp) == {1, 2}
        whole = {(one.server_round, one.number): one.learning_rate for one in told}
        told.clear()
        second.start(grid, num_rounds=1)
        told.clear()
        second.start(grid, num_rounds=2, resume=second.state)
    total = 2 * NUM_STEPS
    wanted = {
        (number, step): RATE * (1 - ((number - 1) * NUM_STEPS + step - 1) / total)
        for number in (1, 2)
        for step in range(1, NUM_STEPS + 1)
    }
    assert whole == pytest.approx(wanted)
    resumed = {(one.server_round, one.number): one.learning_rate for one in told}
    assert resumed == {key: rate for key, rate in whole.items() if key[0] == 2}
    # Every client has masks of its own, of another draw in each round.
    seeds = [(spec.client, spec.server_round, spec.dropout_seed) for spec in worker.specs.values()]
    assert len({seed for *_, seed in seeds}) == len({(who, when) for who, when, _ in seeds})


def test_clients_that_do_not_say_how_many_steps_they_take_are_told_so(
    model: str, worker: WatchedWorker
) -> None:
    strategy = strategy_of(model, worker=worker, training=training(schedule="linear"))
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match=r"client clinic-. does not say how many it takes"),
    ):
        strategy.start(grid, num_rounds=1)
