"""What a client's reply says of its steps, by key."""

from ..wire.instructions import Instructions
from .round_loop import Outcome


def measurements(instructions: Instructions, outcome: Outcome) -> dict[str, int | float]:
    """Counts, summed losses in nats, seconds and bytes."""
    return {
        "num-examples": instructions.num_examples,
        "loss-sum": outcome.loss.loss_sum,
        "num-tokens": outcome.loss.num_tokens,
        "first-loss-sum": outcome.first_loss.loss_sum,
        "first-num-tokens": outcome.first_loss.num_tokens,
        "last-loss-sum": outcome.last_loss.loss_sum,
        "last-num-tokens": outcome.last_loss.num_tokens,
        "num-steps": outcome.num_steps,
        "num-batch-tokens": outcome.num_batch_tokens,
        "setup-seconds": outcome.setup_seconds,
        "seconds": outcome.seconds,
        "worker-seconds": outcome.traffic.worker_seconds,
        "link-seconds": outcome.traffic.link_seconds,
        "worker-up-bytes": outcome.traffic.up_bytes,
        "worker-down-bytes": outcome.traffic.down_bytes,
        "peak-bytes": outcome.peak_bytes,
    }
