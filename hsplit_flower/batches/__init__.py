"""The user's batches, on a client and on the server, and what they may be."""

from .batch import Batch as Batch
from .checked import checked as checked
