"""A run of an app: its settings, its rounds from first to last, and the folder that it leaves.

What an app brings is its data: the batches of a client, and what the server evaluates on.
"""

from .app_settings import AppSettings as AppSettings
from .client_app import client_app as client_app
from .federation import run_rounds as run_rounds
from .federation import strategy_of as strategy_of
from .node import is_simulated as is_simulated
from .node import partition_id_of as partition_id_of
from .node import partition_of as partition_of
from .run_config import RunConfig as RunConfig
from .run_record import RunRecord as RunRecord
