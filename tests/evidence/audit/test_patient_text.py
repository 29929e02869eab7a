"""Text that could name a patient is noticed, and what a release says anyway is not."""

from __future__ import annotations

import pytest

from perdure.evidence.audit.patient_text import hidden, masked, patient_like


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("jane.doe@hospital.org", "an e-mail address"),
        ("root@pacs", "an e-mail address"),
        ("1.2.840.113619.2.55.3.604688119.971", "a DICOM UID"),
        ("2.25.329800735698586629295641978511506172918", "a DICOM UID"),
        ("/home/smith/scans", "a path"),
        ("from /data", "a path"),
        ("~/scans", "a path"),
        (r"C:\scans\a.nii", "a path"),
        (r"\\server\scans", "a path"),
        ("file /mnt/pacs/method.toml", "a path"),
        ("born 1961-03-07", "a date"),
        ("1961_03_07", "a date"),
        ("19610307", "a number as of a person"),
        ("7.3.1961", "a date"),
        ("03/07/61", "a date"),
        ("7 March 1961", "a date"),
        ("Mar 7, 1961", "a date"),
        ("１９６１-０３-０７", "a date"),
        ("48151623", "a number as of a person"),
        ("A4815162", "a number as of a person"),
        ("078-05-1120", "a number as of a person"),
        ("943 476 5919", "a number as of a person"),
        ("+49 30 1234567", "a number as of a person"),
        ("MRN 4815", "a number as of a person"),
        ("patient_07", "a number as of a person"),
        ("Doe^Jane", "a name"),
        ("Dr. Müller", "a name"),
        ("patient: X", "a name"),
        ("jane_doe_base", "a given name"),
        ("JaneDoe", "a given name"),
        ("SEOgRG9lLCBKYW5lIDE5NjEtMDMtMDcgTVJOIDQ4MTUxNjIz", "a coded text"),
        ("x" * 400, "a text of 400 characters"),
    ],
)
def test_text_that_could_name_a_patient(text: str, what: str) -> None:
    assert any(said.startswith(what) for said in patient_like(text)), list(patient_like(text))


@pytest.mark.parametrize(
    "text",
    [
        "fundus photograph, RGB, 8 bit",
        "radiograph, grey, 8 bit, 128x128",
        "T1-weighted MPRAGE, 1.0 x 1.0 x 1.0 mm, 3 T",
        "CT, 120 kVp, 0.625 mm",
        "left_lateral_ventricle",
        "guangzhou_paediatric",
        "scanner-2024",
        "siteA",
        "perdure-plugin 2.13.0+cpu",
        "kirkpatrick2017overcoming",
        "base-plain-drive-seed1-fisher-3e20d547e0",
        "ewc-nih-adult-seed1-902774217f",
        "154d9402a8b009167852ebbcda1646c89630832b2e3ea761db6bf6da0764e1ea",
        "monai:SwinUNETR",
        "their_package.my_module:Network",
        "pulls parameters back to each earlier domain's solution, by Fisher information",
        "1000000",
        "0.123456789",
        "swallow_tail_block_config",
        "candidate's",
        "Hôpital Nord",
    ],
)
def test_text_that_releases_have_anyway(text: str) -> None:
    assert list(patient_like(text)) == []
    assert list(hidden(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "a\u200bb", "a\u202eb", "a\u00adb", "a\ufe0fb", "a\U000e0041b", "a\u2028b", "a\x07b", "a\ue000b", "a\u00a0b",
        "e\u0301\u0301\u0301", "siteА",  # Cyrillic
    ],
)  # fmt: skip
def test_what_a_reader_does_not_see_is_named(text: str) -> None:
    assert list(hidden(text))


def test_what_is_masked_shows_its_length_and_first_letter() -> None:
    assert masked("Doe^Jane 12") == "D••^•••• ••"
