"""The tool llm, unmodified and without plugins, with the configuration of the guide."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chargen.api import load
from tests.programs import needs_llm
from tests.server.guide import GUIDE, MODEL, find_block, run_in_shell, serve_guide_model, with_address
from tests.server.test_process import Server

pytestmark = [pytest.mark.peers, needs_llm]

Completed = subprocess.CompletedProcess[str]
(COMMAND,) = re.findall(r"`(llm -m docs .*?)`", GUIDE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("llm")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    server = serve_guide_model(folder)
    yield server
    assert "Traceback" not in server.stop()


@pytest.fixture
def llm(server: Server, tmp_path: Path) -> Callable[..., Completed]:
    """Return a function that runs a command of llm with the configuration of the guide."""

    def run(command: str, server: Server = server, has_key: bool = False) -> Completed:
        configuration = with_address(find_block("yaml", "api_base"), server)
        if has_key:
            configuration = configuration.replace("# api_key_name", "api_key_name")
        user_folder = run_in_shell('dirname "$(llm logs path)"', tmp_path, LLM_USER_PATH=str(tmp_path / "llm"))
        path = Path(user_folder.stdout.strip()) / "extra-openai-models.yaml"
        path.write_text(configuration, encoding="utf-8")
        return run_in_shell(command, tmp_path, LLM_USER_PATH=str(tmp_path / "llm"))

    return run


def test_the_command_of_the_guide_continues_a_prompt(llm: Callable[..., Completed], folder: Path) -> None:
    done = llm(f"{COMMAND} -o seed 1")
    assert done.returncode == 0, done.stderr
    prompt, length = re.findall(r'"(.*)" -o max_tokens (\d+)', COMMAND)[0]
    text = load(folder / "checkpoints" / MODEL).sample(prompt, length=int(length), seed=1)
    assert done.stdout == f"{text.removeprefix(prompt)}\n"


def test_a_streamed_text_is_that_of_one_response(llm: Callable[..., Completed]) -> None:
    streamed, whole = llm(f"{COMMAND} -o seed 2"), llm(f"{COMMAND} -o seed 2 --no-stream")
    assert streamed.returncode == whole.returncode == 0, streamed.stderr + whole.stderr
    assert streamed.stdout == whole.stdout != "\n"


def test_a_conversation_goes_on(llm: Callable[..., Completed]) -> None:
    done = llm(f'{COMMAND} && llm -c " and" -o max_tokens 10 && llm logs -n 2 --json')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"prompt": " and"') == 1


def test_a_key_is_stored_by_llm(llm: Callable[..., Completed], folder: Path) -> None:
    server = serve_guide_model(folder, "--api-key", "secret")
    (store,) = re.findall(r"`(llm keys set \w+)`", GUIDE)
    try:
        done = llm(COMMAND, server)
        assert done.returncode != 0 and "the API key is wrong" in done.stderr
        done = llm(f"{store} --value secret && {COMMAND}", server, has_key=True)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 1
    finally:
        server.stop()


def test_what_the_server_refuses_is_said_by_llm(llm: Callable[..., Completed]) -> None:
    done = llm(f"{COMMAND} -o temperature 1 -o max_tokens 100000")
    assert done.returncode == 1
    assert "max_tokens" in done.stderr and "Traceback" not in done.stderr
