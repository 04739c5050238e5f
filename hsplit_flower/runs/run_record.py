"""What a run leaves in its folder, written as its rounds go by, and how it ended in words."""

from collections.abc import Mapping
from functools import cache
from logging import WARNING
from typing import Any

from flwr.common.logger import log

from ..reports import RunFolder, read_run
from ..reports.events import TensorBoardEvents
from ..reports.history import read_history
from ..reports.metrics import FederatedLine, PersonalisationLine, ServerEvaluationLine
from ..reports.run import VOID_FILE
from ..reports.run_texts import RUN_TEXTS
from ..reports.summary import SUMMARY_FILE
from ..server import EvaluationReport, RoundReport
from ..server.adapter_card import adapter_card, run_perplexities
from ..server.checkpoint import write_state
from ..server.federated_strategy import FederatedStrategy
from ..server.past_run import STATE_FILE
from ..splitting import Checkpoint, floating_dtype
from .run_config import RunConfig

MOST_REASONS = 3


class RunRecord:
    """Keeps the folder of a run.

    A round that counts leaves its adapter, then its metrics, and its state at last: the run goes on
    after the last round whose state is there, and nothing counts a round whose adapter is not. What
    the adapter is worth is known later, when it has been evaluated, and is added to its card then.

    Parameters
    ----------
    folder
        Of the run.
    config
        Of the run.
    strategy
        That runs it.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, strategy: FederatedStrategy) -> None:
        # That of a run which goes on has lines already.
        self.history = read_history(folder.path)
        self._folder = folder
        self._strategy = strategy
        self._dtype = floating_dtype(config.app.adapter_dtype or _sent_dtype(strategy))
        self._num_rounds = config.app.num_server_rounds
        self._config = config.shown(strategy.settings)
        self._events: TensorBoardEvents | None = None
        if config.app.tensorboard:
            last = self.history.last_completed if self.history.num_rounds else -1
            self._events = TensorBoardEvents(folder.path, goes_on_after=last)
        folder.write_config(self._config)

    def trained(self, report: RoundReport) -> None:
        """Keep a round of training, and what it made."""
        line = report.record()
        self.history = self.history.after(line)
        self._folder.write_plan(report.plan())
        if report.completed:
            self._write_result()
        self._add(line)
        if report.completed:
            write_state(self._strategy.state, self._folder.path / STATE_FILE)

    def evaluated_by_clients(self, report: EvaluationReport) -> None:
        """Keep what clients have measured on examples of their own."""
        line = report.record()
        self.history = self.history.after(line)
        self._add(line)

    def personalised(self, line: PersonalisationLine) -> None:
        """Keep what adapters that clients keep for themselves have gained."""
        self._add(line)

    def evaluated(self, server_round: int, metrics: Mapping[str, Any]) -> None:
        """Keep what the server has measured, and the adapter too if it is the best so far."""
        told = {"server-round": server_round, **metrics}
        line = ServerEvaluationLine.read(told, "the server's evaluation")
        self.history = self.history.after(line)
        best = self.history.best_round
        self._add(line.model_copy(update={"best_round": best or None}))
        has_adapter = self._strategy.method.has_adapters
        if has_adapter and self.history.last_completed == server_round != 0:
            self._folder.write_card(self._card())
            if best == server_round:
                self._folder.keep_as_best()

    def summarise(self) -> None:
        """Write for people what the run was, whatever became of it.

        What of it cannot be made is told in the log: a run does not fail for it.
        """
        if self._events is not None:
            self._events.close()
        run = cache(lambda: read_run(self._folder.path))
        for name, text_of in RUN_TEXTS.items():
            try:
                self._folder.write_summary({name: text_of(run())})
            except Exception as error:  # whatever it is, the run has its result
                log(WARNING, "%s was not written: %r", self._folder.path / name, error)

    def _add(self, line: FederatedLine) -> None:
        """Keep a line of metrics."""
        self._folder.add_metrics(line)
        if self._events is not None:
            self._events.add(line)

    def quality(self) -> str:
        """What the run has brought, in a line: how perplexity moved, and whether rounds lack."""
        done = self.history
        before, after = done.perplexity_before, done.perplexity_after
        quality = _of_clients(done.client_perplexities)
        if before is not None and after is not None:
            quality = f"perplexity {before:.4f} -> {after:.4f}{self._best()}"
        if done.num_completed == self._num_rounds:
            return quality
        return f"{done.num_completed} of {self._num_rounds} rounds completed, {quality}"

    def learnt(self) -> str:
        """From how many tokens it was learnt, in all rounds that count: labelled ones alone."""
        return f"{self.history.num_tokens:,} tokens learnt"

    def result(self) -> str:
        """Where what was learnt is."""
        name = "adapter" if self._strategy.method.has_adapters else "model"
        return f"{name}: {self._folder.path.resolve() / name}"

    def left(self) -> str:
        """What a run that has failed has left, and how it can go on."""
        done, path = self.history, self._folder.path.resolve()
        if not done.num_rounds:
            return "No round was begun, and no adapter was written."
        if not done.num_completed:
            return (
                f"No adapter was written.{_why(done.reasons)}\n"
                f"What became of each round and client is in {path / SUMMARY_FILE}, and in "
                f"{VOID_FILE} beside it."
            )
        return (
            f"Of round {done.last_completed}, the last of {done.num_completed} that were "
            f"completed, is the {self.result()}\n"
            f"The run goes on from there with --run-config 'resume=\"{path}\"'."
        )

    def _best(self) -> str:
        """Where a better adapter than the last is, if there is one."""
        best = self.history.best_round
        if best in (0, self.history.last_completed) or not self._strategy.method.has_adapters:
            return ""
        path = self._folder.path.resolve() / "best"
        return f", {self.history.perplexities[best]:.4f} after round {best} (in {path})"

    def _write_result(self) -> None:
        """The adapter, or the model where all of it is trained."""
        base, adapter = self._strategy.settings.model, self._strategy.adapter
        if not self._strategy.method.has_adapters:
            checkpoint = Checkpoint(source=base.name, revision=base.revision or None)
            self._folder.write_model(adapter.weights, base=checkpoint)
            return
        self._folder.write_adapter(
            adapter.updates,
            base_model=base.name,
            is_transposed=self._strategy.architecture.is_transposed,
            revision=base.revision,
            dtype=self._dtype,
            card=self._card(),
        )

    def _card(self) -> str:
        adapter = self._strategy.adapter
        return adapter_card(
            self._config,
            self._strategy.method,
            self.history,
            adapter.updates,
            dtype=self._dtype,
            dropped_energy=adapter.held_back_share + adapter.dropped_share,
            perplexities=run_perplexities(self._config, self.history),
        )


def _sent_dtype(strategy: FederatedStrategy) -> str:
    """What the numbers of the adapter are that a run sends."""
    options = strategy.settings.aggregation
    return options.adapter_dtype.value if strategy.method.is_bounded(options) else "float32"


def _of_clients(perplexities: Mapping[int, float]) -> str:
    """What clients have measured, where the server has not."""
    if not perplexities:
        return "perplexity not measured"
    first, last = min(perplexities), max(perplexities)
    told = f"clients' perplexity {perplexities[first]:.4f} after round {first}"
    return told if first == last else f"{told}, {perplexities[last]:.4f} after round {last}"


def _why(reasons: tuple[str, ...]) -> str:
    """What kept clients from finishing the last round, a line each."""
    if not reasons:
        return " No client took part in the last round."
    told = list(reasons[:MOST_REASONS])
    if len(reasons) > MOST_REASONS:
        told.append(f"and {len(reasons) - MOST_REASONS} more reasons")
    return "".join(["\nIn the last round:", *(f"\n  - {reason}" for reason in told)])
