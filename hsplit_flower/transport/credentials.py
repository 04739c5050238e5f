"""Who may talk to whom: tokens in a call's metadata, and certificates as gRPC wants them.

Paths and tokens are settings; what gRPC makes of them lives here alone, and is made where a channel
or a port is opened.
"""

import hmac
from pathlib import Path

import grpc

from ..errors import ConfigError
from ..settings import Certificates

SESSION_TOKEN_KEY = "hsplit-session-token"
OPERATOR_TOKEN_KEY = "hsplit-operator-token"


def token_metadata(key: str, token: str) -> tuple[tuple[str, str], ...]:
    """A call's metadata that carries a token."""
    return ((key, token),)


def token_from(context: grpc.ServicerContext, key: str) -> str | None:
    """The token in a call's metadata, if there is one."""
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return None


def is_same_token(got: str | None, wanted: str) -> bool:
    """Whether a token is the one that is wanted, in a time that tells nothing of it."""
    return hmac.compare_digest((got or "").encode(), wanted.encode())


def channel_credentials(certificates: Certificates) -> grpc.ChannelCredentials | None:
    """What a client's channel is secured with; None for a plain one.

    Raises
    ------
    ConfigError
        If a file cannot be read.
    """
    if certificates.is_plain:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_content("ssl_ca_certfile", certificates.ssl_ca_certfile),
        private_key=_content("ssl_keyfile", certificates.ssl_keyfile),
        certificate_chain=_content("ssl_certfile", certificates.ssl_certfile),
    )


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials | None:
    """What a server's port is secured with; None for a plain one.

    With an authority, clients must show a certificate of it too.

    Raises
    ------
    ConfigError
        If a file cannot be read, or there is no certificate of the server's own.
    """
    if certificates.is_plain:
        return None
    key = _content("ssl_keyfile", certificates.ssl_keyfile)
    certificate = _content("ssl_certfile", certificates.ssl_certfile)
    if key is None or certificate is None:
        raise ConfigError("a server needs ssl_certfile and ssl_keyfile: give both, or no file")
    authority = _content("ssl_ca_certfile", certificates.ssl_ca_certfile)
    return grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=authority,
        require_client_auth=authority is not None,
    )


def _content(name: str, path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name} is {path!r}: a file that can be read is wanted") from error
