"""The client's half of a round, and the functions that fit into any ``ClientApp``.

The functions are in :mod:`hsplit_flower.client.app`; importing this package does not import flwr.
"""

from ..batches import Batch as Batch
from .local_round import LocalRound as LocalRound
from .round_loop import Outcome as Outcome
