"""64 clients at once ask `memlm serve`: errors, seconds to an answer, requests a second, and whether its memory grows.

    python benchmarks/serve.py CODER READER --text FILE [--clients 64] [--seconds 180]

CODER is an autoencoder's run, READER a memory model's. Each client is a thread that asks the next question when it has
the answer to the last, over one connection: of ten questions five are embeddings of 1 to 8 passages of the text, two a
passage recalled, one a hundred passages embedded, two 32 tokens that go on after 512 characters of documents (every
other one streamed). Clients and server share the machine. The server's memory (RSS) is read every second; growth is the
slope of a line through the second half. Writes benchmarks/serve.md and serve.json.
"""

import argparse
import http.client
import json
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from memlm.provenance import commit, machine

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


def client(number: int, port: int, text: str, names: tuple[str, str], ends: float, rows: list, wrong: list) -> None:
    """Ask until the time is over."""
    draw = random.Random(number)
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while time.monotonic() < ends:
        kind = draw.choice(KINDS)
        path, body = question(kind, text, names, draw)
        began = time.monotonic()
        try:
            line.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = line.getresponse()
            said = answer.read()
            if answer.status != 200 or b'"error"' in said[:20]:
                wrong.append((kind, answer.status, said[:200].decode()))
        except OSError as error:
            wrong.append((kind, 0, str(error)))
        rows.append((kind, time.monotonic() - began))


def memory(process: int) -> float:
    """MiB of RSS."""
    told = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", told)[1]) / 1024


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs=2, metavar="MODEL", help="an autoencoder's run, a memory model's run")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    argv = [sys.executable, "-m", "memlm", "serve", *given.models, "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    said = server.stderr.readline()
    port = int(re.search(r":(\d+) \(", said)[1])
    names, text = tuple(Path(one).name for one in given.models), given.text.read_text("utf-8")
    rows, wrong, seen, began = [], [], [], time.monotonic()
    before = memory(server.pid)
    told = (port, text, names, began + given.seconds, rows, wrong)
    threads = [threading.Thread(target=client, args=(n, *told)) for n in range(given.clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        seen.append((time.monotonic() - began, memory(server.pid)))
    took = time.monotonic() - began
    line = http.client.HTTPConnection("127.0.0.1", port)
    line.request("GET", "/metrics")
    metrics = line.getresponse().read().decode()
    batches, batched = (float(re.search(rf"^memlm_batch_{one} (\S+)$", metrics, re.M)[1]) for one in ("count", "sum"))
    server.terminate()
    ended = server.wait(30)
    late = np.array(seen[len(seen) // 2 :])
    slope = float(np.polyfit(late[:, 0], late[:, 1], 1)[0]) * 60
    results = []
    for kind in ["all", *dict.fromkeys(KINDS)]:
        seconds = np.array([s for of, s in rows if kind in ("all", of)])
        p50, p99 = np.quantile(seconds, [0.5, 0.99]).tolist()
        bad = sum(kind in ("all", one[0]) for one in wrong)
        results.append({"kind": kind, "requests": len(seconds), "errors": bad, "p50": p50, "p99": p99})
    report = {
        "clients": given.clients,
        "seconds": took,
        "requests_per_second": len(rows) / took,
        "requests_per_batch": batched / batches,
        "memory_mib": {"before": before, "at_half": late[0, 1], "at_end": late[-1, 1], "per_minute": slope},
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
    sys.exit(bool(wrong))


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
        f"- {report['clients']} clients, {report['seconds']:.0f} s: {rate:.0f} requests a second, "
        f"{report['requests_per_batch']:.1f} of a kind computed together",
        f"- memory of the server: {mib['before']:.0f} MiB before the first request, {mib['at_half']:.0f} at half "
        f"time, {mib['at_end']:.0f} at the end; growth in the second half {mib['per_minute']:+.2f} MiB a minute",
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
