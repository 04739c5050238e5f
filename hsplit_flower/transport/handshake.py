"""Why two sides of a channel do not come together: found out by a handshake that tells more.

gRPC says of a handshake that failed hardly more than that; OpenSSL, asked once more, says why.
"""

import socket
import ssl
from contextlib import suppress
from typing import Final

from cryptography import x509

from ..errors import CertificateError
from ..settings.hosts import host_of
from .certificate_files import MADE_BY, hosts_text, is_valid_now, text_of, validity_text
from .security import Security

PROBE_SECONDS: Final = 3.0
# What a client of HTTP/2 says first: a worker that takes no offence at its certificate answers.
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
# Of X509_verify_cert.
NOT_YET_VALID, EXPIRED, WRONG_HOSTS = 9, 10, (62, 64)
UNKNOWN_AUTHORITIES = (2, 18, 19, 20, 21)

# What OpenSSL makes of an answer that is no TLS.
NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
NO_TLS = (
    "answers without TLS, and TLS is wanted: start it with ssl-certfile and ssl-keyfile "
    f"({MADE_BY}), or say worker.insecure = true in the run-config where everybody on the network "
    "may read along"
)
GIVE_AUTHORITY = (
    "give its authority's certificate, as worker.ssl-ca-certfile in the run-config or as "
    "root-certificates in this client's node config"
)
GIVE_OWN = (
    "give one with its key, as worker.ssl-certfile and worker.ssl-keyfile in the run-config, which "
    "the ServerApp shows, or as ssl-certfile and ssl-keyfile in this client's node config"
)


def check_handshake(address: str, security: Security) -> None:
    """See that a channel that cannot be opened does not fail for its certificates.

    Parameters
    ----------
    address
        ``host:port`` of the worker.
    security
        What the channel was to be opened with.

    Raises
    ------
    CertificateError
        If it does: trying again is no use.
    """
    problem = _problem_of_tls(address, security) if security.is_secured else _wants_tls(address)
    if problem is not None:
        raise CertificateError(f"the split worker at {address} {problem}")


def reachability(address: str) -> str:
    """What becomes of a plain connection, in words: why nobody answers there, as far as it says.

    Parameters
    ----------
    address
        ``host:port`` of what should be a worker.
    """
    try:
        with _connected(address):
            return "it takes connections, and does not answer as a split worker does"
    except OSError as error:
        return error.strerror or str(error)


def _wants_tls(address: str) -> str | None:
    try:
        _handshake(address, _context(None))
    except OSError:
        return None
    return f"wants TLS, and was called without: {GIVE_AUTHORITY}"


def _problem_of_tls(address: str, security: Security) -> str | None:
    try:
        # Asked twice: one that ends at this very moment closes its connections, too.
        is_served = any(_handshake(address, _context(security)) for _ in range(2))
    except ssl.SSLCertVerificationError as error:
        return _problem_of_certificate(address, error.verify_code)
    except ssl.SSLError as error:
        return NO_TLS if error.reason in NOT_TLS else None
    except OSError:
        return None
    return None if is_served else _problem_of_own(security)


def _problem_of_own(security: Security) -> str:
    if security.own is None:
        return f"wants to be shown a certificate (mutual TLS), and was shown none: {GIVE_OWN}"
    own = security.own.certificates[0]
    return (
        f"refuses the certificate that it was shown, which is of the authority "
        f"{text_of(own.issuer)} and valid {validity_text(own)}: a valid one of the authority in "
        f"the worker's ssl-ca-certfile is wanted; {GIVE_OWN}"
    )


def _problem_of_certificate(address: str, code: int) -> str | None:
    shown = _shown(address)
    if shown is None:
        return None
    if code in (NOT_YET_VALID, EXPIRED):
        if is_valid_now(shown):
            return (
                f"shows a certificate of the authority {text_of(shown.issuer)}, whose own is not "
                "valid today: put certificates of another one into the worker's ssl-certfile and "
                f"ssl-keyfile, and {GIVE_AUTHORITY}"
            )
        return (
            f"shows a certificate that is valid {validity_text(shown)}: put a new one into its "
            "ssl-certfile and ssl-keyfile, which it takes up without a restart; if the dates are "
            "right, set this machine's clock"
        )
    if code in WRONG_HOSTS:
        return (
            f"shows a certificate for {hosts_text(shown)}, and one for {host_of(address)} is "
            f"wanted: make one for that host ({MADE_BY}), or have the worker called by one of its "
            "hosts, with worker.advertised-host or worker.address in the run-config"
        )
    if code in UNKNOWN_AUTHORITIES:
        return (
            f"shows a certificate of the authority {text_of(shown.issuer)}, which is not one that "
            f"is trusted here: {GIVE_AUTHORITY}"
        )
    return None


def _shown(address: str) -> x509.Certificate | None:
    """The certificate that a worker shows, whatever is wrong with it."""
    with suppress(OSError, ValueError), _connected(address) as plain:
        wrapped = _context(None).wrap_socket(plain, server_hostname=host_of(address))
        with wrapped:
            shown = wrapped.getpeercert(binary_form=True)
            return None if shown is None else x509.load_der_x509_certificate(shown)
    return None


def _handshake(address: str, context: ssl.SSLContext) -> bool:
    """Whether the worker goes on after the handshake; if not, it misses a caller's certificate."""
    with (
        _connected(address) as plain,
        context.wrap_socket(plain, server_hostname=host_of(address)) as secured,
    ):
        # Of TLS 1.3, what the other side thinks of a caller's certificate comes after.
        try:
            secured.sendall(PREFACE)
            return bool(secured.recv(1))
        except TimeoutError:
            return True
        except OSError:
            return False


def _connected(address: str) -> socket.socket:
    port = int(address.rpartition(":")[2])
    try:
        return socket.create_connection((host_of(address), port), timeout=PROBE_SECONDS)
    except UnicodeError as error:
        raise OSError(f"{host_of(address)} is no name of a host") from error


def _context(security: Security | None) -> ssl.SSLContext:
    """One that trusts and shows the same as a channel; None trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if security is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if security.authorities is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=security.authorities.decode())
        # As gRPC does: whom the file names is trusted, root or not.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if security.own is not None:
        context.load_cert_chain(security.own.certfile, security.own.keyfile)
    return context
