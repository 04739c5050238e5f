"""Every fault of the catalogue, in a run of real processes: what it costs is what its row says."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.faults.catalogue import FAULTS, Fault, Loss, Party
from benchmarks.faults.run import disturbed_run
from hsplit_flower.adapters import LowRank
from tests.reference.aggregation import dense, relative_error

DISTURBED_ROUND = 2
# A fault that happens at once is over long before; what is slow here is a busy machine.
LONGEST_SECONDS = 240.0
RELATIVE_ERROR = 1e-6


def largest_error(got: Mapping[str, LowRank], wanted: Mapping[str, LowRank]) -> float:
    """Of all weights, relative to the wanted update."""
    return max(relative_error(got[name], dense(update)) for name, update in wanted.items())


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, id=str(f), marks=() if f.is_core else pytest.mark.long) for f in FAULTS],
)
def test_it_costs_what_its_row_says(
    fault: Fault, undisturbed: Mapping[str, LowRank], tmp_path: Path
) -> None:
    in_server = fault.party is Party.SERVER_WITH_WORKER
    with disturbed_run(tmp_path / "run", fault.channel, worker_runs_alone=not in_server) as run:
        run.fail_at(fault, DISTURBED_ROUND)
        run.start()
        run.wait(LONGEST_SECONDS)
        assert run.setup.moments.is_reached(DISTURBED_ROUND, fault.place), "nothing happened"
        reports, adapter = run.reports(), run.adapter()
    assert [report["server-round"] for report in reports] == [1, 2, 3]
    assert all(report["completed"] for report in reports)
    lost = [
        (report["server-round"], client["dropped"])
        for report in reports
        for client in report["clients"].values()
        if client["dropped"]
    ]
    error = largest_error(adapter, undisturbed)
    if fault.loss is Loss.NOTHING:
        assert not lost
        assert error <= RELATIVE_ERROR
    elif fault.loss is Loss.CLIENTS_ROUND:
        assert [server_round for server_round, _ in lost] == [DISTURBED_ROUND]
        assert error > RELATIVE_ERROR
    else:
        assert len(lost) <= 1
