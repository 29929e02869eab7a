"""Releases with something planted in them, sealed again so that only an audit can find it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from perdure.data import Dataset, FolderDomain
from perdure.release import Identity
from perdure.release.folder import sha256
from perdure.release.release import with_id

FILES = ("weights.safetensors", "memory.safetensors")


def domain_in(folder: Path, name: str) -> FolderDomain:
    """One domain of a data folder under its default contract."""
    dataset = Dataset.open(folder)
    cache = folder.parent / "cache"
    return dataset.domain(name, dataset.default_contract(name, cache=cache), cache=cache)


@dataclass(frozen=True)
class Sealed:
    """A copy of a release whose hashes are made good after every change."""

    path: Path

    @classmethod
    def copy(cls, source: Path, target: Path) -> Sealed:
        shutil.copytree(source, target)
        return cls(target)

    def record(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Changes what `release.json` says."""
        file = self.path / "release.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        self.seal()

    def tensors(self, file: str, change: Callable[[dict[str, Tensor]], object], **more: Any) -> None:
        """Changes the tensors of a file; `more` goes to `safetensors.torch.save_file`."""
        content = load_file(self.path / file)
        change(content)
        save_file(content, self.path / file, **more)
        self.seal()

    def bytes(self, file: str, change: Callable[[bytes], bytes]) -> None:
        """Changes the bytes of a file."""
        (self.path / file).write_bytes(change((self.path / file).read_bytes()))
        self.seal()

    def seal(self) -> None:
        """Gives the release the hashes and the id of what is in it now."""
        file = self.path / "release.json"
        content = json.loads(file.read_text())
        content["files"] |= {name: sha256(self.path / name) for name in FILES}
        known = {key: value for key, value in content.items() if key in Identity.model_fields}
        with contextlib.suppress(ValueError):  # what is no identity has no id
            content["id"] = with_id(Identity.model_validate(known)).id
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
