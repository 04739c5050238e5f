"""What a worker's port is secured with, read anew when the files change."""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from ..errors import ConfigError
from ..settings import Trust, Worker
from ..settings.hosts import stands_for_all
from .certificate_files import (
    KeyPair,
    check_issued,
    check_names,
    read_authorities,
    read_key_pair,
)

logger = logging.getLogger(__name__)

CERTFILE, CA_CERTFILE = "worker.ssl-certfile", "worker.ssl-ca-certfile"
LOOK_SECONDS = 1.0
"""How often files are looked at, at most: whoever connects has them looked at."""


class PortCertificates:
    """The certificates of a worker's port, as its files have them now.

    Files that cannot be used are told in the log, and the last ones that could be stay.

    Parameters
    ----------
    worker
        Names the files, and the host that clients are told.
    tells_clients
        Whether they are told it; not where others say how the worker is reached, as of one of its
        own.
    clock
        Seconds that only go up.

    Raises
    ------
    ConfigError
        If a file cannot be used: missing, no PEM, not valid today, of another key, authority or
        host.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        tells_clients: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._tells_clients = tells_clients
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_seconds = clock()
        self._seen = self._marks()
        self._num_read = 1
        self._own, self._authorities = self._read()

    @property
    def trust(self) -> Trust:
        """What clients are told."""
        self._look()
        root = (self._authorities or b"").decode()
        return Trust(is_secured=self._own is not None, root_certificates=root)

    def credentials(self) -> grpc.ServerCredentials | None:
        """What a port is opened with; None for a plain one."""
        if self._own is None:
            return None
        given = self._num_read

        def newer() -> grpc.ServerCertificateConfiguration | None:
            """What gRPC asks for at every connection."""
            nonlocal given
            self._look()
            if given == self._num_read:
                return None
            given = self._num_read
            return self._configuration()

        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            newer,
            require_client_authentication=self._worker.mutual_tls,
        )

    def _look(self) -> None:
        """Take up new files, if the last look was some time ago."""
        with self._lock:
            if self._own is None or self._clock() - self._looked_seconds < LOOK_SECONDS:
                return
            self._looked_seconds = self._clock()
            marks = self._marks()
            if marks == self._seen:
                return
            self._seen = marks
            try:
                self._own, self._authorities = self._read()
            except ConfigError as error:
                logger.warning("the certificates in use stay, as the new ones are wrong: %s", error)
                return
            self._num_read += 1
            logger.info("new certificates are taken up from %s", self._worker.ssl_certfile)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        own = self._own
        assert own is not None
        asks = self._worker.mutual_tls
        return grpc.ssl_server_certificate_configuration(
            [(own.private_key, own.chain)],
            root_certificates=self._authorities if asks else None,
        )

    def _read(self) -> tuple[KeyPair | None, bytes | None]:
        worker = self._worker
        own = read_key_pair(worker, "worker.")
        authorities = read_authorities(CA_CERTFILE, worker.ssl_ca_certfile)
        if own is None:
            return None, None
        if authorities is not None:
            check_issued(own, authorities, (CERTFILE, CA_CERTFILE))
        told = worker.advertised_host or worker.host
        # What listens on all addresses and advertises none is called by whatever name others know.
        is_told = self._tells_clients and not stands_for_all(told)
        check_names(own, told if is_told else None, CERTFILE)
        return own, authorities

    def _marks(self) -> list[tuple[int, ...]]:
        """What a file that is written anew, or put in another's place, has other than before."""
        worker, marks = self._worker, list[tuple[int, ...]]()
        for path in (worker.ssl_certfile, worker.ssl_keyfile, worker.ssl_ca_certfile):
            try:
                found = os.stat(Path(path)) if path else None
            except OSError:
                found = None
            marks.append((found.st_ino, found.st_mtime_ns, found.st_size) if found else ())
        return marks
