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


def chain_for(name: str, folder: Path, *, days: int, authority_days: int) -> Path:
    """A host's certificate and, behind it in the same file, the authority that signed it."""
    key, authority, chain = (folder / f"{one}.pem" for one in ("ca-key", "ca", "signed"))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    for command in (
        [*made, "-days", str(authority_days), "-subj", "/CN=authority",
         "-keyout", str(key), "-out", str(authority)],
        [*made, "-days", str(days), "-subj", f"/CN={name}", "-CA", str(authority),
         "-CAkey", str(key), "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", str(folder / "own-key.pem"), "-out", str(chain)],
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    chain.write_bytes(chain.read_bytes() + authority.read_bytes())
    return chain
