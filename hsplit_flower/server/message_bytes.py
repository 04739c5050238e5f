"""How large a message is that goes through Flower."""

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.serde import recorddict_to_proto


def content_bytes(message: Message) -> int:
    """Bytes of a message's records as Flower serialises them; of an error, those of its words.

    The arrays' own bytes are counted and not copied. The envelope, some hundred bytes of ids and
    times, is not in it.
    """
    if message.has_error():
        return len(str(message.error.reason or "").encode())
    bare, array_bytes = RecordDict(), 0
    for name, record in message.content.items():
        if isinstance(record, ArrayRecord):
            array_bytes += sum(len(array.data) for array in record.values())
            record = ArrayRecord({key: _without_data(array) for key, array in record.items()})
        bare[name] = record
    return array_bytes + int(recorddict_to_proto(bare).ByteSize())


def _without_data(array: Array) -> Array:
    return Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=b"")
