"""Which cut and ranks each client gets (ARMSC), and when that is decided anew."""

from .cuts import ClientOptions as ClientOptions
from .cuts import WorkerOptions as WorkerOptions
from .cuts import choose_cuts as choose_cuts
from .cuts import makespan as makespan
from .explain import budget_text as budget_text
from .objective import covered_importance as covered_importance
from .objective import improvement as improvement
from .objective import objective as objective
from .planner import plan as plan
from .planner import planned_bytes as planned_bytes
from .planner import shortfalls as shortfalls
from .ranks import choose_ranks as choose_ranks
from .ranks import rank_gain as rank_gain
from .replanning import Decision as Decision
from .replanning import FleetChanges as FleetChanges
from .replanning import drift as drift
from .replanning import fleet_changes as fleet_changes
from .replanning import should_replan as should_replan
from .standing_plan import StandingPlan as StandingPlan
from .step_time import Bottleneck as Bottleneck
from .step_time import StepTime as StepTime
from .step_time import bottleneck as bottleneck
from .step_time import step_times as step_times
from .worker_share import session_need_bytes as session_need_bytes
