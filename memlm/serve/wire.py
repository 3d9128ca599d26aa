"""What comes and goes as JSON: bodies of requests, memories as embeddings and back, refusals in OpenAI's shape."""

import base64
import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from memlm.bank.memories import Memories, Origin
from memlm.errors import MemlmError, UsageError

Word = Annotated[str, Field(min_length=1, max_length=500)]


class Refusal(Exception):
    """A request that is refused, in one sentence; `status` is HTTP's, `code` and `kind` are as OpenAI names them."""

    def __init__(self, status: int, message: str, code: str | None = None, kind: str = "invalid_request_error"):
        super().__init__(message)
        self.status, self.message, self.code, self.kind = status, message, code, kind

    @property
    def told(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": None, "code": self.code}}

    def response(self) -> Response:
        """The answer."""
        return as_json(self.told, self.status)


def refusal_of(error: MemlmError, places: dict[str, str]) -> Refusal:
    """What our own refusals are over HTTP: a wrong request, or work that failed.

    `places`: where on the server things are, and what clients call them; of a path a sentence tells the latter.
    """
    said = str(error)
    for place in sorted((place for place in places if "/" in place), key=len, reverse=True):
        said = said.replace(place, places[place])
    return Refusal(400, said) if isinstance(error, UsageError) else Refusal(503, said, kind="server_error")


def as_json(told: Any, status: int = 200) -> Response:
    """In ASCII, so that no text, a lone surrogate in an echoed name for example, is beyond it; without NaN."""
    return Response(json.dumps(told, allow_nan=False), status, media_type="application/json")


class Body(BaseModel):
    """A request: nothing that it does not know is passed over in silence; null is as good as left out."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    model: Word

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, told: Any) -> Any:
        return {name: value for name, value in told.items() if value is not None} if isinstance(told, dict) else told


class Vector(BaseModel):
    """A memory as /v1/embeddings tells it; `embedding` is base64 of little-endian float32, or a list."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    embedding: str | list[float]
    text: Annotated[int, Field(ge=0)] = 0  # of which text of the request it is
    tokens: Annotated[int, Field(ge=1)]


class Made(BaseModel):
    """What made memories, as `memlm.bank.memories.Origin`."""

    model_config = ConfigDict(strict=True)
    encoder: Word
    tokenizer: Word
    chunk_tokens: Annotated[int, Field(ge=1, le=2**31)]
    memory_dim: Annotated[int, Field(ge=1, le=2**31)]


class Told(BaseModel):
    """Memories, as /v1/embeddings answers."""

    data: list[Vector]
    origin: Made

    def memories(self) -> Memories:
        """As the Python interface knows them.

        Raises:
            UsageError: vectors that are none, or of another length than they claim.
        """
        origin = Origin(**self.origin.model_dump())
        vectors = [_numbers(vector.embedding, origin.memory_dim, n) for n, vector in enumerate(self.data)]
        texts = [vector.text for vector in self.data]
        if sorted(texts) != texts:
            raise UsageError("memories stand in the order of their texts: give them as /v1/embeddings did.")
        names, text_K = np.unique(texts, return_inverse=True)
        chunks = np.zeros((len(texts), 3), np.int32)
        chunks[:, 0], chunks[:, 2] = text_K, [min(vector.tokens, origin.chunk_tokens) for vector in self.data]
        chunks[:, 1] = np.arange(len(texts)) - np.searchsorted(text_K, text_K)
        vectors_KM = np.stack(vectors) if vectors else np.empty((0, origin.memory_dim), np.float32)
        return Memories(vectors_KM, chunks, (None,) * len(names), origin)


class EmbeddingsBody(Body):
    """POST /v1/embeddings."""

    input: Any
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


class CompletionsBody(Body):
    """POST /v1/completions: OpenAI's fields, of some no other value than theirs, and ours in the last lines."""

    prompt: Any = ""
    max_tokens: Annotated[int, Field(ge=1)] = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Word | Annotated[list[Word], Field(max_length=4)] = []
    stream: bool = False
    stream_options: dict[Literal["include_usage"], bool] = {}
    n: Literal[1] = 1
    best_of: Literal[1] = 1
    echo: Literal[False] = False
    presence_penalty: Literal[0] = 0
    frequency_penalty: Literal[0] = 0
    user: str | None = None
    top_k: Annotated[int, Field(ge=1, le=2**31)] | None = None
    memories: Told | None = None
    documents: list[str] | None = None
    bank: bool | Word = False  # all of it, or a document of it
    show_memories: bool = False


class RecallBody(Body):
    """POST /recall: of a text, of memories, or of a document of the bank; as they are, or with less in them."""

    text: str | None = None
    memories: Told | None = None
    document: Word | None = None
    keep: Annotated[int, Field(ge=0, le=2**31)] | None = None  # how many numbers, the first ones; others become 0
    bits: Annotated[int, Field(ge=1, le=16)] | None = None  # of a number
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0  # its deviation, as a multiple of the memory's mean square root
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of the noise
    check: bool = False  # encode again what was recalled, and try other tokens where that is not the memory
    tokens: bool = False  # tell each chunk's vector and each token's certainty


class SearchBody(Body):
    """POST /search."""

    model: Word | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    text: str
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    by: Literal["vector", "keys"] = "vector"


def embeddings(memories: Memories, name: str, form: Literal["float", "base64"]) -> dict[str, Any]:
    """Memories as OpenAI's embeddings, with what `Told` needs of them."""
    data = [
        {
            "object": "embedding",
            "index": n,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if form == "base64"
            else vector.tolist(),
            **dict(zip(("text", "chunk", "tokens"), chunk.tolist(), strict=True)),
        }
        for n, (vector, chunk) in enumerate(zip(memories.vectors, memories.chunks, strict=True))
    ]
    tokens = int(memories.chunks[:, 2].sum())
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": name, "usage": usage, "origin": vars(memories.origin)}


def _numbers(told: str | list[float], count: int, number: int) -> np.ndarray:
    """A vector of so many finite float32."""
    try:
        with np.errstate(over="ignore"):
            found = (
                np.frombuffer(base64.b64decode(told, validate=True), "<f4")
                if isinstance(told, str)
                else np.array(told, np.float32)
            )
    except ValueError:  # no base64, or no whole numbers
        raise UsageError(f"memory {number} is no vector: give numbers, or base64 of little-endian float32.") from None
    if len(found) != count or not np.isfinite(found).all():
        raise UsageError(f"memory {number} must be {count} finite float32 numbers, as origin.memory_dim says.")
    return found
