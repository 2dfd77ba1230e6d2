"""Why the brokers do not let us in. The library only says that it could not connect to any.

Its clients write the cause into a log line and forget it. One more connection tells what to change:
a wrong password is no outage, and waiting mends it never.
"""

import asyncio
import ssl
from datetime import timedelta

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from shared.log import LogRefused, LogUnavailable
from shared.log.kafka.cluster import Cluster

# Of OpenSSL, X509_V_ERR_*: the name, and the address, are not the certificate's.
_WRONG_NAMES = (62, 64)


async def why_unavailable(cluster: Cluster, *, within: timedelta) -> LogUnavailable:
    """LogRefused, naming the setting, where a broker answers but refuses; else that none answers.

    Holds no secret: neither the brokers' answers nor OpenSSL's repeat one.
    """
    found = LogUnavailable("Kafka does not answer")
    for host, port, _family in collect_hosts(cluster.bootstrap_servers):
        server = f"{host}:{port}"
        try:
            await _greet(cluster, host, port, within)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            found = _meaning(error, server, cluster)
        else:
            found = LogUnavailable(f"Kafka did not answer; {server} does again")
        if isinstance(found, LogRefused):
            break
    return found


async def _greet(cluster: Cluster, host: str, port: int, within: timedelta) -> None:
    """As the library begins, with the same settings."""
    options = cluster.connection(request_timeout=within)
    names = ("request_timeout_ms", "ssl_context", "security_protocol", "sasl_mechanism")
    sign_in = ("sasl_plain_username", "sasl_plain_password")
    taken = {name: options[name] for name in (*names, *sign_in) if name in options}
    async with asyncio.timeout(within.total_seconds()):
        connection = await create_conn(host, port, client_id=options["client_id"], **taken)
        try:
            await connection.send(MetadataRequest([]))
        finally:
            connection.close()


def _meaning(error: Exception, server: str, cluster: Cluster) -> LogUnavailable:
    protocol = cluster.protocol
    match error:
        case ssl.SSLCertVerificationError(verify_code=code) if code in _WRONG_NAMES:
            said = (
                f"KAFKA_BOOTSTRAP_SERVERS: the certificate of {server} is for another name:"
                f" {error.verify_message}"
            )
        case ssl.SSLCertVerificationError():
            said = (
                f"KAFKA_CA_FILE: the certificate of {server} is not trusted: {error.verify_message}"
            )
        case ssl.SSLError():
            said = (
                f"KAFKA_SECURITY_PROTOCOL ({protocol}): no TLS with {server}: {error.reason};"
                " it may want KAFKA_CERTIFICATE_FILE, or speak no TLS"
            )
        case SaslAuthenticationFailed():
            said = f"KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: {server} does not know this pair"
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            said = f"KAFKA_SASL_MECHANISM, KAFKA_SECURITY_PROTOCOL: {server} takes no such sign-in"
        case KafkaConnectionError() | ConnectionResetError():
            # A broker that is ending does the same: no reason to give up.
            return LogUnavailable(
                f"{server} closes the connection: it ends, or KAFKA_SECURITY_PROTOCOL"
                f" ({protocol}) is not what it speaks"
            )
        case _:
            return LogUnavailable(f"Kafka does not answer: {server}: {error!r}")
    return LogRefused(said)
