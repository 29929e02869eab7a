"""Coverage of intervals and false acceptance of the gate, by simulation; the tables of decision 0021.

    python benchmarks/gate_coverage.py [--trials 4000]

Of each distribution and number of subjects: the share of samples whose 95 % interval holds the true mean, and the share
whose lower end lies above it. With the margin at the true mean the second is the false acceptance. The last table has
guards against a few subjects who lose much and whom a sample may lack.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from perdure.evaluation import kappa
from perdure.evaluation.bounded import bounded_p
from perdure.evaluation.noninferiority import compare_kappas
from perdure.evaluation.studentized import RESAMPLES, mean_bounds

LEVEL = 0.05
SIZES = (6, 8, 12, 20, 30)
Sample = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


def dice(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The change of Dice around .8, of which the logit fell by .3 on average, differently in each subject."""
    before = rng.beta(8, 2, shape)
    return 1 / (1 + np.exp(0.3 - np.log(before / (1 - before)) - 0.5 * rng.normal(size=shape))) - before


def few_lose(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """One subject in ten loses four standard deviations more than the others."""
    return (rng.normal(0, 1, shape) - 4 * (rng.random(shape) < 0.1)) / 40


# in units of Dice, so that nothing reaches the ends of [-1, 1]; the true mean is taken of four million draws where None
CHANGES: dict[str, tuple[Sample, float | None]] = {
    "normal": (lambda rng, shape: rng.normal(0, 0.02, shape), 0.0),
    "Dice": (dice, None),
    "t, 5 degrees of freedom": (lambda rng, shape: rng.standard_t(5, shape) / 50, 0.0),
    "lognormal losses": (lambda rng, shape: -np.exp(0.5 * rng.normal(size=shape)) / 50, -np.exp(0.125) / 50),
    "gamma losses, skew -1.4": (lambda rng, shape: -rng.gamma(2, 0.01, shape), -0.02),
    "gamma gains, skew 1.4": (lambda rng, shape: rng.gamma(2, 0.01, shape), 0.02),
    "exponential losses, skew -2": (lambda rng, shape: -rng.exponential(0.02, shape), -0.02),
    "one in ten loses much": (few_lose, -0.01),
}


def student(x: NDArray[np.float64]) -> Ends:
    """Student's t interval."""
    reach = stats.t.ppf(1 - LEVEL / 2, x.shape[1] - 1) * x.std(axis=1, ddof=1) / x.shape[1] ** 0.5
    return x.mean(axis=1) - reach, x.mean(axis=1) + reach


def walsh(x: NDArray[np.float64]) -> Ends:
    """The exact interval that inverts Wilcoxon's signed-rank test (of the pseudo-median)."""
    n = x.shape[1]
    i, j = np.triu_indices(n)
    means = np.sort((x[:, i] + x[:, j]) / 2, axis=1)
    share = np.ones(1)
    for rank in range(1, n + 1):
        share = (np.append(share, np.zeros(rank)) + np.append(np.zeros(rank), share)) / 2
    beyond = int((np.cumsum(share) <= LEVEL / 2).sum())
    if beyond == 0:
        return np.full(len(x), -np.inf), np.full(len(x), np.inf)
    return means[:, beyond - 1], means[:, -beyond]


def drawn(x: NDArray[np.float64], resamples: int = 1999) -> dict[str, Ends]:
    """Percentile, BCa and bootstrap-t, each sample with draws of its own."""
    n, rng = x.shape[1], np.random.default_rng(1)
    tails = np.array([LEVEL / 2, 1 - LEVEL / 2])
    ends: dict[str, list[NDArray[np.float64]]] = {"percentile": [], "BCa": [], "bootstrap-t": []}
    for one in x:
        mean, s = one.mean(), one.std(ddof=1)
        again = one[rng.integers(0, n, (resamples, n))]
        means, sds = again.mean(axis=1), again.std(axis=1, ddof=1)
        ends["percentile"].append(np.quantile(means, tails))
        d = one - mean
        skew = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
        bias = stats.norm.ppf(np.clip(((means < mean).mean() + (means <= mean).mean()) / 2, 1e-9, 1 - 1e-9))
        z = bias + stats.norm.ppf(tails)
        ends["BCa"].append(np.quantile(means, stats.norm.cdf(bias + z / (1 - skew * z))))
        t = np.divide(means - mean, sds / n**0.5, out=np.zeros(resamples), where=sds > 0)
        ends["bootstrap-t"].append(mean - np.quantile(t, tails[::-1]) * s / n**0.5)
    return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in ends.items()}


def ours(x: NDArray[np.float64]) -> Ends:
    """What the gate uses."""
    parts = [mean_bounds(piece, 0.0, LEVEL) for piece in np.array_split(x, max(1, len(x) // 500))]
    return np.concatenate([part.low for part in parts]), np.concatenate([part.high for part in parts])


def mean_rows(trials: int) -> Iterator[str]:
    """One line of the table a distribution and size."""
    rng = np.random.default_rng(0)
    for name, (sample, known) in CHANGES.items():
        true = float(sample(rng, (1, 4_000_000)).mean()) if known is None else known
        for n in SIZES:
            x = sample(rng, (trials, n))
            found = {"t": student(x), "Wilcoxon": walsh(x), **drawn(x[: min(trials, 2000)]), "used": ours(x)}
            cells = []
            for low, high in found.values():
                holds = float(((low <= true) & (true <= high)).mean())
                cells.append(f"{holds:.3f} / {float((low > true).mean()):.3f}")
            yield f"| {name} | {n} | {' | '.join(cells)} |"


CLASSES = 4
Grades = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def neighbours(rng: np.random.Generator, shape: tuple[int, int], found: float, anew: float, stay: float) -> Grades:
    """Predictions are one grade off where they are wrong; cases of a subject mostly have one grade."""
    shares = (0.1, 0.4, 0.4, 0.1)
    own = rng.choice(CLASSES, (shape[0], 1), p=shares)
    truth = np.where(rng.random(shape) < 0.8, own, rng.choice(CLASSES, shape, p=shares))

    def guess(share: float) -> NDArray[np.int64]:
        off = np.clip(truth + rng.choice([-1, 1], shape), 0, CLASSES - 1)
        return np.where(rng.random(shape) < share, truth, off)

    before = guess(found)
    return truth, before, np.where(rng.random(shape) < stay, before, guess(anew))


def anywhere(rng: np.random.Generator, shape: tuple[int, int], stay: float) -> Grades:
    """Whatever does not stay gets any grade."""
    truth = rng.integers(0, CLASSES, shape)
    before = np.where(rng.random(shape) < 0.7, truth, rng.integers(0, CLASSES, shape))
    return truth, before, np.where(rng.random(shape) < stay, before, rng.integers(0, CLASSES, shape))


def only_losses(rng: np.random.Generator, shape: tuple[int, int], lost: float) -> Grades:
    """Some of what was right becomes wrong by one grade, nothing else changes."""
    truth = rng.integers(0, CLASSES, shape)
    off = np.clip(truth + rng.choice([-1, 1], shape), 0, CLASSES - 1)
    before = np.where(rng.random(shape) < 0.85, truth, off)
    worse = np.where(truth >= CLASSES // 2, truth - 1, truth + 1)
    return truth, before, np.where((rng.random(shape) < lost) & (before == truth), worse, before)


GRADERS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Grades]] = {
    "all graded anew, one grade off": lambda rng, shape: neighbours(rng, shape, 0.7, 0.5, 0.0),
    "1 in 5 graded anew, one grade off": lambda rng, shape: neighbours(rng, shape, 0.7, 0.5, 0.8),
    "2 in 5 get any grade": lambda rng, shape: anywhere(rng, shape, 0.6),
    "1 in 10 gets any grade": lambda rng, shape: anywhere(rng, shape, 0.9),
    "1 in 20 gets any grade": lambda rng, shape: anywhere(rng, shape, 0.95),
    "1 in 10 of those right is lost": lambda rng, shape: only_losses(rng, shape, 0.1),
    "1 in 4 of those right is lost": lambda rng, shape: only_losses(rng, shape, 0.25),
}


def _kappas(truth: NDArray[np.int64], *predictions: NDArray[np.int64]) -> list[float]:
    counts = [np.bincount(truth.ravel() * CLASSES + p.ravel(), minlength=CLASSES**2) for p in predictions]
    return [float(kappa(one.reshape(CLASSES, CLASSES))) for one in counts]


def jackknife(truth: NDArray[np.int64], before: NDArray[np.int64], after: NDArray[np.int64]) -> tuple[float, float]:
    """The plain jackknife with Student's t, to compare with; no ends where it is not defined."""
    n = len(truth)

    def change(chosen: NDArray[np.bool_]) -> float:
        old, new = _kappas(truth[chosen], before[chosen], after[chosen])
        return new - old

    whole = change(np.ones(n, bool))
    own = np.array([n * whole - (n - 1) * change(np.arange(n) != s) for s in range(n)])
    reach = stats.t.ppf(1 - LEVEL / 2, n - 1) * own.std(ddof=1) / n**0.5
    return whole - reach, whole + reach


def kappa_rows(trials: int) -> Iterator[str]:
    """One line of the table a grader, number of cases a subject, and size."""
    rng = np.random.default_rng(0)
    for (name, grader), cases in itertools.product(GRADERS.items(), (1, 4)):
        old, new = _kappas(*grader(rng, (1_000_000, cases)))
        true = new - old
        for n in SIZES:
            plain, used = [], []
            for _ in range(trials):
                truth, before, after = grader(rng, (n, cases))
                plain.append(jackknife(truth, before, after))
                found = compare_kappas(
                    truth.ravel(), before.ravel(), after.ravel(), subjects=np.repeat(np.arange(n), cases).astype(str),
                    classes=CLASSES, threshold=true,
                )  # fmt: skip
                used.append((-2.0, 2.0) if found.low is None or found.high is None else (found.low, found.high))
            cells = []
            for low, high in (np.array(plain).T, np.array(used).T):
                # without ends nothing is excluded, and nothing accepted
                above, below = low > true + 1e-12, high < true - 1e-12
                cells.append(f"{1 - float((above | below).mean()):.3f} / {float(above.mean()):.3f}")
            width = float(np.median(np.diff(np.array(used))))
            yield f"| {name} | {cases} | {n} | {true:.3f} | {' | '.join(cells)} | {width:.2f} |"


def rare(share: float, loss: float, others: float) -> Sample:
    """Some subjects lose so much more than the others, whose changes have a mean of 0 and this deviation."""
    return lambda rng, shape: np.clip(rng.normal(0, others, shape) - loss * (rng.random(shape) < share), -1, 1)


def dice_around(mean: float) -> Sample:
    """Changes of the shape of `dice`, with another mean."""
    shift = mean - float(dice(np.random.default_rng(5), (1, 2_000_000)).mean())
    return lambda rng, shape: dice(rng, shape) + shift


MARGIN = 0.02
INTOLERABLE: dict[str, Sample] = {
    "Dice, mean loss .02": dice_around(-MARGIN),
    "1 in 20 loses .4, others nothing": rare(0.05, 0.4, 0.0),
    "1 in 10 loses .2, others nothing": rare(0.1, 0.2, 0.0),
    "1 in 20 loses .4, others change by .001": rare(0.05, 0.4, 0.001),
    "1 in 20 loses .4, others change by .005": rare(0.05, 0.4, 0.005),
    "1 in 20 loses .4, others change by .03": rare(0.05, 0.4, 0.03),
}
HARMLESS: dict[str, Sample] = {
    "nobody changes": rare(0, 0, 0.0),
    "all change by .001": rare(0, 0, 0.001),
    "all change by .005": rare(0, 0, 0.005),
    "Dice, no mean loss": dice_around(0.0),
}
UNCHANGED = 1e-6
GUARDS = ("none", "half unchanged", "half within margin / 10", "largest loss 1", "largest loss .5")


def guarded(x: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Which samples each guard accepts with the margin at `MARGIN`.

    `half unchanged` asks for the bound by betting on a loss of at most 1 where at least half of the subjects did not
    change; `half within margin / 10` the same with another idea of no change; the last two ask for it always.
    """
    pieces = [mean_bounds(piece, -MARGIN, LEVEL) for piece in np.array_split(x, max(1, len(x) // 500))]
    plain = np.concatenate([(part.low > -MARGIN) & (part.p_above <= LEVEL / 2) for part in pieces])
    bets = {
        largest: np.array([bounded_p(np.maximum(one, -largest), -largest, -MARGIN) <= LEVEL / 2 for one in x])
        for largest in (1.0, 0.5)
    }
    still = {limit: (np.abs(x) <= limit).mean(axis=1) >= 0.5 for limit in (UNCHANGED, MARGIN / 10)}
    return dict(
        zip(
            GUARDS,
            (
                plain,
                plain & (~still[UNCHANGED] | bets[1.0]),
                plain & (~still[MARGIN / 10] | bets[1.0]),
                plain & bets[1.0],
                plain & bets[0.5],
            ),
            strict=True,
        )
    )


def guard_rows(trials: int) -> Iterator[str]:
    """One line of the table a distribution and size: how often each guard accepts."""
    for name, sample in {**INTOLERABLE, **HARMLESS}.items():
        for n in (6, 20, 60, 200):
            found = guarded(sample(np.random.default_rng(n), (trials, n)))
            yield f"| {name} | {n} | {' | '.join(f'{one.mean():.3f}' for one in found.values())} |"


def main() -> None:
    """Prints the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000, help="samples of each kind (default: %(default)s)")
    trials = parser.parse_args().trials
    head = (
        f"{trials} samples each (percentile, BCa, bootstrap-t: at most 2000; kappa: {trials // 8}), {RESAMPLES} draws"
    )
    _say(f"{head}; coverage of 95 % / false acceptance at the margin.\n")
    _say("| changes | n | t | Wilcoxon | percentile | BCa | bootstrap-t | t and bootstrap-t |")
    _say("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in mean_rows(trials):
        _say(row)
    _say("\n| grades | cases a subject | n | true change | jackknife | with two made up subjects | median width |")
    _say("| --- | --- | --- | --- | --- | --- | --- |")
    for row in kappa_rows(trials // 8):
        _say(row)
    _say(f"\n{trials // 4} samples each, margin {MARGIN}; the share that is accepted.\n")
    _say(f"| changes | n | {' | '.join(GUARDS)} |")
    _say("| --- | --- | --- | --- | --- | --- | --- |")
    for row in guard_rows(trials // 4):
        _say(row)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
