"""A server that listens, in a thread of this process: a perfect autoencoder, two that read its memories, a stranger."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from banks import autoencoder, memory_model, tokenizer
from copying_models import WORDS, tiny

from memlm.api.own import OwnModel
from memlm.loading import save_model

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn
except ModuleNotFoundError:  # the extra serve
    collect_ignore_glob = ["test_*.py"]


class Listening:
    """A server and where it is; `ask` gives the status and the JSON of an answer."""

    def __init__(self, server: Any, key: str = ""):
        self.server, self.key = server, key
        self.uvicorn = uvicorn.Server(uvicorn.Config(server.app, port=0, log_level="error", access_log=False))
        self.thread = threading.Thread(target=self.uvicorn.run, daemon=True)
        self.thread.start()
        while not self.uvicorn.started:
            time.sleep(0.01)
        self.port = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        told = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}", **headers}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, told, headers), timeout=30) as answer:
                status, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read()
        return status, json.loads(said) if said[:1] == b"{" else said.decode()

    def close(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join()
        self.server.worker.close()


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """Models and a bank of two documents."""
    place, model = tmp_path_factory.mktemp("served"), autoencoder()
    save_model(model, tokenizer(), place / "auto")
    save_model(memory_model(model, "pointer"), tokenizer(), place / "points")
    save_model(memory_model(model, "vector"), tokenizer(), place / "vector")
    save_model(autoencoder(1), tokenizer(), place / "other")
    save_model(tiny(), WORDS, place / "copies")
    documents = [("sea", "the sea was calm and a cold wind came"), ("north", "from the north, wasn't it?")]
    OwnModel(str(place / "auto"), model, tokenizer()).encode_documents(documents, place / "bank")
    return place


@pytest.fixture(scope="session")
def start(place) -> Callable[..., Listening]:
    """Makes servers, with limits as they are given."""
    from memlm.bank.bank import Bank
    from memlm.serve.app import Server
    from memlm.serve.config import Serving
    from memlm.serve.work import load_all

    names = ("auto", "points", "vector", "other", "copies")

    def started(key: str = "", **limits: Any) -> Listening:
        serving = Serving(models=tuple(str(place / name) for name in names), device="cpu", **limits)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MEMLM_API_KEY", key)
            return Listening(Server(serving, load_all(serving), Bank.open(place / "bank")), key)

    return started


@pytest.fixture(scope="session")
def listening(start):
    found = start(max_bytes=2**16, max_tokens=64, max_prompt=64, max_memories=64)
    yield found
    found.close()
