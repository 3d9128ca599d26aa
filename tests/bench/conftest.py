import pytest

from memlm.bench import slots
from memlm.bench.form import Options


@pytest.fixture
def options(data, tmp_path, monkeypatch) -> Options:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slots, "matrix_rate", lambda device: 1e9)
    return Options(data=data, out=tmp_path / "benchmarks", seconds=0.2)
