"""What other libraries say at every start, and nobody who runs ours can do anything about."""

import logging
import warnings


def leave_out() -> None:
    """Not have it in the logs of our processes, and of Flower's that load an app of ours."""
    # Of bitsandbytes, which PEFT loads: on some processors it misses a kernel that we do without.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # Of torch, to itself; Flower's simulation has Python show all of this kind.
    warnings.filterwarnings("ignore", r"`torch\.jit\.script_method` is", DeprecationWarning)
    # Of Ray, about a change that makes no difference to clients that ask it for no card.
    warnings.filterwarnings("ignore", r"Tip: In future versions of Ray", FutureWarning)
