"""``flwr run apps/nlg`` in a simulation: what it shows, what it leaves, what it refuses."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from hsplit_flower.cli.local_flower import LocalFlower, local_superlink, simulated_clients
from hsplit_flower.data import batches, encode_examples, load_examples, pad_token_id
from hsplit_flower.metrics import TokenLoss, token_loss
from hsplit_flower.splitting import load_tokenizer, locate

from .flower_app import TINY, Finished, run_app

FEDERATION = simulated_clients(3)
WITHOUT_CARDS = ["--federation-config", "num-supernodes=3 init-args-num-gpus=0"]


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlower]:
    """A SuperLink that simulates its nodes."""
    with local_superlink(tmp_path_factory.mktemp("flwr"), simulation=True) as running:
        yield running


@pytest.fixture(scope="module")
def finished(flower: LocalFlower, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return run_app(flower, tmp_path_factory.mktemp("outputs"), {}, FEDERATION)


@pytest.mark.timeout(300)
def test_a_run_ends_with_its_result_and_leaves_its_files(flower: LocalFlower, finished: Finished):
    assert flower.failure() is None, finished.log[-6000:]
    before, after = finished.perplexities
    assert after < before
    assert sorted(path.name for path in finished.folder.iterdir()) == [
        "adapter",
        "best",
        "clients.csv",
        "config.json",
        "metrics.jsonl",
        "plan.json",
        "report.html",
        "state.safetensors",
        "summary.md",
    ]
    assert finished.json("config.json")["local-steps"] == TINY["local-steps"]
    plans = finished.json("plan.json")["clients"]
    assert len(plans) == 3 and all(part["ranks"] for part in plans.values())
    rounds = [line for line in finished.metrics if "clients" in line]
    assert [line["server-round"] for line in rounds] == [1, 2]
    for line in rounds:
        assert {client["num-steps"] for client in line["clients"].values()} == {2}
    measured = [line["perplexity"] for line in finished.metrics if "perplexity" in line]
    assert measured[0] == pytest.approx(before, abs=1e-4)
    assert measured[-1] == pytest.approx(after, abs=1e-4)


@pytest.mark.long
def test_the_log_of_a_round_is_a_bar_and_a_table_and_no_more(finished: Finished):
    first, second = finished.log.split("[ROUND ")[1:]
    lines = [f"[ROUND {first}".split("[ROUND 2")[0], f"[ROUND {second}"]
    rounds = [_said(text) for text in lines]
    # With five clients there are two rows more.
    assert all(len(told) <= 12 - 2 for told in rounds), rounds
    first_round = rounds[0]
    assert first_round[0] == "[ROUND 1/2]"
    assert first_round[1] == "Asking 3 nodes what their devices have"
    assert first_round[2].startswith("Planned anew: the first round; a step is to take ")
    for told in rounds:
        assert re.fullmatch(
            r"round \d \[#{24}\] 100%, 6 steps in \d+ s, [\d.]+ tokens/s",
            [line for line in told if "100%" in line][-1],
        )
        header = next(number for number, line in enumerate(told) if line.startswith("client "))
        assert told[header].split() == (
            ["client", "cut", "ranks", "loss", "seconds", "sent", "MB", "got", "MB", "memory", "MB"]
        )
        rows = told[header + 1 : header + 4]
        assert len({row.split()[0] for row in rows}) == 3
        for row in rows:
            assert re.search(r" \d  +\d+(-\d+)?  +\d\.\d{3}  .* of [\d.]+$", row), row
        # Somebody's change may be longer than the others': that is a line of its own.
        assert told[-1].startswith("evaluated by the server: perplexity "), told
    for noise in ("MetricRecord", "Traceback", "Final results", "├── "):
        assert noise not in finished.log, noise
    # After the last round Flower ends its actors, and says so.
    assert "(ClientAppActor" not in lines[0]


def _said(text: str) -> list[str]:
    """What the lines of a round say, up to the run's last."""
    plain = re.sub(r"\x1b\[\d+m", "", text)
    lines = [re.sub(r"^(INFO|WARNING) :\s*", "", line).strip() for line in plain.splitlines()]
    told = [line for line in lines if line]
    ends = [number for number, line in enumerate(told) if "; adapter: " in line]
    return told[: ends[0]] if ends else told


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
@torch.no_grad()
def test_plain_peft_gives_the_reported_perplexity(finished: Finished):
    base: Any = AutoModelForCausalLM.from_pretrained(locate("llama-tiny"), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(finished.folder / "adapter")).eval()
    examples = load_examples("restaurants", "dev")
    count = int(TINY["evaluation-examples"])
    chosen = examples[:: max(1, len(examples) // count)][:count]
    tokenizer = load_tokenizer("llama-tiny")
    encoded = encode_examples(chosen, tokenizer, max_length=192, on_long="drop")
    total = TokenLoss()
    for batch in batches(encoded, 4, pad_id=pad_token_id(tokenizer)):
        labels = batch.pop("labels")
        total += token_loss(model(**batch, use_cache=False).logits, labels)
    assert total.perplexity == pytest.approx(finished.perplexities[1], rel=5e-5)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_clients_of_a_fleet_file_are_away_as_it_says_and_lease_their_parts_of_a_card(
    flower: LocalFlower, tmp_path: Path
):
    devices = [
        f"[[device]]\nmemory-gb = {memory}\nflops = 1e12\nunavailable = {unavailable}\n"
        for memory, unavailable in ((0.2, 0.0), (0.1, 0.999999), (0.05, 0.0))
    ]
    fleet = tmp_path / "fleet.toml"
    fleet.write_text("\n".join(devices), encoding="utf-8")
    # Together the two that are there want more than the card: one waits for the other.
    settings = {"simulation.fleet": str(fleet), "simulation.lease-card-gb": 0.22}
    settings |= {"server-evaluation": False, "num-server-rounds": 1}
    left = run_app(flower, tmp_path, settings, FEDERATION)
    assert flower.failure() is None, left.log[-6000:]
    (told,) = [line for line in left.metrics if "clients" in line]
    assert told["completed"], left.log[-6000:]
    assert [one["kind"] for one in told["left-out"].values()] == ["away"]
    budgets = sorted(client["budget-bytes"] for client in told["clients"].values())
    assert budgets == pytest.approx([0.05e9, 0.2e9])


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_run_without_a_completed_round_has_failed_for_flower(flower: LocalFlower, tmp_path: Path):
    # Steps so long that no number of a client stays finite: the server takes none of them.
    settings = {"training.learning-rate": 1e30, "server-evaluation": False}
    void = run_app(flower, tmp_path, settings, FEDERATION)
    assert "0 of 2 rounds completed: nothing was learnt" in str(flower.failure())
    assert "adapter: " not in void.log and "Traceback" not in void.log
    assert not (void.folder / "adapter").exists()
    text = (void.folder / "metrics-void.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["completed"] for line in text.splitlines()] == [False, False]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_leases_without_a_card_stop_the_run_before_training(flower: LocalFlower, tmp_path: Path):
    settings = {"simulation.fleet": "1GB,2GB,3GB", "simulation.lease-card-gb": 3.0}
    refused = run_app(flower, tmp_path, settings, WITHOUT_CARDS)
    assert "clients are to lease parts of cards, and Ray has none" in refused.log
    assert "[ROUND" not in refused.log
    assert "init-args-num-gpus=1" in str(flower.failure())


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_pool_of_workers_on_the_simulations_own_ray_gives_the_same(
    flower: LocalFlower, finished: Finished, tmp_path: Path
):
    two = {"worker.placement": "ray", "worker.num-workers": 2}
    pooled = run_app(flower, tmp_path, two, FEDERATION)
    assert flower.failure() is None, pooled.log[-6000:]
    (told,) = re.findall(r"The split worker listens on (\S+), (\S+)", pooled.log)
    assert len(set(told)) == 2
    assert pooled.perplexities == pytest.approx(finished.perplexities, rel=1e-4)


def at_home_in(home: Path) -> list[str]:
    """Processes of ours whose Flower has its home there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("FLWR_HOME") == str(home):
                found.append(process.name())
    return found


def test_nothing_is_left_running(tmp_path: Path):
    home = tmp_path / "flwr"
    with local_superlink(home, simulation=True):
        assert at_home_in(home)
    assert at_home_in(home) == []
