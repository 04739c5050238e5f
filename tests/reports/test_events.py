"""What TensorBoard would read of a run, while it goes on and when it went on from before."""

import sys
from pathlib import Path

import pytest

from hsplit_flower.errors import ConfigError, StorageError
from hsplit_flower.reports.client_records import PersonalisedClient
from hsplit_flower.reports.events import EVENTS_FOLDER, TensorBoardEvents, scalars
from hsplit_flower.reports.metrics import PersonalisationLine
from tests.reports.page.runs import run_of, void_run

pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / EVENTS_FOLDER))
    found.Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(each.step, each.value) for each in found.Scalars(tag)] for tag in tags}


def test_lines_are_there_as_soon_as_they_are_added(tmp_path: Path) -> None:
    run = run_of(num_rounds=2)
    events = TensorBoardEvents(tmp_path)
    for line in run.lines:
        events.add(line)
    seen = read(tmp_path)
    events.close()
    assert seen["perplexity/server"] == [(0, 48.0), (1, 24.0), (2, 12.0)]
    assert seen["perplexity/clinic-turku"] == [(1, 25.5), (2, 12.75)]
    assert seen["sum of ranks/clinic-porto"] == [(1, 64.0), (2, 128.0)]
    assert seen["to and from the worker, bytes/st-mary"] == [(1, 23e6), (2, 23e6)]


def test_a_run_that_goes_on_hides_what_was_written_of_later_rounds(tmp_path: Path) -> None:
    for last, number in ((-1, 5.0), (1, 7.0)):
        events = TensorBoardEvents(tmp_path, goes_on_after=last)
        for line in run_of(num_rounds=3).lines:
            if line.server_round > last:
                events.add(line.model_copy(update={"perplexity": number}))
        events.close()
    steps = [(0, 5.0), (1, 5.0), (2, 7.0), (3, 7.0)]
    assert read(tmp_path)["perplexity/server"] == steps


def test_nothing_is_made_before_the_first_line(tmp_path: Path) -> None:
    TensorBoardEvents(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_of_clients_that_did_not_finish_there_are_no_numbers() -> None:
    assert set(scalars(void_run().lines[0])) == {
        *("round/seconds", "round/simulated seconds", "round/drift of importance", "round/clients")
    }


def test_what_own_adapters_gained_is_told_by_client() -> None:
    line = PersonalisationLine(
        server_round=3,
        clients={
            "a": PersonalisedClient(perplexity_before=8.0, perplexity_after=6.5),
            "b": PersonalisedClient(perplexity_before=9.0, dropped="its disk is full"),
        },
    )
    assert scalars(line) == {
        "perplexity before its own adapter/a": 8.0,
        "perplexity with its own adapter/a": 6.5,
        "perplexity before its own adapter/b": 9.0,
    }


def test_where_it_is_not_installed_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"hsplit-flower\[tensorboard\]"):
        TensorBoardEvents(tmp_path)


def test_where_it_cannot_be_written_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FOLDER).write_text("a file is there")
    with pytest.raises(StorageError, match="events cannot be written: File exists"):
        TensorBoardEvents(tmp_path).add(void_run().lines[0])
