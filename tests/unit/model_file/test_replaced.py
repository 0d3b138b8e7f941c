"""A model file that another process replaces while it is read."""

import itertools
import threading
from pathlib import Path

from unit.tiny import write_prior_model

from distill.model_file.format import load_bundle, read_metadata


def test_a_file_that_is_replaced_again_and_again_is_one_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "a.distill"
    contents = []
    for labels in (["a"], ["b", "c"]):
        write_prior_model(path, labels=labels)
        contents.append(path.read_bytes())
    hashes = {read_metadata(path).payload_sha256}
    path.write_bytes(contents[0])
    hashes.add(read_metadata(path).payload_sha256)
    done = threading.Event()

    def replace() -> None:
        for content in itertools.cycle(contents):
            if done.wait(0.1):
                return
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").replace(path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        found = {load_bundle(path).metadata.payload_sha256 for _ in range(20)}
    finally:
        done.set()
        thread.join()
    assert found <= hashes
