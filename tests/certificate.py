"""A certificate of a test's own, for localhost: server's, client's and authority's in one."""

import subprocess


def make_certificate(directory):
    """Write cert.pem and key.pem there; their paths."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    make += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {cert}"
    subprocess.run(make.split(), check=True, capture_output=True)
    return cert, key
