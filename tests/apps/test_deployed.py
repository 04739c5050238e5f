"""The app on a SuperLink with two SuperNodes, secured as in a deployment; nothing is simulated."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hsplit_flower.cli.local_flower import (
    CONNECTION,
    LocalFlower,
    background,
    flower_environment,
    local_superlink,
    script,
)
from hsplit_flower.cli.make_certificates import made_certificates
from hsplit_flower.settings import Certificates

from .flower_app import run_app


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def registered(flower: LocalFlower, name: str) -> Path:
    """A new node's private key, of which the SuperLink knows the public one."""
    key = ec.generate_private_key(ec.SECP384R1())
    private, public = flower.home / name, flower.home / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    subprocess.run(
        [script("flwr"), "supernode", "register", str(public), CONNECTION],
        env={**os.environ, **flower.environment},
        capture_output=True,
        check=True,
    )
    return private


@contextmanager
def deployment(
    home: Path, certificates: Certificates, node_configs: list[str]
) -> Iterator[LocalFlower]:
    """A SuperLink and a SuperNode for each node config; all ended afterwards.

    All of Flower's is over TLS, and only SuperNodes with a key that is known are let in.
    """
    with ExitStack() as stack:
        flower = stack.enter_context(
            local_superlink(
                home,
                simulation=False,
                certificates=certificates,
                options=["--enable-supernode-auth"],
            )
        )
        for number, node_config in enumerate(node_configs):
            key = registered(flower, f"node-{number}")
            command = [
                script("flower-supernode"),
                *("--root-certificates", certificates.ssl_ca_certfile),
                *("--auth-supernode-private-key", str(key)),
                *("--superlink", flower.address),
                *("--port", str(free_port())),
                *("--node-config", node_config),
            ]
            log = home / f"supernode-{number}.log"
            stack.enter_context(background(command, flower_environment(home), log))
        yield flower


@pytest.mark.timeout(600)
def test_the_app_runs_unchanged_on_two_supernodes_and_every_channel_is_secured(tmp_path: Path):
    made_certificates(tmp_path, [], ["bank", "clinic"], num_days=1)
    own = {"ssl_certfile": "server.pem", "ssl_keyfile": "server.key", "ssl_ca_certfile": "ca.pem"}
    files = {name: str(tmp_path / path) for name, path in own.items()}
    shown = 'ssl-certfile="{0}/{1}.pem" ssl-keyfile="{0}/{1}.key"'
    whole = "partition-id=0 num-partitions=2 memory-gb=2.0 flops=2e10 rtt-ms=1.0"
    weak = "partition-id=1 num-partitions=2 memory-gb=0.03 flops=5e9 rtt-ms=1.0"
    # One trusts whom it is told to, the other whom its own node config names.
    whole = f"{whole} {shown.format(tmp_path, 'bank')}"
    weak = f'{weak} {shown.format(tmp_path, "clinic")} root-certificates="{tmp_path}/ca.pem"'
    with deployment(tmp_path / "flwr", Certificates(**files), [whole, weak]) as flower:
        finished = run_app(
            flower,
            tmp_path,
            {
                "simulation.fleet": "",
                "sampling.fraction-evaluate": 0.0,
                "training.sequence-length": 160,
                "num-server-rounds": 1,
                "worker.advertised-host": "localhost",
                "worker.mutual-tls": True,
                **{f"worker.{name.replace('_', '-')}": path for name, path in files.items()},
            },
        )
    before, after = finished.perplexities
    assert after < before
    plans = finished.json("plan.json")["clients"]
    assert len(plans) == 2
    assert len({part["cut"] for part in plans.values()}) == 2, plans
    rounds = [line for line in finished.metrics if line["kind"] == "training"]
    assert [line["completed"] for line in rounds] == [True]
    kept = "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in [*finished.folder.glob("*.json*"), *(tmp_path / "flwr").glob("*.log")]
    )
    # 32 bytes in base64: what a session's token looks like.
    assert not re.search(r"(?<![\w/+-])[\w-]{43}(?![\w/+=-])", kept + finished.log)
