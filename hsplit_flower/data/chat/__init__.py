"""Conversations and texts: rows of a file, what of them is learnt, and rows that hold several.

The way of a row: `load_conversations`, `held_out_split`, `encode_conversations`, `pack`, and then
`batches` like any other examples. Nothing of a row's text stands in an error or in the log: it is
named by its file and line.
"""

from .conversation import Conversation as Conversation
from .conversation import Message as Message
from .counts import EncodingCounts as EncodingCounts
from .encode import EncodedConversations as EncodedConversations
from .encode import encode_conversations as encode_conversations
from .held_out import held_out_of_parts as held_out_of_parts
from .held_out import held_out_split as held_out_split
from .load import HELP_DESK as HELP_DESK
from .load import conversations_of as conversations_of
from .load import load_conversations as load_conversations
from .packing import PackedRow as PackedRow
from .packing import pack as pack
from .row_format import RowFormat as RowFormat
from .template import ChatTemplate as ChatTemplate
