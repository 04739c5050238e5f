"""What a channel is secured with: files, named as Flower names them, and whom to trust."""

from pydantic import model_validator
from typing_extensions import Self

from .fields import setting
from .group import Settings

MOST_ROOT_CHARACTERS = 2**20
"""More than all authorities that systems come with take."""


class Certificates(Settings):
    """Paths of PEM files that the two sides of a channel show each other; none is a plain one."""

    ssl_certfile: str = setting(
        "",
        "File of the certificate that the worker shows, with those between it and its authority; "
        "a SuperLink's own will do. With worker.address, of the one that the ServerApp shows. "
        "Empty is a channel that nothing secures, as on loopback.",
    )
    ssl_keyfile: str = setting("", "File of the key of that certificate, without a password.")
    ssl_ca_certfile: str = setting(
        "",
        "File of the authority's certificate that the worker's is of. Clients get it with their "
        "instructions, unless their node config has another. Empty leaves it to the authorities "
        "that gRPC comes with.",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if problems := self._contradictions():
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> "list[str]":
        if bool(self.ssl_certfile) == bool(self.ssl_keyfile):
            return []
        return ["ssl_certfile and ssl_keyfile go together: give both, or none"]


class NodeCertificates(Settings):
    """What a client's node config says of its channel to the worker."""

    root_certificates: str = setting(
        "",
        "File of the authorities that the worker's certificate must be of, whatever the server "
        "says; a worker without TLS is refused then.",
    )
    ssl_certfile: str = setting(
        "", "File of the certificate that the client shows a worker that asks for one."
    )
    ssl_keyfile: str = setting("", "File of the key of that certificate, without a password.")


class Trust(Settings):
    """What a client is told of its channel to the worker, by a server that it trusts."""

    is_secured: bool = setting(False, "Whether the worker is reached over TLS.")
    root_certificates: str = setting(
        "",
        "Certificates, in PEM, of the authorities that the worker's must be of; empty leaves it to "
        "those that gRPC comes with.",
        max_length=MOST_ROOT_CHARACTERS,
    )
