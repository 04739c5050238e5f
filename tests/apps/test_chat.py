"""The app for conversations: who trains on which rows, and who is refused."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hsplit_flower.data.chat import HELP_DESK
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.runs import partition_of

from .own_rows import file_of

pytestmark = [
    pytest.mark.usefixtures("app_on_the_path"),
    pytest.mark.parametrize("app_name", ["chat"]),
]


def node(**config: Any) -> Any:
    """What of a client's context is read here."""
    return SimpleNamespace(node_config={key.replace("_", "-"): config[key] for key in config})


def part(position: int, num_parts: int = 3) -> Any:
    return node(partition_id=position, num_partitions=num_parts)


def rows_of(encoded: Any) -> set[tuple[int, ...]]:
    return {one.input_ids for one in encoded}


@pytest.mark.parametrize(
    "changed",
    [
        {"partition": "iid"},
        {"partition": "dirichlet", "partition-by": "office", "dirichlet-alpha": 5.0},
        {"partition": "natural", "partition-by": "office"},
    ],
    ids=lambda changed: changed["partition"],
)
def test_a_set_is_divided_and_nobody_trains_on_what_is_held_out(
    settings: dict[str, Any], changed: dict[str, Any]
) -> None:
    from chat import task
    from chat.run_config import RunConfig

    config = RunConfig.from_run_config(
        {**settings, **changed, "evaluation-examples": 10_000, "dataset": HELP_DESK}
    )
    trained, held_out = set(), set()
    for position in range(3):
        place = task._place(config, part(position))
        trained |= rows_of(task._encoded(config, *place, is_held_out=False))
        held_out |= rows_of(task._encoded(config, *place, is_held_out=True))
        assert task.num_examples(config, part(position)) > 10
    assert not trained & held_out
    # What the server measures on is what all of the clients hold out.
    assert rows_of(task.encoded_for_server(config)) == held_out


def test_rows_of_ones_own_are_divided_evenly_unless_a_column_is_said(
    settings: dict[str, Any],
) -> None:
    from chat.run_config import RunConfig

    def way(**changed: str) -> tuple[str, str]:
        app = RunConfig.from_run_config({**settings, **changed}).app
        return app.scheme, app.column

    assert way() == ("dirichlet", "topic")
    assert way(dataset="rows.jsonl") == ("iid", "")
    assert way(dataset="rows.jsonl", **{"partition-by": "ward"}) == ("dirichlet", "ward")
    with pytest.raises(ConfigError, match=r"partition-by empty: a column of rows\.jsonl is wanted"):
        way(dataset="rows.jsonl", partition="natural")


def test_a_client_has_its_own_file_and_holds_out_of_it(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    from chat import task
    from chat.run_config import RunConfig

    config = RunConfig.from_run_config({**settings, "chat.held-out-share": 0.4})
    own = node(data=str(file_of(tmp_path / "own.jsonl")))
    num_train = task.num_examples(config, own)
    (held_out,) = list(task.evaluation_batches(config, own))
    assert num_train + len(held_out["labels"]) == 30
    other = node(
        data=str(tmp_path / "own.jsonl"),
        held_out=str(file_of(tmp_path / "held.jsonl", count=5, start=50)),
    )
    assert task.num_examples(config, other) == 30
    (held_out,) = list(task.evaluation_batches(config, other))
    assert len(held_out["labels"]) == 5


def test_a_site_says_what_its_own_file_calls_otherwise(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    from chat import task
    from chat.run_config import RunConfig

    path = tmp_path / "own.jsonl"
    rows = [
        {
            "talk": [
                {"from": "human", "value": f"Where is {number}?"},
                {"from": "gpt", "value": "At the mill."},
            ],
            "text": f"Note {number}.",
        }
        for number in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = RunConfig.from_run_config({**settings, "chat.columns": "prompt=question"})
    named = node(data=str(path), columns="messages=talk, role=from, content=value")
    texts = node(data=str(path), format="text")
    for own, learnt in ((named, "At the mill."), (texts, "ote ")):
        batch = next(task.training_batches(config, own, 1, num_steps=1))
        told = task.load_tokenizer("llama-tiny").decode(batch["labels"][batch["labels"] >= 0])
        assert learnt in told and "Where is" not in told
    with pytest.raises(DataError, match="what is wanted is question and completion; name"):
        task.num_examples(config, node(data=str(path), format="prompt"))
    with pytest.raises(ConfigError, match=r"format = 'talks': .* is wanted"):
        task.num_examples(config, node(data=str(path), format="talks"))
    with pytest.raises(ConfigError, match="columns is given without data"):
        task.num_examples(config, node(columns="messages=talk"))


def test_packed_batches_have_positions_and_the_planned_size(settings: dict[str, Any]) -> None:
    from chat import task
    from chat.run_config import RunConfig

    settings = {**settings, "dataset": HELP_DESK, "local-steps": 2}
    config = RunConfig.from_run_config({**settings, "chat.packing": True})
    padded = RunConfig.from_run_config(settings)
    packed = list(task.training_batches(config, part(0), 1, num_steps=2))
    assert len(packed) == 2
    for batch, other in zip(
        packed, task.training_batches(padded, part(0), 1, num_steps=2), strict=True
    ):
        assert "attention_mask" not in batch
        assert batch["input_ids"].shape[0] == 16 and batch["input_ids"].shape[1] <= 224
        assert (batch["labels"] >= 0).sum() > (other["labels"] >= 0).sum()
    # What is measured is not packed: its numbers are those of the same rows in any order.
    assert "attention_mask" in next(task.evaluation_batches(config, part(0)))
    again = next(task.training_batches(config, part(0), 2, num_steps=2))
    assert not again["input_ids"].equal(packed[0]["input_ids"])


def test_what_a_node_config_lacks_is_said(settings: dict[str, Any], tmp_path: Path) -> None:
    from chat import task
    from chat.run_config import RunConfig

    config = RunConfig.from_run_config(settings)
    named = RunConfig.from_run_config({**settings, "dataset": HELP_DESK})
    with pytest.raises(ConfigError, match=r"lacks 'partition-id'.*; or name this client's own"):
        task.num_examples(named, node())
    for without_rows in (node(), part(0)):
        with pytest.raises(ConfigError, match=r"names no data, .* or the run with dataset='help-"):
            task.num_examples(config, without_rows)
    assert task.num_examples(named, part(0)) > 10
    with pytest.raises(ConfigError, match="held-out is given without data"):
        task.num_examples(config, node(held_out="x.jsonl"))
    with pytest.raises(ConfigError, match="data = 7: text is wanted"):
        task.num_examples(config, node(data=7))
    with pytest.raises(DataError, match=r"gone\.jsonl cannot be read"):
        task.num_examples(config, node(data=str(tmp_path / "gone.jsonl")))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"partition-id": "a"}, "partition-id = 'a': a whole number of 0 or more is wanted"),
        ({"partition-id": -1}, "partition-id = -1: a whole number of 0 or more is wanted"),
        ({"partition-id": 1.5}, "partition-id = 1.5: a whole number"),
        ({"num-partitions": "two"}, "num-partitions = 'two': a whole number of 1 or more"),
        ({"num-partitions": 0}, "num-partitions = 0: a whole number of 1 or more is wanted"),
        ({"partition-id": 2}, "partition-id = 2: 0 to 1 is wanted"),
    ],
)
def test_a_part_that_is_none_is_said(said: dict[str, Any], message: str) -> None:
    config = {"partition-id": 0, "num-partitions": 2, **said}
    with pytest.raises(ConfigError, match=re.escape(message)):
        partition_of(config)


def test_a_client_with_a_file_of_its_own_is_told_that_its_part_is_none(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    from chat import task
    from chat.run_config import RunConfig

    own = {"data": str(file_of(tmp_path / "own.jsonl", 12)), "partition-id": "a"}
    with pytest.raises(ConfigError, match="the node config has partition-id = 'a'"):
        task.num_examples(RunConfig.from_run_config(settings), node(**own))


def test_on_a_superlink_the_server_evaluates_on_rows_of_its_own_only(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    from chat.run_config import RunConfig
    from chat.server_app import evaluation_of

    config = RunConfig.from_run_config(settings)
    assert evaluation_of(config, is_deployed=True) is None
    named = {**settings, "held-out": str(file_of(tmp_path / "held.jsonl"))}
    assert evaluation_of(RunConfig.from_run_config(named), is_deployed=True) is not None
    gone = {**settings, "held-out": str(tmp_path / "gone.jsonl")}
    with pytest.raises(DataError, match=r"gone\.jsonl cannot be read"):
        evaluation_of(RunConfig.from_run_config(gone), is_deployed=True)
