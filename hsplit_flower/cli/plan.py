"""``hsplit plan``: who would get which cut and ranks, without training anything.

What is not set is as in the app (``apps/nlg/pyproject.toml``), so that the plan is that of its run.
"""

import argparse
import json
import math
from typing import Any

from ..types import Labels, WireType
from .limits import Limit, at_least, out_of_limits, refuse
from .model_options import add_model_options

FLEETS = ("homogeneous", "heterogeneous", "paper-llama2-7b", "jetson-and-laptops")

DESCRIPTION = """Plan a step of a fleet: cuts, ranks, memory, seconds and bytes of every client,
what holds the step up, and what a client lacks that cannot take part. Of the model only config.json
is read. The defaults are the app's, and the plan is that of a run's first round, when nothing is
known yet of the importance of weights and there is no global adapter. Exit status 1 if nobody
fits."""

EPILOG = """Not counted, because the cost model takes the whole batch to be sent at once, and
gradients to be as wide as hidden states: the app's micro-batch-size, in-flight and
wire-gradient-type."""

LIMITS = {
    "clients": at_least(0),
    "seed": at_least(0),
    "batch": at_least(1),
    "seq": at_least(1),
    "max_rank": at_least(1),
    "rank_unit": at_least(1),
    "min_cut": at_least(1),
    "worker_session_rank": at_least(0),
    # Infinite is the default: no limit.
    "worker_memory_gb": Limit(wanted="a positive number", holds=lambda value: value > 0),
}


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "plan",
        help="say who would get which cut and ranks",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add_model_options(parser)
    _add_fleet(parser)
    _add_workload(parser)
    _add_limits(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON, with exact bytes and the rank of every weight, instead of tables",
    )
    parser.set_defaults(run=run)


def _add_fleet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fleet",
        default="heterogeneous",
        help=f"what the clients have: {', '.join(FLEETS)}, the path of a .toml file, or a list "
        "with an item for each client: memory (4GB,600MB; 1 GB is 10^9 bytes) or its share of what "
        "training the whole model needs (0.25,0.5,1) (default: %(default)s)",
    )
    parser.add_argument(
        "--clients",
        type=int,
        default=0,
        help="number of clients (default: as many as the fleet has)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the links, and of the memory of paper-llama2-7b, which chance decides; a "
        "run takes its own (default: %(default)s)",
    )


def _add_workload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch", type=int, default=16, help="examples in a step (default: %(default)s)"
    )
    parser.add_argument(
        "--seq",
        type=int,
        default=192,
        help="length of the longest example in tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--wire-type",
        choices=[kind.value for kind in WireType],
        help="type of hidden states and gradients on the wire; int8 is one byte a value and four "
        "a token (default: that of --dtype)",
    )
    parser.add_argument(
        "--labels",
        default=Labels.SERVER.value,
        choices=[labels.value for labels in Labels],
        help="who computes the loss, and so sees the labels (default: %(default)s)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-rank",
        type=int,
        default=16,
        help="highest rank that a weight's adapter may have (default: %(default)s)",
    )
    parser.add_argument(
        "--rank-unit",
        type=int,
        default=1,
        help="ranks are 0 and the multiples of this number (default: %(default)s)",
    )
    parser.add_argument(
        "--min-cut",
        type=int,
        default=1,
        help="fewest blocks of the model on a client (default: %(default)s)",
    )
    parser.add_argument(
        "--worker-session-rank",
        type=int,
        default=4,
        help="memory of a client's adapters on the split worker, as the rank that it would give to "
        "every weight there; 0 shares the worker's memory among all (default: %(default)s)",
    )
    parser.add_argument(
        "--worker-memory-gb",
        type=float,
        default=math.inf,
        help="memory of the split worker in GB of 10^9 bytes, its half of the model included, "
        "which it loads from --min-cut on; a run takes what its machine has "
        "(default: no limit, and the table says what is needed)",
    )


def run(options: argparse.Namespace) -> int:
    """Print the plan; its own errors say why nobody fits."""
    problems = out_of_limits(options, LIMITS)
    if 1 <= options.max_rank < options.rank_unit:
        problems.append(
            f"--rank-unit is {options.rank_unit}: at most --max-rank, {options.max_rank}, is wanted"
        )
    refuse(problems)
    # These bring torch, for which neither help nor a mistyped option need wait.
    from .make_plan import make_report
    from .plan_report import as_json, as_text

    report = make_report(options)
    print(json.dumps(as_json(report), indent=2) if options.json else as_text(report))
    return 0
