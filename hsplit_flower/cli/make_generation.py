"""What writes texts for ``hsplit generate``: a whole model here, or a half here and a worker."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..client.split_generation import split_writer
from ..client.text_writer import TextWriter, end_ids_of
from ..errors import ConfigError
from ..settings import Decoding, Link, Model, SplitText, Worker
from ..splitting import Checkpoint, load_tokenizer
from .adapted_model import load_adapted
from .adapter_source import AdapterSource, check_device, read_adapter_source
from .beam_search import most_positions
from .options import Chosen


@contextmanager
def writer_of(
    adapter: str, device: str, chosen: Chosen, *, personal: str = ""
) -> Iterator[TextWriter]:
    """What writes, until the block ends.

    Parameters
    ----------
    adapter
        Folder of an adapter or a run; empty for none.
    device
        Where what is here of the model runs; empty for a GPU if there is one.
    chosen
        The base, of which what is not given is the adapter's run's own; the worker, if there is
        one; and how they write.
    personal
        Folder of an adapter of a client's own on top of that; empty for none.

    Raises
    ------
    AdapterError
        If there is no adapter, or it does not fit its base.
    ConfigError
        If the device cannot be used, or a client's own adapter is to go on top of nothing.
    UnsupportedModelError
        If there is no such base.
    TransportError
        If there is a worker, and it cannot be reached or refuses.
    """
    place = check_device(device or None)
    source = _source(adapter, personal, chosen[Model])
    base = chosen[Model] if source is None else source.base
    _tell_a_terminal(chosen[Worker].address, base)
    if not chosen[Worker].address:
        yield _whole_writer(source, base, place)
        return
    given, own = ("", "") if source is None else (source.folder, source.personal or "")
    with split_writer(
        base,
        chosen[Worker],
        adapter=given,
        personal=own,
        text=chosen[SplitText],
        link=chosen[Link],
        device=place,
        num_rows=chosen[Decoding].num_beams,
    ) as writer:
        yield writer


def _tell_a_terminal(worker: str, base: Model) -> None:
    """What is waited for: a large base takes minutes, and a worker may be about to start."""
    if sys.stderr.isatty():
        doing = f"reaching the worker at {worker}, and loading" if worker else "loading"
        print(f"hsplit: {doing} {base.name} …", file=sys.stderr, flush=True)


def _whole_writer(source: AdapterSource | None, base: Model, device: str) -> TextWriter:
    loaded = load_adapted(base, device) if source is None else source.load(device)
    checkpoint = Checkpoint(source=base.name, revision=base.revision or None)
    return TextWriter(
        loaded,
        load_tokenizer(base.name, revision=checkpoint.revision),
        end_ids=end_ids_of(checkpoint),
        positions=most_positions(checkpoint.config()),
    )


def _source(adapter: str, personal: str, model: Model) -> AdapterSource | None:
    """The adapters that are named, on the base that is given, or else on their own; None without.

    Raises
    ------
    ConfigError
        If a client's own is to go on top of nothing.
    """
    if personal and not adapter:
        raise ConfigError(
            f"--personal-adapter is {personal!r}, and --adapter is missing: it was trained on top "
            "of a run's adapter and says nothing without it; name the run, or its adapter, too"
        )
    if not adapter:
        return None
    given = {name: getattr(model, name) for name in model.model_fields_set}
    own = Path(personal) if personal else None
    source = read_adapter_source(Path(adapter), model=given.get("name"), prompt=None, personal=own)
    return replace(source, base=source.base.replace(**given))
