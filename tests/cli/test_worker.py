"""``hsplit worker``: a split worker in a process of its own."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from hsplit_flower.adapters import LowRank, export_adapter, import_adapter
from hsplit_flower.cli import main
from hsplit_flower.cli.make_certificates import made_certificates
from hsplit_flower.cli.worker import operator_token
from hsplit_flower.errors import AuthenticationError, ConfigError
from hsplit_flower.settings import OPERATOR_TOKEN_VARIABLE, SessionSpec
from hsplit_flower.settings import Worker as Settings
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.transport.security import Security
from hsplit_flower.wire.fingerprint import fingerprint_of_updates
from tests.cli.evaluating import write_adapter
from tests.transport.one_session import free_port
from tests.transport.parties import issued

COMMAND = [sys.executable, "-m", "hsplit_flower.cli", "worker", "--model", "llama-tiny"]


@contextmanager
def running_worker(
    token_file: Path, options: list[str]
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A worker's process and the address that it prints."""
    own = ["--port", "0", "--threads", "1", "--operator-token-file", str(token_file)]
    process = subprocess.Popen(
        [*COMMAND, *own, *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"on (127\.0\.0\.1:\d+) over TLS", process.stdout.readline())
        assert found is not None
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def num_pools(process: int) -> int:
    """How many pools of memory its threads have: glibc puts all but the first where 64 MB begin."""
    maps = Path(f"/proc/{process}/maps")
    if not maps.exists():
        return 1
    spans = [line.split(" ")[:2] for line in maps.read_text().splitlines()]
    used = [span.split("-") for span, rights in spans if rights == "rw-p"]
    reserved = {span.split("-")[0] for span, rights in spans if rights == "---p"}
    return 1 + sum(int(begin, 16) % 2**26 == 0 and end in reserved for begin, end in used)


def test_a_worker_serves_who_knows_its_token_and_ends_when_asked(tmp_path: Path):
    token_file = tmp_path / "token"
    made_certificates(tmp_path, (), (), num_days=1)
    files = {"ca-certfile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
    options = [
        text for name, file in files.items() for text in (f"--ssl-{name}", str(tmp_path / file))
    ]
    adapter, writer_file = write_adapter(tmp_path / "adapter"), tmp_path / "writer"
    options += ["--adapter", str(adapter), "--writer-token-file", str(writer_file)]
    with running_worker(token_file, options) as (process, address):
        assert num_pools(process.pid) == 1, "all that is freed can be given back"
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        there = Settings(address=address, ssl_ca_certfile=str(tmp_path / "ca.pem"))
        trusting = Security.towards(there)
        token = token_file.read_text(encoding="utf-8").strip()
        worker = RemoteWorker(address, token, security=trusting)
        assert worker.describe().num_blocks == 8
        assert worker.describe().adapter == fingerprint_of_updates(import_adapter(adapter))
        worker.load_update({})
        assert worker.describe().adapter == ""
        shown = writer_file.read_text(encoding="utf-8").strip()
        writer = RemoteWorker(address, shown, security=trusting)
        writer.close(writer.open(SessionSpec.to_write(cut=1, kept_tokens=9)))
        writer.stop()
        token = worker.open(SessionSpec(client=7, cut=3, ranks={}))
        assert worker.steps() == {7: 0}
        worker.close(token)
        assert worker.steps() == {}
        worker.stop()
        stranger = RemoteWorker(address, "guessed", security=trusting)
        with pytest.raises(AuthenticationError):
            stranger.describe()
        stranger.stop()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_worker_without_a_token_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv(OPERATOR_TOKEN_VARIABLE, raising=False)
    assert main(["worker", "--model", "llama-tiny"]) == 1
    assert OPERATOR_TOKEN_VARIABLE in capsys.readouterr().err


def test_the_token_comes_from_the_file_else_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(os.environ, OPERATOR_TOKEN_VARIABLE, "from the environment")
    assert operator_token(None) == "from the environment"
    made = operator_token(tmp_path / "token")
    assert made == operator_token(tmp_path / "token") != "from the environment"
    (tmp_path / "short").write_text("fifteen letters\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"short has 15 characters: 16 or more are wanted"):
        operator_token(tmp_path / "short")
    monkeypatch.setitem(os.environ, OPERATOR_TOKEN_VARIABLE, "x")
    with pytest.raises(ConfigError, match=r"\$HSPLIT_OPERATOR_TOKEN has 1 characters"):
        operator_token(None)
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match="holds no token"):
        operator_token(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"--operator-token-file is .*Is a directory"):
        operator_token(tmp_path)


def test_an_adapter_of_another_model_is_refused_before_anything_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    strange = {"model.layers.9.mlp.up_proj": LowRank(b=torch.ones(4, 1), a=torch.ones(1, 4))}
    export_adapter(strange, tmp_path / "own", base_model="llama-tiny", is_transposed=False)
    port = free_port()
    options = ["--port", str(port), "--operator-token-file", str(tmp_path / "token")]
    options += ["--adapter", str(tmp_path / "own")]
    assert main(["worker", "--model", "llama-tiny", *options]) == 1
    assert "the model has no weights ['model.layers.9.mlp.up_proj']" in capsys.readouterr().err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()


def test_an_unknown_model_is_one_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    token = ["--operator-token-file", str(tmp_path / "token")]
    assert main(["worker", "--model", str(tmp_path / "nothing"), *token]) == 1
    assert "no usable model configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--lowest-cut", "9"], "--lowest-cut is 9: cut 9 is out of range: a llama of 8 blocks"),
        (["--device", "gpu"], "device 'gpu' cannot be used here"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (
            ["--port", "65536", "--session-timeout", "nan"],
            "problems:\n  - --port is 65536",
        ),
        (
            ["--host", "0.0.0.0"],
            "--host = '0.0.0.0': a worker that others can reach wants TLS. Give --ssl-certfile and "
            "--ssl-keyfile (the SuperLink's own will do, hsplit certificates makes some for a "
            "trial); or --insecure where everybody on the network may read along",
        ),
        (
            ["--ssl-certfile", "gone.pem", "--ssl-keyfile", "gone.key"],
            "--ssl-certfile = 'gone.pem': a file that can be read is wanted, and No such file or "
            "directory (looked for in ",
        ),
        (["--ssl-certfile", "a"], "--ssl-certfile and --ssl-keyfile go together"),
        (
            ["--mutual-tls"],
            "--mutual-tls: the authority that callers' certificates must be of is wanted in "
            "--ssl-ca-certfile",
        ),
        (
            ["--session-timeout", "inf"],
            "--session-timeout-seconds is inf: a positive number of at most 604800 is wanted",
        ),
    ],
)
def test_what_cannot_be_served_is_said_by_its_option(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    token = ["--operator-token-file", str(tmp_path / "token")]
    assert main(["worker", "--model", "llama-tiny", *token, *options]) == 1
    assert says in capsys.readouterr().err


def test_writers_do_not_get_the_operator_s_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = str(tmp_path / "token")
    files = ["--operator-token-file", file, "--writer-token-file", file]
    assert main(["worker", "--model", "llama-tiny", *files]) == 1
    assert "holds the operator's token, and that opens everything" in capsys.readouterr().err


def test_its_certificate_may_be_for_the_host_that_others_call_it_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = issued(tmp_path, "own", hosts=("gpu.example",))
    files = ["--ssl-certfile", own.certfile, "--ssl-keyfile", own.keyfile]
    token = ["--operator-token-file", str(tmp_path / "token")]
    # What is looked at after the certificate.
    begun = ["worker", "--model", "llama-tiny", "--device", "gpu", *token]
    assert main([*begun, *files, "--host", "10.1.2.3"]) == 1
    assert "device 'gpu' cannot be used here" in capsys.readouterr().err


def test_the_demo_wants_the_app(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--app", str(tmp_path)]) == 1
    assert "is not a Flower app" in capsys.readouterr().err
