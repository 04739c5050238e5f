"""How a client secures its channel to the worker: as it is told, and as its node config says."""

from collections.abc import Mapping

from ..errors import CertificateError, ConfigError
from ..settings import NodeCertificates, Trust
from ..settings.reading import as_key
from ..transport.certificate_files import read_authorities, read_key_pair, told_authorities
from ..transport.security import PLAIN, Security

NODE_CONFIG = "this client's node config"


def security_of(trust: Trust, node_config: Mapping[str, object]) -> Security:
    """What the server says of the worker, unless the node config says otherwise.

    Parameters
    ----------
    trust
        As the client was instructed.
    node_config
        Of its SuperNode; other keys than those of `NodeCertificates` are left alone.

    Raises
    ------
    ConfigError
        If the node config's files cannot be used, or what the server sent are no certificates.
    CertificateError
        If it wants TLS, and the worker has none.
    """
    node = _node_certificates(node_config)
    if not trust.is_secured:
        if node.root_certificates:
            raise CertificateError(
                f"{NODE_CONFIG} says root-certificates = {node.root_certificates!r}, so a worker "
                "with TLS is wanted, and the server says that this one has none: give the worker "
                "ssl-certfile and ssl-keyfile, or take root-certificates out of the node config"
            )
        return PLAIN
    try:
        authorities = read_authorities("root-certificates", node.root_certificates)
        own = read_key_pair(node)
    except ConfigError as error:
        raise ConfigError(f"{NODE_CONFIG}: {error}") from error
    if authorities is None:
        authorities = told_authorities(
            "what the server says of the worker's authority (its worker.ssl-ca-certfile)",
            trust.root_certificates,
        )
    return Security(is_secured=True, authorities=authorities, own=own)


def _node_certificates(node_config: Mapping[str, object]) -> NodeCertificates:
    known = {field.key: field.name for field in NodeCertificates.known()}
    given = {name: node_config[key] for key, name in known.items() if key in node_config}
    node, problems = NodeCertificates.read(
        given, lambda name, *rest: as_key(name.replace("_", "-"), *rest)
    )
    if bool(given.get("ssl_certfile")) != bool(given.get("ssl_keyfile")):
        problems.append("ssl-certfile and ssl-keyfile go together: give both, or none")
    if node is None or problems:
        raise ConfigError.listing(NODE_CONFIG, problems)
    return node
