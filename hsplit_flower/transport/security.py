"""What one side of a channel shows and whom it trusts, as gRPC wants it.

Paths are settings; what gRPC makes of the files lives here alone.
"""

from dataclasses import dataclass, field

import grpc

from ..settings import Trust, Worker
from .certificate_files import KeyPair, read_authorities, read_key_pair


@dataclass(frozen=True, kw_only=True)
class Security:
    """What whoever opens a channel shows and trusts; by default nothing, and the channel is plain.

    ``authorities`` are PEM; None leaves it to those that gRPC comes with. ``own`` is for a worker
    that asks for it.
    """

    is_secured: bool = False
    authorities: bytes | None = None
    own: KeyPair | None = field(default=None, repr=False)

    @classmethod
    def towards(cls, worker: Worker) -> "Security":
        """A strategy's, to a worker of these settings.

        Raises
        ------
        ConfigError
            If a file cannot be used.
        """
        if not worker.is_secured:
            return PLAIN
        authorities = read_authorities("worker.ssl-ca-certfile", worker.ssl_ca_certfile)
        own = read_key_pair(worker, "worker.")
        return cls(is_secured=True, authorities=authorities, own=own)

    @property
    def trust(self) -> Trust:
        """What a client is told, to trust the same worker."""
        return Trust(
            is_secured=self.is_secured, root_certificates=(self.authorities or b"").decode()
        )

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a channel is opened with; None for a plain one."""
        if not self.is_secured:
            return None
        return grpc.ssl_channel_credentials(
            root_certificates=self.authorities,
            private_key=None if self.own is None else self.own.private_key,
            certificate_chain=None if self.own is None else self.own.chain,
        )


PLAIN = Security()
"""A channel that nothing secures."""
