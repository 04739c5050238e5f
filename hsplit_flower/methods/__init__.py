"""The methods of training a language model across clients: a row each, and what a row says."""

from .advance import advance as advance
from .catalogue import FED_LORA as FED_LORA
from .catalogue import FLEX_LORA as FLEX_LORA
from .catalogue import FLORA as FLORA
from .catalogue import FULL_TUNING as FULL_TUNING
from .catalogue import HET_LORA as HET_LORA
from .catalogue import HSPLIT_LORA as HSPLIT_LORA
from .catalogue import HSPLIT_LORA_ONE_CUT as HSPLIT_LORA_ONE_CUT
from .catalogue import HSPLIT_LORA_PADDED as HSPLIT_LORA_PADDED
from .catalogue import HSPLIT_LORA_UNIFORM as HSPLIT_LORA_UNIFORM
from .catalogue import METHODS as METHODS
from .catalogue import SPLIT_LORA as SPLIT_LORA
from .comparison import Compared as Compared
from .comparison import compared as compared
from .method import Method as Method
from .rules import AggregationRule as AggregationRule
from .rules import CutRule as CutRule
from .rules import RankRule as RankRule
from .sent import sent_updates as sent_updates
from .sent import trained_ranks as trained_ranks
from .state import ClientResult as ClientResult
from .state import MethodState as MethodState
