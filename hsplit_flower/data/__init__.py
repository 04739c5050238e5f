"""Data-to-text examples: where they come from, who holds them, how a model reads them.

The way of an example: `load_examples`, `partition` by `labels_of`, `encode_examples` with a prompt
format, `batches`. Knows nothing of splitting, clients or rounds. Importing it pulls in neither flwr
nor `datasets`; partitioning and hub data sets import them when they are used.
"""

from .batches import batches as batches
from .collated import collated as collated
from .collated import formatted as formatted
from .dataset import RESTAURANTS as RESTAURANTS
from .dataset import SPLITS as SPLITS
from .dataset import describe as describe
from .dataset import load_examples as load_examples
from .dataset import thinned as thinned
from .encode import EncodedExample as EncodedExample
from .encode import encode_examples as encode_examples
from .encode import encode_prompts as encode_prompts
from .encode import end_token_id as end_token_id
from .encode import pad_token_id as pad_token_id
from .encode import start_ids as start_ids
from .example import Example as Example
from .example import parse_meaning as parse_meaning
from .example import write_meaning as write_meaning
from .partition import labels_of as labels_of
from .partition import partition as partition
from .prompts import PROMPT_STYLES as PROMPT_STYLES
from .prompts import format_prompt as format_prompt
