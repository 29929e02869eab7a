"""Data folders from folders in other layouts, without a copy of an image: nnU-Net, Decathlon, BIDS, DICOM."""

from __future__ import annotations

from perdure.data.importing.bids import find_bids
from perdure.data.importing.decathlon import find_decathlon
from perdure.data.importing.dicom import find_dicom
from perdure.data.importing.folder import Imported, imported
from perdure.data.importing.nnunet import find_nnunet
from perdure.data.importing.walk import Chosen

__all__ = ["Chosen", "Imported", "find_bids", "find_decathlon", "find_dicom", "find_nnunet", "imported"]
