"""A small corpus that the tests make themselves, prepared once a session."""

from pathlib import Path

import pytest
from texts import write_documents

from memlm.cpu import tune_cpu

tune_cpu()  # as every run does, before any thread is made: what is trained here equals what a process trains


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A prepared data set: vocabulary 300, eight documents, some to tune on and some to test on."""
    from memlm.data.prepare import Prepare, prepare

    place = tmp_path_factory.mktemp("corpus")
    source = write_documents(place / "source")
    parts = {"tune": ("document-1",), "test": ("document-2",)}
    prepare(Prepare(source=str(source), out=place / "data", vocab_size=300, **parts))
    return place / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who forks hundreds of times comes first: a fork takes 12 ms of a process of 300 MiB, 90 of one of 2.4 GiB."""
    items.sort(key=lambda item: not hasattr(item.module, "faulty"))
