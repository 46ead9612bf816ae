"""The tokenizer of a model over HTTP, with the paths and fields that the lm-evaluation-harness reads."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from chargen.schema import Boolean, Integer, ListOf, String
from chargen.server.completions.request import check_fields
from chargen.server.completions.response_format import JSON_TYPE, dump_json
from chargen.server.errors import ApiError
from chargen.server.limits import MAX_BODY_BYTES, MAX_PROMPT_TOKENS
from chargen.server.state import ServerState
from chargen.server.tokens import BEGIN, END, UNKNOWN, ServedTokenizer
from chargen.tokenizers.tokenizer import BOUNDARY_ID

MAX_TOKENS = 200_000  # largest number of tokens in a request to decode
MAX_QUICK_CHARS = 10_000  # characters that are encoded in the event loop
TOKENIZE = {"model": String(1000), "prompt": String(MAX_BODY_BYTES), "add_special_tokens": Boolean()}
DETOKENIZE = {"model": String(1000), "tokens": ListOf(Integer(0, 2**31), high=MAX_TOKENS)}


async def tokenizer_info(request: Request) -> Response:
    """Answer with the special tokens of a model; `?model=ID` chooses one."""
    state: ServerState = request.app.state.server
    model = state.models.find(request.query_params.get("model"))
    tokenizer, unknown_id = model.tokenizer, model.lm.tokenizer.unknown_id
    info = {
        "model": model.id,
        "tokenizer_class": f"chargen:{model.lm.tokenizer.name}",
        "vocab_size": tokenizer.vocab_size + 1,
        "model_max_length": MAX_PROMPT_TOKENS,
        "bos_token": BEGIN,
        "bos_token_id": tokenizer.begin_id,
        "eos_token": END,
        "eos_token_id": BOUNDARY_ID,
        "unk_token": None if unknown_id is None else UNKNOWN,
        "unk_token_id": unknown_id,
        "add_bos_token": False,
        "chat_template": None,
    }
    return Response(dump_json(info), media_type=JSON_TYPE)


async def tokenize(request: Request) -> Response:
    """Answer with the token ids of a text."""
    state: ServerState = request.app.state.server
    body = check_fields(await state.bodies.read_json(request), TOKENIZE)
    if "prompt" not in body:
        raise ApiError(400, "the request has no prompt", "prompt")
    tokenizer = state.models.find(body.get("model")).tokenizer
    words = (tokenizer, body["prompt"], bool(body.get("add_special_tokens")))
    is_quick = len(body["prompt"]) <= MAX_QUICK_CHARS
    answer = _tokenize(*words) if is_quick else await run_in_threadpool(_tokenize, *words)
    return Response(answer, media_type=JSON_TYPE)


def _tokenize(tokenizer: ServedTokenizer, text: str, has_begin: bool) -> bytes:
    """Return the token ids of a text as JSON, after <|begin|> if that is asked for."""
    _, ids = tokenizer.encode(text)
    if has_begin and ids[:1] != [tokenizer.begin_id]:
        ids = [tokenizer.begin_id, *ids]
    return dump_json({"tokens": ids, "count": len(ids), "max_model_len": MAX_PROMPT_TOKENS})


async def detokenize(request: Request) -> Response:
    """Answer with the text of token ids."""
    state: ServerState = request.app.state.server
    body = check_fields(await state.bodies.read_json(request), DETOKENIZE)
    if "tokens" not in body:
        raise ApiError(400, "the request has no tokens", "tokens")
    text = state.models.find(body.get("model")).tokenizer.decode(body["tokens"])
    return Response(dump_json({"prompt": text}), media_type=JSON_TYPE)
