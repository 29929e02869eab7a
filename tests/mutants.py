"""Plants faults that public implementations really have, one at a time, and sees whether the tests catch each.

    make mutants                       # all of them
    python tests/mutants.py signed     # those whose name contains a word

Each fault is planted in a copy of `src`; the project itself is not touched. A fault counts as caught when a test
fails by an assertion or an error of its own, not when the code cannot be imported. The tests are run without any fault
first: where they fail already, nothing could be said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """A fault: in `file` the text `right` becomes `wrong`, and some test under `tests` must fail."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


MUTANTS = (
    Mutant("signed mean instead of absolute value", "importance/mas.py",
           "self.squared_norm, torch.abs, sum_over_processes", "self.squared_norm, lambda g: g, sum_over_processes",
           "tests/importance"),
    Mutant("gradient of the batch instead of each sample", "importance/per_sample.py",
           "            x, y = inputs[index : index + 1], None if target is None else target[index : index + 1]",
           "            x, y = inputs, target", "tests/importance"),
    Mutant("one pass of a batch is believed without a try", "importance/per_sample.py",
           "            float(fast[name].sub_(total).abs_().mean()) <= max(float(total.mean()) * share, floor)",
           "            True", "tests/importance"),
    Mutant("a layer that sees something else than samples is believed", "importance/one_pass.py",
           "len(tensor) == self._samples > 0", "len(tensor) > 0", "tests/importance"),
    Mutant("what OpenVINO says is believed", "models/engine.py",
           "if not apart <= _APART[self._precision]:", "if False:", "tests/models/test_engine.py"),
    Mutant("pictures that batch norm mixes go together", "evaluation/prediction.py",
           "self.contract.spatial_dims == 3 or self._mixes", "self.contract.spatial_dims == 3",
           "tests/evaluation/test_prediction_files.py"),
    Mutant("score files of any schema are read", "evaluation/pages.py",
           "leaf.get(1) not in TYPES", "False", "tests/evaluation/test_pages.py"),
    Mutant("importance measured in training mode", "importance/per_sample.py",
           "    with evaluation_mode(model), fast_kernels(model),", "    model.train()\n    with fast_kernels(model),",
           "tests/importance"),
    Mutant("gradients scaled instead of steps", "regularization/learning_rate.py",
           "with scaled_steps(model, optimizer, share, floor=self.floor):",
           "from perdure.regularization.steps import masked_gradients\n        "
           "with masked_gradients(model, optimizer, share):", "tests/regularization"),
    Mutant("a generator of measures that is exhausted after its first use", "update/train.py",
           "tuple(_measure(release, key, method) for key in release.memory.measures)",
           "(_measure(release, key, method) for key in release.memory.measures)", "tests/update"),
    Mutant("the anchor is not renewed after a domain", "update/consolidation.py",
           "    return Memory(\n        anchor=anchor,",
           "    return Memory(\n        anchor=anchor if previous is None else previous.anchor,", "tests/update"),
    Mutant("outliers are not clipped from above", "importance/scaling.py",
           "value.clamp(lower, upper)", "value.clamp(lower)", "tests/importance"),
    Mutant("filters of a transposed convolution along the wrong axis", "importance/scaling.py",
           "place = (1, module.groups)", "place = (0, 1)", "tests/importance"),
    Mutant("the newest domain erases the earlier ones", "importance/accumulation.py",
           "return _between(past, new, 1 / domains)", "return dict(new)", "tests/importance"),
    Mutant("EWC without its half", "regularization/surrogate_loss.py",
           'self.strength / (2 if self.norm == "half" else 1)', "self.strength", "tests/regularization"),
    Mutant("freezing ranks clipped importance", "release/memory.py",
           "latest=averaged(measure.latest, keep=False)",
           "latest=averaged(measure.weights, keep=False)", "tests/release"),
    Mutant("frozen masks are forgotten at the next domain", "regularization/freezing.py",
           "mask | past.frozen[name] if name in past.frozen else mask", "mask", "tests/regularization"),
    Mutant("batch norm trains under original statistics", "models/batch_norm.py",
           "            module.training = False\n", "            pass\n", "tests/models"),
    Mutant("softmax applied twice in the Dice loss", "update/losses.py",
           "probability = output.softmax(dim=1) *", "probability = output.softmax(dim=1).softmax(dim=1) *",
           "tests/update"),
    Mutant("Fisher information of absolute gradients", "importance/fisher.py",
           "self._terms, torch.square,", "self._terms, torch.abs,", "tests/importance"),
    Mutant("labels of the Fisher information are the most probable class", "importance/likelihood.py",
           "(-uniform.log()).log()", "0 * uniform", "tests/importance"),
    Mutant("a structure that is absent in both scores 1", "evaluation/dice.py",
           "scores = np.full(classes, np.nan)", "scores = np.full(classes, 1.0)", "tests/evaluation"),
    Mutant("a structure that one side lacks is 0 away", "evaluation/surface.py",
           "np.full(classes, np.nan), np.full(classes, np.nan)", "np.zeros(classes), np.zeros(classes)",
           "tests/evaluation/test_surface.py"),
    Mutant("HD95 of one direction alone", "evaluation/surface.py",
           "np.percentile(back, PERCENTILE)", "np.percentile(there, PERCENTILE)", "tests/evaluation/test_surface.py"),
    Mutant("surfaces measured by the network's spacing", "evaluation/evaluate.py",
           "case.grid.own_spacing", "case.grid.spacing", "tests/evaluation/test_evaluate.py"),
    Mutant("gains of one domain make good another's losses in REM", "evaluation/measures.py",
           "np.minimum", "np.add", "tests/evaluation"),
    Mutant("merged quadratics keep the oldest anchor", "release/memory.py",
           "((1 - share) * distance)", "distance", "tests/release tests/regularization"),
    Mutant("importance one still moves under momentum and decay", "regularization/partial_steps.py",
           "new = torch.where(share == 0, before, new)", "new = torch.where(share == 0, self.parameter, new)",
           "tests/regularization"),
    Mutant("the head of a ledger is not looked at", "evidence/ledger/ledger.py",
           "if (head.entries, head.hash) in ((count, end), (count - 1, before)) and (text or not count):", "if True:",
           "tests/evidence/ledger/test_ledger.py"),
    Mutant("a recorded release may stand in the place of another", "evidence/ledger/verification.py",
           "*release_problems(folder, entry), *_misplaced(folder, entry, entries)", "*release_problems(folder, entry)",
           "tests/evidence/ledger/test_verification.py"),
    Mutant("an approval makes an edited verdict good", "evidence/ledger/verification.py",
           "found.get(False) or found[True]", "[*found.get(False, []), *found.get(True, [])]",
           "tests/evidence/ledger/test_approval.py"),
    Mutant("a candidate on other test cases is no look", "evidence/gate/conformity.py",
           "return sum(max(1, len(found)) for found in sets.values())", "return len(sets)",
           "tests/evidence/gate/test_gate.py"),
    Mutant("anything passes the audit as a method", "evidence/audit/parts.py",
           "yield from _method(identity)", "pass", "tests/evidence/audit/test_audit.py"),
    Mutant("white space in a ledger counts for nothing", "evidence/ledger/ledger.py",
           "if written != line:", "if False:", "tests/evidence/ledger/test_ledger.py"),
    Mutant("two writers of a ledger do not wait for each other", "evidence/ledger/ledger.py",
           "        try:\n            lock.acquire()\n        except Timeout as error:",
           "        try:\n            pass\n        except Timeout as error:",
           "tests/evidence/ledger/test_ledger.py"),
    Mutant("scores appear before the look is written down", "evidence/ledger/recording.py",
           "    for release, folder in folders.items():",
           "    replace_file(out, content)\n    for release, folder in folders.items():",
           "tests/evidence/ledger/test_recording.py"),
    Mutant("subgroups go out with the site's own subject ids", "evidence/remote/sealing.py",
           "(keyed(salt, \"subject\", who), of[who]) for who in of", "(who, of[who]) for who in of",
           "tests/evidence/remote/test_sealing.py"),
    Mutant("a seal is believed without its signature", "evidence/remote/sealing.py",
           "or not is_signed(signature, _MAGIC + signed, known[statement.key])", "",
           "tests/evidence/remote/test_sealing.py"),
    Mutant("cases of two sealed files need not be the same", "evidence/remote/joining.py",
           "    _check_cases(remote)\n    for", "    for", "tests/evidence/remote/test_sealing.py"),
    Mutant("a damaged parent is restored", "evidence/ledger/restoring.py",
           "if folder.is_dir() and entry_of(folder, entries) == parent and _is_whole(folder, parent):",
           "if folder.is_dir() and entry_of(folder, entries) == parent:", "tests/evidence/ledger/test_restoring.py"),
    Mutant("row and column spacing swapped", "data/dicom/stack.py",
           "np.asarray(first.rightwards) * first.spacing[1]", "np.asarray(first.rightwards) * first.spacing[0]",
           "tests/data/dicom/test_series.py"),
    Mutant("patient coordinates of DICOM taken for those of NIfTI", "data/dicom/stack.py",
           "np.diag([-1.0, -1.0, 1.0, 1.0])", "np.eye(4)", "tests/data/dicom/test_series.py"),
    Mutant("MONOCHROME1 is not turned round", "data/dicom/pixels.py",
           "if not instance.inverted:", "if instance.bits:", "tests/data/dicom/test_series.py"),
    Mutant("the rescaling of the first slice is used for all", "data/dicom/series.py",
           "rescaled(frames[one.instance.file][one.frame], one.plane)",
           "rescaled(frames[one.instance.file][one.frame], series.slices[0].plane)", "tests/data/dicom/test_series.py"),
    Mutant("a hole in a contour is filled", "data/dicom/contours.py",
           "region[mask] = within % 2 == 0", "region[mask] = True", "tests/data/dicom/test_labels.py"),
    Mutant("contours that overlap in part are taken for one within the other", "data/dicom/contours.py",
           'raise _OverlapError("two of which overlap in part")', "return True", "tests/data/dicom/test_labels.py"),
    Mutant("padding of each slice is as dark as that slice", "data/dicom/series.py",
           "darken(place, volume, padding)", "[darken(place, v, p) for v, p in zip(volume, padding) if not p.all()]",
           "tests/data/dicom/test_series.py"),
    Mutant("a result of another image counts as done", "evaluation/prediction_sources.py",
           "if result in self and self._table.cases[result][0][1] != digest:", "if False:",
           "tests/evaluation/test_prediction_sources.py"),
    Mutant("DICOM of another modality is taken", "data/preparation.py",
           "if header.modality in IMAGES and header.modality not in allowed:", "if False:",
           "tests/data/test_preparation.py"),
    Mutant("the axes of a DICOM series are taken for those that a network was trained on",
           "evidence/exchange/adoptable.py", "if is_dicom_path(path):", "if False:",
           "tests/evidence/exchange/test_nnunet.py"),
    Mutant("a missing slice is passed over", "data/dicom/stack.py",
           "> UNEVEN * usual or steps.max() > 1.5 * usual", "> len(steps) * usual", "tests/data/dicom/test_series.py"),
    Mutant("a list may name files outside of the source", "data/places.py",
           "file = file_in(path.parent.parent / source, name) if",
           "file = (path.parent.parent / source / name) if", "tests/data/test_places.py"),
    Mutant("frames of a SEG in the order of files instead of places", "data/dicom/writing.py",
           "[one.instance for one in series.slices]", "list(series.instances)", "tests/data/dicom/test_writing.py"),
    Mutant("frames of a multi-frame SEG in the order of places", "data/dicom/writing.py",
           "own_order[[one.frame for one in series.slices]] = frames", "own_order = frames",
           "tests/data/dicom/test_writing.py"),
    Mutant("an answer of a PACS that was cut short taken for a whole one", "data/dicom/transfer.py",
           "if response.ok and not is_whole:", "if not response.ok and not is_whole:", "tests/data/dicom/test_web.py"),
    Mutant("a segmentation stored without a word of the PACS that it has it", "data/dicom/web.py",
           "if _says(item, uid)]\n        if kept:", "]\n        if kept or not failed:",
           "tests/data/dicom/test_web.py"),
    Mutant("an old segmentation taken for one of all images that a PACS has", "evaluation/study.py",
           "if segmented_instances(whole) != set(instances):", "if not segmented_instances(whole):",
           "tests/flow/test_pacs.py"),
    Mutant("a class of both sides is shared between them", "evaluation/views.py",
           "slices[index, where] += probability[:, own]",
           "slices[index, where] += probability[:, own] / list(classes).count(own)", "tests/evaluation/test_views.py"),
    Mutant("probabilities are written with the last axis fastest", "data/writing.py",
           'one.tobytes(order="F")', "one.tobytes()", "tests/data/test_writing.py"),
    Mutant("nnU-Net's arrays have the axes of the file", "evidence/exchange/nnunet.py",
           "stored[::-1]", "stored", "tests/evidence/exchange/test_nnunet.py"),
    Mutant("a z-score counts the air around a scan", "data/intensity.py",
           "counted = np.zeros_like(there)", "counted = np.ones_like(there)", "tests/data/test_intensity.py"),
)  # fmt: skip


def outcome(tests: str, mutant: Mutant | None = None) -> tuple[int, str]:
    """Runs tests against a copy of `src`, with a fault in it or without: the exit code, and the last line.

    Raises:
        LookupError: if the fault cannot be planted.
    """
    with tempfile.TemporaryDirectory(prefix="perdure-mutant-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            file = source / "perdure" / mutant.file
            text = file.read_text(encoding="utf-8")
            if mutant.right not in text:
                raise LookupError("the text to replace is gone; mend tests/mutants.py")
            file.write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return done.returncode, done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr


def run(mutant: Mutant) -> str:
    """Plants one fault and runs its tests: `caught`, `survived`, or why it could not be planted."""
    try:
        code, last = outcome(mutant.tests, mutant)
    except LookupError as error:
        return f"NOT PLANTED: {error}"
    if code == 1 and "failed" in last and "error" not in last:
        return "caught"
    return "SURVIVED" if code == 0 else f"BROKEN: {last}"


def main() -> int:
    """Runs all faults, or those named on the command line; the exit code is the number not caught."""
    chosen = [one for one in MUTANTS if not sys.argv[1:] or any(word in one.name for word in sys.argv[1:])]
    for tests in dict.fromkeys(one.tests for one in chosen):
        code, last = outcome(tests)
        if code != 0:
            sys.stdout.write(f"{tests} fails without any fault: {last}\n")
            return len(chosen)
    missed = 0
    for place, mutant in enumerate(chosen, 1):
        result = run(mutant)
        missed += result != "caught"
        sys.stdout.write(f"{place:2} of {len(chosen)}  {result:10} {mutant.name} ({mutant.file})\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - missed} of {len(chosen)} faults caught\n")
    return missed


if __name__ == "__main__":
    sys.exit(main())
