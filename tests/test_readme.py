"""The Python of the README and of docs/use.md runs as it is written, after a demo, by whatever MEMLM_PYTHON names."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from banks import autoencoder, memory_model, tokenizer

from memlm.bank.confidence import calibrate
from memlm.loading import save_model
from memlm.measure import public

ROOT = Path(__file__).parent.parent
PAGES = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/use.md"))
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGES, re.DOTALL | re.MULTILINE)
# A smaller budget than a measurement's own: what is shown is that it runs.
BRIEFLY = """
import memlm.measure.public as public
from memlm import MeasureConfig, ProbeConfig
brief = ProbeConfig(families=("linear",), seeds=1, train_chunks=(40,))
public.MeasureConfig = lambda: MeasureConfig(chunks=20, probe=brief)
"""


@pytest.fixture(scope="module")
def place(data, tmp_path_factory) -> Path:
    """A folder as `memlm demo` leaves it, its models made by hand, with vectors of a user's."""
    place = tmp_path_factory.mktemp("readme")
    model = autoencoder()
    model.config.confidence = calibrate(model, np.random.default_rng(0).integers(2, 300, (20, model.chunk_tokens)))
    save_model(model, tokenizer(), place / "runs/demo/slots/model")
    save_model(memory_model(model, "pointer"), tokenizer(), place / "runs/demo/memory/model")
    shutil.copytree(data, place / "runs/demo/data")
    words = [f"word{n}" for n in range(40)]
    texts = [" ".join(np.random.default_rng(n).choice(words, 40)) for n in range(100)]
    (place / "texts.txt").write_text("\n".join(texts))
    np.save(place / "vectors.npy", np.random.default_rng(0).standard_normal((100, 8)))
    return place


def test_the_readmes_python_runs(place, monkeypatch, capsys):
    assert all(f".{name}(" in "".join(BLOCKS) for name in ("load", "measure", "encode", "decode", "generate"))
    code, python = "".join([BRIEFLY, *BLOCKS]), os.environ.get("MEMLM_PYTHON")
    if python is None:
        monkeypatch.chdir(place)
        monkeypatch.setattr(public, "MeasureConfig", public.MeasureConfig)  # put back afterwards
        exec(compile(code, "README.md and docs/use.md", "exec"), {"__name__": "__main__"})
        out = capsys.readouterr().out
    else:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        out = subprocess.run(
            [python, "-c", code], cwd=place, env=env, capture_output=True, text=True, check=True
        ).stdout
    assert "It was a bright cold day." in out
    assert "usable bits/token" in out
