"""Who may talk to whom: real steps over TLS, and what is refused, is refused in good time."""

import datetime
import ipaddress
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hsplit_flower.errors import ConfigError, WorkerUnavailableError
from hsplit_flower.settings import Certificates, Link, Model, SessionSpec, Worker
from hsplit_flower.transport.channel import PLAIN, ChannelSettings, open_channel
from hsplit_flower.transport.credentials import (
    channel_credentials,
    is_same_token,
    server_credentials,
    token_metadata,
)
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.types import WireType
from hsplit_flower.wire.instructions import Instructions
from hsplit_flower.worker.hosting import HostedWorker, host_worker
from tests.families import checkpoint
from tests.transport.one_session import FAMILY, FORWARD, SPEC

HASTY = ChannelSettings(num_tries=2, pause_seconds=0.05, step_timeout_seconds=2.0)
SOON_SECONDS = 20.0
"""More than all tries take, and far less than forever."""
NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, and the files that they are in."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    keyfile: str
    certfile: str


def _pair(folder: Path, name: str, issuer: Pair | None = None) -> Pair:
    """A certificate for the loopback; an authority's own where nobody issues it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(key if issuer is None else issuer.key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    own = (folder / f"{name}.key", folder / f"{name}.pem")
    own[0].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    own[1].write_bytes(certificate.public_bytes(pem))
    return Pair(key, certificate, *map(str, own))


@dataclass(frozen=True)
class Parties:
    """The certificates of everyone, and of a stranger."""

    authority: Pair
    server: Pair
    client: Pair
    strangers: Pair
    stranger: Pair

    @property
    def serving(self) -> Certificates:
        """A server that shows who it is, and asks nobody."""
        return Certificates(ssl_certfile=self.server.certfile, ssl_keyfile=self.server.keyfile)

    @property
    def asking(self) -> Certificates:
        """A server that also wants to be shown who asks."""
        return self.serving.replace(ssl_ca_certfile=self.authority.certfile)

    @property
    def trusting(self) -> Certificates:
        """A client that knows the authority, and shows nothing."""
        return Certificates(ssl_ca_certfile=self.authority.certfile)

    @property
    def known(self) -> Certificates:
        """A client that shows a certificate of the authority."""
        return self._client(self.client)

    @property
    def unknown(self) -> Certificates:
        """A client that shows a certificate of another authority."""
        return self._client(self.stranger)

    def _client(self, own: Pair) -> Certificates:
        return self.trusting.replace(ssl_certfile=own.certfile, ssl_keyfile=own.keyfile)


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    folder = tmp_path_factory.mktemp("certificates")
    authority, strangers = _pair(folder, "authority"), _pair(folder, "strangers")
    return Parties(
        authority=authority,
        server=_pair(folder, "server", authority),
        client=_pair(folder, "client", authority),
        strangers=strangers,
        stranger=_pair(folder, "stranger", strangers),
    )


@contextmanager
def _served(certificates: Certificates) -> Iterator[HostedWorker]:
    worker = host_worker(
        Model(name=str(checkpoint(FAMILY))),
        Worker(operator_token="secret", device="cpu"),
        certificates=certificates,
    )
    try:
        yield worker
    finally:
        worker.stop()


def _step(address: str, token: str, certificates: Certificates) -> int:
    with closing(
        GrpcStream(address, token, WireType.FLOAT32, HASTY, certificates=certificates)
    ) as stream:
        return stream.exchange(FORWARD).step


@pytest.mark.parametrize(
    ("serving", "calling"),
    [("serving", "trusting"), ("serving", "known"), ("asking", "known")],
    ids=["TLS", "TLS, and a certificate that nobody asks for", "mutual TLS"],
)
def test_a_session_over_a_secured_channel(parties: Parties, serving: str, calling: str) -> None:
    theirs = getattr(parties, calling)
    with _served(getattr(parties, serving)) as worker:
        for host in ("127.0.0.1", "localhost"):
            address = worker.address.replace("127.0.0.1", host)
            remote = RemoteWorker(address, "secret", HASTY, certificates=theirs)
            assert remote.describe() == worker.describe()
            token = remote.open(SPEC)
            assert _step(address, token, theirs) == 1
            assert remote.collect(token).num_steps == 1
            remote.stop()


def _refused(address: str, token: str, certificates: Certificates) -> None:
    begun = time.monotonic()
    with pytest.raises(WorkerUnavailableError):
        _step(address, token, certificates)
    remote = RemoteWorker(address, "secret", HASTY, certificates=certificates)
    for call in (remote.describe, lambda: remote.open(SPEC), remote.steps):
        with pytest.raises(WorkerUnavailableError):
            call()
    remote.stop()
    assert time.monotonic() - begun < SOON_SECONDS


@pytest.mark.parametrize(
    ("serving", "calling"),
    [
        ("serving", "plain"),
        ("serving", "mistaken"),
        ("asking", "trusting"),
        ("asking", "unknown"),
        ("asking", "plain"),
        ("plain", "trusting"),
    ],
    ids=[
        "nothing where TLS is wanted",
        "another authority",
        "no certificate where one is wanted",
        "a stranger's certificate",
        "nothing where mutual TLS is wanted",
        "TLS where nothing secures the port",
    ],
)
def test_who_is_not_known_is_refused_in_good_time(
    parties: Parties, serving: str, calling: str
) -> None:
    mistaken = Certificates(ssl_ca_certfile=parties.strangers.certfile)
    chosen = {"plain": PLAIN, "mistaken": mistaken}
    theirs = chosen.get(serving) or getattr(parties, serving)
    with _served(theirs) as worker:
        token = worker.open(SPEC)
        _refused(worker.address, token, chosen.get(calling) or getattr(parties, calling))
        assert worker.steps() == {SPEC.client: 0}


@pytest.mark.parametrize("name", ["ssl_ca_certfile", "ssl_certfile", "ssl_keyfile"])
@pytest.mark.parametrize("make", [channel_credentials, server_credentials])
def test_a_file_that_cannot_be_read_is_named(
    parties: Parties, tmp_path: Path, name: str, make: object
) -> None:
    for path in (tmp_path / "nowhere.pem", tmp_path):
        wanted = rf"{name} is '{path}': a file that can be read is wanted"
        with pytest.raises(ConfigError, match=wanted):
            make(parties.asking.replace(**{name: str(path)}))


def test_an_unreadable_file_is_told_where_a_channel_or_a_port_is_opened(tmp_path: Path) -> None:
    missing = str(tmp_path / "gone.pem")
    with pytest.raises(ConfigError, match=rf"ssl_ca_certfile is '{missing}'"):
        open_channel("127.0.0.1:1", HASTY, Certificates(ssl_ca_certfile=missing))
    with (
        pytest.raises(ConfigError, match=rf"ssl_keyfile is '{missing}'"),
        _served(Certificates(ssl_certfile=missing, ssl_keyfile=missing)),
    ):
        pass


def test_a_server_needs_a_certificate_of_its_own(parties: Parties) -> None:
    with pytest.raises(ConfigError, match="a server needs ssl_certfile and ssl_keyfile"):
        server_credentials(parties.trusting)


@pytest.mark.parametrize("given", [{"ssl_certfile": "a"}, {"ssl_keyfile": "a"}])
def test_a_certificate_and_its_key_go_together(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="ssl_certfile and ssl_keyfile go together"):
        Certificates(**given)


def test_no_files_are_a_plain_channel() -> None:
    assert Certificates() == PLAIN
    assert channel_credentials(PLAIN) is None
    assert server_credentials(PLAIN) is None


def test_a_token_is_one_entry_of_the_metadata() -> None:
    assert token_metadata("key", "secret") == (("key", "secret"),)


@pytest.mark.parametrize(
    ("got", "is_same"), [("secret", True), ("secret!", False), ("", False), (None, False)]
)
def test_a_token_is_the_one_that_is_wanted_or_not(got: str | None, is_same: bool) -> None:
    assert is_same_token(got, "secret") is is_same
    assert is_same_token("gehëim", "gehëim")


def test_no_secret_is_shown() -> None:
    told = Instructions(
        server_round=1,
        num_examples=1,
        model=Model(),
        link=Link(),
        session=SessionSpec(client=0, cut=1),
        token="a secret",
    )
    for group in (told, Worker(operator_token="a secret")):
        assert "a secret" not in f"{group!r} {group!s} {group.shown()}"
