"""The split worker: service, scheduler, executor, stage, and the sessions that they serve."""

from .session import Sessions as Sessions
from .stage import Stage as Stage
from .worker import SplitWorker as SplitWorker
