"""The RayJob of the documentation: its YAML has the fields of KubeRay, and its command is one of chargen."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from chargen.cli.commands.bulk.score import bulk_score

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "guides" / "bulk.md"
EXAMPLE = ROOT / "docs" / "examples" / "rayjob.yaml"

#: the fields of KubeRay's v1 API that the example may use: rayjob_types.go and raycluster_types.go in its sources
JOB = {
    "entrypoint", "submissionMode", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit",
    "rayClusterSpec", "runtimeEnvYAML", "activeDeadlineSeconds", "suspend",
}  # fmt: skip
CLUSTER = {"rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions"}
HEAD = {"rayStartParams", "template", "serviceType"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def job() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return document


def test_the_page_shows_the_example() -> None:
    assert f"```yaml\n{EXAMPLE.read_text(encoding='utf-8')}```" in PAGE.read_text(encoding="utf-8")


def test_the_fields_are_those_of_a_ray_job() -> None:
    document = job()
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    spec = document["spec"]
    assert set(spec) <= JOB
    cluster = spec["rayClusterSpec"]
    assert set(cluster) <= CLUSTER
    assert isinstance(cluster["rayVersion"], str)
    head = cluster["headGroupSpec"]
    assert set(head) <= HEAD
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKERS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (head, *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for container in group["template"]["spec"]["containers"]:
            assert {"name", "image", "resources"} <= set(container)
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts == {volume["name"] for volume in group["template"]["spec"].get("volumes", [])}


def test_the_command_can_be_parsed_and_has_a_worker_per_cpu() -> None:
    spec = job()["spec"]
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["chargen", "bulk", "score"]
    with bulk_score.make_context("score", words[3:]) as context:
        workers = context.params["workers"]
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    cpus = sum(
        group["replicas"] * int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        for group in groups
    )
    assert workers == cpus
