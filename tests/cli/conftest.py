from __future__ import annotations

import pytest

from command import Command


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in this process."""
    return Command(capsys)
