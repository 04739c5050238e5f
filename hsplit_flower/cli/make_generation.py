"""What writes texts for ``hsplit generate``: a whole model on this machine."""

from dataclasses import replace
from pathlib import Path

from ..client.text_writer import TextWriter, end_ids_of
from ..settings import Model
from ..splitting import Checkpoint, load_tokenizer
from .adapter_source import (
    AdapterSource,
    check_device,
    load_base,
    quiet_loading,
    read_adapter_source,
)
from .beam_search import most_positions


def whole_writer(adapter: str, model: Model, device: str) -> TextWriter:
    """A base, with an adapter beside its weights if one is named.

    Parameters
    ----------
    adapter
        Folder of an adapter or a run; empty for none.
    model
        The base; what is not given of it is the adapter's run's own.
    device
        Where it runs; empty for a GPU if there is one.

    Raises
    ------
    AdapterError
        If there is no adapter, or it does not fit its base.
    ConfigError
        If the device cannot be used.
    UnsupportedModelError
        If there is no such base.
    """
    place = check_device(device or None)
    source = adapter_source(adapter, model)
    base = model if source is None else source.base
    if source is None:
        with quiet_loading():
            loaded = load_base(base, place).to(place).eval()
    else:
        loaded = source.load(place)
    checkpoint = Checkpoint(source=base.name, revision=base.revision or None)
    return TextWriter(
        loaded,
        load_tokenizer(base.name, revision=checkpoint.revision),
        end_ids=end_ids_of(checkpoint),
        positions=most_positions(checkpoint.config()),
    )


def adapter_source(adapter: str, model: Model) -> AdapterSource | None:
    """The adapter that is named, on the base that is given, or else on its own; None without."""
    if not adapter:
        return None
    given = {name: getattr(model, name) for name in model.model_fields_set}
    source = read_adapter_source(Path(adapter), model=given.get("name"), prompt=None)
    return replace(source, base=source.base.replace(**given))
