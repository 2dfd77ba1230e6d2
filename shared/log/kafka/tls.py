"""TLS to the brokers: whom we trust, and who we are; read once, from files."""

import ssl
from pathlib import Path

from shared.errors import Misconfigured


def context(
    *, authority: Path | None, certificate: Path | None, key: Path | None
) -> ssl.SSLContext:
    """Trusts `authority` alone, or whom the system trusts; checks the brokers' names, always.

    Raises Misconfigured naming the variable whose file cannot be used.
    """
    try:
        made = ssl.create_default_context(cafile=authority)
    except (OSError, ValueError) as error:
        raise Misconfigured(f"KAFKA_CA_FILE: {authority}: {_why(error)}") from error
    if certificate is not None:
        for name, path in (("KAFKA_CERTIFICATE_FILE", certificate), ("KAFKA_KEY_FILE", key)):
            try:
                if path is not None:
                    path.open("rb").close()
            except OSError as error:
                raise Misconfigured(f"{name}: {path}: {_why(error)}") from error
        try:
            # An empty passphrase: without one, OpenSSL would ask for it on the terminal and wait.
            made.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            raise Misconfigured(
                "KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE are no certificate and its key, without"
                f" a passphrase: {_why(error)}"
            ) from error
    return made


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "no certificate in PEM form"
    return error.strerror if isinstance(error, OSError) and error.strerror else "cannot be used"
