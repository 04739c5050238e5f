"""Real steps over TLS, what is refused in good time, and what is said of it."""

import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from hsplit_flower.client.channel_security import security_of
from hsplit_flower.errors import CertificateError, ConfigError
from hsplit_flower.settings import Model, Worker
from hsplit_flower.transport.certificate_files import read_key_pair
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.transport.port_certificates import LOOK_SECONDS
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.transport.security import PLAIN, Security
from hsplit_flower.types import WireType
from hsplit_flower.worker.hosting import HostedWorker, host_worker
from tests.families import checkpoint
from tests.transport.one_session import FAMILY, FORWARD, SPEC
from tests.transport.parties import Pair, Parties, shown_by_grpc

HASTY = ChannelSettings(num_tries=2, pause_seconds=0.05, step_timeout_seconds=2.0)
SOON_SECONDS = 20.0
"""More than all tries take, and far less than forever."""
TOKEN = "a secret of some length"


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    return Parties(tmp_path_factory.mktemp("certificates"))


@contextmanager
def _served(**settings: object) -> Iterator[HostedWorker]:
    worker = host_worker(
        Model(name=str(checkpoint(FAMILY))),
        Worker(operator_token=TOKEN, device="cpu", **settings),
    )
    try:
        yield worker
    finally:
        worker.stop()


def _serving(parties: Parties, *, asks: bool = False) -> dict[str, object]:
    """A worker's settings: it shows who it is, and may ask to be shown who calls."""
    files = {**parties.server.files, "ssl_ca_certfile": parties.authority.certfile}
    return {**files, "mutual_tls": asks}


def _calling(authority: Pair, own: Pair | None = None) -> Security:
    """A caller that trusts an authority, and may show a certificate."""
    pair = None if own is None else read_key_pair(Worker(**own.files))
    content = Path(authority.certfile).read_bytes()
    return Security(is_secured=True, authorities=content, own=pair)


def _step(address: str, token: str, security: Security) -> int:
    with closing(GrpcStream(address, token, WireType.FLOAT32, HASTY, security=security)) as stream:
        return stream.exchange(FORWARD).step


@pytest.mark.parametrize(
    ("asks", "shows"),
    [(False, False), (False, True), (True, True)],
    ids=["TLS", "TLS, and a certificate that nobody asks for", "mutual TLS"],
)
def test_a_session_over_a_secured_channel(parties: Parties, asks: bool, shows: bool) -> None:
    theirs = _calling(parties.authority, parties.client if shows else None)
    with _served(**_serving(parties, asks=asks)) as worker:
        for host in ("127.0.0.1", "localhost"):
            address = worker.address.replace("127.0.0.1", host)
            remote = RemoteWorker(address, TOKEN, HASTY, theirs)
            assert remote.describe() == worker.describe()
            token = remote.open(SPEC)
            assert _step(address, token, theirs) == 1
            assert remote.collect(token).num_steps == 1
            assert remote.trust == worker.trust
            remote.stop()


def test_a_client_trusts_whom_it_is_told_and_its_own_file_before(parties: Parties) -> None:
    with _served(**_serving(parties)) as worker:
        told = security_of(worker.trust, {})
        assert _step(worker.address, worker.open(SPEC), told) == 1
        mistaken = security_of(worker.trust, {"root-certificates": parties.strangers.certfile})
        with pytest.raises(CertificateError, match="'authority', which is not one that is trusted"):
            _step(worker.address, worker.open(SPEC), mistaken)


def _refused(address: str, token: str, security: Security, says: str) -> None:
    begun = time.monotonic()
    with pytest.raises(CertificateError, match=says):
        _step(address, token, security)
    remote = RemoteWorker(address, TOKEN, HASTY, security)
    for call in (remote.describe, lambda: remote.open(SPEC)):
        with pytest.raises(CertificateError, match=says):
            call()
    remote.stop()
    assert time.monotonic() - begun < SOON_SECONDS


def test_a_caller_without_tls_is_told_that_the_worker_wants_it(parties: Parties) -> None:
    says = "wants TLS, and was called without: give .*worker.ssl-ca-certfile .*root-certificates"
    for asks in (False, True):
        with _served(**_serving(parties, asks=asks)) as worker:
            _refused(worker.address, worker.open(SPEC), PLAIN, says)
            assert worker.steps() == {SPEC.client: 0}


def test_a_caller_with_tls_is_told_that_the_worker_has_none(parties: Parties) -> None:
    with _served() as worker:
        says = "answers without TLS, and TLS is wanted: start it with ssl-certfile"
        _refused(worker.address, worker.open(SPEC), _calling(parties.authority), says)


def test_an_authority_that_the_caller_does_not_know_is_named(parties: Parties) -> None:
    with _served(**_serving(parties)) as worker:
        says = "of the authority 'authority', which is not one that is trusted here: give .*file"
        _refused(worker.address, worker.open(SPEC), _calling(parties.strangers), says)
        _refused(worker.address, worker.open(SPEC), Security(is_secured=True), says)


def test_a_caller_without_a_certificate_is_told_that_one_is_wanted(parties: Parties) -> None:
    with _served(**_serving(parties, asks=True)) as worker:
        says = "wants to be shown a certificate .*and was shown none: give one with its key"
        _refused(worker.address, worker.open(SPEC), _calling(parties.authority), says)


def test_a_stranger_is_told_that_its_certificate_is_refused(parties: Parties) -> None:
    theirs = _calling(parties.authority, parties.stranger)
    with _served(**_serving(parties, asks=True)) as worker:
        says = "refuses the certificate that it was shown, .* of the authority 'strangers'"
        _refused(worker.address, worker.open(SPEC), theirs, says)


def test_another_host_than_the_certificate_s_is_told(parties: Parties) -> None:
    # The port of a worker that others know by the certificate's name, called by its address.
    files = {**_serving(parties), **parties.elsewhere.files}
    with _served(**files, advertised_host="gpu.example") as worker:
        address = worker.address.replace("gpu.example", "127.0.0.1")
        says = "for gpu.example, 10.0.0.9, and one for 127.0.0.1 is wanted: make one .*advertised"
        _refused(address, worker.open(SPEC), _calling(parties.authority), says)


@pytest.mark.parametrize(("name", "says"), [("expired", "until"), ("early", "from")])
def test_a_certificate_that_is_not_valid_today(parties: Parties, name: str, says: str) -> None:
    wrong: Pair = getattr(parties, name)
    says = rf"ssl-certfile = '{wrong.certfile}' is valid from .* until .* UTC, and now it is"
    with pytest.raises(ConfigError, match=says), _served(**wrong.files):
        pass


def test_a_certificate_that_has_expired_since_is_told(parties: Parties) -> None:
    says = "shows a certificate that is valid from .* until .*: put a new one"
    with shown_by_grpc(parties.expired) as port:
        _refused(f"127.0.0.1:{port}", "none", _calling(parties.authority), says)
    says = "of the authority 'expired-authority', whose own is not valid today: put certificates of"
    with shown_by_grpc(parties.of_expired) as port:
        _refused(f"127.0.0.1:{port}", "none", _calling(parties.expired_authority), says)


def test_files_that_do_not_belong_together_are_told_at_the_start(
    parties: Parties, tmp_path: Path
) -> None:
    server, text = parties.server, tmp_path / "text.pem"
    text.write_text("no certificate")
    own = _serving(parties)
    for files, says in (
        ({**own, "ssl_certfile": str(tmp_path / "gone.pem")}, "a file that can be read is wanted"),
        ({**own, "ssl_certfile": str(text)}, "a certificate in PEM is wanted"),
        ({**own, "ssl_keyfile": str(text)}, "a private key in PEM, without a password, is wanted"),
        ({**own, "ssl_ca_certfile": str(tmp_path)}, "ssl-ca-certfile = .* Is a directory"),
        ({**own, "ssl_keyfile": parties.client.keyfile}, f"does not fit the .*{server.certfile}"),
        ({**own, "ssl_ca_certfile": parties.strangers.certfile}, "is of the authority 'authority'"),
        ({**own, "advertised_host": "gpu.example"}, "is for localhost, 127.0.0.1, and clients are"),
    ):
        with pytest.raises(ConfigError, match=says), _served(**files):
            pass


def test_new_files_are_taken_up_without_a_restart(parties: Parties, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in _serving(parties) if name.startswith("ssl")}

    def put(own: Pair, authority: Pair) -> None:
        for path, source in (
            (files["ssl_certfile"], own.certfile),
            (files["ssl_keyfile"], own.keyfile),
            (files["ssl_ca_certfile"], authority.certfile),
        ):
            shutil.copy(source, path)

    put(parties.server, parties.authority)
    with _served(**{name: str(path) for name, path in files.items()}) as worker:
        before = security_of(worker.trust, {})
        with closing(
            GrpcStream(worker.address, worker.open(SPEC), WireType.FLOAT32, HASTY, security=before)
        ) as open_before:
            assert open_before.exchange(FORWARD).step == 1
            files["ssl_certfile"].write_text("half a certificate")
            time.sleep(LOOK_SECONDS)
            assert _step(worker.address, worker.open(SPEC), before) == 1, "the last good ones stay"
            put(parties.stranger, parties.strangers)
            time.sleep(LOOK_SECONDS)
            after = security_of(worker.trust, {})
            assert after != before
            assert _step(worker.address, worker.open(SPEC), after) == 1
            with pytest.raises(CertificateError, match="'strangers', which is not one"):
                _step(worker.address, worker.open(SPEC), before)
            assert open_before.exchange(FORWARD).step == 1, "who is connected stays"


def test_a_strategy_takes_up_a_new_authority_before_its_next_round(
    parties: Parties, tmp_path: Path
) -> None:
    known = tmp_path / "known.pem"
    shutil.copy(parties.authority.certfile, known)
    with _served(**parties.server.files) as first, _served(**parties.stranger.files) as second:
        settings = Worker(address=first.address, ssl_ca_certfile=str(known))
        remote = RemoteWorker(
            first.address,
            TOKEN,
            HASTY,
            Security.towards(settings),
            newer_security=partial(Security.towards, settings),
        )
        before = remote.trust
        known.write_text("half a certificate")
        remote.load_update({})
        assert remote.trust == before, "the last good ones stay"
        # As if the worker had been started again with a certificate of another authority.
        shutil.copy(parties.strangers.certfile, known)
        remote.address = second.address
        remote.load_update({})
        assert remote.trust != before
        assert _step(second.address, remote.open(SPEC), security_of(remote.trust, {})) == 1
        remote.stop()


def test_a_node_config_that_wants_tls_refuses_a_plain_worker(parties: Parties) -> None:
    with (
        _served() as worker,
        pytest.raises(CertificateError, match="the server says that this one"),
    ):
        security_of(worker.trust, {"root-certificates": parties.authority.certfile})


@pytest.mark.parametrize(
    ("node_config", "says"),
    [
        ({"root-certificates": 3}, "root-certificates = 3: text is wanted"),
        ({"ssl-certfile": "a"}, "ssl-certfile and ssl-keyfile go together"),
        ({"root-certificates": "/nowhere.pem"}, "root-certificates = '/nowhere.pem': a file that"),
    ],
)
def test_a_node_config_that_cannot_be_used(
    parties: Parties, node_config: dict[str, object], says: str
) -> None:
    trust = _calling(parties.authority).trust
    with pytest.raises(ConfigError, match=rf"node config.*\n?.*{says}"):
        security_of(trust, node_config)
