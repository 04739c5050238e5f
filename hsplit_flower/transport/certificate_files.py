"""Certificate files as they are read: what is wrong with one is said before anybody meets it."""

import datetime
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from ..errors import ConfigError
from ..settings import Certificates, NodeCertificates

MADE_BY = "hsplit certificates makes some for a trial"


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """A certificate with those between it and its authority, and its key; PEM, as gRPC takes it.

    The paths are those that they were read from.
    """

    certfile: str
    keyfile: str
    chain: bytes
    private_key: bytes = field(repr=False)

    @property
    def certificates(self) -> list[x509.Certificate]:
        """The one's own first."""
        return x509.load_pem_x509_certificates(self.chain)


def read_key_pair(files: Certificates | NodeCertificates, prefix: str = "") -> KeyPair | None:
    """The pair that files hold; None where none are named.

    Parameters
    ----------
    files
        Their paths.
    prefix
        What their keys begin with, for what is said of them.

    Raises
    ------
    ConfigError
        If a file cannot be read or is no PEM, the key does not fit, or the certificate is not valid
        today.
    """
    if not files.ssl_certfile and not files.ssl_keyfile:
        return None
    names = f"{prefix}ssl-certfile", f"{prefix}ssl-keyfile"
    chain = _content(names[0], files.ssl_certfile)
    key = _content(names[1], files.ssl_keyfile)
    where = f"{names[0]} = {files.ssl_certfile!r}"
    own = _parsed(where, chain)[0]
    _check_dates(where, own)
    try:
        public = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{names[1]} = {files.ssl_keyfile!r}: a private key in PEM, without a password, is "
            "wanted"
        ) from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if public.public_bytes(*form) != own.public_key().public_bytes(*form):
        raise ConfigError(
            f"the key in {names[1]} = {files.ssl_keyfile!r} does not fit the certificate in "
            f"{names[0]} = {files.ssl_certfile!r}: give the key that this certificate was made for"
        )
    return KeyPair(
        certfile=files.ssl_certfile, keyfile=files.ssl_keyfile, chain=chain, private_key=key
    )


def read_authorities(name: str, path: str) -> bytes | None:
    """The authorities' certificates in a file, PEM; None where none is named.

    Raises
    ------
    ConfigError
        If it cannot be read or is no PEM, or none of them is valid today.
    """
    if not path:
        return None
    content = _content(name, path)
    _check_one_is_valid(f"{name} = {path!r}", content)
    return content


def told_authorities(name: str, text: str) -> bytes | None:
    """The authorities' certificates in a text that somebody else sent; None where it is empty.

    Raises
    ------
    ConfigError
        If it is no PEM, or none of them is valid today.
    """
    if not text:
        return None
    content = text.encode()
    _check_one_is_valid(name, content)
    return content


def check_issued(pair: KeyPair, authorities: bytes, names: tuple[str, str]) -> None:
    """See that a certificate is of an authority.

    Parameters
    ----------
    pair, authorities
        PEM.
    names
        Of their settings.

    Raises
    ------
    ConfigError
        If it is of another one.
    """
    known = x509.load_pem_x509_certificates(authorities)
    own, *between = pair.certificates
    last: x509.Certificate | None = own
    while last is not None:
        if last in known or any(_is_issued(last, each) for each in known):
            return
        last = next((each for each in between if _is_issued(last, each)), None)
        between = [each for each in between if each != last]
    raise ConfigError(
        f"the certificate in {names[0]} is of the authority {text_of(own.issuer)}, and {names[1]} "
        f"has {', '.join(text_of(each.subject) for each in known)}: give that authority's "
        "certificate, and in the first file those between the two, if there are any"
    )


def check_names(pair: KeyPair, host: str | None, name: str) -> None:
    """See that a certificate is for a host; None where it is known by whatever name others have.

    Raises
    ------
    ConfigError
        If it is for others only, or for none: whoever calls the host would refuse it.
    """
    own = pair.certificates[0]
    if host is None and not hosts_of(own):
        raise ConfigError(
            f"the certificate in {name} is for {hosts_text(own)}, and nobody who calls the worker "
            f"would take it: give one for the hosts that it is called by ({MADE_BY})"
        )
    if host is not None and not is_for(own, host):
        raise ConfigError(
            f"the certificate in {name} is for {hosts_text(own)}, and clients are told {host}: "
            f"give one for that host ({MADE_BY}), or tell clients one of its hosts with "
            "worker.advertised-host"
        )


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """The names and addresses that a certificate is for.

    Where no subjectAltName says it, callers take a host's name from the common name, and no
    address.
    """
    try:
        there = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = [str(each.value) for each in _common_names(certificate.subject)]
        return [name for name in names if _address_in(name) is None]
    addresses = there.get_values_for_type(x509.IPAddress)
    return [*there.get_values_for_type(x509.DNSName), *map(str, addresses)]


def hosts_text(certificate: x509.Certificate) -> str:
    """The same in words."""
    return ", ".join(hosts_of(certificate)) or "no host (an address must be in its subjectAltName)"


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether a certificate is for a host, by RFC 6125: a ``*`` stands for one label, the first."""
    known, host = hosts_of(certificate), host.strip("[]").casefold()
    if (address := _address_in(host)) is not None:
        return address in known
    names = [each.casefold() for each in known]
    return host in names or f"*.{host.partition('.')[2]}" in names


def _address_in(host: str) -> str | None:
    """The address that a text is; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def text_of(name: x509.Name) -> str:
    """A subject or issuer as it is known by."""
    common = _common_names(name)
    return repr(str(common[0].value)) if common else repr(name.rfc4514_string())


def _common_names(name: x509.Name) -> list[x509.NameAttribute[str | bytes]]:
    return list(name.get_attributes_for_oid(NameOID.COMMON_NAME))


def validity_text(certificate: x509.Certificate) -> str:
    """From when until when it is valid."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"from {begins:%Y-%m-%d %H:%M} until {ends:%Y-%m-%d %H:%M} UTC"


def _is_issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_valid_now(certificate: x509.Certificate) -> bool:
    """Whether today is within its dates."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _check_one_is_valid(where: str, content: bytes) -> None:
    first, *others = _parsed(where, content)
    if not any(map(is_valid_now, others)):
        _check_dates(where, first)


def _check_dates(where: str, certificate: x509.Certificate) -> None:
    if not is_valid_now(certificate):
        now = datetime.datetime.now(datetime.timezone.utc)
        raise ConfigError(
            f"the certificate in {where} is valid {validity_text(certificate)}, and now "
            f"it is {now:%Y-%m-%d %H:%M}: put a new one there"
        )


def _parsed(where: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ConfigError(f"{where}: a certificate in PEM is wanted") from error


def _content(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        where = "" if Path(path).is_absolute() else f" (looked for in {Path.cwd()})"
        raise ConfigError(
            f"{name} = {path!r}: a file that can be read is wanted, and {error.strerror or error}"
            f"{where}"
        ) from error
