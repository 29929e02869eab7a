"""nnU-Net's raw folders, versions 2 and 1.

dataset.json        2: channel_names, labels {"name": value}, file_ending; 1: modality, labels {"value": "name"}
imagesTr/           CASE_0000.nii.gz, one file a channel
labelsTr/           CASE.nii.gz
imagesTs/, labelsTs/    the same, for testing
splits_final.json   folds of train and val (nnU-Net keeps it with the preprocessed data: copy it here)
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perdure.data.content import refusal
from perdure.data.images import IMAGE_SUFFIXES, VOLUME_SUFFIXES
from perdure.data.importing.found import (
    Found,
    FoundCase,
    checked_file,
    is_label_name,
    label_value,
    read_json,
    subject_in,
)
from perdure.types import Split

_SPLITS = "splits_final.json"


def find_nnunet(source: Path, *, subject: re.Pattern[str] | None = None, fold: int | None = None) -> Found:
    """Looks at a folder `DatasetNNN_NAME` or `TaskNNN_NAME`.

    Args:
        source: the folder.
        subject: where the patient stands in the name of a case; by default each case is a patient of its own.
        fold: of splits_final.json, which has to be followed then. By default the first, if it can be followed.

    Raises:
        DataError: it is no such folder, has several channels, regions that overlap, an image without its label, or a
            link that leads out of it; or the fold that was asked for cannot be followed.
    """
    path = source / "dataset.json"
    about = read_json(path, "a raw folder of nnU-Net has one")
    channels = about.get("channel_names", about.get("modality"))
    if not isinstance(channels, Mapping) or not isinstance(about.get("labels"), Mapping):
        raise refusal(path, "no channel_names (or modality) and labels", "both are objects", "keys")
    ending = str(about.get("file_ending", ".nii.gz"))
    if ending not in VOLUME_SUFFIXES + IMAGE_SUFFIXES:
        raise refusal(path, repr(ending), f"one of {', '.join(VOLUME_SUFFIXES + IMAGE_SUFFIXES)}", "file_ending")
    labels, ignored = label_values(path, about["labels"])
    train = _cases(source, "Tr", ending)
    test = _cases(source, "Ts", ending) if (source / "imagesTs").is_dir() else {}
    if len(channels) > 1 and ending not in IMAGE_SUFFIXES:
        raise refusal(path, f"{len(channels)} channels", "images of one channel are read", "channel_names")
    unlabelled = [name for name, (_, label) in test.items() if not label]
    splits, why = _fold(source / _SPLITS, fold or 0, {name: subject_in(name, subject, path) for name in train})
    if fold is not None and not splits:
        raise refusal(source / _SPLITS, *(why or ("no such file", "copy it here, or leave --fold out")), "--fold")
    left_out = [f"{len(unlabelled)} image(s) of imagesTs without a label"] if unlabelled else []
    left_out += [f"{_SPLITS}: not followed, because it has {why[0]}"] if why else []
    every = [(name, files, splits.get(name, "")) for name, files in train.items()]
    every += [(name, files, "test") for name, files in test.items() if files[1]]
    return Found(
        source=source,
        task="segmentation",
        labels=labels,
        cases=[FoundCase(subject_in(n, subject, path), n, image, label, split=s) for n, (image, label), s in every],
        name=str(about.get("name", source.resolve().name)),
        title=str(about.get("description", "")),
        modality=", ".join(map(str, channels.values())),
        licence=str(about.get("licence", about.get("license", ""))),
        citation=str(about.get("reference", "")),
        ignore_values=ignored,
        left_out=tuple(left_out),
    )


def label_values(path: Path, said: Mapping[str, Any]) -> tuple[dict[str, int | list[int]], tuple[int, ...]]:
    """Name and value, or values, of each class, and values that do not count; both ways round that nnU-Net has.

    Args:
        path: the file that says them.
        said: name -> value, or values; or value -> name.

    Raises:
        DataError: a name is none that can be written, a value is no whole number of [0, 65535] or stands in two
            classes, as those of regions do, none is 0, or there are fewer than two classes.
    """
    pairs = [(name, value) for value, name in said.items()] if all(map(str.isdigit, said)) else list(said.items())
    values: dict[str, list[int]] = {}
    for name, value in pairs:
        if not is_label_name(name):
            raise refusal(path, f"a class called {name!r:.100}", "a name is a text of one line", "labels")
        of_class = [label_value(one) for one in (value if isinstance(value, list) else [value])]
        if not of_class or None in of_class:
            allowed = "one whole number of [0, 65535], or a list of them, a class"
            raise refusal(path, f"{name!r:.100} = {value!r:.100}", allowed, "labels")
        if name in values:
            raise refusal(path, f"{name!r:.100} twice", "a class that has several values is a list of them", "labels")
        values[name] = [one for one in of_class if one is not None]
    ignored = values.pop("ignore", [])
    every = [*ignored, *(one for of_class in values.values() for one in of_class)]
    if twice := sorted(value for value, times in Counter(every).items() if times > 1):
        allowed = "each value is one class; regions that overlap are not read: give the classes that they are made of"
        raise refusal(path, f"{twice} in several classes", allowed, "labels")
    if 0 not in every or 0 in ignored or len(values) < 2:
        raise refusal(path, f"{', '.join(values) or 'nothing'}", "the background, which is 0, and a class", "labels")
    labels = {name: of_class[0] if len(of_class) == 1 else of_class for name, of_class in values.items()}
    return labels, tuple(ignored)


def _cases(source: Path, which: str, ending: str) -> dict[str, tuple[str, str]]:
    """Image and label of each case, as paths in the source; a label that is not there is an empty text."""
    folder, truth = source / f"images{which}", source / f"labels{which}"
    if not folder.is_dir():
        raise refusal(folder, "no such folder", "a raw folder of nnU-Net has one", "folder")
    channels: dict[str, list[str]] = defaultdict(list)
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.is_dir():
            continue
        match = re.fullmatch(rf"(.+)_(\d{{4}}){re.escape(ending)}", file.name)
        if match is None:
            raise refusal(file, "a file of another name", f"images are called CASE_0000{ending}", "name")
        channels[match[1]].append(checked_file(source, f"{folder.name}/{file.name}", folder))
    if not channels:
        raise refusal(folder, "no image", f"files called CASE_0000{ending}", "folder")
    several = [name for name, files in channels.items() if len(files) > 1]
    if several:
        found = f"{len(channels[several[0]])} channels of {len(several)} case(s)"
        raise refusal(folder, found, "images of one channel are read; keep one, or merge them into RGB", "channels")
    cases = {}
    for name, (image,) in channels.items():
        label = truth / f"{name}{ending}"
        # a link is a label even where it leads to nothing: somebody put it there
        is_there = label.is_file() or label.is_symlink()
        if not is_there and which == "Tr":
            raise refusal(label, "no such file", "each image of imagesTr has a label", "file")
        cases[name] = (image, checked_file(source, f"{truth.name}/{label.name}", truth) if is_there else "")
    return cases


def _fold(path: Path, fold: int, subjects: Mapping[str, str]) -> tuple[dict[str, Split], tuple[str, str] | None]:
    """The split of each case; what keeps a file that is there from being followed, and what it should be."""
    if not path.is_file():
        return {}, None
    mend = "mend it, or leave --fold out: subjects are split by --seed then"
    try:
        folds = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(folds, list) or fold not in range(len(folds)):
            there = [str(number) for number in range(len(folds))] if isinstance(folds, list) else []
            return {}, (f"no fold {fold}", f"there are {', '.join(there)}" if there else mend)
        splits: dict[str, Split] = dict.fromkeys(folds[fold]["train"], "train")
        both = sorted(set(splits) & set(folds[fold]["val"]))
        splits |= dict.fromkeys(folds[fold]["val"], "val")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}, (f"no fold {fold} with train and val", mend)
    if both or set(splits) != set(subjects):
        return {}, (f"a fold {fold} whose cases are not those of imagesTr, once each", mend)
    by_subject: dict[str, set[str]] = defaultdict(set)
    for name, split in splits.items():
        by_subject[subjects[name]].add(split)
    if shared := sum(len(found) > 1 for found in by_subject.values()):
        return {}, (f"a fold {fold} with {shared} subject(s) in train and val", mend)
    return splits, None
