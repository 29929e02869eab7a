"""Folders of the Medical Segmentation Decathlon: dataset.json names every file.

`training` pairs image and label; `test` names images without labels, which are left out. (nnU-Net 1 has the same file
and other names of images; it is read by `find_nnunet`.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from perdure.data.content import refusal
from perdure.data.importing.found import Found, FoundCase, checked_file, read_json, subject_in
from perdure.data.importing.nnunet import label_values


def find_decathlon(source: Path, *, subject: re.Pattern[str] | None = None) -> Found:
    """Looks at a folder `TaskNN_NAME`.

    Args:
        source: the folder.
        subject: where the patient stands in the name of a case; by default each case is a patient of its own.

    Raises:
        DataError: it is no such folder, has several channels, or names a file that is not there.
    """
    path = source / "dataset.json"
    about = read_json(path, "a folder of the Decathlon has one")
    pairs, channels, said = about.get("training"), about.get("modality"), about.get("labels")
    if not isinstance(pairs, list) or not pairs or not isinstance(channels, Mapping) or not isinstance(said, Mapping):
        raise refusal(path, "no training, modality and labels", "a list and two objects", "keys")
    if len(channels) > 1:
        found = f"{len(channels)} channels ({', '.join(map(str, channels.values()))})"
        raise refusal(path, found, "images of one channel are read; split the files", "modality")
    labels, ignored = label_values(path, said)
    cases = []
    for pair in pairs:
        if not isinstance(pair, Mapping) or not all(isinstance(pair.get(key), str) for key in ("image", "label")):
            raise refusal(path, f"{pair!r:.100}", "an image and its label: paths", "training")
        image, label = (checked_file(source, pair[key], path) for key in ("image", "label"))
        name = re.sub(r"\.(nii|nii\.gz|mgz|mgh|png)$", "", Path(image).name)
        cases.append(FoundCase(subject_in(name, subject, path), name, image, label))
    test = about.get("test") if isinstance(about.get("test"), list) else ()
    return Found(
        source=source,
        task="segmentation",
        labels=labels,
        cases=cases,
        name=str(about.get("name", source.resolve().name)),
        title=str(about.get("description", "")),
        modality=", ".join(map(str, channels.values())),
        licence=str(about.get("licence", about.get("license", ""))),
        citation=str(about.get("reference", "")),
        ignore_values=ignored,
        left_out=(f"{len(test)} image(s) of `test`, which have no labels",) if test else (),
    )
