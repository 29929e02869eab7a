"""What do scores cost, beside the loops that they replace and beside MONAI and scikit-learn?"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from results import Found
from script import Measure, Options, run
from timing import over, side_by_side

from perdure.evaluation import dice, kappa_interval, linear_kappa, surface_distances

CLASSES, GRADES = 33, 4
DRAWS, SUBJECTS = 9999, 600


def maps(pixels: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A label map of cubes, and the same a few voxels aside."""
    draw = np.random.default_rng(0)
    cubes = draw.integers(0, CLASSES, (pixels // 16 + 1,) * 3, dtype=np.uint8)
    whole = cubes.repeat(16, 0).repeat(16, 1).repeat(16, 2)
    return np.ascontiguousarray(whole[2:, 2:, 2:][:pixels, :pixels, :pixels]), whole[:pixels, :pixels, :pixels].copy()


def loop_over_classes(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> list[float]:
    """Dice as one would first write it."""
    scores = []
    for k in range(CLASSES):
        p, t = prediction == k, reference == k
        scores.append(2 * float((p & t).sum()) / float(p.sum() + t.sum()))
    return scores


def dices(options: Options) -> Mapping[str, Found]:
    """The library over a loop over classes, in turns."""
    prediction, reference = maps(options.pick(96, 256, 256))
    np.testing.assert_allclose(dice(prediction, reference, CLASSES), loop_over_classes(prediction, reference))
    works = {
        "ours": lambda: dice(prediction, reference, CLASSES),
        "loop": lambda: loop_over_classes(prediction, reference),
    }
    taken = side_by_side(works, options.pick(1, 3, 11), time.process_time)
    return {"evaluation/dice": Found(tuple(over(taken["ours"], taken["loop"])))}


def monai(options: Options) -> Mapping[str, Found]:
    """MONAI's metric on label maps, in turns with the library."""
    from monai.metrics import DiceMetric

    prediction, reference = maps(options.pick(96, 256, 256))
    metric = DiceMetric(include_background=True, reduction="none", num_classes=CLASSES)
    p, t = (torch.from_numpy(labels)[None, None] for labels in (prediction, reference))

    def theirs() -> None:
        metric.reset()
        metric(p, t)
        metric.aggregate()

    works = {"theirs": theirs, "ours": lambda: dice(prediction, reference, CLASSES)}
    taken = side_by_side(works, options.pick(1, 2, 7), time.process_time)
    return {"evaluation/monai": Found(tuple(over(taken["theirs"], taken["ours"])), "of label maps, as it takes them")}


def bodies(pixels: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A label map of 32 ellipsoids, 4 by 4 by 2, and the same two voxels aside."""
    cell = pixels // 4
    x, y, z = np.ogrid[:pixels, :pixels, :pixels]
    away = sum((index % size / size - 0.5) ** 2 for index, size in ((x, cell), (y, cell), (z, 2 * cell)))
    reference = np.where(away < 0.16, 1 + x // cell * 8 + y // cell * 2 + z // (2 * cell), 0).astype(np.uint8)
    return np.roll(reference, 2, axis=0), reference


def surfaces(options: Options) -> Mapping[str, Found]:
    """The library over MONAI's function, in turns; both at 128³, as one-hot maps of 256³ take 4.4 GB."""
    from monai.metrics import compute_hausdorff_distance

    prediction, reference = bodies(options.pick(32, 128, 128))
    p, t = (
        torch.from_numpy(labels).long() == torch.arange(CLASSES)[:, None, None, None]
        for labels in (prediction, reference)
    )
    spacing = (1.0, 1.0, 2.0)

    def theirs() -> NDArray[np.float32]:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # it calls a part of itself as of old
            return compute_hausdorff_distance(p[None], t[None], percentile=95, spacing=spacing)[0].numpy()

    np.testing.assert_allclose(surface_distances(prediction, reference, CLASSES, spacing).hd95[1:], theirs(), rtol=1e-4)
    works = {"ours": lambda: surface_distances(prediction, reference, CLASSES, spacing), "theirs": theirs}
    taken = side_by_side(works, options.pick(1, 3, 9), time.process_time)
    large = bodies(options.pick(32, 256, 256))
    start = time.process_time()
    surface_distances(*large, CLASSES, spacing)
    note = f"MONAI's without assd; ours at {len(large[0])}³: {time.process_time() - start:.2g} s"
    return {"evaluation/surface": Found(tuple(over(taken["ours"], taken["theirs"])), note)}


def kappas(options: Options) -> Mapping[str, Found]:
    """The library over scikit-learn, in turns."""
    from sklearn.metrics import cohen_kappa_score

    truth, found = grades(options.pick(100, 10_000, 10_000))
    works = {
        "ours": lambda: linear_kappa(truth, found, GRADES),
        "theirs": lambda: cohen_kappa_score(truth, found, labels=range(GRADES), weights="linear"),
    }
    taken = side_by_side(works, options.pick(1, 9, 25), time.process_time)
    return {"evaluation/kappa": Found(tuple(over(taken["ours"], taken["theirs"])))}


def bootstrap(options: Options) -> Mapping[str, Found]:
    """The library's interval over a loop of scikit-learn's kappa, of which a few draws are timed."""
    from sklearn.metrics import cohen_kappa_score

    truth, found = grades(SUBJECTS)
    subjects = [f"subject-{k}" for k in range(SUBJECTS)]
    few, draw = 50, np.random.default_rng(0)

    def theirs() -> None:
        for _ in range(few):
            chosen = draw.integers(0, SUBJECTS, SUBJECTS)
            cohen_kappa_score(truth[chosen], found[chosen], labels=range(GRADES), weights="linear")

    works = {
        "ours": lambda: kappa_interval(truth, found, subjects=subjects, classes=GRADES, resamples=DRAWS),
        "theirs": theirs,
    }
    taken = side_by_side(works, options.pick(1, 5, 11), time.process_time)
    ratios = over(taken["ours"], [DRAWS / few * one for one in taken["theirs"]])
    return {"evaluation/bootstrap": Found(tuple(ratios), f"scikit-learn: {few} draws, times {DRAWS / few:.0f}")}


def grades(number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True grades, and calls that are often right."""
    draw = np.random.default_rng(0)
    truth = draw.integers(0, GRADES, number)
    return truth, np.clip(truth + draw.choice([-1, 0, 0, 0, 1], number), 0, GRADES - 1)


ALL = (
    Measure(("evaluation/dice",), dices),
    Measure(("evaluation/monai",), monai),
    Measure(("evaluation/surface",), surfaces),
    Measure(("evaluation/kappa",), kappas),
    Measure(("evaluation/bootstrap",), bootstrap),
)

if __name__ == "__main__":
    run(__file__, ALL)
