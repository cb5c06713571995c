"""The same weights give the same outputs in Hugging Face peft, where both implement a method.

Soft prompts are compared where their own tests are: `test_prompt.py`, `test_prefix.py`.
"""

import pytest
import torch
from tiny import TASKS, backbone, build, inputs_of, train
from transformers import BertForSequenceClassification

peft = pytest.importorskip("peft")
on_both = pytest.mark.parametrize("kind", ["bert", "t5"])
NAMES = {"bert": ["query", "value"], "t5": ["q", "v"]}


def hidden(model, kind):
    inputs = inputs_of(TASKS[0], kind)
    start = {"decoder_input_ids": torch.tensor([[0, 5, 6]] * len(inputs["input_ids"]))} if kind == "t5" else {}
    with torch.no_grad():
        return model.eval()(**inputs, **start).last_hidden_state


def trained(expression, kind):
    model = build(expression, kind)
    train(model, kind)
    return model


def pairs(model, theirs):
    """Our edits, each with the module of peft's model at the same place."""
    names = {id(m): n for n, m in model.backbone.named_modules()}
    found = dict(theirs.base_model.model.named_modules())
    ((_, at),) = model.attachments
    return [(edit, found[names[id(site.module)]]) for site, edit in at.edits]


def assert_same(model, theirs, kind):
    torch.testing.assert_close(hidden(model.backbone, kind), hidden(theirs, kind), rtol=1e-5, atol=2e-5)
    assert (hidden(theirs, kind) - hidden(backbone(kind), kind)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "expression, options",
    [
        ("LoRA(rank=4, alpha=12.0, {sites})", {}),
        ("LoRA(rank=4, alpha=12.0, {sites}, stabilised=True)", {"use_rslora": True}),
        ("DoRA(rank=4, alpha=12.0, {sites})", {"use_dora": True}),
        ("DoRA(rank=4, alpha=12.0, {sites}, stabilised=True)", {"use_dora": True, "use_rslora": True}),
    ],
)
@on_both
def test_lora_and_dora(kind, expression, options):
    model = trained(expression.format(sites="sites=('query', 'value')"), kind)
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=NAMES[kind], **options)
    theirs = peft.get_peft_model(backbone(kind), config)
    with torch.no_grad():
        for ours, module in pairs(model, theirs):
            ours.B.mul_(10)  # far enough from the start that DoRA's lengths differ
            module.lora_A["default"].weight.copy_(ours.A)
            module.lora_B["default"].weight.copy_(ours.B)
            if "use_dora" in options:
                module.lora_magnitude_vector["default"].weight.copy_(ours.m)
    assert_same(model, theirs, kind)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == model.counts().trainable
    inputs = inputs_of(TASKS[0], kind)
    start = {"decoder_input_ids": torch.zeros(8, 1, dtype=torch.long)} if kind == "t5" else {}
    for net in (model.backbone, theirs):  # the same gradients: DoRA's lengths are constants to both
        last = net(**inputs, **start).last_hidden_state  # of fixed length behind a norm: its square would tell nothing
        (last * torch.linspace(-1, 1, last.shape[-1])).sum().backward()
    compared = 0
    for ours, module in pairs(model, theirs):
        both = [(ours.A, module.lora_A["default"].weight), (ours.B, module.lora_B["default"].weight)]
        both += [(ours.m, module.lora_magnitude_vector["default"].weight)] if "use_dora" in options else []
        for mine, other in both:
            if other.grad.abs().max() > 1e-3:  # a softmax over one token gives none but rounding
                torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4 * float(other.grad.abs().max()))
                compared += 1
    assert compared > len(both)


@on_both
def test_adalora(kind):
    sites = "sites=('query', 'value')"
    model = trained(f"AdaLoRA(rank=6, target=4, alpha=12.0, {sites}, gamma=0.3, regularizer='code')", kind)
    config = peft.AdaLoraConfig(
        init_r=6, target_r=4, lora_alpha=12, target_modules=NAMES[kind], total_step=10, orth_reg_weight=0.3
    )
    theirs = peft.get_peft_model(backbone(kind), config)
    with torch.no_grad():
        for ours, module in pairs(model, theirs):
            ours.E.normal_()  # three steps from zero leave changes too small to compare
            ours.P.mul_(10)
            module.lora_A["default"].copy_(ours.Q)
            module.lora_B["default"].copy_(ours.P)
            module.lora_E["default"].copy_(ours.E[:, None])
    assert_same(model, theirs, kind)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == model.counts().trainable


def test_adalora_penalty_is_what_peft_adds_to_its_loss():
    plain = BertForSequenceClassification(backbone("bert").config)
    plain.bert.load_state_dict(backbone("bert").state_dict())
    config = peft.AdaLoraConfig(init_r=6, target_r=4, target_modules=["query", "value"], total_step=10, orth_reg_weight=0.3)
    inputs, labels = inputs_of("quora", "bert"), torch.arange(8) % 2
    without = plain.eval()(**inputs, labels=labels).loss  # E is zero at the start: the same outputs
    theirs = peft.get_peft_model(plain, config).eval()
    model = build("AdaLoRA(rank=6, target=4, sites=('query', 'value'), gamma=0.3, regularizer='code')", "bert")
    found = {n: m for n, m in theirs.base_model.model.bert.named_modules()}
    names = {id(m): n for n, m in model.backbone.named_modules()}
    ((_, at),) = model.attachments
    with torch.no_grad():
        for site, ours in at.edits:
            module = found[names[id(site.module)]]
            module.lora_A["default"].copy_(ours.Q)
            module.lora_B["default"].copy_(ours.P)
    added = theirs.base_model(**inputs, labels=labels).loss - without
    torch.testing.assert_close(model.penalty(model.step("quora", inputs, labels)), added, rtol=1e-4, atol=1e-5)


@on_both
def test_layer_norm_tuning(kind):
    model = trained("LayerNormTuning()", kind)
    norms = {"bert": ["LayerNorm"], "t5": ["layer_norm", "final_layer_norm"]}[kind]
    theirs = peft.get_peft_model(backbone(kind), peft.LNTuningConfig(target_modules=norms))
    found = dict(theirs.base_model.model.named_modules())
    own = dict(model.backbone.named_modules())
    sites = [n for n, m in found.items() if type(m).__name__ == "LNTuningLayer"]
    with torch.no_grad():
        for name in sites:
            found[name].ln_tuning_layers["default"].load_state_dict(own[name].state_dict())
    assert len(sites) == model.anatomy.shape.norms
    assert_same(model, theirs, kind)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == model.counts().trainable


@on_both
def test_ia3(kind):
    model = trained("IA3()", kind)
    targets, ffn = {
        "bert": (r".*(attention\.self\.(key|value)|layer\.\d+\.output\.dense)", r".*layer\.\d+\.output\.dense"),
        "t5": (["k", "v", "wo"], ["wo"]),
    }[kind]  # peft's own for BERT scale the output of attention as well
    theirs = peft.get_peft_model(backbone(kind), peft.IA3Config(target_modules=targets, feedforward_modules=ffn))
    with torch.no_grad():
        for ours, module in pairs(model, theirs):
            module.ia3_l["default"].copy_(ours.l.view_as(module.ia3_l["default"]))
    assert_same(model, theirs, kind)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == model.counts().trainable


@pytest.mark.parametrize("rank", [None, 2])
@on_both
def test_krona_is_lokr(kind, rank):
    model = trained(f"KronA(rank={rank}, scale=0.5)", kind)
    r = rank or 1000  # larger than the factor: a full one
    config = peft.LoKrConfig(r=r, alpha=r / 2, target_modules=NAMES[kind])
    theirs = peft.get_peft_model(backbone(kind), config)
    with torch.no_grad():
        for ours, module in pairs(model, theirs):
            ours.product.A.normal_(std=0.3)
            module.lokr_w1["default"].copy_(ours.product.A)
            if rank is None:
                module.lokr_w2["default"].copy_(ours.product.B)
            else:
                module.lokr_w2_a["default"].copy_(ours.product.factors[0])
                module.lokr_w2_b["default"].copy_(ours.product.factors[1])
    assert_same(model, theirs, kind)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == model.counts().trainable


FORMS = [("bert", "none")] + [(kind, form) for kind in NAMES for form in ("lora", "vector", "constant")]


@pytest.mark.parametrize("kind, weight", FORMS)
def test_glora(kind, weight):
    model = trained(f"GLoRA(weight='{weight}', bias='vector')", kind)
    config = peft.GloraConfig(
        r=4,
        target_modules=NAMES[kind],
        config_A_B=weight,
        config_C="lora" if kind == "bert" else "none",
        config_D_E="vector",
    )
    theirs = peft.get_peft_model(backbone(kind), config)
    with torch.no_grad():
        for ours, module in pairs(model, theirs):
            for name, part in ours.parts.items():
                for p in part.parameters():
                    p.normal_(std=0.1)
                other = getattr(module, f"glora_{name}")["default"]
                for p, q in zip(part.parameters(), other.parameters(), strict=True):
                    q.copy_(p.view_as(q))
    assert_same(model, theirs, kind)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == model.counts().trainable
