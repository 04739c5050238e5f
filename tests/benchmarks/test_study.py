"""The study: who can take part, what the clock says, and how claims are judged."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.study import pictures
from benchmarks.study.arms import HETEROGENEOUS, HOMOGENEOUS, ROOM, ROWS, as_planned
from benchmarks.study.benchmark import figures
from benchmarks.study.budgets import parts, whole_memory
from benchmarks.study.claims import OPEN, REFUTED, REPRODUCED, Finding, findings
from benchmarks.study.clock import round_cost
from benchmarks.study.fleet import GIGABYTE, LLAMA, MEMORY_GB, Link, costs_of
from benchmarks.study.results import lines_of, read
from benchmarks.study.scores import kept_scores
from benchmarks.study.summary import Line, reached_after
from benchmarks.study.tables import claims, methods, scores
from benchmarks.study.tuning import best_rate, climb
from benchmarks.trial import Examples, Setting, base_model, federation
from benchmarks.trial.client import train_client
from benchmarks.trial.federation import architecture_of
from benchmarks.trial.in_turn import train_in_turn
from hsplit_flower.methods import FULL_TUNING, METHODS, SPLIT_LORA, MethodState
from tests.benchmarks.test_trial import PLAIN

GRID = (1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3)
RANK = 4.0


@given(best=st.sampled_from(GRID))
def test_the_climb_finds_the_best_rate_of_a_valley_and_has_tried_its_neighbours(
    best: float,
) -> None:
    def measure(wanted: Mapping[str, set[float]]) -> dict[str, dict[float, float]]:
        return {
            name: {rate: abs(math.log(rate / best)) for rate in rates}
            for name, rates in wanted.items()
        }

    (losses,) = climb({"one": GRID}, measure).values()
    assert best_rate(losses) == best
    place = GRID.index(best)
    assert set(GRID[max(0, place - 1) : place + 2]) <= losses.keys()


def test_a_method_with_a_trial_missing_is_not_tuned() -> None:
    def measure(wanted: Mapping[str, set[float]]) -> dict[str, dict[float, float]]:
        # A lower rate is better, and the lowest were not run.
        return {name: {r: r for r in rates if r >= 2e-3} for name, rates in wanted.items()}

    assert climb({"one": GRID}, measure) == {}


@given(
    rounds=st.lists(st.floats(1.5, 100.0), min_size=2, max_size=6),
    share=st.floats(0.01, 0.99),
)
def test_where_a_curve_comes_down_lies_between_the_points_around_it(
    rounds: list[float], share: float
) -> None:
    wanted = min(rounds) + share * (rounds[0] - min(rounds))
    place = reached_after(rounds, range(len(rounds)), wanted)
    if wanted >= rounds[0]:
        return
    after = next(index for index, found in enumerate(rounds) if index and found <= wanted)
    assert after - 1 <= place <= after
    assert reached_after(rounds, range(len(rounds)), min(rounds) / 2) == math.inf


def test_budgets_of_the_paper_hold_a_part_of_the_model_and_hardly_ever_the_whole() -> None:
    costs = costs_of(LLAMA)
    for name, row in METHODS.items():
        for memory in MEMORY_GB.values():
            who = parts(costs, row, memory)
            assert all(part.memory_bytes <= memory[i] * GIGABYTE for i, part in who.items()), name
            assert len(who) == 5 or not row.is_split
    assert whole_memory(costs, FULL_TUNING) > 12 * 6.7e9
    assert [*parts(costs, METHODS["het-lora"], MEMORY_GB[HETEROGENEOUS])] == [4]
    assert not parts(costs, METHODS["het-lora"], MEMORY_GB[HOMOGENEOUS])


def test_a_round_takes_at_least_what_its_bytes_take_the_link() -> None:
    costs, slow, fast = costs_of(LLAMA), Link(mbps=10), Link(mbps=1000)
    for name in ("hsplit-lora", "split-lora", "fed-lora", "flora", "full-tuning"):
        at = {
            link: round_cost(costs, ROWS[name], [RANK] * 2, RANK, num_steps=3, link=link)
            for link in (slow, fast)
        }
        more = slow.seconds(at[slow].client_bytes) - fast.seconds(at[fast].client_bytes)
        slower_by = at[slow].seconds - at[fast].seconds
        if ROWS[name].is_split:
            # On a slow link deeper cuts cost no time that counts.
            assert slower_by >= 0.99 * more
        else:
            assert slower_by == pytest.approx(more, rel=0.01)
    whole = round_cost(costs, FULL_TUNING, [0.0] * 2, 0.0, num_steps=1)
    assert whole.client_bytes == pytest.approx(2 * 13.5e9, rel=0.01)


@pytest.mark.long
def test_a_device_that_is_left_out_trains_nothing_and_lowers_no_rank(examples: Examples) -> None:
    small = replace(PLAIN, budgets=(2.0, 3.5))
    setting = as_planned(small, METHODS["fed-lora"], {1: 3.0}, rate=4e-3, seed=3)
    fresh = MethodState.fresh(architecture_of("llama-tiny").weights)
    results = federation.trained(base_model("llama-tiny"), setting, examples, fresh, 1)
    assert [*results] == [1]
    assert {update.rank for update in results[1].updates.values()} == {3}


@pytest.mark.long
def test_steps_in_turn_move_one_adapter_above_the_cut_and_each_clients_own_below(
    examples: Examples,
) -> None:
    setting: Setting = replace(PLAIN, method=SPLIT_LORA, budgets=(2.0, 2.0), local_steps=2)
    base, fresh = base_model("llama-tiny"), MethodState.fresh(architecture_of("llama-tiny").weights)
    weights = architecture_of("llama-tiny").weights
    ranks = dict.fromkeys((weight.name for weight in weights), 2)
    run = (base, setting, examples, fresh)
    both = train_in_turn(*run, {0: ranks, 1: ranks}, server_round=1)
    for weight in weights:
        first, second = (both[client].updates[weight.name].dense() for client in (0, 1))
        assert torch.equal(first, second) == (weight.block >= 1)
    alone = train_in_turn(*run, {0: ranks}, server_round=1)[0]
    plainly = train_client(*run, ranks, server_round=1, client=0)
    for name, update in alone.updates.items():
        torch.testing.assert_close(update.dense(), plainly.updates[name].dense())


def test_a_verdict_is_of_all_seeds() -> None:
    wanted = {(1.1, 1.2): REPRODUCED, (0.9, 0.8): REFUTED, (0.9, 1.2): OPEN}
    for values, verdict in wanted.items():
        assert Finding(claim="", published="", values=values).verdict == verdict


def test_a_method_that_takes_twice_the_rounds_is_found_to() -> None:
    curve = [64.0, 32.0, 16.0, 8.0, 4.0]
    ours = Line(
        seeds=[0],
        perplexity=[curve[::2]],
        seconds=[[0.0, 1.0, 2.0]],
        client_bytes=[[0.0, 1.0, 2.0]],
    )
    theirs = replace(
        ours,
        perplexity=[curve],
        seconds=[[0.0, 3.0, 6.0, 9.0, 12.0]],
        client_bytes=[[0.0] * 5],
    )
    lines = {"hsplit-lora": ours, "het-lora": theirs}
    found = {one.claim: one for one in findings(LLAMA, {HETEROGENEOUS: lines, HOMOGENEOUS: lines})}
    rounds, seconds = (
        found[f"{HETEROGENEOUS}: HetLoRA takes longer, in {what}"]
        for what in ("rounds", "simulated seconds")
    )
    assert rounds.values == [pytest.approx(2.0)]
    assert seconds.values == [pytest.approx(6.0)]


@pytest.mark.long
def test_what_is_committed_can_be_drawn_and_told(tmp_path: Path) -> None:
    results = read()
    for base, content in results["bases"].items():
        assert list(claims(base, content))
        for fleet in (HETEROGENEOUS, HOMOGENEOUS):
            cells = content["cells"][ROOM][fleet]
            assert len(list(methods(cells))) == len(ROWS) + 2
            assert lines_of(cells).keys() <= ROWS.keys()
    assert list(figures(results))
    pictures.main([str(tmp_path)])
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert len(drawn) == 10
    for path in tmp_path.iterdir():
        assert 1_000 < path.stat().st_size < 200_000, path.name


def test_the_models_that_are_scored_are_those_of_the_trials() -> None:
    lines = lines_of(read()["bases"]["llama-tiny"]["cells"][ROOM][HETEROGENEOUS])
    kept = kept_scores()
    for name, row in kept.items():
        final = lines[name].final[lines[name].seeds.index(0)]
        # Another machine rounds otherwise, and training makes more of it.
        assert row["dev_perplexity"] == pytest.approx(final, rel=1e-2), name
    assert len({(row["inputs"], row["references"]) for row in kept.values()}) <= 1
    assert sum("not run" in row for row in scores(kept)) == len(ROWS) - len(kept)


def test_a_method_without_scores_is_marked(tmp_path: Path) -> None:
    table = list(scores(kept_scores(tmp_path / "none.jsonl")))
    assert sum("not run" in row for row in table) == len(ROWS) == len(table) - 2
