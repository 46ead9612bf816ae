"""The lm-evaluation-harness, unmodified, against a server: its numbers are those of `score`."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chargen.api import load
from chargen.checkpoint import save_checkpoint
from tests.conftest import VERSE, random_model
from tests.programs import needs_lm_eval
from tests.server.guide import GUIDE, MODEL, find_block, run_in_shell, serve_guide_model, with_address
from tests.server.test_process import Server

pytestmark = [pytest.mark.peers, needs_lm_eval]

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
QUESTIONS = [
    {"question": "The quick brown", "choices": ["fox", "dog", "người"], "answer": 0},
    {"question": "Trăm năm trong", "choices": ["cõi người ta", "lazy", "0"], "answer": 0},
    {"question": "jumps over the ", "choices": ["lazy dog; 0", "mệnh", "x☃"], "answer": 1},
    {"question": "", "choices": ["fox", "dog"], "answer": 1},
]
TEXTS = [{"text": VERSE}, {"text": "Chữ tài chữ mệnh"}, {"text": "☃ fox"}]
TASKS = {
    "choose": "output_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_choice: '{{choices}}'\n"
    "doc_to_target: answer\nmetric_list:\n  - metric: acc\n",
    "roll": "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\nmetric_list:\n"
    "  - metric: bits_per_byte\n",
    "write": "output_type: generate_until\ndoc_to_text: '{{text}}'\ndoc_to_target: ''\ngeneration_kwargs:\n"
    "  until: ['z']\n  max_gen_toks: 40\nmetric_list:\n  - metric: exact_match\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, task in TASKS.items():
        records = QUESTIONS if name == "choose" else TEXTS
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path / name}.jsonl\n"
        (tmp_path / f"{name}.yaml").write_text(f"{head}test_split: test\n{task}")
    return tmp_path


def run_harness(
    folder: Path, url: str, model_args: str, batch_size: int
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return the results of the harness, and its samples by the name of the task."""
    arguments = f"model=verse,base_url={url}/v1/completions,tokenizer_backend=remote,max_length=20000"
    command = (
        f"lm_eval --model local-completions --model_args {arguments}{model_args} --tasks {','.join(TASKS)}"
        f" --batch_size {batch_size} --include_path {shlex.quote(str(folder))}"
    )
    return run_and_read(command, folder, list(TASKS))


def run_and_read(
    command: str, folder: Path, tasks: Sequence[str], **environment: str
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Run a command of the harness; return its results, and its samples by the name of the task."""
    out = folder / "out"
    more = f" --output_path {shlex.quote(str(out))} --log_samples"
    done = run_in_shell(command + more, folder, HF_HOME=str(folder / "hf"), **OFFLINE, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = out.rglob("results_*.json")
    samples = {
        name: [json.loads(line) for line in next(out.rglob(f"samples_{name}_*.jsonl")).read_text().splitlines()]
        for name in tasks
    }
    return json.loads(results.read_text())["results"], samples


@pytest.mark.parametrize(
    ("tokenizer", "documents", "model_args", "batch_size"),
    [
        ("char", "none", "", 1),
        ("byte", "none", "", 4),
        ("char", "line", ",num_concurrent=8", 1),
        ("char", "none", ",tokenized_requests=False", 1),
    ],
)
def test_the_numbers_of_the_harness_are_those_of_score(
    folder: Path, tokenizer: str, documents: str, model_args: str, batch_size: int
) -> None:
    model = random_model(tokenizer=tokenizer, documents=documents)
    save_checkpoint(folder / "checkpoints" / "verse" / "model.safetensors", model)
    lm = load(folder / "checkpoints" / "verse")
    server = Server(folder, "verse")
    try:
        results, samples = run_harness(folder, server.url, model_args, batch_size)
    finally:
        server.stop()
    for sample in samples["choose"]:
        doc = sample["doc"]
        for choice, ((log_prob, _),) in zip(doc["choices"], sample["resps"], strict=True):
            context, text = doc["question"], f" {choice}"
            text = " " * (len(context) - len(context.rstrip())) + text
            expected = lm.score(text, context=context.rstrip() or None, end=False).log_prob_nats
            assert float(log_prob) == pytest.approx(expected, abs=1e-4)
    log_probs = [float(sample["resps"][0][0]) for sample in samples["roll"]]
    expected_scores = [lm.score(each["text"], end=False) for each in TEXTS]
    for sample in samples["roll"]:
        score = lm.score(sample["doc"]["text"], end=False)
        assert float(sample["resps"][0][0]) == pytest.approx(score.log_prob_nats, abs=1e-4)
    num_bytes = sum(score.bytes for score in expected_scores)
    assert results["roll"]["bits_per_byte,none"] == pytest.approx(-sum(log_probs) / math.log(2) / num_bytes)
    for sample in samples["write"]:
        prompt = sample["doc"]["text"]
        expected_text = "".join(lm.stream(prompt, length=40, temperature=0, stop=["z"]))
        assert expected_text.startswith(sample["resps"][0][0])
        assert sample["resps"][0][0] == expected_text or tokenizer == "byte"  # it counts bytes


@pytest.mark.parametrize("key", ["", "secret"])
def test_the_task_and_the_command_of_the_guide_work(tmp_path: Path, key: str) -> None:
    (tmp_path / "tasks").mkdir()
    task, question = find_block("yaml", "multiple_choice"), find_block("json", "choices")
    (tmp_path / "tasks" / "my_task.yaml").write_text(task, encoding="utf-8")
    (tmp_path / "tasks" / "my_task.jsonl").write_text(question, encoding="utf-8")
    server = serve_guide_model(tmp_path, *(["--api-key", key] if key else []))
    command = with_address(find_block("text", "lm_eval").strip(), server)
    (variable, argument) = re.findall(r"reads it from the variable `(\w+)`.*needs `(,\w+=)KEY`", GUIDE, re.DOTALL)[0]
    environment = {variable: key} if key else {}
    try:
        results, samples = run_and_read(
            command + argument + key if key else command, tmp_path, ["my_task"], **environment
        )
    finally:
        assert "Traceback" not in server.stop()
    lm = load(tmp_path / "checkpoints" / MODEL)
    (sample,) = samples["my_task"]
    asked = json.loads(question)
    scores = [lm.score(f" {choice}", context=asked["question"], end=False) for choice in asked["choices"]]
    expected = [score.log_prob_nats for score in scores]
    assert [float(each) for ((each, _),) in sample["resps"]] == pytest.approx(expected, abs=1e-4)
    assert results["my_task"]["acc,none"] == (max(expected) == expected[asked["answer"]])
