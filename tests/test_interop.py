"""A model goes to Hugging Face peft's format and comes back, with equal outputs; what cannot be read says why."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny import TASKS, backbone, build, inputs_of, outputs, train, writing_t5

from peftlib import catalogue, interop
from peftlib.data.tasks import get_task
from peftlib.deltas import DeltaError
from peftlib.errors import UsageError
from peftlib.interop import FormatError
from peftlib.interop.formats import FORMATS
from peftlib.methods.base import parse
from peftlib.model import Tuned

peft = pytest.importorskip("peft")
PEFT_NAMES = {"bert": ["query", "value"], "t5": ["q", "v"]}
on_both = pytest.mark.parametrize("kind", ["bert", "t5"])
QV = "sites=('query', 'value')"
OURS = [
    "LoRA(rank=4, sites=('query', 'value', 'output', 'up', 'down'))",
    "LoRA(rank=4, alpha=12.0, sites=('query', 'key', 'value', 'output', 'up'), dropout=0.1)",
    "LoRA(rank=4, alpha=12.0, stabilised=True)",
    "LoRA(rank=4, sites=('query',)) + LoRA(rank=2, alpha=6.0, sites=('value',))",
    "Layers(LoRA(rank=4, alpha=6.0), stop=1) + Layers(LoRA(rank=2, alpha=6.0), start=1)",
    "DoRA(rank=4, alpha=12.0)",
    "AdaLoRA(rank=4, target=2, alpha=6.0, dropout=0.1, gamma=0.3, regularizer='code', initial=0.2, gap=2, beta1=0.9)",
    "IA3()",
    "Layers(IA3(), start=1)",
    "LayerNormTuning()",
    "Layers(LayerNormTuning(), stop=1)",
    "KronA(scale=0.5)",
    "KronA(rank=2)",
    "KronA(rows=2, columns=2, sites=('key', 'output'))",
    "GLoRA()",
    "GLoRA(rank=2, weight='vector', input='vector', bias='vector')",
    "GLoRA(weight='constant', input='none')",
    "PromptTuning(length=5)",
]


def hidden(model, kind, types=True):
    """Last hidden states of a Hugging Face model on the first task's batch, with token types or without."""
    inputs = inputs_of(TASKS[0], kind)
    if not types:
        inputs.pop("token_type_ids", None)
    start = {"decoder_input_ids": torch.tensor([[0, 5, 6]] * len(inputs["input_ids"]))} if kind == "t5" else {}
    with torch.no_grad():
        return model.eval()(**inputs, **start).last_hidden_state


def stir(model):
    """Far from where it started."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.1 * torch.randn(p.shape, generator=generator)


def made(kind, expression):
    model = build(expression, kind)
    stir(model)
    if "AdaLoRA" in expression:  # sites of several ranks
        for i, (_, edit) in enumerate(model.attachments[0][1].edits):
            edit.E.data[: i % 4] = 0
        model.finish()
    return model


def written(folder, kind="bert", method="LoRA(rank=4, alpha=8)"):
    model = build(method, kind)
    train(model, kind)
    interop.to_peft(model, folder)
    return model


def limited(kind, expression):
    """Blocks of a T5 belong to a stack."""
    return (
        expression.replace("stop=1", "stop=1, stack='encoder'").replace("start=1", "start=1, stack='encoder'")
        if (kind == "t5")
        else expression
    )


@on_both
@pytest.mark.parametrize("expression", OURS)
def test_ours_goes_to_peft_and_comes_back(kind, expression, tmp_path):
    model = made(kind, limited(kind, expression))
    interop.to_peft(model, tmp_path)
    theirs = peft.PeftModel.from_pretrained(backbone(kind), tmp_path)
    types = "Prompt" not in expression  # peft leaves them out where there is a soft prompt and no task's head
    found, plain = hidden(theirs, kind, types), hidden(backbone(kind), kind, types)
    torch.testing.assert_close(found, hidden(model.backbone, kind, types), rtol=1e-5, atol=1e-5)
    assert (found[:, -plain.shape[1] :] - plain).abs().max() > 1e-3
    back = interop.from_peft(tmp_path, backbone(kind))
    assert back.method == model.method and back.tasks == TASKS and back.pooling == model.pooling
    assert all(torch.equal(found, outputs(model, kind)[task]) for task, found in outputs(back, kind).items())


def test_every_method_that_says_it_is_in_peft_has_a_format():
    """But prefix tuning, see `peftlib.interop.formats`; each on the expression that its page shows."""
    said = {name for name, entry in catalogue.methods().items() if entry.about.peft}
    assert said == {cls.__name__ for one in FORMATS.values() for cls in one.methods} | {"PrefixTuning"}
    for name in said:
        entry = catalogue.methods()[name]
        assert interop.writes(parse(entry.example)) == (name != "PrefixTuning")
        config = getattr(peft, entry.about.peft)
        assert name == "PrefixTuning" or config.__name__.upper().startswith(
            next(one.kind for one in FORMATS.values() if name in [cls.__name__ for cls in one.methods]).split("_")[0]
        )


THEIRS = [
    (
        lambda names: peft.LoraConfig(r=3, lora_alpha=6, target_modules=names),
        "LoRA(rank=3, alpha=6.0, sites=('query', 'value'))",
    ),
    (
        lambda names: peft.LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=names,
            rank_pattern={names[1]: 2},
            alpha_pattern={names[0]: 3},
            use_dora=True,
            use_rslora=True,
        ),
        "DoRA(rank=4, alpha=3.0, sites=('query',), stabilised=True) + "
        "DoRA(rank=2, alpha=8.0, sites=('value',), stabilised=True)",
    ),
    (lambda names: peft.LoKrConfig(r=2, alpha=4, target_modules=names), "KronA(rank=2, scale=2.0)"),
    (
        lambda names: peft.LoKrConfig(r=1000, alpha=500, target_modules=names, decompose_factor=2),
        "KronA(rows=2, columns=2, scale=0.5)",
    ),
    (lambda names: peft.GloraConfig(r=2, target_modules=names), "GLoRA(rank=2)"),
]


@on_both
@pytest.mark.parametrize("config, expected", THEIRS)
def test_we_read_theirs(kind, config, expected, tmp_path):
    theirs = peft.get_peft_model(backbone(kind), config(PEFT_NAMES[kind]))
    stir(theirs)
    theirs.save_pretrained(tmp_path)
    ours = interop.from_peft(tmp_path, backbone(kind), ["sst"])
    assert str(ours.method) == expected
    torch.testing.assert_close(hidden(ours.backbone, kind), hidden(theirs, kind), rtol=1e-5, atol=1e-5)


def test_we_read_their_layers(tmp_path):
    """Ranks of one module by its whole name, of one layer alone."""
    config = peft.LoraConfig(
        r=4,
        lora_alpha=4,
        target_modules=["query", "key"],
        layers_to_transform=[1],
        rank_pattern={"^encoder.layer.1.attention.self.key": 2},
    )
    theirs = peft.get_peft_model(backbone("bert"), config)
    stir(theirs)
    theirs.save_pretrained(tmp_path)
    ours = interop.from_peft(tmp_path, backbone("bert"), ["sst"])
    parts = "Layers(LoRA(rank=4, sites=('query',)), start=1) + Layers(LoRA(rank=2, alpha=4.0, sites=('key',)), start=1)"
    assert str(ours.method) == parts
    torch.testing.assert_close(hidden(ours.backbone, "bert"), hidden(theirs, "bert"), rtol=1e-5, atol=1e-5)


@on_both
def test_we_read_their_adalora_at_its_final_ranks(kind, tmp_path):
    config = peft.AdaLoraConfig(init_r=4, target_r=2, lora_alpha=6, total_step=10, target_modules=PEFT_NAMES[kind])
    theirs = peft.get_peft_model(backbone(kind), config)
    stir(theirs)
    kept = [True, False, True, False]
    pattern = {}
    for name, module in theirs.base_model.model.named_modules():
        if hasattr(module, "lora_E"):
            module.lora_E["default"].data[[1, 3]] = 0
            pattern[f"{name}.lora_E"] = kept
    expected = hidden(theirs, kind)
    theirs.peft_config["default"].rank_pattern = pattern
    theirs.save_pretrained(tmp_path)
    ours = interop.from_peft(tmp_path, backbone(kind), ["sst"])
    torch.testing.assert_close(hidden(ours.backbone, kind), expected, rtol=1e-5, atol=1e-5)
    assert {len(edit.E) for _, edit in ours.attachments[0][1].edits} == {2}


@on_both
def test_we_read_their_ia3_where_it_has_the_paper_s_places(kind, tmp_path):
    targets, ffn = {
        "bert": (r".*(attention\.self\.(key|value)|layer\.\d+\.output\.dense)", r".*layer\.\d+\.output\.dense"),
        "t5": (["k", "v", "wo"], ["wo"]),
    }[kind]
    theirs = peft.get_peft_model(backbone(kind), peft.IA3Config(target_modules=targets, feedforward_modules=ffn))
    stir(theirs)
    theirs.save_pretrained(tmp_path)
    ours = interop.from_peft(tmp_path, backbone(kind), ["sst"])
    torch.testing.assert_close(hidden(ours.backbone, kind), hidden(theirs, kind), rtol=1e-5, atol=1e-5)


def test_their_defaults_of_ia3_change_one_layer_more_and_are_refused(tmp_path):
    peft.get_peft_model(backbone("bert"), peft.IA3Config()).save_pretrained(tmp_path)
    with pytest.raises(FormatError, match="attention.output.dense.*key, value, down, always together"):
        interop.from_peft(tmp_path, backbone("bert"), ["sst"])


@torch.no_grad()
def test_we_read_their_prompt_for_a_t5_that_writes(tmp_path):
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)
    theirs = peft.get_peft_model(writing_t5(), config).eval()
    theirs.save_pretrained(tmp_path)  # with three vectors more, that nothing reads
    ours = interop.from_peft(tmp_path, writing_t5(), ["sst"], form="text")
    ids = torch.tensor([[3, 4, 5]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    expected = theirs(**given, decoder_input_ids=ids).logits
    torch.testing.assert_close(ours.backbone(**given, decoder_input_ids=ids).logits, expected, rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize(
    "method, message",
    [
        ("PerTask(LoRA(rank=2))", "one method shared by all tasks"),
        ("LoRA(rank=2) + BitFit()", "one method shared by all tasks"),
        ("LoRA(rank=2) + IA3()", "one method shared by all tasks"),
        ("BitFit()", "one method shared by all tasks, of LoRA, DoRA, AdaLoRA"),
        ("PrefixTuning(length=2)", r"PrefixTuning\(length=2\) cannot be written .* moves the text's positions"),
        ("LoRA(rank=2, sites=('query',)) + DoRA(rank=2, sites=('value',))", "one use_dora for all modules"),
        ("LoRA(rank=2) + LoRA(rank=4)", "one change of a module"),
        ("LoRA(rank=2, sites=('query',)) + LoRA(rank=2, sites=('value',), dropout=0.1)", "one lora_dropout"),
        ("KronA(rows=2, columns=8)", "one of 2 x 8: it cannot be written"),
        ("KronA(rank=4)", "a product of rank 4 for 8 x 8: it cannot be written"),
        ("PromptTuning(length=2) + PromptTuning(length=3)", "one prompt"),
    ],
)
def test_what_peft_cannot_hold_is_not_written(method, message, tmp_path):
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
        ("use_rslora", "yes"),
        ("rank_pattern", {".*query": 2}),
        ("rank_pattern", {"query": 0}),
        ("rank_pattern", ["query"]),
        ("alpha_pattern", {"query": "2"}),
        ("modules_to_save", ["classifier"]),
        ("lora_bias", True),
        ("layer_replication", [[0, 1]]),
        ("fan_in_fan_out", True),
        ("a_field_of_the_future", "on"),
        ("init_lora_weights", "pissa"),
        ("peft_type", "LOHA"),
        ("peft_type", "PREFIX_TUNING"),
        ("r", None),
        ("lora_alpha", 0),
    ],
)
def test_a_configuration_without_counterpart_is_refused(field, value, tmp_path):
    written(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(FormatError, match=field):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)


@pytest.mark.parametrize("options", [{"bias": "lora_only"}, {"lora_bias": True}])
def test_what_peft_itself_writes_with_these_options_is_refused(options, tmp_path):
    config = peft.LoraConfig(r=4, target_modules=["query"], **options)
    peft.get_peft_model(backbone("bert"), config).save_pretrained(tmp_path)
    with pytest.raises(FormatError, match=next(iter(options))):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)


def test_a_part_of_a_blocks_attention_is_refused(tmp_path):
    config = peft.LoraConfig(r=4, target_modules=r".*SelfAttention\.q")
    peft.get_peft_model(backbone("t5"), config).save_pretrained(tmp_path)
    with pytest.raises(FormatError, match=r"decoder.block.0.layer.0.SelfAttention.q.*adapted; LoRA here adapts all"):
        interop.from_peft(tmp_path, backbone("t5"), TASKS)


def test_files_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(FormatError, match="adapter_config.json"):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)
    written(tmp_path)
    with pytest.raises(FormatError, match="adapted"):
        interop.from_peft(tmp_path, backbone("t5"), TASKS)
    with pytest.raises(FormatError, match="no head for"):
        interop.from_peft(tmp_path, backbone("bert"), ["sts"])
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 5}))
    with pytest.raises(DeltaError, match=r"lora_A.weight' does .*expected float32 \(5, 32\), found float32 \(4, 32\)"):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(DeltaError, match="adapter_model.safetensors"):
        interop.from_peft(tmp_path, backbone("bert"), TASKS)
