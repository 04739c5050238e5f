"""``hsplit plan``: who would get which cut and ranks, without training anything."""

import json

from ..errors import ConfigError
from ..settings import Link, Planning, Settings, Simulation, Training, setting
from .field_option import OtherDefault
from .model_offer import MODEL
from .options import Chosen, Offer, Options

EPILOG = (
    "Not counted, because the cost model takes the whole batch to be sent at once, and gradients "
    "to be as wide as hidden states: training.micro-batch-size, link.in-flight and "
    "link.wire-gradient-type."
)


class Asked(Settings):
    """What only a plan that is made to be looked at is asked for."""

    clients: int = setting(0, "Number of clients; 0 is as many as the fleet has.", ge=0)
    worker_memory_gb: float | None = setting(
        None,
        "Memory of the split worker, its half of the model included, which it loads from --min-cut "
        "on. A run takes what its machine has; none said is no limit, and the table says what is "
        "needed.",
        unit="GB of 10^9 bytes",
        gt=0,
    )
    exact: bool = setting(
        False, "Print JSON, with exact bytes and the rank of every weight, instead of tables."
    )


OPTIONS = Options(
    MODEL,
    Offer(
        group=Simulation,
        fields=("fleet",),
        defaults={
            "fleet": OtherDefault(
                value="heterogeneous", reason="a plan needs devices, and no machine is asked here"
            )
        },
    ),
    Offer(
        group=Training,
        fields=("batch_size", "sequence_length", "labels", "seed"),
        names={
            "batch_size": ("--batch-size", "--batch"),
            "sequence_length": ("--sequence-length", "--seq"),
        },
    ),
    Offer(group=Link, fields=("wire_type",)),
    Offer(
        group=Planning,
        # Without what decides when a run plans anew.
        fields=(
            "targets",
            "min_cut",
            "max_cut",
            "makespan_slack",
            "max_rank",
            "rank_unit",
            "gain_base",
            "worker_session_rank",
            "checkpointing",
        ),
    ),
    Offer(group=Asked, names={"exact": ("--json",)}),
)


@OPTIONS.command
def command(chosen: Chosen) -> None:
    """Say who would get which cut and ranks.

    Plans a step of a fleet: cuts, ranks, memory, seconds and bytes of every client, what holds the
    step up, and what a client lacks that cannot take part. Of the model only config.json is read.
    The plan is that of a run's first round, when nothing is known yet of the importance of weights
    and there is no global adapter. Exit status 1 if nobody fits.
    """
    # These bring torch, for which neither help nor a mistyped option need wait.
    from .make_plan import make_report
    from .plan_report import as_json
    from .plan_tables import print_tables

    settings, asked = chosen.run_settings(), chosen[Asked]
    try:
        report = make_report(settings, asked.clients, asked.worker_memory_gb)
    except ConfigError as error:
        raise ConfigError(OPTIONS.spoken(str(error))) from error
    if asked.exact:
        print(json.dumps(as_json(report), indent=2))
    else:
        print_tables(report)
