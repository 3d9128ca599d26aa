"""A server that listens until it is asked to end: then it takes nothing new, and what runs has a while to end."""

import gc
import os
import socket

import uvicorn

from memlm.bank.bank import Bank
from memlm.errors import UsageError
from memlm.serve import work
from memlm.serve.app import Server
from memlm.serve.config import Serving
from memlm.ui import say

KEEP_ALIVE = 75  # seconds; longer than clients and proxies keep a connection, so that none asks over one just closed


def run(serving: Serving) -> None:
    """Listen and answer until SIGINT or SIGTERM.

    Raises:
        UsageError: there is no such model, bank, host or port, or the bank is of none of the models.
    """
    bank = None if serving.bank is None else Bank.open(serving.bank)
    with _listening(serving) as listening:
        server = Server(serving, work.load_all(serving), bank)
        gc.collect()
        gc.freeze()  # what is there by now stays: looking through it again and again would take time, and be put off
        grace = max(1, round(serving.grace))
        config = uvicorn.Config(
            server.app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=grace,
            timeout_keep_alive=KEEP_ALIVE,
        )
        host, port = listening.getsockname()[:2]
        where = f"[{host}]" if ":" in host else host
        say(f"serving {', '.join(server.models)} at http://{where}:{port} (Ctrl-C ends it)")
        if host not in ("127.0.0.1", "::1") and not os.environ.get("MEMLM_API_KEY"):
            say("whoever reaches this machine may ask: set MEMLM_API_KEY to a secret, and clients send it")
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:  # which it raises again when it has ended
            say("ended.")
        finally:
            server.worker.close()


def _listening(serving: Serving) -> socket.socket:
    """A socket, bound before models are loaded."""
    try:
        kind, *_, address = socket.getaddrinfo(serving.host, serving.port, type=socket.SOCK_STREAM)[0]
        found = socket.create_server(address[:2], family=kind, backlog=2048)
    except (OSError, UnicodeError) as error:
        what = f"{serving.host}:{serving.port} cannot be listened at ({getattr(error, 'strerror', None) or error})"
        raise UsageError(f"{what}: name another --host or --port.") from None
    return found
