"""From a client's reply to the values that a round is made of; what cannot be used says why."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flwr.app import Message, MetricRecord, RecordDict
from torch import Tensor

from ..adapters import LowRank, from_state_dict
from ..errors import AdapterError, HSplitError
from ..importance import LARGEST_SCORE, check_finite
from ..metrics import TokenLoss
from ..transport.traffic import Traffic
from ..types import DeviceProfile
from ..wire.error_text import read_error
from ..wire.factors import SessionResult
from ..wire.instructions import IMPORTANCE_KEY, METRICS_KEY, PROFILE_KEY
from .client_registry import read_count, read_profile


@dataclass(frozen=True, kw_only=True)
class TrainReply:
    """What a client sends back: its side of the update, its importance, its measurements."""

    loss: TokenLoss
    first_loss: TokenLoss = field(default_factory=TokenLoss)
    last_loss: TokenLoss = field(default_factory=TokenLoss)
    num_steps: int
    num_batch_tokens: int
    setup_seconds: float = 0.0
    seconds: float
    traffic: Traffic = field(default_factory=Traffic)
    peak_bytes: float = 0.0
    profile: DeviceProfile | None = None
    updates: Mapping[str, LowRank] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    importance: Mapping[str, float] = field(default_factory=dict)


def read_reply(reply: Message, *, is_training: bool, has_adapters: bool = True) -> TrainReply:
    """The values of a reply, with adapters or all parameters where it is of training.

    Raises
    ------
    HSplitError
        If the reply is an error (an `OutOfBudgetError` where the client ran out of its budget), or
        lacks something, or holds what is not a finite number, or one beyond all measure.
    """
    if reply.has_error():
        raise read_error(reply.error.reason or f"error {reply.error.code}")
    try:
        measured = _measured(reply.content.metric_records[METRICS_KEY])
        if not is_training:
            return measured
        return _with_training(measured, reply.content, has_adapters=has_adapters)
    except HSplitError:
        raise
    except Exception as error:
        # Whatever it is: arrays are bytes in numpy's formats, whose readers raise as they please
        # (BadZipFile, TokenError, MemoryError, ...), and one client must not end everybody's run.
        raise HSplitError(
            f"its reply cannot be read ({error!r}): a function of hsplit_flower is wanted there"
        ) from error


def _measured(metrics: MetricRecord) -> TrainReply:
    """What a client says of its steps."""
    told = TrainReply(
        loss=_loss(metrics, ""),
        first_loss=_loss(metrics, "first-"),
        last_loss=_loss(metrics, "last-"),
        num_steps=_count(metrics, "num-steps"),
        num_batch_tokens=_count(metrics, "num-batch-tokens"),
        setup_seconds=_number(metrics, "setup-seconds"),
        seconds=_number(metrics, "seconds"),
        traffic=Traffic(
            up_bytes=_count(metrics, "worker-up-bytes"),
            down_bytes=_count(metrics, "worker-down-bytes"),
            worker_seconds=_number(metrics, "worker-seconds"),
            link_seconds=_number(metrics, "link-seconds"),
        ),
        peak_bytes=_number(metrics, "peak-bytes") if "peak-bytes" in metrics else 0.0,
    )
    numbers = {
        "loss": told.loss.loss_sum,
        "loss of its first steps": told.first_loss.loss_sum,
        "loss of its last steps": told.last_loss.loss_sum,
        "setup-seconds": told.setup_seconds,
        "seconds": told.seconds,
        "worker-seconds": told.traffic.worker_seconds,
        "link-seconds": told.traffic.link_seconds,
        "peak-bytes": told.peak_bytes,
    }
    check_finite(numbers, most=LARGEST_SCORE)
    return told


def _with_training(measured: TrainReply, content: RecordDict, *, has_adapters: bool) -> TrainReply:
    """And what it has trained and scored, and what its device has by now."""
    arrays = next(iter(content.array_records.values()))
    scores = content.config_records[IMPORTANCE_KEY]
    described = content.config_records.get(PROFILE_KEY)
    importance = dict(zip(_texts(scores["weights"]), _numbers(scores["scores"]), strict=True))
    check_finite(importance, most=LARGEST_SCORE)
    tensors = arrays.to_torch_state_dict()
    return replace(
        measured,
        profile=read_profile(described) if described is not None else None,
        updates=from_state_dict(tensors) if has_adapters else {},
        weights={} if has_adapters else {name: one.float() for name, one in tensors.items()},
        importance=importance,
    )


def join_halves(below: TrainReply, above: SessionResult) -> TrainReply:
    """A client's reply with what its session on the worker has trained.

    Raises
    ------
    HSplitError
        If the two have not taken the same steps, or none, or have seen no token, or if a score of
        the worker's is not a number to reckon with.
    """
    if above.num_steps != below.num_steps:
        raise HSplitError(
            f"it took {below.num_steps} steps, its session on the worker {above.num_steps}: "
            "the halves do not belong together"
        )
    check_steps(below)
    # The worker computed these, from what the client sent it.
    check_finite(above.importance, most=LARGEST_SCORE)
    return replace(
        below,
        updates={**below.updates, **above.updates},
        importance={**above.importance, **below.importance},
    )


def check_steps(reply: TrainReply) -> None:
    """Refuse a reply that is of no step, or of no token.

    Raises
    ------
    HSplitError
        Which of the two.
    """
    if not reply.num_steps:
        raise HSplitError("it took no step")
    if not reply.loss.num_tokens:
        raise HSplitError("its loss is of no token")


def check_side(reply: TrainReply, ranks: Mapping[str, int], names: set[str]) -> None:
    """Refuse updates or scores of other weights than this side of the cut has, or other ranks.

    Raises
    ------
    AdapterError
        Naming a weight that is not as planned.
    """
    wanted = {name: ranks[name] for name in names if ranks.get(name, 0)}
    got = {name: update.rank for name, update in reply.updates.items()}
    if got != wanted:
        different = sorted(n for n in got.keys() | wanted.keys() if got.get(n) != wanted.get(n))
        name = different[0]
        raise AdapterError(
            f"{len(different)} weights have other ranks than planned, for instance {name!r}: "
            f"{got.get(name, 0)} for {wanted.get(name, 0)}"
        )
    if strangers := sorted(set(reply.importance) - names):
        raise AdapterError(
            f"it scores weights that it does not hold, for instance {strangers[0]!r}"
        )


def _loss(metrics: MetricRecord, which: str) -> TokenLoss:
    return TokenLoss(
        loss_sum=_number(metrics, f"{which}loss-sum"),
        num_tokens=_count(metrics, f"{which}num-tokens"),
    )


def _number(record: Mapping[str, object], key: str) -> float:
    value = record[key]
    if not isinstance(value, (int, float)):
        raise TypeError(f"{key} is {value!r}")
    return float(value)


def _count(record: Mapping[str, object], key: str) -> int:
    return read_count(_number(record, key), key)


def _texts(values: object) -> list[str]:
    if not isinstance(values, list):
        raise TypeError(f"a list of names is wanted, got {values!r}")
    return [str(value) for value in values]


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list):
        raise TypeError(f"a list of numbers is wanted, got {values!r}")
    return [float(value) for value in values]
