"""Making an authority, and certificates that it issues."""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import ConfigError

CERTFILE, KEYFILE = "pem", "key"
AUTHORITY, SERVER = "ca", "server"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Machines' clocks differ.
BEFORE = datetime.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def made_certificates(
    folder: Path, hosts: Sequence[str], clients: Sequence[str], *, num_days: int
) -> list[Path]:
    """Make an authority, a certificate for servers, and one for each client; give their files.

    Parameters
    ----------
    folder
        Where the files are made: ``ca.pem``, ``server.pem``, ``NAME.pem``, and a ``.key`` to each,
        which its owner alone may read.
    hosts
        Names and addresses of the servers; those of the loopback are added.
    clients
        Names.
    num_days
        How long all of them are valid.

    Raises
    ------
    ConfigError
        If a name cannot be one, or a file is there already.
    """
    names = [AUTHORITY, SERVER, *clients]
    if wrong := [name for name in clients if not _is_plain(name) or names.count(name) > 1]:
        raise ConfigError(
            f"--clients has {', '.join(map(repr, wrong))}: names of letters, digits and dashes are "
            f"wanted, each once, and not {AUTHORITY} or {SERVER}"
        )
    paths = [folder / f"{name}.{ending}" for name in names for ending in (CERTFILE, KEYFILE)]
    if there := [str(path) for path in paths if path.exists()]:
        raise ConfigError(
            f"{', '.join(there)} exist already, and nothing is overwritten: name another --folder, "
            "or move them away"
        )
    lifetime = datetime.timedelta(days=num_days)
    authority = _issued("hsplit trial authority", lifetime)
    own = [_issued(SERVER, lifetime, authority, hosts=[*LOOPBACK, *hosts])]
    own += [_issued(name, lifetime, authority) for name in clients]
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in zip(names, [authority, *own], strict=True):
        _write(folder / f"{name}.{CERTFILE}", one.certificate.public_bytes(Encoding.PEM), 0o644)
        key = one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(folder / f"{name}.{KEYFILE}", key, 0o600)
    return paths


def _issued(
    name: str,
    lifetime: datetime.timedelta,
    authority: Issued | None = None,
    *,
    hosts: Sequence[str] = (),
) -> Issued:
    """A certificate for hosts or a client; an authority's own where nobody issues it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = subject if authority is None else authority.certificate.subject
    signer = key if authority is None else authority.key
    now = datetime.datetime.now(datetime.timezone.utc)
    is_authority = authority is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if not is_authority:
        # A server's own is shown to workers, too, by the ServerApp.
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *[ExtendedKeyUsageOID.SERVER_AUTH] * bool(hosts)]
        names = [_general_name(host) for host in dict.fromkeys(hosts)] or [x509.DNSName(name)]
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
    return Issued(certificate=builder.sign(signer, hashes.SHA256()), key=key)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        if not host.isascii() or "/" in host or ":" in host or not host:
            raise ConfigError(
                f"--hosts has {host!r}: a name or an address is wanted, without a port"
            ) from None
        return x509.DNSName(host)


def _is_plain(name: str) -> bool:
    return bool(name) and name.isascii() and name.replace("-", "").isalnum()


def _write(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
