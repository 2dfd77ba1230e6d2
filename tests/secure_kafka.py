"""A real broker as production has it: TLS, sign-in by SCRAM, and nobody allowed but by a rule."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.brokers import KafkaBroker, fetch_jars
from tests.certificates import certificate_for
from tests.processes import free_port

PRINCIPALS = ("admin", "ingest", "scoring", "notifier", "migrate", "operator", "stranger")
_ACLS = Path(__file__).resolve().parent.parent / "deploy" / "kafka" / "acls.sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureKafka:
    """The broker, where it listens for clients, and what they need."""

    broker: KafkaBroker
    bootstrap_servers: str
    plain_servers: str
    """Without TLS, with sign-in."""
    authority: Path
    folder: Path

    def settings_of(self, principal: str) -> Mapping[str, str]:
        """What a service of ours is given."""
        password = self.folder / f"{principal}.password"
        password.write_text(password_of(principal) + "\n")
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": principal,
            "KAFKA_SASL_PASSWORD_FILE": str(password),
            "KAFKA_CA_FILE": str(self.authority),
        }

    def allow(self, prefix: str) -> None:
        """Run `deploy/kafka/acls.sh` as its administrator does."""
        config = self.folder / "admin.properties"
        config.write_text(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
            "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required"
            f' username="admin" password="{password_of("admin")}";\n'
            f"ssl.truststore.type=PEM\nssl.truststore.location={self.authority}\n"
        )
        command = self.folder / "kafka-acls.sh"
        # The first call leaves its loaded classes for the others: each costs half the time then.
        archive = self.folder / "acls.jsa"
        command.write_text(
            f"#!/bin/sh\nif [ -f {archive} ]; then share=-XX:SharedArchiveFile={archive}\n"
            f"else share=-XX:ArchiveClassesAtExit={archive}; fi\n"
            "exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xlog:disable $share"
            f' -cp "{fetch_jars()}/*" org.apache.kafka.tools.AclCommand "$@"\n'
        )
        command.chmod(0o700)
        done = subprocess.run(
            ["sh", str(_ACLS), self.bootstrap_servers, str(config)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"KAFKA_ACLS": str(command), "PERENNIAL_TOPIC_PREFIX": prefix},
        )
        assert done.returncode == 0, done.stdout + done.stderr


def password_of(principal: str) -> str:
    return f"hunter2-of-{principal}"


def new_secure_kafka(folder: Path) -> SecureKafka:
    """Not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    both = certificate_for("IP:127.0.0.1", folder)
    tls, plain, inner, controller = (free_port() for _ in range(4))
    listeners = f"SECURE://127.0.0.1:{tls},PLAIN://127.0.0.1:{plain},CLIENT://127.0.0.1:{inner}"
    protocols = "SECURE:SASL_SSL,PLAIN:SASL_PLAINTEXT,CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    broker = KafkaBroker(
        folder / "broker",
        ports=(inner, controller),
        settings=[
            f"listeners={listeners},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners={listeners}",
            f"listener.security.protocol.map={protocols}",
            "sasl.enabled.mechanisms=SCRAM-SHA-512",
            f"listener.name.secure.scram-sha-512.sasl.jaas.config={scram}",
            f"listener.name.plain.scram-sha-512.sasl.jaas.config={scram}",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={both}",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The brokers among themselves; in production they have certificates, too.
            "super.users=User:admin;User:ANONYMOUS",
            "allow.everyone.if.no.acl.found=false",
        ],
        formatting=_users(PRINCIPALS),
    )
    return SecureKafka(
        broker=broker,
        bootstrap_servers=f"127.0.0.1:{tls}",
        plain_servers=f"127.0.0.1:{plain}",
        authority=folder / "chain.pem",
        folder=folder,
    )


def _users(names: Sequence[str]) -> list[str]:
    users = [f"SCRAM-SHA-512=[name={name},password={password_of(name)}]" for name in names]
    return [option for user in users for option in ("--add-scram", user)]
