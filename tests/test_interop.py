"""A LoRA goes to Hugging Face peft's format and comes back, with equal outputs; what cannot be read says why."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny import TASKS, backbone, build, inputs_of, outputs, train, writing_t5

from peftlib import interop
from peftlib.data.tasks import get_task
from peftlib.deltas import DeltaError
from peftlib.errors import UsageError
from peftlib.interop import PeftFormatError
from peftlib.model import Tuned

peft = pytest.importorskip("peft")
SITES = {"bert": ("query", "value", "output", "up", "down"), "t5": ("query", "key", "value", "output", "up")}
PEFT_NAMES = {"bert": ["query", "value"], "t5": ["q", "v"]}
on_both = pytest.mark.parametrize("kind", ["bert", "t5"])


def hidden(model, kind):
    """Last hidden states of a Hugging Face model on the first task's batch."""
    inputs = inputs_of(TASKS[0], kind)
    start = {"decoder_input_ids": torch.tensor([[0, 5, 6]] * len(inputs["input_ids"]))} if kind == "t5" else {}
    with torch.no_grad():
        return model.eval()(**inputs, **start).last_hidden_state


def written(folder, kind="bert", method="LoRA(rank=4, alpha=8)"):
    model = build(method, kind)
    train(model, kind)
    interop.to_peft(model, folder)
    return model


@on_both
@pytest.mark.parametrize("alpha", [None, 12.0])
def test_peft_reads_ours(kind, alpha, tmp_path):
    model = written(tmp_path, kind, f"LoRA(rank=4, alpha={alpha}, sites={SITES[kind]})")
    theirs = peft.PeftModel.from_pretrained(backbone(kind), tmp_path)
    torch.testing.assert_close(hidden(theirs, kind), hidden(model.backbone, kind), rtol=1e-5, atol=1e-5)
    assert (hidden(theirs, kind) - hidden(backbone(kind), kind)).abs().max() > 1e-3


@on_both
def test_a_stabilised_rank_goes_and_comes_back(kind, tmp_path):
    model = written(tmp_path, kind, f"LoRA(rank=4, alpha=12.0, sites={SITES[kind]}, stabilised=True)")
    theirs = peft.PeftModel.from_pretrained(backbone(kind), tmp_path)
    torch.testing.assert_close(hidden(theirs, kind), hidden(model.backbone, kind), rtol=1e-5, atol=1e-5)
    back = interop.from_peft(tmp_path, backbone(kind))
    assert back.method == model.method
    assert all(torch.equal(found, outputs(model, kind)[task]) for task, found in outputs(back, kind).items())


def test_a_dora_is_no_lora(tmp_path):
    with pytest.raises(UsageError, match=r"holds one LoRA shared by all tasks; this model's method is 'DoRA\(rank=4\)'"):
        written(tmp_path, method="DoRA(rank=4)")


@on_both
def test_ours_comes_back_with_its_heads(kind, tmp_path):
    model = written(tmp_path, kind, f"LoRA(rank=4, alpha=12.0, sites={SITES[kind]}, dropout=0.1)")
    back = interop.from_peft(tmp_path, backbone(kind))
    assert back.method == model.method and back.tasks == TASKS and back.pooling == model.pooling
    expected, found = outputs(model, kind), outputs(back, kind)
    assert all(torch.equal(found[task], expected[task]) for task in TASKS)


def test_some_of_the_heads_come_back(tmp_path):
    model = written(tmp_path)
    back = interop.from_peft(tmp_path, backbone("bert"), ["quora"])
    assert back.tasks == ("quora",)
    assert torch.equal(outputs(back, "bert")["quora"], outputs(model, "bert")["quora"])


def test_what_writes_text_comes_back_writing(tmp_path):
    model = Tuned(writing_t5(), "LoRA(rank=4)", [get_task("sst")], form="text").eval()
    for _, edit in model.attachments[0][1].edits:
        torch.nn.init.normal_(edit.B, std=0.3)
    interop.to_peft(model, tmp_path)
    ids = torch.tensor([[3, 4, 5]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "answers": torch.tensor([[5, 6, 1]])}
    expected = model("sst", given)
    back = interop.from_peft(tmp_path, writing_t5())
    assert (back.form, back.tasks) == ("text", ("sst",))
    assert torch.equal(back("sst", given), expected)
    theirs = peft.PeftModel.from_pretrained(writing_t5(), tmp_path).eval()
    found = theirs(input_ids=ids, attention_mask=torch.ones_like(ids), labels=given["answers"]).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_older_folder_is_read_as_it_was(tmp_path):
    model = written(tmp_path)
    save_file(model.heads.state_dict(), tmp_path / interop.HEADS)  # which said nothing more
    back = interop.from_peft(tmp_path, backbone("bert"), TASKS, pooling="cls")
    expected, found = outputs(model, "bert"), outputs(back, "bert")
    assert all(torch.equal(found[task], expected[task]) for task in TASKS)


def test_other_weights_are_taken_when_asked_for(tmp_path):
    model = written(tmp_path)
    with pytest.raises(DeltaError, match=f"{model.weights_digest}.*other_weights=True"):
        interop.from_peft(tmp_path, backbone("bert", seed=8))
    assert interop.from_peft(tmp_path, backbone("bert", seed=8), other_weights=True).method == model.method


@on_both
def test_we_read_theirs(kind, tmp_path):
    torch.manual_seed(3)
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=PEFT_NAMES[kind], init_lora_weights=False)
    theirs = peft.get_peft_model(backbone(kind), config)
    theirs.save_pretrained(tmp_path)
    ours = interop.from_peft(tmp_path, backbone(kind), ["sst"])
    assert str(ours.method) == "LoRA(rank=3, alpha=6.0, sites=('query', 'value'))"
    torch.testing.assert_close(hidden(ours.backbone, kind), hidden(theirs, kind), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "method, message",
    [
        ("PerTask(LoRA(rank=2))", "one LoRA shared by all tasks"),
        ("LoRA(rank=2) + BitFit()", "one LoRA shared by all tasks"),
        ("BitFit()", "one LoRA shared by all tasks"),
    ],
)
def test_only_a_shared_lora_can_be_written(method, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        interop.to_peft(build(method, "bert"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_merged_lora_is_gone(tmp_path):
    with pytest.raises(UsageError, match="save before merging"):
        interop.to_peft(build("LoRA(rank=2)", "bert").merge(), tmp_path)


@pytest.mark.parametrize(
    "field, value",
    [
        ("bias", "all"),
        ("use_dora", True),
        ("use_rslora", "yes"),
        ("rank_pattern", {"query": 2}),
        ("alpha_pattern", {"query": 2}),
        ("modules_to_save", ["classifier"]),
        ("lora_bias", True),
        ("layer_replication", [[0, 1]]),
        ("fan_in_fan_out", True),
        ("a_field_of_the_future", "on"),
        ("init_lora_weights", "pissa"),
        ("peft_type", "IA3"),
        ("r", None),
        ("lora_alpha", 0),
    ],
)
def test_a_configuration_without_counterpart_is_refused(field, value, tmp_path):
    written(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(PeftFormatError, match=field):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)


@pytest.mark.parametrize(
    "options", [{"use_dora": True}, {"bias": "lora_only"}, {"rank_pattern": {"layer.1.attention.self.query": 2}}]
)
def test_what_peft_itself_writes_with_these_options_is_refused(options, tmp_path):
    config = peft.LoraConfig(r=4, target_modules=["query"], **options)
    peft.get_peft_model(backbone("bert"), config).save_pretrained(tmp_path)
    with pytest.raises(PeftFormatError, match=next(iter(options))):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)


def test_only_some_layers_adapted_is_refused(tmp_path):
    config = peft.LoraConfig(r=4, target_modules=["query"], layers_to_transform=[0])
    peft.get_peft_model(backbone("bert"), config).save_pretrained(tmp_path)
    with pytest.raises(PeftFormatError, match=r"encoder.layer.0.attention.self.query.*adapted"):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)


def test_files_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(PeftFormatError, match="adapter_config.json"):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)
    written(tmp_path)
    with pytest.raises(PeftFormatError, match="adapted"):
        interop.from_peft(tmp_path, backbone("t5"), TASKS)
    with pytest.raises(PeftFormatError, match="no head for"):
        interop.from_peft(tmp_path, backbone("bert"), ["sts"])
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 5}))
    with pytest.raises(DeltaError, match=r"lora_A.weight' does .*expected float32 \(5, 32\), found float32 \(4, 32\)"):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(DeltaError, match="adapter_model.safetensors"):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)
