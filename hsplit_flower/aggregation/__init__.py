"""From the clients' adapters to the global one: exactly, and as the methods we compare with do."""

from ..types import Dividing as Dividing
from .averaging import average_factors as average_factors
from .averaging import pad_and_average as pad_and_average
from .averaging import sparsity_weighted as sparsity_weighted
from .averaging import stack as stack
from .contribution import ClientUpdate as ClientUpdate
from .contribution import Contribution as Contribution
from .contribution import check_client as check_client
from .error_feedback import BoundedAdapter as BoundedAdapter
from .error_feedback import bounded as bounded
from .error_feedback import head_of as head_of
from .krum import krum as krum
from .momentum import next_velocity as next_velocity
from .noise_free import aggregate as aggregate
from .noise_free import aggregate_adapters as aggregate_adapters
from .noise_free import change as change
from .noise_free import check_clients as check_clients
from .proportion import Proportion as Proportion
from .proportion import limited as limited
from .proportion import lower_median as lower_median
from .proportion import proportions as proportions
from .svd import dense_svd as dense_svd
from .weight_average import check_weights as check_weights
from .weight_average import mean_of_weights as mean_of_weights
