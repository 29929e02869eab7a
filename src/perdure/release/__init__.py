"""What leaves the building: weights, memory, contract, lineage, hashes."""

from perdure.release.folder import Folder
from perdure.release.identity import Ancestor, Identity, Seen
from perdure.release.memory import Accumulated, Memory
from perdure.release.release import FORMAT, Release, read_identity

__all__ = ["FORMAT", "Accumulated", "Ancestor", "Folder", "Identity", "Memory", "Release", "Seen", "read_identity"]
