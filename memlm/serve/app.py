"""The app: which path asks the worker for what, and how its answers are told."""

import asyncio
import json
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response, StreamingResponse

import memlm.report
from memlm import __version__
from memlm.api.face import checked_texts
from memlm.bank.bank import Bank
from memlm.bank.memories import Memories
from memlm.errors import MemlmError
from memlm.serve import work
from memlm.serve.config import Serving
from memlm.serve.generating import Generate, generate
from memlm.serve.guard import Guard
from memlm.serve.metrics import Metrics
from memlm.serve.wire import (
    CompletionsBody,
    EmbeddingsBody,
    RecallBody,
    Refusal,
    SearchBody,
    as_json,
    embeddings,
    refusal_of,
)
from memlm.serve.work import Recall, Served
from memlm.serve.worker import Busy, Job, Stopped, Worker

PAGE = Path(__file__).with_name("page.html")
STYLE = Path(memlm.report.__file__).parent / "templates" / "page.css"  # one look for all pages
TEXTS = 2048  # of a request, as OpenAI has it
HEADERS = {  # of the page: it needs nothing from elsewhere
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


class Server:
    """Models, a bank, the worker that owns them, and the app that answers.

    Args:
        serving: what is asked of it.
        models: by name.
        bank: of the encoder of one of them at least.
    """

    def __init__(self, serving: Serving, models: dict[str, Served], bank: Bank | None = None):
        self.serving, self.models, self.bank, self.began = serving, models, bank, int(time.time())
        self.places = {one.model.name: name for name, one in models.items()}
        if bank is not None:
            self.places[str(bank.path)] = "the bank"
        self.reader = None if bank is None else work.reader_of(bank, models)
        self.metrics = Metrics()
        self.worker = Worker(serving.batch, serving.queue, self.metrics)
        page, style = PAGE.read_text("utf-8"), STYLE.read_text("utf-8")
        self._page = page.replace("/* the style of memlm report comes here */", style)
        self.app = self._app()

    def _app(self) -> FastAPI:
        app = FastAPI(title="memlm", version=__version__, docs_url=None, redoc_url=None)  # these ask for a network
        routes = {
            "/": self.page,
            "/health": self.health,
            "/metrics": self.tell_metrics,
            "/v1/models": self.list_models,
            "/v1/models/{name:path}": self.one_model,
            "/v1/embeddings": self.embed,
            "/v1/completions": self.complete,
            "/recall": self.recall,
            "/search": self.search,
        }
        for path, answer in routes.items():
            posted = answer in (self.embed, self.complete, self.recall, self.search)
            app.add_api_route(path, answer, methods=["POST" if posted else "GET"], response_model=None)
        app.add_exception_handler(Refusal, lambda _, error: cast(Refusal, error).response())
        app.add_exception_handler(
            MemlmError, lambda _, error: refusal_of(cast(MemlmError, error), self.places).response()
        )
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(HTTPException, _not_there)
        key = os.environ.get("MEMLM_API_KEY", "")
        app.add_middleware(Guard, serving=self.serving, key=key, paths=routes, metrics=self.metrics)
        return app

    async def page(self) -> Response:
        """The page to play with."""
        return HTMLResponse(self._page, headers=HEADERS)

    async def health(self) -> Response:
        """Whether the server answers, and what it is."""
        return as_json({"status": "ok", "memlm": __version__, "models": [*self.models]})

    async def tell_metrics(self) -> Response:
        """For Prometheus."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def list_models(self) -> Response:
        """What is served, and what each can do."""
        bank = None if self.bank is None else {"documents": len(self.bank.documents), "memories": len(self.bank)}
        return as_json({"object": "list", "data": [self._told(one) for one in self.models.values()], "bank": bank})

    async def one_model(self, name: str) -> Response:
        """One of them."""
        return as_json(self._told(self._model(name)))

    async def embed(self, body: EmbeddingsBody) -> Response:
        """Texts -> memories, as embeddings: one for each chunk of each text."""
        served, texts = self._model(body.model), _texts("input", body.input)
        if body.dimensions not in (None, served.model.memory_dim):
            raise Refusal(400, f"dimensions must be {served.model.memory_dim}, as this model's memories are.")
        if (empty := next((n for n, text in enumerate(texts) if not text), None)) is not None:
            raise Refusal(400, f"input {empty} is empty, and an empty text has no memory: leave it out.")
        memories: Memories = await self._done((work.encode, served.name), partial(work.encode, served), texts)
        self._check_many(memories)
        self.metrics.memories.inc(len(memories))
        return as_json(embeddings(memories, served.name, body.encoding_format))

    async def recall(self, body: RecallBody) -> Response:
        """Memories -> the texts that they hold."""
        served = self._model(body.model)
        if sum(one is not None for one in (body.text, body.memories, body.document)) != 1:
            raise Refusal(400, "give one of text, memories and document.")
        of = body.text if body.memories is None else body.memories.memories()
        if isinstance(of, str):
            checked_texts(of)
        if body.document is not None:
            of = await self._document(body.document)
        how = {name: getattr(body, name) for name in ("keep", "bits", "noise", "seed", "check", "tokens")}
        asked = Recall(cast(Any, of), most=self.serving.max_memories, **how)
        told = await self._done((work.recall, served.name), partial(work.recall, served), asked)
        return as_json({"model": served.name, **told})

    async def search(self, body: SearchBody) -> Response:
        """The memories of the bank that are nearest to a text."""
        if self.bank is None or self.reader is None:
            raise Refusal(400, "this server has no bank: start it with --bank.")
        served = self.reader if body.model is None else self._model(body.model)
        checked_texts(body.text)
        if served.own is None:
            raise Refusal(400, f"{served.name} did not make the bank: name {self.reader.name}.")
        do = partial(work.search, served, self.bank)
        return as_json({"data": await self._done((work.search, served.name), do, (body.text, body.k, body.by))})

    async def complete(self, body: CompletionsBody) -> Response:
        """Text that goes on from a prompt, after memories."""
        served, loop = self._model(body.model), asyncio.get_running_loop()
        parts: asyncio.Queue[str | None] = asyncio.Queue()

        def tell(part: str | None) -> None:
            loop.call_soon_threadsafe(parts.put_nowait, part)

        prompt, before = await self._prompt(served, body), await self._before(served, body)
        stop = threading.Event()
        asked = Generate(
            prompt=prompt,
            before=before,
            most=body.max_tokens,
            temperature=body.temperature,
            top_k=body.top_k,
            top_p=body.top_p,
            seed=secrets.randbits(31) if body.seed is None else body.seed,
            stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop),
            show=body.show_memories,
            tell=tell,
            gone=lambda: stop.is_set() or self.worker.ended,
            between=self.worker.between_tokens,
        )
        many = object() if isinstance(before, Bank) else 0 if before is None else len(before)
        do = partial(generate, served)
        job = self._submit(Job(do, (generate, served.name, many), asked, long=True, stop=stop))
        job.done.add_done_callback(lambda _: tell(None))
        named = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.name,
        }
        ends = loop.time() + self.serving.seconds
        if not body.stream:
            told = await self._result(job, ends)
            return as_json(named | {"choices": [_choice(told["text"], told)], "usage": self._usage(told)})
        try:
            async with asyncio.timeout_at(ends):
                if await parts.get() is None:  # it was refused, before any text
                    await self._result(job, ends)
        except TimeoutError:
            job.stop.set()
            raise self._late() from None
        usage = body.stream_options.get("include_usage", False)
        return StreamingResponse(self._events(job, parts, named, ends, usage), media_type="text/event-stream")

    async def _events(
        self, job: Job, parts: "asyncio.Queue[str | None]", named: dict[str, Any], ends: float, usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events, as OpenAI's: a part of the text each, then why it ended, then what it took."""
        try:
            part: str | None = ""
            while part is not None:
                if part:
                    yield _event(named | {"choices": [_choice(part, None)]})
                async with asyncio.timeout_at(ends):
                    part = await parts.get()
            told = await self._result(job, ends)
            yield _event(named | {"choices": [_choice("", told)]})
            counts = self._usage(told)
            if usage:
                yield _event(named | {"choices": [], "usage": counts})
        except (TimeoutError, Refusal, MemlmError) as error:
            refusal = self._late() if isinstance(error, TimeoutError) else error
            refusal = refusal_of(refusal, self.places) if isinstance(refusal, MemlmError) else refusal
            yield _event(refusal.told)
        finally:
            job.stop.set()  # also where the client went away
        yield "data: [DONE]\n\n"

    async def _before(self, served: Served, body: CompletionsBody) -> Memories | Bank | None:
        """What is read before the prompt; documents are encoded with those of other requests."""
        if sum((body.memories is not None, body.documents is not None, body.bank is not False)) > 1:
            raise Refusal(400, "give one of memories, documents and bank.")
        found = None if body.memories is None else body.memories.memories()
        if body.documents is not None:
            texts = _texts("documents", body.documents)
            found = await self._done((work.encode, served.name), partial(work.encode, served), texts)
        elif body.bank is not False:
            found = await self._document(body.bank)
        if not (isinstance(found, Bank) and served.can["file"]):
            self._check_many(found)
        if isinstance(found, Memories) and served.own is not None:
            await asyncio.to_thread(served.own.checked, found)  # those of another encoder would spoil a batch
        return found if found is not None and len(found) else None

    def _check_many(self, found: Memories | Bank | None) -> None:
        if found is not None and len(found) > self.serving.max_memories:
            raise Refusal(413, f"these are {len(found):,} memories of {self.serving.max_memories:,}: ask for less.")

    async def _prompt(self, served: Served, body: CompletionsBody) -> list[int]:
        """The tokens of the prompt of a request that is not too large."""
        prompts, limits = _texts("prompt", body.prompt), self.serving
        if len(prompts) != 1:
            raise Refusal(400, "prompt must be one text: send several requests, which are served side by side.")
        if body.max_tokens > limits.max_tokens:
            raise Refusal(400, f"max_tokens must be at most {limits.max_tokens:,}, not {body.max_tokens:,}.")
        ids = [] if served.own is None else await asyncio.to_thread(served.ids, prompts[0])
        if len(ids) > limits.max_prompt:
            raise Refusal(400, f"the prompt is longer than {limits.max_prompt:,} tokens: give the rest as documents.")
        return ids

    async def _document(self, name: str | bool) -> Memories | Bank:
        """A document of the bank, or all of it."""
        if self.bank is None:
            raise Refusal(400, "this server has no bank: start it with --bank.")
        return self.bank if name is True else await asyncio.to_thread(self.bank.__getitem__, cast(str, name))

    def _model(self, name: str) -> Served:
        if name not in self.models:
            told = ", ".join(self.models)
            raise Refusal(404, f"there is no model {name[:100]!r}; there are {told}.", "model_not_found")
        return self.models[name]

    def _told(self, served: Served) -> dict[str, Any]:
        named = {"id": served.name, "object": "model", "created": self.began, "owned_by": "memlm", "can": served.can}
        return named | {"chunk_tokens": served.model.chunk_tokens, "memory_dim": served.model.memory_dim}

    def _usage(self, told: dict[str, Any]) -> dict[str, int]:
        self.metrics.tokens.inc(told["tokens"])
        prompt, new = told["prompt_tokens"], told["tokens"]
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}

    def _late(self) -> Refusal:
        return Refusal(408, f"this took longer than {self.serving.seconds:g} seconds: ask for less.", "timeout")

    def _submit(self, job: Job) -> Job:
        try:
            self.worker.submit(job)
        except Busy:
            raise Refusal(429, "too many requests wait: ask again in a while.", "busy", "rate_limit_error") from None
        return job

    async def _done(self, key: Any, do: Any, asked: Any) -> Any:
        job = self._submit(Job(do, key, asked))
        return await self._result(job, asyncio.get_running_loop().time() + self.serving.seconds)

    async def _result(self, job: Job, ends: float) -> Any:
        try:
            async with asyncio.timeout_at(ends):
                return await asyncio.wrap_future(job.done)
        except TimeoutError:
            raise self._late() from None
        except (Stopped, asyncio.CancelledError):
            if self.worker.ended:
                raise Refusal(503, "the server ends: ask again in a while.", "ending", "server_error") from None
            raise
        finally:
            job.stop.set()


def _texts(name: str, told: Any) -> tuple[str, ...]:
    """A text or a list of texts, as OpenAI has them; not their token ids, which are of another tokenizer."""
    if told == []:
        raise Refusal(400, f"{name} is an empty list: give at least one text.")
    some = told[0] if isinstance(told, list) else told
    if isinstance(some, int | list):
        raise Refusal(400, f"{name} must be text, not token ids: those of another tokenizer mean nothing here.")
    if not isinstance(told, str | list):
        raise Refusal(400, f"{name} must be a string or a list of strings.")
    if isinstance(told, list) and len(told) > TEXTS:
        raise Refusal(413, f"{name} are {len(told):,} texts, and {TEXTS:,} are taken at most: send less at once.")
    return checked_texts(told)


def _choice(text: str, told: dict[str, Any] | None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": told and told["finish"]}
    return (
        choice
        if told is None or told["owed"] is None
        else choice | {"memories": told["owed"], "memories_by": told["by"]}
    )


def _event(told: dict[str, Any]) -> str:
    return f"data: {json.dumps(told, allow_nan=False)}\n\n"


async def _invalid(_: Request, error: Exception) -> Response:
    """What pydantic says first, and where."""
    first = cast(RequestValidationError, error).errors()[0]
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is no JSON: {first['ctx']['error']} at character {first['loc'][-1]}.").response()
    where = ".".join(str(part)[:60] for part in first["loc"] if part != "body")
    return Refusal(400, f"{where or 'the body'}: {first['msg']}.", "invalid_value").response()


async def _not_there(_: Request, error: Exception) -> Response:
    """What Starlette refuses: paths, methods, bodies that are no JSON."""
    told = cast(HTTPException, error)
    said = {404: "there is nothing here: /v1/models, /v1/embeddings, /v1/completions, /recall and /search are there."}
    return Refusal(told.status_code, said.get(told.status_code, f"{told.detail}.")).response()
