"""Everything that is read from a disk, damaged: it is read, or refused in a sentence; nothing else ever comes out.

MEMLM_FUZZ=N damages every file N times (N = 200: about 10,000 inputs); else three times, the same ones every time.
"""

import os
import random
from collections import Counter

import pytest
from fuzz import damaged, tried
from fuzz_targets import targets


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield targets(tmp_path_factory.mktemp("fuzz") / "files", data)


def test_the_files_are_whole_before(files):
    assert len(files) > 40
    for name, (file, read) in files.items():
        assert file.is_file(), name
        read()


def test_a_damaged_file_is_read_or_refused_in_a_sentence(files):
    rounds, found = int(os.environ.get("MEMLM_FUZZ", "3")), Counter[str]()
    for name, (file, read) in files.items():
        for seed in range(rounds):
            try:
                found[tried(file, read, seed)] += 1
            except Exception as error:
                error.add_note(f"{name}, seed {seed}")
                raise
    print(f"{found.total()} damaged files of {len(files)} kinds: {dict(found)}")
    assert found["refused"] > found["whole"] > 0


def test_damage_differs_and_is_the_same_for_a_seed():
    content = b'{"a": [1, 2, {"b": "text"}], "c": null}'
    some = [damaged(content, random.Random(seed)) for seed in range(50)]
    assert some == [damaged(content, random.Random(seed)) for seed in range(50)]
    assert len(set(some)) > 30
