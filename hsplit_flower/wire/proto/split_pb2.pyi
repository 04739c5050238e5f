from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_BFLOAT16: _ClassVar[DataType]
    DATA_TYPE_FLOAT16: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_INT32: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_INT8_ROWS: _ClassVar[DataType]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_BFLOAT16: DataType
DATA_TYPE_FLOAT16: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_INT32: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_INT8_ROWS: DataType

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Payload(_message.Message):
    __slots__ = ("data_type", "shape", "data", "scales")
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    data_type: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    scales: bytes
    def __init__(self, data_type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ..., scales: _Optional[bytes] = ...) -> None: ...

class StepRequest(_message.Message):
    __slots__ = ("step", "forward", "backward", "extend", "goodbye", "settle", "micro_batch", "num_micro_batches")
    STEP_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_FIELD_NUMBER: _ClassVar[int]
    NUM_MICRO_BATCHES_FIELD_NUMBER: _ClassVar[int]
    step: int
    forward: Forward
    backward: Backward
    extend: Extend
    goodbye: Empty
    settle: Settle
    micro_batch: int
    num_micro_batches: int
    def __init__(self, step: _Optional[int] = ..., forward: _Optional[_Union[Forward, _Mapping]] = ..., backward: _Optional[_Union[Backward, _Mapping]] = ..., extend: _Optional[_Union[Extend, _Mapping]] = ..., goodbye: _Optional[_Union[Empty, _Mapping]] = ..., settle: _Optional[_Union[Settle, _Mapping]] = ..., micro_batch: _Optional[int] = ..., num_micro_batches: _Optional[int] = ...) -> None: ...

class Forward(_message.Message):
    __slots__ = ("hidden", "labels", "lengths", "mask", "train", "probe", "total_tokens", "positions", "squared_norm")
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    SQUARED_NORM_FIELD_NUMBER: _ClassVar[int]
    hidden: Payload
    labels: Payload
    lengths: Payload
    mask: Payload
    train: bool
    probe: bool
    total_tokens: int
    positions: Payload
    squared_norm: float
    def __init__(self, hidden: _Optional[_Union[Payload, _Mapping]] = ..., labels: _Optional[_Union[Payload, _Mapping]] = ..., lengths: _Optional[_Union[Payload, _Mapping]] = ..., mask: _Optional[_Union[Payload, _Mapping]] = ..., train: _Optional[bool] = ..., probe: _Optional[bool] = ..., total_tokens: _Optional[int] = ..., positions: _Optional[_Union[Payload, _Mapping]] = ..., squared_norm: _Optional[float] = ...) -> None: ...

class Backward(_message.Message):
    __slots__ = ("gradient",)
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    gradient: Payload
    def __init__(self, gradient: _Optional[_Union[Payload, _Mapping]] = ...) -> None: ...

class Settle(_message.Message):
    __slots__ = ("squared_norm",)
    SQUARED_NORM_FIELD_NUMBER: _ClassVar[int]
    squared_norm: float
    def __init__(self, squared_norm: _Optional[float] = ...) -> None: ...

class Extend(_message.Message):
    __slots__ = ("hidden", "mask", "parents", "begins", "num_choices")
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    NUM_CHOICES_FIELD_NUMBER: _ClassVar[int]
    hidden: Payload
    mask: Payload
    parents: Payload
    begins: bool
    num_choices: int
    def __init__(self, hidden: _Optional[_Union[Payload, _Mapping]] = ..., mask: _Optional[_Union[Payload, _Mapping]] = ..., parents: _Optional[_Union[Payload, _Mapping]] = ..., begins: _Optional[bool] = ..., num_choices: _Optional[int] = ...) -> None: ...

class StepReply(_message.Message):
    __slots__ = ("step", "loss", "hidden", "gradient", "next", "settled", "micro_batch", "worker_seconds", "squared_norm")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_FIELD_NUMBER: _ClassVar[int]
    WORKER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SQUARED_NORM_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: Loss
    hidden: Payload
    gradient: Payload
    next: NextTokens
    settled: Empty
    micro_batch: int
    worker_seconds: float
    squared_norm: float
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[_Union[Loss, _Mapping]] = ..., hidden: _Optional[_Union[Payload, _Mapping]] = ..., gradient: _Optional[_Union[Payload, _Mapping]] = ..., next: _Optional[_Union[NextTokens, _Mapping]] = ..., settled: _Optional[_Union[Empty, _Mapping]] = ..., micro_batch: _Optional[int] = ..., worker_seconds: _Optional[float] = ..., squared_norm: _Optional[float] = ...) -> None: ...

class Loss(_message.Message):
    __slots__ = ("loss_sum", "num_tokens", "gradient")
    LOSS_SUM_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    loss_sum: float
    num_tokens: int
    gradient: Payload
    def __init__(self, loss_sum: _Optional[float] = ..., num_tokens: _Optional[int] = ..., gradient: _Optional[_Union[Payload, _Mapping]] = ...) -> None: ...

class NextTokens(_message.Message):
    __slots__ = ("logits", "tokens", "log_sum")
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOG_SUM_FIELD_NUMBER: _ClassVar[int]
    logits: Payload
    tokens: Payload
    log_sum: Payload
    def __init__(self, logits: _Optional[_Union[Payload, _Mapping]] = ..., tokens: _Optional[_Union[Payload, _Mapping]] = ..., log_sum: _Optional[_Union[Payload, _Mapping]] = ...) -> None: ...

class Factors(_message.Message):
    __slots__ = ("weight", "b", "a")
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    A_FIELD_NUMBER: _ClassVar[int]
    weight: str
    b: Payload
    a: Payload
    def __init__(self, weight: _Optional[str] = ..., b: _Optional[_Union[Payload, _Mapping]] = ..., a: _Optional[_Union[Payload, _Mapping]] = ...) -> None: ...

class SessionTicket(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class StepCounts(_message.Message):
    __slots__ = ("steps", "num_tokens", "up_bytes", "down_bytes")
    class StepsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class UpBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class DownBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    STEPS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    UP_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.ScalarMap[int, int]
    num_tokens: int
    up_bytes: _containers.ScalarMap[int, int]
    down_bytes: _containers.ScalarMap[int, int]
    def __init__(self, steps: _Optional[_Mapping[int, int]] = ..., num_tokens: _Optional[int] = ..., up_bytes: _Optional[_Mapping[int, int]] = ..., down_bytes: _Optional[_Mapping[int, int]] = ...) -> None: ...

class CollectReply(_message.Message):
    __slots__ = ("factors", "summary")
    FACTORS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    factors: Factors
    summary: SessionSummary
    def __init__(self, factors: _Optional[_Union[Factors, _Mapping]] = ..., summary: _Optional[_Union[SessionSummary, _Mapping]] = ...) -> None: ...

class SessionSummary(_message.Message):
    __slots__ = ("num_steps", "importance")
    class ImportanceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    IMPORTANCE_FIELD_NUMBER: _ClassVar[int]
    num_steps: int
    importance: _containers.ScalarMap[str, float]
    def __init__(self, num_steps: _Optional[int] = ..., importance: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Form(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...
