"""The table of docs/reliability.md is the catalogue's."""

from pathlib import Path

from benchmarks.faults.catalogue import FAULTS, How, Party
from benchmarks.faults.moments import Place
from benchmarks.faults.table import fault_table

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_the_page_has_the_table_as_it_is_made() -> None:
    assert fault_table() in PAGE.read_text(encoding="utf-8"), "python -m benchmarks.faults"


def test_every_party_and_way_is_tried_and_processes_are_killed_at_every_moment() -> None:
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)
    assert {fault.party for fault in FAULTS} == set(Party)
    assert {fault.how for fault in FAULTS} == set(How)
    kills = {(fault.party, fault.place) for fault in FAULTS if fault.how is How.KILL}
    for party in (Party.CLIENT, Party.WORKER, Party.SERVER):
        assert {place for who, place in kills if who is party} == set(Place)
