from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from perdure import errors
from perdure.errors import DataError, DivergenceError, PerdureError, Problem
from perdure.update.launch import launch


class TheirError(PerdureError):
    """An error of another package."""


class Alone:
    """A Fabric of one process that reports an error as spawned ones are: as text, without its class."""

    def launch(self, work) -> None:
        try:
            pickle.loads(pickle.dumps(work.report))  # noqa: S301 - what has to reach the other process
            work("fabric")
        except PerdureError as error:
            raise ProcessRaisedException(str(error), 0, 1) from None
        except ValueError as error:
            raise ProcessRaisedException(str(error), 0, 1) from None


def raising(error: Exception):
    def work(fabric: str) -> None:
        raise error

    return work


def test_work_gets_the_fabric() -> None:
    seen: list[str] = []
    launch(Alone(), seen.append)
    assert seen == ["fabric"]


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PerdureError)]
)
def test_every_error_of_ours_arrives_as_what_it_was(kind: type[PerdureError]) -> None:
    with pytest.raises(kind, match=r"^what happened$") as found:
        launch(Alone(), raising(kind("what happened")))
    assert type(found.value) is kind


def test_all_problems_of_a_dataset_arrive() -> None:
    problem = Problem("manifest.csv", "split", "'tset'", "use train, val or test")
    with pytest.raises(DataError, match=r"manifest.csv: split: found 'tset'; use train, val or test"):
        launch(Alone(), raising(DataError([problem])))


def test_an_error_that_derives_from_ours_arrives_as_the_root() -> None:
    with pytest.raises(PerdureError, match="what happened"):
        launch(Alone(), raising(TheirError("what happened")))


def test_the_first_error_counts() -> None:
    """What another process says afterwards follows from it."""

    class Two(Alone):
        def launch(self, work) -> None:
            second = type(work)(raising(errors.UpdateError("the other is gone")), work.report)
            try:
                super().launch(work)
            finally:
                with pytest.raises(errors.UpdateError):
                    second("fabric")

    with pytest.raises(DivergenceError, match="what happened"):
        launch(Two(), raising(DivergenceError("what happened")))


def test_an_error_that_is_not_ours_is_left_as_it_is() -> None:
    with pytest.raises(ProcessRaisedException, match="a bug"):
        launch(Alone(), raising(ValueError("a bug")))


def test_a_process_that_the_system_ended_is_an_error_of_ours() -> None:
    class Killed:
        def launch(self, work) -> None:
            raise ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 1, -9)

    with pytest.raises(errors.UpdateError, match="want of memory: process 1 terminated with signal SIGKILL"):
        launch(Killed(), print)


def test_the_cause_counts_where_another_process_is_found_dead_first() -> None:
    class Aborted(Alone):
        def launch(self, work) -> None:
            with pytest.raises(ProcessRaisedException):
                super().launch(work)
            raise ProcessExitedException("process 0 terminated with signal SIGABRT", 0, 1, -6)

    with pytest.raises(DivergenceError, match="what happened"):
        launch(Aborted(), raising(DivergenceError("what happened")))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DivergenceError):
        launch(Alone(), raising(DivergenceError("what happened")))
    assert list(tmp_path.iterdir()) == []
