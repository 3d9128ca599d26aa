"""What benchmarks/kill.py has found, as a page of benchmarks/."""

from collections import Counter


def markdown(report: dict) -> str:
    """For people."""
    s = report["setting"]
    disk = "a tmpfs" if s["tmpfs"] else "RLIMIT_FSIZE"
    lines = [
        "# kill",
        "",
        "Nothing is lost and nothing is half: kill -9, a full disk at every write, two processes at once.",
        "",
        f"- command: `python benchmarks/kill.py --kills {s['kills']} --seed {s['seed']} --pages {s['pages']} --twice {s['twice']}`",
        f"- commit: {report['commit']}; {report['seconds']:.0f} s, one thread a process, two cores that others used",
        "- kills: every other one at any moment of the call, the others at any moment from the first file of its last commit on",
        "- writes: every call by which Python writes (mkdir, open, write, fsync, rename, ...) and every file of safetensors, each of",
        "  them once the first that finds the disk full, as all after it do (in process, by the shim of tests/faults.py)",
        f"- pages: {disk} with room for 0, {s['pages']}, {2 * s['pages']}, ... pages ({s['page_bytes']} bytes), until the call is not disturbed",
        "- old, new: what is found after the fault, every SHA-256 compared (old: what was there before, or nothing yet)",
        "- went on: the same call again gives what an undisturbed one gives, and nothing half-written is left; of the writes it is made after every fourth",
        "  (measure, report: eighth); prepare, encode and report begin each of the four in what the one before has left",
        "",
        "| command | s | commit, s | kills | old | new | with leftovers | went on | writes | old | new | with leftovers | went on | pages | went on | twice at once | one refused | both whole |",
        "|---" * 18 + "|",
    ]
    total = Counter()
    for row in report["results"]:
        k, w, f, t = (Counter(row.get(name, {})) for name in ("killed", "written", "full", "twice"))
        cells = [*(k[name] for name in NAMES), *(w[name] for name in NAMES), f["faults"], f["went on"], t["faults"], t["refused"], t["both"]]  # fmt: skip
        total.update(dict(enumerate(cells)))
        lines.append(
            "| " + " | ".join(map(str, [row["command"], row["seconds"], row.get("commit", ""), *cells])) + " |"
        )
    lines.append("| **all** | | | " + " | ".join(str(total[i]) for i in range(15)) + " |")
    lines += ["", f"Wrong: {len(report['wrong'])}.", *(f"- {one}" for one in report["wrong"])]
    return "\n".join(lines)


NAMES = ["faults", "old", "new", "leftovers", "went on"]
