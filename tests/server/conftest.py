"""Rounds of a tiny model, with a real worker and Flower's log."""

from tests.strategies.fixtures import flower_log as flower_log
from tests.strategies.fixtures import model as model
from tests.strategies.fixtures import running as running
from tests.strategies.fixtures import worker as worker
