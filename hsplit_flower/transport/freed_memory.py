"""What becomes of memory that was freed in a process that takes and sends large messages.

A message of 8 MB is copied some ten times on its way, by threads that each have a pool of the C
library's. By default such a pool gives 16 MB back to the system as soon as they are free, and asks
for them again with the next message, page by page: half of the time that the message takes. So one
pool serves all threads and keeps what it has, until somebody gives it back.

glibc has these calls; where another C library is, nothing is changed.
"""

import ctypes
from typing import Final

KEPT_BYTES: Final = 2**28
"""What stays with the process until it is given back: the copies of a message of 64 MB."""
_OWN_PAGES_BYTES: Final = 2**25
"""From here on memory is the system's own again as soon as it is freed; glibc allows no more."""
# Of mallopt, in malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Have threads that begin from now on share the pools that there are, which keep what is freed.

    Memory that the process has mapped before stays as it is. Where this comes before any thread
    begins, there is one pool. Others may be there already, and of each of those up to 64 MB at its
    end cannot be given back: the C library does so of the first one alone.
    """
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose is not None:
        choose(_ARENA_MAX, 1)
        choose(_MMAP_THRESHOLD, _OWN_PAGES_BYTES)
        choose(_TRIM_THRESHOLD, KEPT_BYTES)


def give_freed_memory_back() -> None:
    """Let the system have all that is free in this process's pools."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)
