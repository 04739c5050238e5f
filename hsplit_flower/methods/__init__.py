"""The methods of training a language model across clients: a row each, and what a row says."""

from .advance import advance as advance
from .catalogue import HSPLIT_LORA as HSPLIT_LORA
from .catalogue import METHODS as METHODS
from .catalogue import SPLIT_LORA as SPLIT_LORA
from .method import AggregationRule as AggregationRule
from .method import CutRule as CutRule
from .method import Method as Method
from .method import RankRule as RankRule
from .state import ClientResult as ClientResult
from .state import MethodState as MethodState
