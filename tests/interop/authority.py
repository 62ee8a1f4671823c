"""A certificate authority for the test, made by the openssl command."""

import subprocess
from pathlib import Path


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr}")


class Authority:
    def __init__(self, folder):
        self.folder = Path(folder) / "authority"
        self.folder.mkdir()
        self.certificate = self.folder / "ca.pem"
        self.key = self.folder / "ca.key"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key)
        openssl(
            "req", "-x509", "-new", "-sha256", "-days", "7", "-key", self.key, "-out", self.certificate,
            "-subj", "/CN=Interop test authority",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issue(self, host, folder):
        """A certificate and key for an IP address, as paths."""
        key, request, certificate = (Path(folder) / f"tls.{suffix}" for suffix in ("key", "csr", "pem"))
        extensions = Path(folder) / "tls.ext"
        extensions.write_text(
            f"subjectAltName=IP:{host}\nbasicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
        )
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("req", "-new", "-sha256", "-key", key, "-out", request, "-subj", f"/CN={host}")
        openssl(
            "x509", "-req", "-sha256", "-days", "7", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
            "-CAcreateserial", "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key
