"""An authority, whoever it knows, and a stranger; and certificates with something wrong."""

import datetime
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, and the files that they are in."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    keyfile: str
    certfile: str

    @property
    def files(self) -> dict[str, str]:
        """As settings name them."""
        return {"ssl_certfile": self.certfile, "ssl_keyfile": self.keyfile}


def issued(
    folder: Path,
    name: str,
    issuer: Pair | None = None,
    *,
    hosts: tuple[str, ...] = LOOPBACK,
    begins: datetime.datetime = NOW - DAY,
    ends: datetime.datetime = NOW + DAY,
    is_authority: bool = False,
    common_name: str = "",
) -> Pair:
    """A certificate; an authority's own where nobody issues it. Without hosts, of no such names."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or name)])
    names: list[x509.GeneralName] = []
    for host in hosts:
        is_address = host.replace(".", "").isdigit()
        names.append(
            x509.IPAddress(ipaddress.ip_address(host)) if is_address else x509.DNSName(host)
        )
    is_ca = issuer is None or is_authority
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key if issuer is None else issuer.key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    own = (folder / f"{name}.key", folder / f"{name}.pem")
    own[0].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    own[1].write_bytes(certificate.public_bytes(pem))
    return Pair(key, certificate, *map(str, own))


@contextmanager
def shown_by_grpc(pair: Pair) -> Iterator[int]:
    """A port of gRPC alone, which shows whatever it is given; nobody answers there."""
    key, chain = Path(pair.keyfile).read_bytes(), Path(pair.certfile).read_bytes()
    server = grpc.server(None)
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


@dataclass(frozen=True)
class Parties:
    """Everybody's certificates, made when they are asked for."""

    folder: Path = field()

    @cached_property
    def authority(self) -> Pair:
        return issued(self.folder, "authority")

    @cached_property
    def server(self) -> Pair:
        return issued(self.folder, "server", self.authority)

    @cached_property
    def client(self) -> Pair:
        return issued(self.folder, "client", self.authority)

    @cached_property
    def strangers(self) -> Pair:
        return issued(self.folder, "strangers")

    @cached_property
    def stranger(self) -> Pair:
        return issued(self.folder, "stranger", self.strangers)

    @cached_property
    def expired(self) -> Pair:
        return issued(self.folder, "expired", self.authority, ends=NOW - DAY / 2)

    @cached_property
    def early(self) -> Pair:
        return issued(self.folder, "early", self.authority, begins=NOW + DAY / 2)

    @cached_property
    def of_expired(self) -> Pair:
        """Valid itself, of an authority that is not any more."""
        return issued(self.folder, "of-expired", self.expired_authority)

    @cached_property
    def expired_authority(self) -> Pair:
        return issued(self.folder, "expired-authority", ends=NOW - DAY / 2)

    @cached_property
    def elsewhere(self) -> Pair:
        return issued(self.folder, "elsewhere", self.authority, hosts=("gpu.example", "10.0.0.9"))
