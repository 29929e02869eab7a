"""`perdure predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from perdure.cli import options, pacs
from perdure.cli.console import SOME_FAILED, counting, fail, note, progress_bar, show
from perdure.cli.requests import check_device, view_weights_said

_RESULT = "Result"


def predict(
    release: Annotated[
        list[Path],
        typer.Option("--release", help="The release folder that predicts. Repeat for several, one a view of a volume."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; finished ones are not done again.")],
    source: Annotated[
        Path | None, typer.Option("--input", help="An image, a list of its files, or a folder of images.")
    ] = None,
    match: Annotated[
        str | None, typer.Option("--match", help="Only images of such a name, for example '*_T1w.nii.gz'.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option("--domain", help="Where the images are from, for a release with one batch norm a domain."),
    ] = None,
    form: Annotated[
        Literal["nifti", "mgz", "bids", "dicom-seg"] | None,
        typer.Option(
            "--format",
            help="What label maps are written as; left out, the format of each image.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities", help="Write the probability of each class, one file an image.", rich_help_panel=_RESULT
        ),
    ] = False,
    volumes: Annotated[
        bool,
        typer.Option("--volumes", help="Write volumes.csv: how large each structure is.", rich_help_panel=_RESULT),
    ] = False,
    view_weight: Annotated[
        list[str] | None,
        typer.Option(
            "--view-weight",
            help="VIEW=WEIGHT for several releases; axial=0.4, coronal=0.4, sagittal=0.2 where left out. Repeat.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    precision: Annotated[
        Literal["32-true", "bf16-mixed"],
        typer.Option(
            "--precision",
            help="bf16-mixed is faster where the processor has it, and moves a few labels at borders.",
            rich_help_panel=_RESULT,
        ),
    ] = "32-true",
    engine: Annotated[
        Literal["torch", "openvino"],
        typer.Option(
            "--engine",
            help="openvino classifies faster on a processor; needs the extra openvino.",
            rich_help_panel=_RESULT,
        ),
    ] = "torch",
    dicomweb: pacs.Address = None,
    study: pacs.Study = None,
    series: pacs.Series = None,
    store: pacs.Store = True,
    keep_fetched: pacs.KeepFetched = False,
    token_file: pacs.TokenFile = None,
    ca: pacs.Authority = None,
    client_cert: pacs.ClientCertificate = None,
    client_key: pacs.ClientKey = None,
    attempts: pacs.Attempts = 5,
    timeout: pacs.Timeout = 60.0,
    trust: options.Trust = None,
    device: options.Device = "cpu",
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Segments or classifies images: label maps on each image's own grid, or one CSV with probabilities.

    A file that cannot be read is reported and does not stop the others; the exit code is then 6. With --dicomweb a
    series is fetched from a PACS, and its segmentation stored in the study.

    Example: perdure predict --release releases/b --input scans --out predicted
    """
    weights = view_weights_said(view_weight)
    pacs.check_way_in(source, dicomweb, study, match=match, form=form)
    check_device(device)
    from perdure.evaluation import Output, predict_files
    from perdure.evaluation.study import predict_study
    from perdure.release import Release

    opened = [Release.open(one, trust or ()) for one in release]
    shared: dict[str, Any] = {"device": device, "domain": domain, "weights": weights}
    shared["output"] = Output(form, probabilities, volumes, precision, engine)
    if source is None:
        access = {"token_file": token_file, "authority": ca, "certificate": client_cert, "key": client_key}
        server = pacs.opened_pacs(str(dicomweb), **access, attempts=attempts, timeout=timeout)
        wanted: dict[str, Any] = {"series": series, "store": store, "keep": keep_fetched}
        with progress_bar() as bar, server:
            study_done = predict_study(opened, server, str(study), out, **wanted, **shared, progress=bar)
        show(pacs.record_of(study_done), as_json, *pacs.told(study_done))
        return
    with progress_bar() as bar:
        result = predict_files(opened, source, out, match=match, **shared, progress=counting(bar, "predicting"))
    if result.passed_over:
        note(f"passed over: {', '.join(f'{number} {what}' for what, number in result.passed_over.items())}.")
    record = {"written": [str(path) for path in result.written], "skipped": result.skipped, "failed": result.failed}
    record["passed_over"] = result.passed_over
    show(record, as_json, f"{len(result.written)} predicted, {result.skipped} done before, in {out}")
    if result.failed:
        raise fail(f"{len(result.failed)} failed:\n" + "\n".join(result.failed.values()), SOME_FAILED)
