"""Copies one image in the plainest way, as a measure of CPU time: ``reference_copy.py SOURCE DESTINATION NAME TAG``.

Without arguments it does nothing, which tells what starting it costs.
"""

import hashlib
import http.client
import json
import sys

_PIECE = 256 << 10
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def main(source_host: str, destination_host: str, name: str, tag: str) -> None:
    """Copy an image between registries, ``HOST:PORT`` over HTTP; each blob is verified before it is committed."""
    source, destination = http.client.HTTPConnection(source_host), http.client.HTTPConnection(destination_host)
    source.request("GET", f"/v2/{name}/manifests/{tag}", headers={"Accept": _MANIFEST})
    manifest = source.getresponse().read()
    described = json.loads(manifest)
    for blob in (described["config"], *described["layers"]):
        _copy_blob(source, destination, name, blob["digest"], blob["size"])
    _send(destination, "PUT", f"/v2/{name}/manifests/{tag}", manifest)


def _copy_blob(
    source: http.client.HTTPConnection, destination: http.client.HTTPConnection, name: str, digest: str, size: int
) -> None:
    location = _send(destination, "POST", f"/v2/{name}/blobs/uploads/")
    source.request("GET", f"/v2/{name}/blobs/{digest}")
    answer = source.getresponse()
    destination.putrequest("PUT", f"{location}&digest={digest}")
    destination.putheader("Content-Type", "application/octet-stream")
    destination.putheader("Content-Length", str(size))
    destination.endheaders()
    found = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE))
    left = size
    while left:
        count = answer.readinto(buffer[: min(_PIECE, left)])
        left -= count
        found.update(buffer[:count])
        if count == 0 or (left == 0 and f"sha256:{found.hexdigest()}" != digest):
            raise SystemExit(f"{digest} did not arrive as it should")
        destination.send(buffer[:count])
    answer.read()
    _finish(destination)


def _send(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> str:
    connection.request(method, path, body, {"Content-Length": str(len(body)), "Content-Type": _MANIFEST})
    return _finish(connection)


def _finish(connection: http.client.HTTPConnection) -> str:
    """Read an answer, and return the path of its Location."""
    answer = connection.getresponse()
    told = answer.read()
    if answer.status not in (201, 202):
        raise SystemExit(f"{answer.status}: {told.decode(errors='replace')}")
    return "/" + answer.getheader("Location", "").partition("://")[2].partition("/")[2]


if __name__ == "__main__" and len(sys.argv) > 1:
    main(*sys.argv[1:])
