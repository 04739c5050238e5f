"""Another adapter of a run that is over: chosen, measured, and written."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ..adapters import LowRank, export_adapter
from ..adapters.merged_checkpoint import merge_into
from ..adapters.peft_checkpoint import CONFIG_FILE as ADAPTER_CONFIG
from ..adapters.peft_checkpoint import WEIGHTS_FILE
from ..adapters.peft_state import as_written, narrowest_dtype
from ..adapters.truncation import canonical, energy_share
from ..adapters.whole_folder import check_is_free
from ..errors import AdapterError, ConfigError
from ..reports.model_card import merged_card
from ..server.adapter_card import adapter_card, run_perplexities
from ..server.past_run import PastRun, read_past_run
from ..splitting import Checkpoint, floating_dtype, known_revision, read_architecture
from .dev_set import DevSet
from .export_order import ExportOrder
from .export_report import Described, ExportReport, Measured, Written


def make_export(order: ExportOrder) -> ExportReport:
    """Choose, measure, write.

    Raises
    ------
    ConfigError
        If the folder is none of a run, or something is where the export is to go.
    AdapterError
        If there is nothing to export, or it does not fit.
    UnsupportedModelError
        If the base is not there, or nothing can be merged into it.
    """
    _check_places(order)
    run = read_past_run(order.run)
    _check_has_adapter(run)
    sent, learnt = dict(run.state.method.updates), _learnt(run)
    # A pair of factors is all that was learnt, as it is.
    chosen = (
        sent
        if order.selection.exact and run.method.keeps_pair
        else order.selection.of(sent, learnt)
    )
    if not any(update.rank for update in chosen.values()):
        raise AdapterError(
            f"{order.run} has nothing to export: every weight of its adapter has rank 0"
        )
    of_sent, of_learnt, of_chosen = (_described(each, learnt) for each in (sent, learnt, chosen))
    measured = dev_set = None
    if order.dataset is not None:
        dev_set = DevSet(run, order.dataset, order.num_examples)
        measured = Measured(
            dataset=order.dataset,
            num_examples=dev_set.num_examples,
            base_perplexity=dev_set.perplexity({}),
        )
        of_sent = replace(of_sent, perplexity=dev_set.perplexity(sent))
        own = of_sent.perplexity
        if not order.is_the_runs:
            own = dev_set.perplexity(_as_written(chosen, order))
        of_chosen = replace(of_chosen, perplexity=own)
    card = _card(order, run, chosen, of_chosen, measured)
    return ExportReport(
        sent=of_sent,
        learnt=of_learnt,
        exported=of_chosen,
        adapter=_write_adapter(order, run, chosen, card),
        merged=_write_merged(order, run, chosen, dev_set),
        measured=measured,
    )


def _check_places(order: ExportOrder) -> None:
    """Refuse what would be written over, before anything is computed."""
    if order.merge_into is not None:
        check_is_free(order.merge_into)
    folder = order.adapter_folder
    if folder is None:
        return
    if order.merge_into is not None:
        adapter, model = folder.resolve(), order.merge_into.resolve()
        if adapter == model or adapter in model.parents or model in adapter.parents:
            raise ConfigError(
                f"--out is {folder} and --merge-into {order.merge_into}: two folders are wanted, "
                "none of which is in the other"
            )
    # What is replaced is an adapter, never something else that a mistyped folder holds.
    if not (order.may_overwrite and (folder / ADAPTER_CONFIG).is_file()):
        check_is_free(folder, advice="give another --out, or --overwrite if it is an adapter")


def _check_has_adapter(run: PastRun) -> None:
    if not run.method.has_adapters:
        raise AdapterError(
            f"{run.folder} is of {run.method.title}, which trains no adapter: what it learnt is "
            f"the checkpoint in {run.folder / 'model'}"
        )


def _learnt(run: PastRun) -> dict[str, LowRank]:
    """All that a run has learnt, in canonical form."""
    method = run.state.method
    return canonical(method.updates) if run.method.keeps_pair else method.exact_updates()


def _described(updates: Mapping[str, LowRank], learnt: Mapping[str, LowRank]) -> Described:
    return Described(
        ranks={name: update.rank for name, update in updates.items()},
        factors_bytes=sum(each.b.nbytes + each.a.nbytes for each in updates.values()),
        energy_share=1.0 if updates is learnt else energy_share(learnt, updates),
    )


def _as_written(updates: Mapping[str, LowRank], order: ExportOrder) -> Mapping[str, LowRank]:
    """The adapter as its file has it; a model takes it as it is."""
    if order.dtype is None or order.adapter_folder is None:
        return updates
    return as_written(updates, floating_dtype(order.dtype))


def _dtype(order: ExportOrder, updates: Mapping[str, LowRank]) -> torch.dtype:
    """What the numbers of an adapter's file are: by default the smallest that holds them."""
    return floating_dtype(order.dtype) if order.dtype else narrowest_dtype(updates)


def _card(
    order: ExportOrder,
    run: PastRun,
    updates: Mapping[str, LowRank],
    described: Described,
    measured: Measured | None,
) -> str:
    """With the perplexities that are known of this very adapter, if any are."""
    known: tuple[float | None, float | None] = (None, None)
    if measured is not None:
        known = measured.base_perplexity, described.perplexity
    elif order.is_the_runs:
        known = run_perplexities(run.config, run.history)
    return adapter_card(
        run.config,
        run.method,
        run.history,
        updates,
        dtype=_dtype(order, updates),
        dropped_energy=1 - described.energy_share,
        perplexities=known,
    )


def _write_adapter(
    order: ExportOrder, run: PastRun, updates: Mapping[str, LowRank], card: str
) -> Written | None:
    folder, model = order.adapter_folder, run.model
    if folder is None:
        return None
    dtype = _dtype(order, updates)
    # In a folder that is there already, what is no adapter's stays.
    export_adapter(
        updates,
        folder,
        base_model=model.name,
        is_transposed=read_architecture(_base(run).config()).is_transposed,
        revision=model.revision,
        dtype=dtype,
        card=card,
    )
    told = str(dtype).removeprefix("torch.")
    return Written(folder=folder, num_bytes=_num_bytes(folder, WEIGHTS_FILE), dtype=told)


def _write_merged(
    order: ExportOrder, run: PastRun, updates: Mapping[str, LowRank], dev_set: DevSet | None
) -> Written | None:
    folder = order.merge_into
    if folder is None:
        return None
    dtype = None if order.dtype is None else floating_dtype(order.dtype)
    revision = known_revision(run.model.name, run.model.revision)
    card = merged_card(run.model.name, revision, run.method.title)
    merge_into(updates, folder, base=_base(run), dtype=dtype, card=card)
    told = order.dtype or "the base's own type"
    if run.model.quantised:
        told += f"; the run trained on it in {run.model.dtype}, so this is not the same function"
    return Written(
        folder=folder,
        num_bytes=_num_bytes(folder, "*.safetensors"),
        dtype=told,
        perplexity=None if dev_set is None else dev_set.perplexity_of_model(folder),
    )


def _base(run: PastRun) -> Checkpoint:
    return Checkpoint(source=run.model.name, revision=run.model.revision or None)


def _num_bytes(folder: Path, pattern: str) -> int:
    return sum(file.stat().st_size for file in folder.glob(pattern))
