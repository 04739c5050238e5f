"""The ServerApp's side of a round: who takes part, with which plan, and what comes of it."""

from .client_report import ClientReport as ClientReport
from .evaluation import ServerEvaluation as ServerEvaluation
from .preflight import is_deployed as is_deployed
from .round_report import EvaluationReport as EvaluationReport
from .round_report import RoundReport as RoundReport
from .state import RunState as RunState
