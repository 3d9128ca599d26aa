"""Local tasks, made once for all tests of evaluation."""

import pytest

from memlm.evaluate.local import make_tasks


@pytest.fixture(scope="session")
def tasks(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks") / "made"
    make_tasks(data, out, tokens=140, examples=12, seed=3)
    return out
