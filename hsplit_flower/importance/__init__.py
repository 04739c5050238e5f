"""Which weights matter: important weight identification (IWI)."""

from .history import LARGEST_SCORE as LARGEST_SCORE
from .history import ImportanceHistory as ImportanceHistory
from .history import ImportanceReport as ImportanceReport
from .history import blend as blend
from .history import check_finite as check_finite
from .history import history_weight as history_weight
from .history import mean_scores as mean_scores
from .probe import gradient_weight_product as gradient_weight_product
from .probe import probing as probing
from .probe import scored as scored
