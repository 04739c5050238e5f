"""Every fault that is tried, a row each: who, when, how, and what it may cost."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from benchmarks.faults.moments import Place


class Party(Enum):
    """Who or what is disturbed."""

    CLIENT = "a client's process"
    WORKER = "a worker that runs alone"
    LINK = "the link to the worker"
    SERVER = "the ServerApp"
    SERVER_WITH_WORKER = "the ServerApp, with the worker in it"


class How(Enum):
    """What is done to it."""

    KILL = "`kill -9`"
    STOP = "stopped, and continued later"
    CUT = "connections reset and refused"
    HANG = "no byte gets through"
    SLOW = "every piece is late"
    GARBLE = "bytes arrive changed"


class Channel(Enum):
    """How clients, ServerApp and worker talk."""

    PLAIN = "plain"
    TLS = "TLS"
    MUTUAL_TLS = "mutual TLS"


class Loss(Enum):
    """What a fault costs beside time; no fault costs the run."""

    NOTHING = "nothing"
    CLIENTS_ROUND = "that client's part of the round"
    AT_MOST_CLIENTS_ROUND = (
        "nothing or, if the change is noticed late, a client's part of the round"
    )


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, and what may be lost by it.

    Parameters
    ----------
    party, how, place
        Who, how, and when in the round. What can be stopped or cut is so for ``seconds``; who is
        killed is started again at once, as its supervisor does.
    channel
        Over which the run talks.
    loss
        What is lost. Where it is nothing, the run ends with the adapter of an undisturbed one.
    is_core
        Whether it is tried by ``make test``; others are by ``make test-long``.
    """

    party: Party
    how: How
    place: Place
    channel: Channel = Channel.PLAIN
    loss: Loss = Loss.NOTHING
    seconds: float = 1.0
    is_core: bool = False

    def __str__(self) -> str:
        parts = (self.party, self.place, self.channel)
        return "-".join(part.name.lower() for part in parts) + f"-{self.how.name.lower()}"


def _rows() -> tuple[Fault, ...]:
    client, worker, link = Party.CLIENT, Party.WORKER, Party.LINK
    server, whole = Party.SERVER, Party.SERVER_WITH_WORKER
    kill, stop, cut, hang = How.KILL, How.STOP, How.CUT, How.HANG
    slow, garble = How.SLOW, How.GARBLE
    opening, first, step = Place.OPENING, Place.BEFORE_FIRST_STEP, Place.MID_STEP
    collecting, between = Place.COLLECTING, Place.BETWEEN_ROUNDS
    tls, mutual = Channel.TLS, Channel.MUTUAL_TLS
    lost, perhaps = Loss.CLIENTS_ROUND, Loss.AT_MOST_CLIENTS_ROUND
    return (
        Fault(party=client, how=kill, place=opening),
        Fault(party=client, how=kill, place=first, loss=lost),
        Fault(party=client, how=kill, place=step, loss=lost, is_core=True),
        Fault(party=client, how=kill, place=step, loss=lost, channel=mutual),
        Fault(party=client, how=kill, place=collecting),
        Fault(party=client, how=kill, place=between),
        Fault(party=client, how=stop, place=step),
        Fault(party=worker, how=kill, place=opening),
        Fault(party=worker, how=kill, place=first),
        Fault(party=worker, how=kill, place=step, is_core=True),
        Fault(party=worker, how=kill, place=step, channel=tls),
        Fault(party=worker, how=kill, place=step, channel=mutual),
        Fault(party=worker, how=kill, place=collecting),
        Fault(party=worker, how=kill, place=between),
        Fault(party=worker, how=stop, place=step),
        Fault(party=worker, how=stop, place=collecting),
        Fault(party=link, how=cut, place=opening),
        Fault(party=link, how=cut, place=first),
        Fault(party=link, how=cut, place=step),
        Fault(party=link, how=cut, place=step, channel=tls),
        Fault(party=link, how=cut, place=step, channel=mutual),
        Fault(party=link, how=cut, place=collecting),
        Fault(party=link, how=cut, place=between),
        Fault(party=link, how=hang, place=step),
        Fault(party=link, how=hang, place=collecting),
        Fault(party=link, how=slow, place=step, seconds=0.05),
        Fault(party=link, how=slow, place=step, seconds=0.05, channel=mutual),
        Fault(party=link, how=garble, place=step, loss=perhaps),
        Fault(party=link, how=garble, place=step, channel=tls),
        Fault(party=link, how=garble, place=collecting, channel=mutual),
        Fault(party=server, how=kill, place=opening),
        Fault(party=server, how=kill, place=first),
        Fault(party=server, how=kill, place=step),
        Fault(party=server, how=kill, place=step, channel=mutual),
        Fault(party=server, how=kill, place=collecting),
        Fault(party=server, how=kill, place=between),
        Fault(party=server, how=stop, place=step),
        Fault(party=whole, how=kill, place=step),
        Fault(party=whole, how=kill, place=between),
    )


FAULTS: Final = _rows()
