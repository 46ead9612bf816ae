"""The examples of the guide to serving that use curl: each request is answered without an error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import needs_curl
from tests.server.guide import GUIDE, run_in_shell, serve_guide_model, with_address
from tests.server.test_process import Server

pytestmark = [pytest.mark.peers, needs_curl]

COMMANDS = re.findall(r"^\$ (curl .*)$", GUIDE, re.MULTILINE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = serve_guide_model(tmp_path_factory.mktemp("curl"))
    yield server
    assert "Traceback" not in server.stop()


def test_the_guide_has_examples() -> None:
    assert len(COMMANDS) >= 4
    assert any("/v1/completions" in command for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_server_answers(server: Server, tmp_path: Path, command: str) -> None:
    done = run_in_shell(f"set -o pipefail; {with_address(command, server)}", tmp_path)
    assert done.stdout
    if "|" not in command:
        assert done.returncode == 0
        assert "error" not in json.loads(done.stdout)


def test_a_text_is_that_of_the_same_request_again(server: Server, tmp_path: Path) -> None:
    (command,) = [command for command in COMMANDS if '"max_tokens": 60' in command]
    answers = [json.loads(run_in_shell(with_address(command, server), tmp_path).stdout) for _ in range(2)]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["usage"] == {"prompt_tokens": 11, "completion_tokens": 60, "total_tokens": 71}
