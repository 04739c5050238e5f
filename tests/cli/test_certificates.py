"""``hsplit certificates``: what it makes secures a worker, and it overwrites nothing."""

import stat
from pathlib import Path

import pytest
from cryptography import x509

from hsplit_flower.cli import main
from hsplit_flower.client.channel_security import security_of
from hsplit_flower.settings import Model, Worker
from hsplit_flower.transport.certificate_files import hosts_of
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.worker.hosting import host_worker

TOKEN = "a secret of some length"


def test_what_is_made_secures_a_worker_for_the_clients_that_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made"
    asked = ["--hosts", "gpu.example,10.0.0.9", "--clients", "bank,clinic", "--days", "3"]
    assert main(["certificates", "--folder", str(folder), *asked]) == 0
    said = capsys.readouterr().out
    assert f"hsplit worker --ssl-ca-certfile {folder}/ca.pem" in said
    assert f"flower-supernode --root-certificates {folder}/ca.pem" in said
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) == 8
    assert {mode for name, mode in modes.items() if name.endswith(".key")} == {0o600}
    own = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    assert set(hosts_of(own)) >= {"gpu.example", "10.0.0.9", "localhost", "127.0.0.1"}
    assert (own.not_valid_after_utc - own.not_valid_before_utc).days == 3
    worker = host_worker(
        Model(name="llama-tiny"),
        Worker(
            ssl_certfile=str(folder / "server.pem"),
            ssl_keyfile=str(folder / "server.key"),
            ssl_ca_certfile=str(folder / "ca.pem"),
            mutual_tls=True,
            operator_token=TOKEN,
            advertised_host="localhost",
        ),
        lowest_cut=7,
    )
    try:
        node = {"ssl-keyfile": str(folder / "bank.key")}
        node["ssl-certfile"] = str(folder / "bank.pem")
        remote = RemoteWorker(worker.address, TOKEN, security=security_of(worker.trust, node))
        assert remote.describe() == worker.describe()
        remote.stop()
    finally:
        worker.stop()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "server.key").write_text("mine")
    assert main(["certificates", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/server.key exist already, and nothing is overwritten" in said
    assert [path.name for path in tmp_path.iterdir()] == ["server.key"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--hosts", "gpu:8600"], "--hosts has 'gpu:8600': a name or an address is wanted"),
        (["--hosts", "a/b"], "--hosts has 'a/b'"),
        (["--clients", "../bank"], "--clients has '../bank': names of letters"),
        (["--clients", "ca"], "and not ca or server"),
        (["--clients", "a,a"], "each once"),
        (["--days", "0"], "--days is 0: 1 to 825 is wanted"),
    ],
)
def test_what_cannot_be_made(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certificates", "--folder", str(tmp_path / "made"), *options]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
