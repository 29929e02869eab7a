"""A real PACS on this machine (Orthanc with its DICOMweb plugin), and one that fails in ways that are known."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@contextmanager
def orthanc(folder: Path, **settings: Any) -> Iterator[str]:
    """Runs Orthanc with an empty store in `folder`; gives the address of its DICOMweb services.

    It is started with a configuration of its own, as a child of the test, and ended by its process id. Debian's service
    is not looked at, whether it runs or not.
    """
    program = _program()
    if program is None or not is_here():
        pytest.skip("no Orthanc: apt-get install orthanc orthanc-dicomweb")
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "orthanc.json"
    log = folder / "orthanc.log"
    for _ in range(5):  # another process may take the port between the question and the start
        port = _free_port()
        configuration.write_text(json.dumps(_configuration(folder, port) | settings))
        with log.open("wb") as file:
            server = subprocess.Popen([program, str(configuration)], stdout=file, stderr=file)
        try:
            if _answers(server, port):
                yield f"http://127.0.0.1:{port}/dicom-web"
                return
        finally:
            server.terminate()
            server.wait(timeout=30)
    raise RuntimeError(f"Orthanc does not start ({server.returncode}):\n{log.read_text()}")


def _configuration(folder: Path, port: int) -> dict[str, Any]:
    return {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        "HttpPort": port,
        # of this machine alone; versions before 1.12.10 listen everywhere and refuse what comes from elsewhere
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "WebDavEnabled": False,
        "SaveJobs": False,
        "KeepAlive": True,
    }


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    for _ in range(600):
        if server.poll() is not None:
            return False
        with socket.socket() as door:
            if door.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


def is_here() -> bool:
    """Whether Orthanc and its DICOMweb plugin are installed."""
    return _program() is not None and PLUGIN.exists()


def _program() -> str | None:
    return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def segmentations(address: str, study: str) -> list[Dataset]:
    """All segmentations of a study that the PACS at this address has."""
    client = DICOMwebClient(address)
    found = client.search_for_series(study, search_filters={"Modality": "SEG"})
    return [one for each in found for one in client.retrieve_series(study, each["0020000E"]["Value"][0])]


def forget_segmentations(address: str) -> None:
    """Takes all segmentations out of an Orthanc, by its own interface: DICOMweb has no way to."""
    there = address.removesuffix("/dicom-web")
    asked = json.dumps({"Level": "Series", "Query": {"Modality": "SEG"}}).encode()
    with urlopen(Request(f"{there}/tools/find", asked)) as answer:  # noqa: S310 - an Orthanc of this process
        found = json.load(answer)
    for series in found:
        urlopen(Request(f"{there}/series/{series}", method="DELETE")).close()  # noqa: S310


class Flaky:
    """A way to a PACS that fails as it is told, and writes down what was asked.

    Args:
        behind: the address of the PACS.
        fault: told the method, the path, and how often the same was asked before; `None` lets the request through, a
            number is answered as such a status, `cut` sends half of the PACS's answer and hangs up, `open` does so
            without having said how long it is.
    """

    def __init__(self, behind: str, fault: Callable[[str, str, int], int | str | None]) -> None:
        self.asked: list[tuple[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self._behind, self._fault = behind.removeprefix("http://").removesuffix("/dicom-web"), fault

    @contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator[str]:
        """Its address; with TLS, which the Orthanc of Debian 12 does not survive."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/dicom-web"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                flaky._answer(self, b"")

            def do_POST(self) -> None:
                flaky._answer(self, _body(self))

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        key = (handler.command, handler.path)
        fault = self._fault(*key, self.asked.count(key))
        self.asked.append(key)
        self.headers.append(dict(handler.headers))
        if isinstance(fault, int):
            handler.send_response(fault)
            handler.send_header("Content-Length", "0")
            handler.send_header("Connection", "close")
            handler.end_headers()
            return
        there = http.client.HTTPConnection(self._behind)
        sent = {name: value for name, value in handler.headers.items() if name not in ("Host", "Transfer-Encoding")}
        there.request(handler.command, handler.path, body or None, sent | {"Accept-Encoding": "identity"})
        answer = there.getresponse()
        content = answer.read()
        there.close()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name not in ("Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive"):
                handler.send_header(name, value)
        handler.send_header("Connection", "close")
        if fault != "open":
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content if fault is None else content[: len(content) // 2])


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in handler.headers.get("Transfer-Encoding", ""):
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body
