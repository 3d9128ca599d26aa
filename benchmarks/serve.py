"""64 clients at once ask `memlm serve`: errors, seconds to an answer, requests a second, and whether its memory grows.

    python benchmarks/serve.py CODER READER --text FILE [--clients 64] [--seconds 180] [--pause 0]

CODER is an autoencoder's run, READER a memory model's. Each client is a thread that asks the next question when it has
the answer to the last and has waited (`--pause`: seconds in the mean, exponentially distributed, at most six times as
long), over one connection: of ten questions five are embeddings of 1 to 8 passages of the text, two a passage recalled,
one a hundred passages embedded, two 32 tokens that go on after 512 characters of documents (every other one streamed).
Clients and server share the machine. The server's memory (RSS) is read every second. It leaks where the line through
the second half rises by 1,024 bytes a request or more, less than the smallest question and its answer: whatever keeps
one of them would show. Writes serve.md and serve.json into `--out`; exit code 1: an error, or a leak.
"""

import argparse
import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from memlm.provenance import commit, machine

LEAK = 1024  # bytes a request
KINDS = ["embed"] * 5 + ["recall"] * 2 + ["embed 100", "generate", "stream"]


def question(kind: str, text: str, names: tuple[str, str], draw: random.Random) -> tuple[str, dict]:
    """A path and a body."""

    def passages(count: int, size: int) -> list[str]:
        return [text[at : at + size] for at in (draw.randrange(len(text) - size) for _ in range(count))]

    coder, reader = names
    if kind.startswith("embed"):
        count = 100 if kind == "embed 100" else draw.randint(1, 8)
        return "/v1/embeddings", {"model": coder, "input": passages(count, 160), "encoding_format": "base64"}
    if kind == "recall":
        return "/recall", {"model": coder, "text": passages(1, 640)[0], "tokens": True}
    body = {"model": reader, "prompt": passages(1, 40)[0], "documents": passages(1, 512), "max_tokens": 32}
    return "/v1/completions", {**body, "seed": 0, "stream": kind == "stream"}


def client(number: int, told: tuple[int, str, tuple[str, str], float, float], rows: list, wrong: list) -> None:
    """Ask until the time is over."""
    port, text, names, pause, ends = told
    draw = random.Random(number)
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while True:
        time.sleep(min(draw.expovariate(1 / pause), 6 * pause) if pause else 0)
        if time.monotonic() > ends:
            return
        kind = draw.choice(KINDS)
        path, body = question(kind, text, names, draw)
        began = time.monotonic()
        try:
            line.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = line.getresponse()
            said = answer.read()
            if answer.status != 200 or b'"error"' in said[:20]:
                wrong.append((kind, answer.status, said[:200].decode()))
        except (OSError, http.client.HTTPException) as error:
            wrong.append((kind, 0, repr(error)))
            line.close()
        rows.append((kind, time.monotonic() - began))


def growth(seen: list[tuple[float, float]], requests_per_second: float) -> dict:
    """MiB of RSS by the seconds when it was read: each minute's mean, and the slope of a line through the second half."""
    at_S, mib_S = np.array(seen).T
    half = at_S > at_S[-1] / 2
    slope = float(np.polyfit(at_S[half], mib_S[half], 1)[0])
    minutes = [float(mib_S[at_S // 60 == minute].mean()) for minute in np.unique(at_S // 60)]
    told = {"at_half": float(mib_S[half][0]), "at_end": float(mib_S[-1]), "per_minute": 60 * slope}
    return told | {"bytes_per_request": slope * 2**20 / requests_per_second, "each_minute": minutes}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs=2, metavar="MODEL", help="an autoencoder's run, a memory model's run")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--pause", type=float, default=0, help="seconds that a client waits in the mean")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    argv = [sys.executable, "-m", "memlm", "serve", *given.models, "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    said = server.stderr.readline()
    port = int(re.search(r":(\d+) \(", said)[1])
    process = psutil.Process(server.pid)
    names, text = tuple(Path(one).name for one in given.models), given.text.read_text("utf-8")
    rows, wrong, seen, loads, began = [], [], [], [], time.monotonic()
    before, spent = process.memory_info().rss / 2**20, sum(process.cpu_times()[:2])
    told = (port, text, names, given.pause, began + given.seconds)
    threads = [threading.Thread(target=client, args=(n, told, rows, wrong)) for n in range(given.clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        seen.append((time.monotonic() - began, process.memory_info().rss / 2**20))
        loads.append(os.getloadavg()[0])
    took, spent = time.monotonic() - began, sum(process.cpu_times()[:2]) - spent
    line = http.client.HTTPConnection("127.0.0.1", port)
    line.request("GET", "/metrics")
    metrics = line.getresponse().read().decode()
    batches, batched = (float(re.search(rf"^memlm_batch_{one} (\S+)$", metrics, re.M)[1]) for one in ("count", "sum"))
    server.terminate()
    ended = server.wait(30)
    results = []
    for kind in ["all", *dict.fromkeys(KINDS)]:
        seconds = np.array([s for of, s in rows if kind in ("all", of)])
        p50, p99 = np.quantile(seconds, [0.5, 0.99]).tolist()
        bad = sum(kind in ("all", one[0]) for one in wrong)
        results.append({"kind": kind, "requests": len(seconds), "errors": bad, "p50": p50, "p99": p99})
    report = {
        "clients": given.clients,
        "pause": given.pause,
        "seconds": took,
        "requests_per_second": len(rows) / took,
        "requests_per_batch": batched / batches,
        "cores_used": spent / took,
        "load_average": float(np.mean(loads)),
        "memory_mib": {"before": before, **growth(seen, len(rows) / took)},
        "exit_code": ended,
        "results": results,
        "wrong": wrong[:20],
        "machine": machine(),
        "commit": commit(),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "serve.json").write_text(json.dumps(report, indent=2) + "\n")
    (given.out / "serve.md").write_text(markdown(report))
    print(markdown(report))
    sys.exit(bool(wrong) or report["memory_mib"]["bytes_per_request"] >= LEAK)


def markdown(report: dict) -> str:
    """The report as a page."""
    mib, doc, rate = report["memory_mib"], __doc__.split("\n\n"), report["requests_per_second"]
    lines = [
        "# serve",
        "",
        doc[0],
        "",
        " ".join(doc[2].split()),
        "",
        f"- {report['machine']}; commit {report['commit'][:12]}",
        f"- {report['clients']} clients that wait {report['pause']:g} s in the mean, {report['seconds']:,.0f} s: "
        f"{rate:.1f} requests a second, {report['requests_per_batch']:.1f} of a kind computed together; the server "
        f"used {report['cores_used']:.2f} cores, the machine's load was {report['load_average']:.1f} in the mean",
        f"- memory of the server: {mib['before']:.0f} MiB before the first request, {mib['at_half']:.0f} at half "
        f"time, {mib['at_end']:.0f} at the end; growth in the second half {mib['per_minute']:+.3f} MiB a minute, "
        f"{mib['bytes_per_request']:+.0f} bytes a request: {'it leaks' if mib['bytes_per_request'] >= LEAK else 'no leak'}",
        f"- ended by SIGTERM with exit code {report['exit_code']}",
        "",
        "| question | requests | errors | p50, ms | p99, ms |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in report["results"]:
        p50, p99 = (f"{1000 * row[name]:,.0f}" for name in ("p50", "p99"))
        lines.append(f"| {row['kind']} | {row['requests']:,} | {row['errors']} | {p50} | {p99} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
