"""``hsplit certificates``: an authority and certificates of its own, for a trial."""

from pathlib import Path

from ..settings import Settings, setting
from .make_certificates import CERTFILE, KEYFILE, made_certificates
from .options import Chosen, Offer, Options

MOST_DAYS = 825


class Trial(Settings):
    """What is made, and where."""

    folder: str = setting("certificates", "Folder that the files are made in.")
    hosts: tuple[str, ...] = setting(
        (),
        "Names and addresses that the SuperLink and the workers are reached by, separated by "
        "commas; those of the loopback are added.",
        wanted="names and addresses",
    )
    clients: tuple[str, ...] = setting(
        (),
        "Names of clients that get a certificate of their own, for workers with --mutual-tls.",
        wanted="names",
    )
    days: int = setting(
        30, "How long they are valid.", unit="days", wanted=f"1 to {MOST_DAYS}", ge=1, le=MOST_DAYS
    )


OPTIONS = Options(Offer(group=Trial))


@OPTIONS.command
def command(chosen: Chosen) -> None:
    """Make an authority and certificates for a trial.

    For channels between clients, SuperLink and workers, until real certificates are there. No file
    that exists is overwritten.
    """
    trial = chosen[Trial]
    folder = Path(trial.folder).resolve()
    made = made_certificates(folder, trial.hosts, trial.clients, num_days=trial.days)
    print("\n".join(f"made {path}" for path in made))
    print(_what_to_do(folder, trial))


def _what_to_do(folder: Path, trial: Trial) -> str:
    ca, own, key = folder / "ca.pem", folder / f"server.{CERTFILE}", folder / f"server.{KEYFILE}"
    lines = [
        "",
        "What to do with them (the keys, *.key, stay on the machine that uses them; nobody but you "
        "needs ca.key, which makes further ones):",
        "",
        "# the SuperLink, and a worker of its own",
        f"flower-superlink --ssl-ca-certfile {ca} --ssl-certfile {own} --ssl-keyfile {key} …",
        f"hsplit worker --ssl-ca-certfile {ca} --ssl-certfile {own} --ssl-keyfile {key} …",
        "# a run whose worker is in the ServerApp, or on Ray",
        f'flwr run … --run-config \'worker.ssl-ca-certfile="{ca}" '
        f'worker.ssl-certfile="{own}" worker.ssl-keyfile="{key}" …\'',
        "# a run whose worker has a machine of its own",
        f'flwr run … --run-config \'worker.address="HOST:8600" worker.ssl-ca-certfile="{ca}" …\'',
        "# on each client, with its own copy of ca.pem",
        f"flower-supernode --root-certificates {ca} …",
    ]
    if trial.clients:
        name = trial.clients[0]
        lines += [
            "# a client whose worker has --mutual-tls",
            f'flower-supernode … --node-config \'ssl-certfile="{folder / name}.{CERTFILE}" '
            f'ssl-keyfile="{folder / name}.{KEYFILE}" …\'',
        ]
    return "\n".join(lines)
