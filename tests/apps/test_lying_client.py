"""One client of the app that lies: what the run is worth, whom it names, which adapter it keeps."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, Context, Message

from hsplit_flower.adapters import import_adapter
from hsplit_flower.wire.instructions import UPDATE_KEY

from .one_process import flowers_log, run_here

pytestmark = pytest.mark.usefixtures("app_on_the_path")
# The second node's, which has the partition 1.
LIAR = f"{platform.node()}/1"
THREE_ROUNDS = {"num-server-rounds": 3, "local-steps": 8}
Change = Callable[[Message, Context, int], None]


def multiplied(times: float, *, from_round: int = 1) -> Change:
    """The second client's factors, times this."""

    def change(reply: Message, context: Context, number: int) -> None:
        if context.node_config["partition-id"] != 1 or number < from_round:
            return
        state = reply.content.array_records[UPDATE_KEY].to_torch_state_dict()
        lie = {k: v * times if k.endswith("lora_A.weight") else v for k, v in state.items()}
        reply.content[UPDATE_KEY] = ArrayRecord(lie)

    return change


def fails(reply: Message, context: Context, number: int) -> None:
    """The second client is not there."""
    if context.node_config["partition-id"] == 1:
        raise RuntimeError("the second client is away")


def lines_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def perplexities(folder: Path) -> list[float]:
    return [line["perplexity"] for line in lines_of(folder) if "perplexity" in line]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_minus_thirty_times_its_factors_cost_the_run_less_than_a_twentieth(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    how = {**THREE_ROUNDS, "evaluation-examples": 32}
    runs = {
        name: run_here(settings, tmp_path / name, how, num_clients=3, change_reply=change)
        for name, change in (("liar", multiplied(-30.0)), ("without", fails))
    }
    with_liar, without = (perplexities(runs[name])[-1] for name in ("liar", "without"))
    assert with_liar <= 1.05 * without
    rounds = [line for line in lines_of(runs["liar"]) if "clients" in line]
    for line in rounds:
        liar = line["clients"][LIAR]
        assert "times the median" in liar["dropped"]
        assert all(c["dropped"] is None for n, c in line["clients"].items() if n != LIAR)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_best_adapter_is_kept_beside_the_last_one(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """A lie that is believed spoils the second round; the first one's adapter is there still."""
    how = {
        "local-steps": 4,
        "aggregation.clip-above": 0.0,
        "aggregation.refuse-above": 0.0,
    }
    with flowers_log() as told:
        folder = run_here(settings, tmp_path, how, change_reply=multiplied(-30.0, from_round=2))
    before, first, last = perplexities(folder)
    assert first < before < last
    measured = [line for line in lines_of(folder) if "perplexity" in line]
    assert [line.get("best-round") for line in measured] == [None, 1, 1]
    (end,) = [line for line in told if "adapter: " in line]
    assert f", {first:.4f} after round 1 (in {folder / 'best'}) in " in end
    card = (folder / "best" / "README.md").read_text(encoding="utf-8")
    assert f"| perplexity with the adapter | {first:.4g} |" in card
    kept, left = import_adapter(folder / "best"), import_adapter(folder / "adapter")
    name = max(left, key=lambda each: float(left[each].squared_norm()))
    assert left[name].squared_norm() > 10 * kept[name].squared_norm()
