"""The app for conversations: who trains on which rows, and a run of it in one process."""

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hsplit_flower.adapters import import_adapter
from hsplit_flower.cli import main
from hsplit_flower.data.chat import HELP_DESK
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.reports import read_run
from hsplit_flower.runs import partition_of

from .one_process import flowers_log, run_here

pytestmark = [
    pytest.mark.usefixtures("app_on_the_path"),
    pytest.mark.parametrize("app_name", ["chat"]),
]
SECRET = "zwyntrab"
"""In every row of a client's file, and nowhere else."""


def node(**config: Any) -> Any:
    """What of a client's context is read here."""
    return SimpleNamespace(node_config={key.replace("_", "-"): config[key] for key in config})


def part(position: int, num_parts: int = 3) -> Any:
    return node(partition_id=position, num_partitions=num_parts)


def file_of(path: Path, count: int = 30, start: int = 0) -> Path:
    rows = [
        {"prompt": f"Where is the {SECRET} {number}?", "completion": f"It is at {number}."}
        for number in range(start, start + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


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


def test_a_run_on_two_clients_own_files_shows_nothing_of_them(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = {at: {"data": str(file_of(tmp_path / f"{at}.jsonl", 12, 100 * at))} for at in range(2)}
    changed = {"server-evaluation": False, "num-server-rounds": 1, "chat.packing": True}
    with caplog.at_level(logging.DEBUG), flowers_log() as told:
        folder = run_here(settings, tmp_path / "out", changed, app="chat", own=own)
    run = read_run(folder)
    (measured,) = [line.perplexity for line in run.client_evaluations]
    assert measured is not None
    (last,) = [line for line in told if "adapter: " in line]
    assert last.startswith(f"clients' perplexity {measured:.4f} after round 1 in ")
    assert {client.counts for line in run.training for client in line.clients.values()} == {True}
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    said = "\n".join([*told, caplog.text])
    assert SECRET.encode() not in written and SECRET not in said


@pytest.mark.long
def test_a_site_without_rows_of_its_own_is_left_out_by_name(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Beside two that have them, and trains on nothing that nobody asked for."""
    own = {
        at: {"data": str(file_of(tmp_path / f"{at}.jsonl", 12, 100 * at)), "name": f"site-{at}"}
        for at in range(2)
    }
    own[2] = {"name": "forgotten"}
    changed = {"server-evaluation": False, "num-server-rounds": 1}
    with flowers_log() as told:
        folder = run_here(settings, tmp_path / "out", changed, app="chat", own=own, num_clients=3)
    assert any(
        "client forgotten is left out: ConfigError: this client has no rows" in line
        and "--node-config 'data=" in line
        for line in told
    )
    (training,) = read_run(folder).training
    assert {name for name, one in training.clients.items() if one.counts} == {"site-0", "site-1"}


@pytest.mark.long
def test_a_run_s_last_perplexity_is_what_is_measured_with_its_adapter_afterwards(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"num-server-rounds": 1, "evaluation-examples": 12, "dataset": HELP_DESK}
    changed |= {"chat.learn": "last-answer", "chat.held-out-share": 0.05}
    folder = run_here(settings, tmp_path / "out", changed, app="chat")
    last = read_run(folder).server_evaluations[-1].perplexity
    given = ("--adapter", folder, "--dataset", HELP_DESK, "--num-examples", 12, "--device", "cpu")
    assert main(["evaluate", *map(str, given)]) == 0
    report = json.loads((folder / "evaluation-held-out" / "evaluation.json").read_text())
    assert report["perplexity"] == pytest.approx(last, rel=1e-4)
    capsys.readouterr()
    assert main(["export", str(folder), "--rank", "1", "--evaluate", HELP_DESK]) == 0
    (sent,) = re.findall(r"sent by the run .* ([\d.]+)\n", capsys.readouterr().out)
    assert float(sent) == pytest.approx(last, rel=1e-3)


@pytest.mark.long
def test_an_adapter_of_its_own_lies_beside_a_client_s_file_and_its_gain_in_the_run_s_folder(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    own = {
        0: {"data": str(file_of(tmp_path / "first.jsonl", 12)), "name": "first"},
        1: {
            "data": str(file_of(tmp_path / "second.jsonl", 12, 100)),
            "name": "second",
            "personal-adapter": str(tmp_path / "elsewhere"),
        },
    }
    changed = {
        "server-evaluation": False,
        "num-server-rounds": 1,
        "training.personalise-steps": 3,
        "training.learning-rate": 2e-3,
    }
    with flowers_log() as told:
        folder = run_here(settings, tmp_path / "out", changed, app="chat", own=own)
    line = read_run(folder).personalisation
    assert line is not None and line.server_round == 1
    *_, first, second, last = told
    assert "adapter: " in last
    for name, said in (("first", first), ("second", second)):
        client = line.clients[name]
        assert client.num_steps == 3 and client.num_tokens
        before, after = client.perplexity_before, client.perplexity_after
        assert before is not None and after is not None and after < before
        assert f"client {name}: perplexity of what it holds out {before:.4f} -> {after:.4f}" in said
        assert f"| {name} | {before:.3g} | {after:.3g} | 3 |" in (folder / "summary.md").read_text()
    for kept in (tmp_path / "first.jsonl-personal-adapter", tmp_path / "elsewhere"):
        blocks = {int(name.split(".")[2]) for name in import_adapter(kept)}
        assert blocks and max(blocks) < max(
            one.cut for one in read_run(folder).training[0].clients.values()
        )
    assert import_adapter(folder / "adapter")
