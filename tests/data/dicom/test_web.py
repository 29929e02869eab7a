"""A series comes from a real PACS whole or not at all, and a result goes back; what may pass is tried again."""

from __future__ import annotations

import datetime as dt
import io
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless, generate_uid

import dicoms
import pacs
from perdure.data.dicom import web
from perdure.data.dicom.access import Access
from perdure.errors import ConfigurationError, PacsError

TOKEN = "cGxhbnRlZDp0b2tlbg=="  # noqa: S105 - of no server


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are written down instead."""
    waited: list[float] = []
    monkeypatch.setattr("perdure.data.dicom.web.sleep", waited.append)
    return waited


_opened: list[web.Pacs] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().__exit__()


def Pacs(*arguments: Any, **named: Any) -> web.Pacs:  # noqa: N802 - as the class
    """One that is closed when the test is over."""
    _opened.append(web.Pacs(*arguments, **named))
    return _opened[-1]


@pytest.fixture
def waited(_no_waiting: list[float]) -> list[float]:
    return _no_waiting


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A series of four slices, with a patient."""
    volume = np.random.default_rng(0).integers(0, 4096, (40, 30, 4), np.uint16)
    more = {"PatientName": "PLANTED^NAME", "PatientID": "PLANTED-ID", "PatientBirthDate": "19010203"}
    more |= {"SeriesDescription": "T1 mprage", "StudyInstanceUID": generate_uid()}
    return dicoms.write_series(tmp_path / "series", volume, np.diag([1.0, 1.0, 2.0, 1.0]), more=more)


@pytest.fixture
def study(orthanc: str, files: list[Path]) -> str:
    """The UID of the study in the PACS that the series is in."""
    datasets = [dcmread(file) for file in files]
    for file in files:
        Pacs(orthanc).store(file.read_bytes())
    return str(datasets[0].StudyInstanceUID)


def content(data: bytes) -> Dataset:
    return dcmread(io.BytesIO(data))


def fetched(from_: web.Pacs, study: str) -> dict[str, bytes]:
    series = from_.series(study)[0]
    return {uid: from_.instance(study, series.uid, uid) for uid in from_.instances(study, series)}


def flaky(orthanc: str, fault: Callable[[str, str, int], int | str | None]) -> pacs.Flaky:
    return pacs.Flaky(orthanc, fault)


def test_a_study_s_series_are_told_with_modality_description_and_count(orthanc: str, study: str) -> None:
    (series,) = Pacs(orthanc).series(study)
    assert (series.modality, series.description, series.instances) == ("MR", "T1 mprage", 4)


def test_what_comes_is_what_was_stored(orthanc: str, study: str, files: list[Path]) -> None:
    found = fetched(Pacs(orthanc), study)
    assert sorted(found) == sorted(dcmread(file).SOPInstanceUID for file in files)
    for file in files:
        original = dcmread(file)
        came = content(found[original.SOPInstanceUID])
        assert came == original
        assert came.PixelData == original.PixelData


def test_a_compressed_instance_comes_as_it_is_kept(orthanc: str, files: list[Path]) -> None:
    dataset = dcmread(files[0])
    dataset.compress(RLELossless)
    stored = io.BytesIO()
    dataset.save_as(stored, enforce_file_format=True)
    assert Pacs(orthanc).store(stored.getvalue()) == "stored"
    (found,) = fetched(Pacs(orthanc), dataset.StudyInstanceUID).values()
    assert content(found).file_meta.TransferSyntaxUID == RLELossless
    np.testing.assert_array_equal(content(found).pixel_array, dcmread(files[0]).pixel_array)


def test_an_object_that_is_there_already_is_no_failure(orthanc: str, study: str, files: list[Path]) -> None:
    assert Pacs(orthanc).store(files[0].read_bytes()) in ("stored", "was stored before")
    assert Pacs(orthanc).series(study)[0].instances == 4


def test_an_unknown_study_is_an_error_that_names_it(orthanc: str) -> None:
    study = generate_uid()
    with pytest.raises(PacsError, match=f"has no study {study}"):
        Pacs(orthanc).series(study)


@pytest.mark.parametrize("status", [503, 429, 502])
def test_a_busy_server_is_asked_again_with_twice_the_wait_each_time(
    orthanc: str, study: str, files: list[Path], waited: list[float], status: int
) -> None:
    between = flaky(orthanc, lambda method, path, before: status if before < 2 else None)
    with between.running() as address:
        assert len(fetched(Pacs(address), study)) == 4
        assert Pacs(address).store(files[0].read_bytes()) in ("stored", "was stored before")
    assert waited[:4] == [1.0, 2.0, 1.0, 2.0]
    assert between.asked.count(between.asked[-1]) == 3


@pytest.mark.parametrize("how", ["cut", "open"])
def test_an_answer_that_breaks_off_is_fetched_again_and_never_taken_for_a_whole_one(
    orthanc: str, study: str, files: list[Path], how: str
) -> None:
    between = flaky(orthanc, lambda method, path, before: how if "/instances/" in path and before == 0 else None)
    with between.running() as address:
        found = fetched(Pacs(address), study)
    for file in files:
        assert content(found[dcmread(file).SOPInstanceUID]) == dcmread(file)
    assert sum("/instances/" in path for _, path in between.asked) == 8


def test_an_answer_of_a_search_that_breaks_off_is_asked_for_again(orthanc: str, study: str) -> None:
    between = flaky(orthanc, lambda method, path, before: "open" if before == 0 else None)
    with between.running() as address:
        assert Pacs(address).series(study) == Pacs(orthanc).series(study)


def test_a_connection_that_stays_broken_is_an_error_after_so_many_attempts(
    orthanc: str, study: str, waited: list[float]
) -> None:
    between = flaky(orthanc, lambda method, path, before: "cut" if "/instances/" in path else None)
    with between.running() as address, pytest.raises(PacsError, match="tried 3 times.*the same command goes on"):
        fetched(Pacs(address, attempts=3), study)
    assert waited == [1.0, 2.0]


def test_a_server_that_is_not_there_is_an_error_without_an_address_of_patients(orthanc: str) -> None:
    with pacs.Flaky(orthanc, lambda *_: None).running() as gone:
        pass
    with pytest.raises(PacsError, match="cannot be reached") as caught:
        Pacs(gone, attempts=2).series("1.2.3")
    assert "1.2.3" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_not_asked_again_and_says_what_to_give_but_no_token(orthanc: str, status: int) -> None:
    between = flaky(orthanc, lambda *_: status)
    with between.running() as address, pytest.raises(PacsError, match="--token-file") as caught:
        Pacs(address, Access(token=TOKEN)).series("1.2.3")
    assert TOKEN not in str(caught.value) + repr(caught.value.__cause__) + repr(Access(token=TOKEN))
    assert len(between.asked) == 1
    assert between.headers[0]["Authorization"] == f"Bearer {TOKEN}"


def test_credentials_of_another_scheme_are_sent_as_they_stand(orthanc: str, study: str) -> None:
    between = flaky(orthanc, lambda *_: None)
    with between.running() as address:
        Pacs(address, Access(token=f"Basic {TOKEN}")).series(study)
    assert between.headers[0]["Authorization"] == f"Basic {TOKEN}"


def test_the_environment_decides_nothing(
    orthanc: str, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login somebody password {TOKEN}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    between = flaky(orthanc, lambda *_: None)
    with between.running() as address:
        assert len(Pacs(address).series(study)) == 1
    assert "Authorization" not in between.headers[0]


@pytest.mark.parametrize(
    ("url", "access", "what"),
    [
        ("pacs.example/dicom-web", Access(), "must be an address"),
        ("ftp://pacs.example", Access(), "must be an address"),
        ("http://[::1/dicom-web", Access(), "must be an address"),
        ("http://pacs.example:abc/dicom-web", Access(), "must be an address"),
        ("http://pacs.example:99999", Access(), "must be an address"),
        ("https://user:word@pacs.example", Access(), "no user or password"),
        ("http://pacs.example", Access(token=TOKEN), "https"),
        ("http://[::2]", Access(token=TOKEN), "https"),
        ("https://pacs.example", Access(authority=Path("none.pem")), "--ca none.pem: no such file"),
        ("https://pacs.example", Access(key=Path(__file__)), "goes with --client-cert"),
    ],
)
def test_an_address_or_a_file_that_cannot_be_right_is_refused_at_once(url: str, access: Access, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what) as caught:
        Pacs(url, access)
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("machine", ["localhost", "127.0.0.1:8042", "[::1]", "[::1]:8042"])
def test_a_token_may_go_in_the_clear_to_this_machine(machine: str) -> None:
    assert Pacs(f"http://{machine}/dicom-web", Access(token=TOKEN)).host == f"http://{machine}"


@pytest.mark.parametrize("study", ["", "..", "1.2/../3", "1.2.3?", "1" * 65, "../../1.2"])
def test_what_is_no_uid_comes_into_no_address(study: str) -> None:
    with pytest.raises(ConfigurationError, match="a UID is digits and dots"):
        Pacs("http://127.0.0.1:9").series(study)


# ---- a PACS that says what it should not


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., web.Pacs]]:
    """A PACS that answers everything with the same."""
    servers: list[tuple[HTTPServer, Thread]] = []

    def of(body: bytes, kind: str = "application/dicom+json", status: int = 200) -> web.Pacs:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - so the library calls it

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return Pacs(f"http://127.0.0.1:{server.server_port}")

    yield of
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


UIDS = '"0020000E": {"vr": "UI", "Value": ["1.2.3"]}'


@pytest.mark.parametrize(
    "body",
    [
        b"<html>PLANTED</html>",
        b'{"a": 1}',
        b"[1]",
        b"7",
        b"null",
        b"[{}]",
        b'[{"0020000E": 3}]',
        b'[{"0020000E": {"Value": ["../../PLANTED"]}}]',
        b'[{"0020000E": {"Value": [{"a": 1}]}}]',
    ],
)
def test_an_answer_that_is_no_list_of_series_is_refused_and_not_repeated(
    says: Callable[..., web.Pacs], body: bytes
) -> None:
    with pytest.raises(PacsError, match="127.0.0.1") as caught:
        says(body).series("1.2")
    assert "PLANTED" not in str(caught.value)


def test_fewer_instances_than_the_pacs_speaks_of_are_refused(orthanc: str, study: str) -> None:
    from_ = Pacs(orthanc)
    (series,) = from_.series(study)
    more = web.OfferedSeries(series.uid, "MR", "", 5)
    with pytest.raises(PacsError, match=r"lists 4 instances .* says that there are 5.*still be receiving"):
        from_.instances(study, more)
    unsaid = web.OfferedSeries(series.uid, "MR", "", None)
    assert len(from_.instances(study, unsaid)) == 4


def test_another_instance_than_was_asked_for_is_refused(orthanc: str, study: str) -> None:
    between = flaky(orthanc, lambda *_: None)
    with between.running() as address:
        series = Pacs(address).series(study)[0]
        first, second = Pacs(address).instances(study, series)[:2]
        answer = Pacs(address)
        retrieve = answer._client.retrieve_instance
        answer._client.retrieve_instance = lambda *_: retrieve(study, series.uid, second)
        with pytest.raises(PacsError, match="sent another one"):
            answer.instance(study, series.uid, first)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"--b\r\nContent-Type: application/dicom\r\n\r\nPLANTED\r\n--b--", 'multipart/related; boundary="b"'),
        (b"--b\r\n\r\n--b--", "multipart/related; boundary=b"),
        (b"PLANTED", "text/plain"),
        (b"", "multipart/related; boundary=b"),
    ],
)
def test_what_is_no_dicom_file_is_refused_and_not_repeated(
    says: Callable[..., web.Pacs], body: bytes, kind: str
) -> None:
    with pytest.raises(PacsError, match=r"asked for instance 1\.2\.5") as caught:
        says(body, kind).instance("1.2", "1.2.4", "1.2.5")
    assert "PLANTED" not in str(caught.value)


def answer(uid: str, reason: int | None = None, warning: int | None = None) -> bytes:
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    told = Dataset()
    if reason is not None:
        item.FailureReason = reason
        told.FailedSOPSequence = [item]
    else:
        if warning is not None:
            item.WarningReason = warning
        told.ReferencedSOPSequence = [item]
    return told.to_json().encode()


@pytest.mark.parametrize(
    ("reason", "status", "what"),
    [
        (0xA700, 409, "A700 (out of resources)"),
        (0xA702, 409, "A702 (out of resources)"),
        (0x0122, 409, "0122 (it takes no segmentations)"),
        (0xC123, 202, "C123 (it cannot understand the object)"),
        (0x0999, 200, "reason 0999."),
    ],
)
def test_an_object_that_is_not_stored_is_an_error_with_the_reason(
    says: Callable[..., web.Pacs], files: list[Path], reason: int, status: int, what: str
) -> None:
    uid = dcmread(files[0]).SOPInstanceUID
    with pytest.raises(PacsError) as caught:
        says(answer(uid, reason), status=status).store(files[0].read_bytes())
    assert what in str(caught.value)


@pytest.mark.parametrize("status", [200, 202, 409])
def test_a_duplicate_is_no_failure(says: Callable[..., web.Pacs], files: list[Path], status: int) -> None:
    uid = dcmread(files[0]).SOPInstanceUID
    assert says(answer(uid, 0x0111), status=status).store(files[0].read_bytes()) == "was stored before"


def test_a_warning_is_told(says: Callable[..., web.Pacs], files: list[Path]) -> None:
    uid = dcmread(files[0]).SOPInstanceUID
    assert "B000" in says(answer(uid, warning=0xB000)).store(files[0].read_bytes())


@pytest.mark.parametrize("body", [b'{"00081199": {"vr": "LO", "Value": ["PLANTED"]}}', b"[1]", b'{"a": 1}', b"<x/>"])
def test_an_answer_to_storing_that_is_no_dicom_is_refused(
    says: Callable[..., web.Pacs], files: list[Path], body: bytes
) -> None:
    with pytest.raises(PacsError) as caught:
        says(body).store(files[0].read_bytes())
    assert "PLANTED" not in str(caught.value)


def test_a_list_without_an_end_is_refused(
    says: Callable[..., web.Pacs], monkeypatch: pytest.MonkeyPatch, orthanc: str, study: str
) -> None:
    monkeypatch.setattr(web, "_MOST_RECORDS", 3)
    from_ = Pacs(orthanc)
    with pytest.raises(PacsError, match="goes on beyond 3"):
        from_.instances(study, from_.series(study)[0])


@pytest.mark.parametrize("body", [answer("1.2.3"), b"{}", b""])
def test_an_object_that_the_pacs_does_not_speak_of_is_not_stored(
    says: Callable[..., web.Pacs], files: list[Path], body: bytes
) -> None:
    with pytest.raises(PacsError, match="did not store the segmentation: without a reason"):
        says(body).store(files[0].read_bytes())


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for this machine and its key, and both in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    folder = tmp_path_factory.mktemp("tls")
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.pem").write_bytes(signed)
    (folder / "key.pem").write_bytes(secret)
    (folder / "both.pem").write_bytes(secret + signed)
    return folder / "ca.pem", folder / "both.pem"


def server_side(both: Path, known: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    if known is not None:
        context.load_verify_locations(known)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_a_certificate_is_trusted_if_its_authority_is_named_and_not_otherwise(
    orthanc: str, study: str, files: list[Path], certificate: tuple[Path, Path], waited: list[float]
) -> None:
    authority, both = certificate
    between = flaky(orthanc, lambda *_: None)
    with between.running(server_side(both)) as address:
        assert len(Pacs(address, Access(token=TOKEN, authority=authority)).series(study)) == 1
        with pytest.raises(PacsError, match="certificate is not trusted.*--ca"):
            Pacs(address, Access(token=TOKEN)).series(study)
        with pytest.raises(ConfigurationError, match="--ca .*holds no certificate"):
            Pacs(address, Access(authority=files[0])).series(study)
    assert waited == []
    assert len(between.asked) == 2  # no request, and no token, went to the one that was not trusted


def test_a_pacs_that_asks_for_a_certificate_of_ours_gets_it(
    orthanc: str, study: str, certificate: tuple[Path, Path]
) -> None:
    authority, both = certificate
    with flaky(orthanc, lambda *_: None).running(server_side(both, authority)) as address:
        for known in ({"certificate": authority, "key": authority.with_name("key.pem")}, {"certificate": both}):
            assert len(Pacs(address, Access(authority=authority, **known)).series(study)) == 1
        with pytest.raises(PacsError):
            Pacs(address, Access(authority=authority), attempts=2).series(study)


def test_a_certificate_of_ours_without_its_key_is_refused_at_once(certificate: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigurationError, match="--client-cert"):
        Pacs("https://127.0.0.1:9", Access(certificate=certificate[0]))
