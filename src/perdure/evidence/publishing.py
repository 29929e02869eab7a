"""A finished release in an MLflow registry: its training as a run, the folder as a model version, the verdict as a tag.

MLflow is an extra, and only its client is used: whatever store or server stands behind a URI is MLflow's own business.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import ConfigurationError, ReleaseError
from perdure.evidence.gate.verdict import Verdict
from perdure.evidence.ledger.approval import check_is_of_the_gate
from perdure.evidence.ledger.ledger import Ledger
from perdure.release import read_identity

if TYPE_CHECKING:
    from perdure.release import Identity

FOLDER = "release"
PREFIX = "perdure."
_QUOTES = "'\"`"


def publish(path: Path, uri: str, name: str, verdict: Path | None = None) -> str:
    """Registers a release as a new version of a model; one that is registered already gets its tags anew.

    Args:
        path: the release folder; its files are checked against their hashes first.
        uri: of MLflow's tracking server and registry, or of a local store.
        name: of the registered model and of the experiment; a line of releases shares one.
        verdict: the file that the gate wrote about this release, as the ledger beside it has it.

    Returns:
        The version.

    Raises:
        ConfigurationError: if MLflow is not installed, or says no, or the name has a quote in it.
        ReleaseError: if the release is damaged, or the verdict is about another one.
        LedgerError: if the ledger does not have the verdict, byte for byte, as the newest one from the gate.
    """
    if not name.strip() or set(name) & set(_QUOTES):
        raise ConfigurationError(
            f"--name: found {name!r}; a name without quotes is allowed, MLflow looks it up by them."
        )
    identity = read_identity(path)
    given = None if verdict is None else _checked(verdict, path, identity)
    client, failure = _client(uri)
    try:
        return _published(client, path, identity, name, given)
    except failure as error:
        raise ConfigurationError(f"MLflow at {uri} refused: {error}") from error


def _checked(verdict: Path, path: Path, identity: Identity) -> Verdict:
    """The verdict in a file, once it is sure that the gate gave it about this release: anybody can write a file."""
    given = Verdict.read(verdict)
    if given.candidate.id != identity.id:
        raise ReleaseError(f"The verdict is about release {given.candidate.id[:12]}; {path} is {identity.id[:12]}.")
    check_is_of_the_gate(verdict, given, Ledger.beside(path).entries(), "or publish it without --verdict")
    return given


def _client(uri: str) -> tuple[Any, type[Exception]]:
    try:
        mlflow = importlib.import_module("mlflow")
    except ImportError as error:
        raise ConfigurationError('This needs MLflow\'s client: pip install "perdure[mlflow]".') from error
    failure: type[Exception] = mlflow.exceptions.MlflowException
    try:
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri), failure
    except failure as error:
        raise ConfigurationError(f"MLflow at {uri} refused: {error}") from error


def _published(client: Any, path: Path, identity: Identity, name: str, verdict: Verdict | None) -> str:
    tags = _tags(identity, verdict)
    # by id: of a long line of releases a search by name gives the first page alone
    for version in client.search_model_versions(f"tags.`{PREFIX}id` = '{identity.id}'"):
        if version.name == name:
            for key, value in tags.items():
                client.set_model_version_tag(name, version.version, key, value)
            return str(version.version)
    _register(client, name)
    found = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if found is None else found.experiment_id
    run = client.create_run(experiment, run_name=path.name, tags=tags)
    run_id = run.info.run_id
    for key, value in _settings(identity).items():
        client.log_param(run_id, key, value)
    for epoch in identity.training.get("epochs", ()):
        for key, value in epoch.items():
            if key != "epoch" and value is not None:
                client.log_metric(run_id, key, value, step=epoch["epoch"])
    client.log_artifacts(run_id, str(path), FOLDER)
    client.set_terminated(run_id)
    source = f"{run.info.artifact_uri}/{FOLDER}"
    return str(client.create_model_version(name, source=source, run_id=run_id, tags=tags).version)


def _register(client: Any, name: str) -> None:
    """Makes the registered model, unless it is there."""
    mlflow = importlib.import_module("mlflow")
    try:
        client.get_registered_model(name)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)


def _tags(identity: Identity, verdict: Verdict | None) -> dict[str, str]:
    tags = {
        "id": identity.id,
        "origin": identity.origin,
        "domain": identity.domains[-1].domain,
        "method": str(identity.method.get("name", "")),
        "parent": identity.lineage[-1].id if identity.lineage else "",
    }
    if verdict is not None:
        tags |= {"verdict": verdict.verdict, "plan": verdict.plan.sha256}
    return {f"{PREFIX}{key}": value for key, value in tags.items()}


def _settings(identity: Identity) -> dict[str, str]:
    """The recipe and the contract's size, as parameters of a run."""
    settings = {f"recipe.{key}": str(value) for key, value in identity.recipe.items()}
    return {**settings, "network": identity.network.factory, "size": " x ".join(map(str, identity.contract.size))}
