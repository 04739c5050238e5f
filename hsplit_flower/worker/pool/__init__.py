"""Split workers as Ray actors, one a GPU; ray itself is imported when a pool is started."""

from .pool import WorkerPool as WorkerPool
