"""Every setting of a run, said once."""

from .planning import PlanSettings as PlanSettings
from .training import Training as Training
