"""The processes of a small run: clients, the ServerApp's, and a worker that runs alone.

They are the library's own, and Flower's ClientApp and Strategy. What a SuperLink does in between, a
pipe to each client does: a client that dies has its message answered with an error, as a SuperNode
answers it, and is there again for the next one.
"""

import json
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import torch
from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from benchmarks.faults.moments import Moments, Place
from benchmarks.tools.threads import NodeConfig, ThreadGrid, be_the_server
from hsplit_flower.client.app import describe_device, split_train
from hsplit_flower.server import RoundReport
from hsplit_flower.server.checkpoint import read_state, write_state
from hsplit_flower.settings import Link, Model, Planning, Sampling, Simulation, Training, Worker
from hsplit_flower.strategies import HSplitLoRA
from hsplit_flower.worker.hosting import host_worker

FORKSERVER: Final = multiprocessing.get_context("forkserver")
# What takes seconds to import is there in every process that is forked: this, and the program that
# was started, which each of them would import anew.
PROGRAM: Final = sys.modules["__main__"].__spec__
FORKSERVER.set_forkserver_preload(
    ["benchmarks.faults.parties", *([PROGRAM.name] if PROGRAM is not None else [])]
)
OPERATOR_TOKEN: Final = "the operator of a disturbed run"
BATCH_SIZE, SEQUENCE_LENGTH, NUM_EXAMPLES = 2, 16, 8
CUT: Final = 2


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the processes of a run are told.

    Parameters
    ----------
    folder
        Where they leave what others read: state, reports, process ids.
    model
        Folder of the model.
    vocabulary
        Its number of tokens.
    worker
        How the ServerApp reaches the worker, or starts one.
    node_config
        Of every client.
    num_rounds, num_steps, num_clients
        Of the run; steps of a client in a round.
    step_seconds
        How long a client waits before each step, for runs that are to last.
    """

    folder: Path
    model: str
    vocabulary: int
    worker: Worker
    node_config: Mapping[str, str]
    num_rounds: int
    num_steps: int = 3
    num_clients: int = 2
    step_seconds: float = 0.0

    @property
    def state(self) -> Path:
        """The file that the run goes on from."""
        return self.folder / "state.safetensors"

    @property
    def reports(self) -> Path:
        """A line for every round that the ServerApp has finished."""
        return self.folder / "rounds.jsonl"

    @property
    def enough(self) -> Path:
        """Where there is such a file, the run ends after the round under way."""
        return self.folder / "enough"

    @property
    def moments(self) -> Moments:
        """Where the run may be disturbed."""
        return Moments(folder=self.folder)

    def process_file(self, party: str) -> Path:
        """The file with a party's process id."""
        return self.folder / f"{party}.pid"


def begun(setup: Setup, party: str) -> None:
    """Note this process as that of a party; what it says goes to a file of its own."""
    log = os.open(setup.folder / f"{party}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    torch.set_num_threads(1)
    setup.process_file(party).write_text(str(os.getpid()), encoding="utf-8")


def run_worker(setup: Setup, settings: Worker) -> None:
    """A split worker that runs alone, until it is killed."""
    begun(setup, "worker")
    host_worker(Model(name=setup.model), settings).wait()


def run_client(setup: Setup, partition: int, pipe: Connection) -> None:
    """A client: answers messages until nobody sends any."""
    begun(setup, f"client-{partition}")
    be_the_server()
    app = _client_app(setup, partition)
    config: dict[str, bool | int | float | str] = {
        **setup.node_config,
        "partition-id": partition,
        "num-partitions": setup.num_clients,
    }
    node = ThreadGrid(app, {partition + 1: config})
    with suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send_bytes(_as_bytes(node.answer(_from_bytes(pipe.recv_bytes()))))


def run_server(setup: Setup) -> None:
    """The ServerApp's process: all rounds, or those that another one has left to do."""
    begun(setup, "server")
    logging.getLogger("flwr").setLevel(logging.INFO)
    with ProcessGrid(setup) as grid:
        strategy = HSplitLoRA(
            setup.model,
            Training(batch_size=BATCH_SIZE, sequence_length=SEQUENCE_LENGTH, learning_rate=5e-3),
            # A cut of its own choice would follow from the worker's speed, measured anew each time.
            planning=Planning(max_rank=4, worker_session_rank=0, min_cut=CUT, max_cut=CUT),
            sampling=Sampling(fraction_evaluate=0.0, min_train_nodes=1),
            simulation=Simulation(fleet=fleet_of(setup.num_clients)),
            link=Link(),
            worker=setup.worker,
        )

        def observe(report: RoundReport) -> None:
            # The state last: a round that it does not have is told once more.
            with open(setup.reports, "a", encoding="utf-8") as file:
                file.write(json.dumps(report.record().to_dict()) + "\n")
            write_state(strategy.state, setup.state)
            setup.moments.reach(report.server_round, Place.BETWEEN_ROUNDS)
            grid.server_round = report.server_round + 1
            if setup.enough.exists():
                sys.exit(0)

        strategy.observer = observe
        left = read_state(setup.state) if setup.state.exists() else None
        grid.server_round = 1 if left is None else left.server_round + 1
        strategy.start(grid, num_rounds=setup.num_rounds, timeout=600.0, resume=left)


def fleet_of(num_clients: int) -> str:
    """Devices of two sizes, in turns."""
    return ",".join(("0.6", "1")[number % 2] for number in range(num_clients))


class ProcessGrid(ThreadGrid):
    """Nodes of which each is a process."""

    def __init__(self, setup: Setup) -> None:
        nodes: dict[int, NodeConfig] = {number + 1: {} for number in range(setup.num_clients)}
        super().__init__(ClientApp(), nodes)
        self.server_round = 0
        self._setup = setup
        self._pipes: dict[int, Connection] = {}
        self._starting = threading.Lock()

    def __exit__(self, *exception: object) -> None:
        for pipe in self._pipes.values():
            pipe.close()
        super().__exit__(*exception)

    def get_node_ids(self) -> Iterable[int]:
        self._setup.moments.reach(self.server_round, Place.OPENING)
        return super().get_node_ids()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        sent = list(messages)
        replies = super().send_and_receive(sent, timeout=timeout)
        if any(message.metadata.message_type == "train" for message in sent):
            self._setup.moments.reach(self.server_round, Place.COLLECTING)
        return replies

    def answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        try:
            return _from_bytes(self._sent(node, _as_bytes(message)).recv_bytes())
        except (EOFError, OSError) as error:
            self._pipes.pop(node).close()
            reason = f"the ClientApp's process has ended: {type(error).__name__}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    def _sent(self, node: int, data: bytes) -> Connection:
        """The pipe that a message went through; who has died since the last is started again."""
        try:
            self._pipe(node).send_bytes(data)
        except OSError:
            self._pipes.pop(node).close()
            self._pipe(node).send_bytes(data)
        return self._pipe(node)

    def _pipe(self, node: int) -> Connection:
        with self._starting:
            if node not in self._pipes:
                here, there = FORKSERVER.Pipe()
                args = (self._setup, node - 1, there)
                FORKSERVER.Process(target=run_client, args=args).start()
                there.close()
                self._pipes[node] = here
        return self._pipes[node]


def _client_app(setup: Setup, partition: int) -> ClientApp:
    """An app as a user would write it; the first client stops where the run is to be disturbed."""
    app = ClientApp()

    @app.query()
    def query(msg: Message, context: Any) -> Message:
        return describe_device(msg, context, NUM_EXAMPLES)

    @app.train()
    def train(msg: Message, context: Any) -> Message:
        config = msg.content.config_records["config"]
        return split_train(
            msg, context, _batches(setup, partition, int(str(config["server-round"])))
        )

    return app


def _batches(setup: Setup, partition: int, server_round: int) -> Iterator[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1000 * server_round + partition)
    places = {0: Place.BEFORE_FIRST_STEP, 1: Place.MID_STEP}
    for step in range(setup.num_steps):
        if partition == 0 and step in places:
            setup.moments.reach(server_round, places[step])
        time.sleep(setup.step_seconds)
        shape = (BATCH_SIZE, SEQUENCE_LENGTH)
        ids = torch.randint(0, setup.vocabulary, shape, generator=generator)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def _as_bytes(message: Message) -> bytes:
    return bytes(message_to_proto(message).SerializeToString())


def _from_bytes(data: bytes) -> Message:
    return message_from_proto(ProtoMessage.FromString(data))
