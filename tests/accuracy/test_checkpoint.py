"""Checkpoints: whole or not at all, of this training or refused, never executed."""

import errno
import os
import pickle
import re

import pytest
import torch

from bench.accuracy.checkpoint import Checkpoint
from bench.errors import StorageError, UsageError

IDENTITY = {"architecture": "LUSER-SW", "task": "ct", "key": "0123456789", "seed": 3}
STATE = {"model": {"weight": torch.arange(6.0)}, "step": 7, "curve": [{"loss": 0.1, "psnr": None}]}


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "checkpoints" / "one.pt", IDENTITY)


def refusal(checkpoint):
    """The sentence with which it is refused; the file stays as it is."""
    before = checkpoint.path.read_bytes()
    with pytest.raises(StorageError) as refused:
        checkpoint.load()
    assert checkpoint.path.read_bytes() == before
    assert isinstance(refused.value, UsageError) and refused.value.exit_code == 2
    assert str(checkpoint.path) in str(refused.value) and "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_saved_is_loaded(checkpoint):
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    checkpoint.save(STATE | {"step": 8})
    loaded = checkpoint.load()
    assert loaded["step"] == 8 and loaded["curve"] == STATE["curve"]
    assert torch.equal(loaded["model"]["weight"], STATE["model"]["weight"])
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["one.pt"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(checkpoint, share):
    checkpoint.save(STATE)
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(checkpoint)


def test_a_changed_byte_of_a_tensor_is_noticed(checkpoint):
    checkpoint.save(STATE)
    content = checkpoint.path.read_bytes()
    weights = torch.arange(6.0).numpy().tobytes()
    assert content.count(weights) == 1
    checkpoint.path.write_bytes(content.replace(weights, bytes([weights[0] ^ 1]) + weights[1:]))
    assert "damaged" in refusal(checkpoint)


@pytest.mark.parametrize("content", [b"no checkpoint at all", pickle.dumps({"a": 1}), b"PK\x03\x04" + b"x" * 100])
def test_another_file_is_refused(checkpoint, content):
    checkpoint.path.parent.mkdir()
    checkpoint.path.write_bytes(content)
    assert re.search("damaged|no checkpoint", refusal(checkpoint))


def test_anybodys_tensors_are_refused(checkpoint):
    checkpoint.path.parent.mkdir()
    torch.save({"weight": torch.ones(3)}, checkpoint.path)
    assert "no checkpoint of bench" in refusal(checkpoint)


def test_a_pipe_a_link_out_of_the_folder_and_a_folder_are_refused(checkpoint, tmp_path):
    checkpoint.path.parent.mkdir()
    os.mkfifo(checkpoint.path)
    with pytest.raises(StorageError, match=f"cannot read the checkpoint {checkpoint.path}: not a regular file"):
        checkpoint.load()
    checkpoint.path.unlink()
    outside = tmp_path.with_name(f"{tmp_path.name}-outside")
    outside.mkdir()
    Checkpoint(outside / "checkpoints/one.pt", IDENTITY).save(STATE)
    checkpoint.path.symlink_to(outside / "checkpoints/one.pt")
    with pytest.raises(StorageError, match="a symbolic link leads out of"):
        checkpoint.load()
    checkpoint.path.unlink()
    checkpoint.path.parent.rmdir()
    checkpoint.path.parent.symlink_to(outside)
    with pytest.raises(StorageError, match="a symbolic link leads out of"):
        checkpoint.save(STATE)
    assert [path.name for path in outside.iterdir()] == ["checkpoints"]


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_no_code_of_a_checkpoint_is_executed(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.path.parent.mkdir()
    torch.save({"identity": IDENTITY, "state": Bomb()}, checkpoint.path)
    refusal(checkpoint)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("other", [{"architecture": "DEQ4IP"}, {"task": "mri-4x"}, {"key": "9876543210"}, {"seed": 4}])
def test_a_checkpoint_of_another_training_is_refused(checkpoint, other):
    Checkpoint(checkpoint.path, IDENTITY | other).save(STATE)
    sentence = refusal(checkpoint)
    assert "expected LUSER-SW on ct, seed 3, settings 0123456789" in sentence
    assert str(*other.values()) in sentence
    assert "--fresh" in sentence


def test_a_full_disk_leaves_the_earlier_checkpoint(checkpoint, monkeypatch):
    checkpoint.save(STATE)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; what was stored before is intact"):
        checkpoint.save(STATE | {"step": 8})
    assert checkpoint.load()["step"] == 7
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["one.pt"]
