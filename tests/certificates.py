"""Certificates for servers of tests, made anew each time: none lies in the project."""

import subprocess
from pathlib import Path


def certificate_for(name: str, folder: Path) -> Path:
    """A certificate and its key in one file; `name`: a host's name, or an address as `IP:...`."""
    kind, _, bare = name.rpartition(":")
    key, chain = folder / "key.pem", folder / "chain.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", f"/CN={bare}", "-addext", f"subjectAltName={kind or 'DNS'}:{bare}",
            "-keyout", str(key), "-out", str(chain),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_bytes(chain.read_bytes() + key.read_bytes())
    return both
