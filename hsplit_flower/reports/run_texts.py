"""What people read of a run, each a file that is made of what its folder holds."""

from collections.abc import Callable, Mapping
from typing import Final

from .clients_table import CLIENTS_FILE, clients_table
from .page import REPORT_FILE, page
from .run import Run
from .summary import SUMMARY_FILE, summary

RUN_TEXTS: Final[Mapping[str, Callable[[Run], str]]] = {
    SUMMARY_FILE: summary,
    CLIENTS_FILE: clients_table,
    REPORT_FILE: lambda run: page([run]),
}
"""By name of the file."""
