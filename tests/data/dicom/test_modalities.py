"""What people write of a modality, and what a PACS calls it."""

from __future__ import annotations

import pytest

from perdure.data.dicom.modalities import IMAGES, modalities_of


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("T1-weighted MRI, NIfTI, 8 bit, 2 mm isotropic", ("MR",)),
        ("MR", ("MR",)),
        ("cardiac magnetic resonance", ("MR",)),
        ("CT", ("CT",)),
        ("computed tomography of the chest", ("CT",)),
        ("PET/CT", ("CT", "PT")),
        ("digital mammography", ("MG",)),
        ("mammogram, grey, 8 bit, 224x224", ("MG",)),
        ("radiograph, grey, 8 bit, 128x128", ("CR", "DX")),
        ("chest x-ray", ("CR", "DX")),
        ("fundus photograph, RGB, 8 bit", ("OP",)),
        ("", IMAGES),
        ("synthetic", IMAGES),
        ("octet mrs spectra", IMAGES),
    ],
)
def test_a_text_names_the_modalities_that_it_speaks_of(text: str, codes: tuple[str, ...]) -> None:
    assert modalities_of(text) == codes
