"""The callbacks with the real trainers, where they are installed: the batch is checked before the first step."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

import bench
from bench.errors import BenchError
from bench.integrations.checking import DoesNotFitError, TrainersStep, check


def trainers_step(batch, **options):
    model = nn.Linear(1024, 1024)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.8, 0.9))
    sample = {"x": torch.zeros(batch, 64, 1024)}
    return TrainersStep(model, optimizer, lambda model, inputs: model(inputs["x"]).square().mean(), sample, **options)


def by_hand(batch, dtype):
    model = nn.Linear(1024, 1024).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters())

    def step():
        x = torch.zeros(batch, 64, 1024, device="cuda")
        with torch.autocast("cuda", dtype=dtype or torch.float16, enabled=dtype is not None):
            loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_it_is_the_step_that_one_writes_by_hand(dtype):
    answer = check(trainers_step(8, dtype=dtype), "RTX 3080", None, "it")
    assert answer.batch == 8
    expected = bench.largest_batch(partial(by_hand, dtype=dtype), gpu="RTX 3080", engine="simulated")
    assert answer.cards[0].boundary.batch == expected > 1000


def test_the_trainers_own_model_stays_as_it_is():
    step = trainers_step(8)
    before = copy.deepcopy(step.model.state_dict())
    check(step, None, "8GB", "it")
    assert {each.device.type for each in step.model.parameters()} == {"cpu"}
    assert all(torch.equal(value, before[name]) for name, value in step.model.state_dict().items())
    assert not step.optimizer.state


def test_a_batch_that_does_not_fit_is_refused_with_the_largest():
    step = trainers_step(8)
    largest = check(step, None, "1GB", "it").cards[0].boundary.batch
    assert check(trainers_step(largest), None, "1GB", "it").batch == largest
    with pytest.raises(DoesNotFitError, match=rf"1GB: no, batch {largest + 1} .* the largest that fits is {largest}$"):
        check(trainers_step(largest + 1), None, "1GB", "it")
    assert issubclass(DoesNotFitError, BenchError)


def test_a_batch_without_a_size():
    with pytest.raises(ValueError, match="no tensor that tells its size"):
        check(TrainersStep(nn.Linear(1, 1), None, None, {"x": 3}), None, "8GB", "it")


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"x": torch.zeros(64, 1024), "labels": torch.zeros(1024)}


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1024, 1024)

    def forward(self, x, labels):
        loss = (self.layer(x).mean(1) - labels).square().mean()
        return {"loss": loss, "output": x}


def transformers_trainer(folder, batch, **card):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from bench.integrations.transformers import FitCallback

    settings = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=batch, max_steps=1, report_to=[], use_cpu=True, save_strategy="no"
    )
    callbacks = [FitCallback(**card)]
    return transformers.Trainer(Regression(), settings, train_dataset=Rows(), callbacks=callbacks)


def test_transformers_trains_what_fits(tmp_path, capsys):
    trainer = transformers_trainer(tmp_path, 4, gpu="RTX 3080")
    trainer.train()
    assert trainer.state.global_step == 1
    assert "RTX 3080: yes, batch 4 fits; " in capsys.readouterr().out


def test_transformers_stops_before_the_first_step(tmp_path):
    trainer = transformers_trainer(tmp_path, 64, cap="600MiB")
    with pytest.raises(DoesNotFitError, match=r"600MiB: no, batch 64 does not fit; .* the largest that fits is "):
        trainer.train()
    assert trainer.state.global_step == 0


def lightning_trainer(folder, batch, **card):
    lightning = pytest.importorskip("lightning")
    from bench.integrations.lightning import FitCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Regression()

        def training_step(self, batch, index):
            loss = self.net(**batch)["loss"]
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters())

    options = {"max_steps": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(
        default_root_dir=folder, enable_progress_bar=False, callbacks=[FitCallback(**card)], **options
    )
    return trainer, Module(), torch.utils.data.DataLoader(Rows(), batch)


def test_lightning_trains_what_fits(tmp_path, capsys):
    trainer, module, rows = lightning_trainer(tmp_path, 4, gpu="RTX 3080")
    trainer.fit(module, rows)
    assert trainer.global_step == 1
    assert "RTX 3080: yes, batch 4 fits; " in capsys.readouterr().out


def test_lightning_stops_before_the_first_step(tmp_path):
    trainer, module, rows = lightning_trainer(tmp_path, 64, cap="600MiB")
    with pytest.raises(DoesNotFitError, match=r"600MiB: no, batch 64 does not fit; .* the largest that fits is "):
        trainer.fit(module, rows)
    assert trainer.global_step == 0
