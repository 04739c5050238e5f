"""From the clients' adapters to the global one: exactly, and as the methods we compare with do."""

from ..types import Dividing as Dividing
from .averaging import average_factors as average_factors
from .averaging import pad_and_average as pad_and_average
from .averaging import stack as stack
from .contribution import ClientUpdate as ClientUpdate
from .contribution import Contribution as Contribution
from .contribution import check_client as check_client
from .momentum import carried as carried
from .momentum import next_velocities as next_velocities
from .noise_free import Aggregation as Aggregation
from .noise_free import aggregate as aggregate
from .noise_free import aggregate_adapters as aggregate_adapters
from .svd import dense_svd as dense_svd
