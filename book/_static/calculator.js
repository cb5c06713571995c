// The calculator: closed forms, evaluated for what the reader chooses. Without scripts the table beneath it is all there is.
(() => {  // names of its own: all scripts of a page share one room
document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".calculator").forEach(setUpCalculator));

async function setUpCalculator(box) {
  const packed = Uint8Array.from(atob(box.querySelector("script.data").textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = JSON.parse(await new Response(stream).text());
  const form = box.querySelector("form"), at = (name) => form.elements.namedItem(name);
  form.addEventListener("submit", (event) => event.preventDefault());
  const fields = () => {
    const asked = data.methods[at("method").value].fields;
    form.querySelector(".fields").replaceChildren(...Object.entries(asked).map(([name, field]) => {
      const label = document.createElement("label"), list = document.createElement("select");
      list.name = `field-${name}`;
      list.append(...field.choices.map(([text], i) => new Option(text, i, i === field.chosen, i === field.chosen)));
      label.append(name, " ", list);
      return label;
    }));
  };
  const read = () => {
    const method = at("method").value, values = {};
    for (const [name, field] of Object.entries(data.methods[method].fields)) values[name] = field.choices[at(`field-${name}`).value];
    return { backbone: at("backbone").value, method, values, tasks: at("tasks").valueAsNumber, copies: at("copies").checked,
      batch: at("batch").valueAsNumber, length: Number(at("length").value), precision: at("precision").value, budget: at("budget").valueAsNumber };
  };
  const show = () => {
    const numbers = ["tasks", "batch", "budget"].map(at), wrong = numbers.find((it) => !it.checkValidity());
    const copied = data.methods[at("method").value].copied;
    at("copies").disabled = !copied;
    if (!copied) at("copies").checked = false;
    const found = wrong ? { refused: `${wrong.labels[0].firstChild.textContent.trim()}: ${wrong.validationMessage}` } : calculate(data, read());
    box.querySelector(".refused").textContent = found.refused ?? "";
    box.querySelectorAll("[data-figure]").forEach((cell) => { cell.textContent = found[cell.dataset.figure] ?? "–"; });
    const link = box.querySelector("a.method"), page = data.methods[at("method").value].page;
    link.textContent = data.methods[at("method").value].title;
    if (page) link.href = page; else link.removeAttribute("href");
  };
  for (const event of ["input", "change"]) at("method").addEventListener(event, fields);  // before the form shows them
  form.addEventListener("input", show);
  form.addEventListener("change", show);
  box.querySelectorAll("button.copy").forEach((button) => button.addEventListener("click", async () => {
    const code = box.querySelector(`[data-figure="${button.dataset.of}"]`);
    getSelection().selectAllChildren(code);
    try { await navigator.clipboard.writeText(code.textContent); } catch { document.execCommand("copy"); }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }));
  fields();
  form.hidden = false;
  box.querySelector(".figures").hidden = false;
  box.calculate = (choices) => calculate(data, choices);
  box.data = data;
  show();
}

// All figures of one choice: numbers under their names, and as texts for the page. values: field -> [text, number or null].
function calculate(data, chosen) {
  const method = data.methods[chosen.method], shape = data.backbones[chosen.backbone];
  const number = Object.fromEntries(Object.entries(chosen.values).map(([name, [, value]]) => [name, value]));
  const given = Object.entries(chosen.values).filter(([name, [text]]) => text !== method.fields[name].default).map(([name, [text]]) => `${name}=${text}`);
  const leaf = `${chosen.method}(${given.join(", ")})`;
  const refused = refusal(chosen, number, shape);
  if (refused) return { refused: `Not possible: ${refused}.` };
  const out = { expression: chosen.copies ? `PerTask(${leaf})` : leaf };

  out.heads = 0;
  for (let i = 0; i < chosen.tasks; i++) out.heads += (shape.width + 1) * data.outputs[i % data.outputs.length];
  out.heads_said = said(out.heads);

  // Counts: polynomials of names. Copies of a method count as often, but what LoRA changes is the same for all.
  const named = data.counts[chosen.backbone][chosen.method]?.[key(method, chosen.values, [])];
  if (named) {
    const sum = (poly) => Object.entries(poly).reduce((total, [names, c]) => total + names.split("*").filter(Boolean).reduce((x, name) => x * number[name], c), 0);
    const copies = chosen.copies ? chosen.tasks : 1, constant = named.changed && Object.keys(named.changed).join() === "";
    const embedded = chosen.method === "AdaptBertHypernet" && !chosen.copies ? (chosen.tasks - 1) * number.task_dim : 0;
    out.trainable = copies * sum(named.trainable) + embedded;
    out.stored = named.stored ? copies * sum(named.stored) : out.trainable;
    out.changed = named.changed ? (constant ? 1 : copies) * sum(named.changed) : out.stored;
    out.disk = 4 * (out.stored + out.heads);
    for (const name of ["trainable", "stored", "changed"]) {
      const percent = 100 * out[name] / shape.total;
      out[`${name}_said`] = `${said(out[name])} (${percent >= 10 || !percent ? percent.toFixed(1) : percent.toPrecision(2)} %)`;
    }
    out.disk_said = bytes(out.disk);
  } else {
    for (const name of ["trainable", "stored", "changed", "disk"]) out[`${name}_said`] = "not tabulated: run peftlib count, below";
  }

  // Memory: of a step of one task.
  const forms = data.memory[chosen.backbone][chosen.method]?.[chosen.precision]?.[key(method, chosen.values, ["n"])];
  const known = forms && Object.entries(method.memory).every(([name, texts]) => texts.includes(chosen.values[name][0])) && sameSteps(chosen, number, shape);
  const parts = ["weights", "gradients", "optimizer", "activations"];
  if (known) {
    const memory = (batch) => {
      const size = letters(batch, chosen.length, number), poly = (one) => Object.entries(one).reduce((total, [monomial, c]) => total + term(monomial, c, size), 0);
      return Object.assign(Object.fromEntries(parts.map((part) => [part, poly(forms[part])])), { peak: Math.max(...forms.peak.map(poly)) });
    };
    Object.assign(out, memory(chosen.batch));
    for (const part of [...parts, "peak"]) out[`${part}_said`] = bytes(out[part]);
    const budget = chosen.budget * 1e9, fits = (batch) => memory(batch).peak <= budget && sameSteps({ ...chosen, batch }, number, shape);
    let low = 1, high = 2;
    while (fits(high) && high < 1e7) { low = high; high *= 2; }
    while (high - low > 1) { const middle = Math.floor((low + high) / 2); if (fits(middle)) low = middle; else high = middle; }
    out.largest = low > 1 ? low : null;
    out.largest_said = out.largest ? `${said(out.largest)} sequences` : "not two sequences";
    out.fits_said = out.peak <= budget ? `fits in ${chosen.budget} GB` : `does not fit in ${chosen.budget} GB`;
  } else {
    for (const part of [...parts, "peak"]) out[`${part}_said`] = "not tabulated: run peftlib estimate, below";
  }
  const measured = method.time.find(([expression]) => expression === leaf) ?? method.time[0];
  out.time_said = measured ? `${measured[1].toPrecision(2)} × full fine-tuning, measured with ${measured[0]} ${data.measured}` : "not measured";

  const quoted = `"${out.expression.replaceAll('"', "'")}" --backbone ${chosen.backbone}`;
  out.count_command = `peftlib count ${quoted} --tasks ${chosen.tasks}`;
  out.estimate_command = `peftlib estimate "${leaf}" --backbone ${chosen.backbone} --batch ${chosen.batch} --length ${chosen.length} --precision ${chosen.precision}`;
  out.python = [`from peftlib.accounting.counting import count`, `from peftlib.accounting.estimate import estimate`,
    `count("${out.expression}", "${chosen.backbone}", tasks=${chosen.tasks})`,
    `estimate("${leaf}", "${chosen.backbone}", ${chosen.batch}, ${chosen.length}, "${chosen.precision}")`].join("\n");
  return out;
}

// Why these cannot be together, as the library refuses them; all other choices are possible on every backbone.
function refusal(chosen, number, shape) {
  const { n = 1, bottleneck = 0, rank = 1, target = 1 } = number;
  if (shape.width % n) return `n = ${n} does not divide the width ${shape.width}`;
  if (bottleneck % n) return `n = ${n} does not divide the bottleneck ${bottleneck}`;
  if (bottleneck && rank > bottleneck / n) return `the rank is at most ${n > 1 ? "bottleneck / n" : "the bottleneck"}, ${bottleneck / n}`;
  if (target > rank) return `the target is at most the rank`;
  const ahead = chosen.method === "PromptTuning" ? number.length : 0;
  if (shape.positions && chosen.length + ahead > shape.positions) return `${chosen.length + ahead} tokens, and ${chosen.backbone} has ${shape.positions} positions`;
  if (chosen.copies && chosen.values.train_norms?.[0] === "True") return `norms of the backbone exist once, a task cannot have its own: train_norms=False goes with copies`;
  return "";
}

// Products with Kronecker sums are taken in the order of fewer multiplications (peftlib/methods/adapters/kronecker.py): the
// forms are of steps that build H for a PHM adapter, but for a decoder's single token, and never do so for Compacter.
function sameSteps(chosen, number, shape) {
  if (!("n" in number)) return true;
  const { n, bottleneck: a } = number, full = chosen.method === "PHMAdapter";
  const builds = (k, m, tokens) => (full ? n * k * m + tokens * k * m < tokens * (k * m + n * n * Math.min(k, m))
    : n * k * m + Math.floor(k * m / n) + tokens * k * m < tokens * (n * (k + m) + n ** 3));
  const ways = (tokens, wanted) => builds(shape.width, a, tokens) === wanted && builds(a, shape.width, tokens) === wanted;
  return ways(chosen.batch * chosen.length, full) && (!shape.decoder || ways(chosen.batch, false));
}

function key(method, values, without) {
  return method.options.filter((name) => !without.includes(name) && (!method.numbers.includes(name) || values[name][1] === null))
    .map((name) => `${name}=${values[name][0]}`).join(";");
}

// What letters of a form stand for, see peftlib/accounting/polynomials.py.
function letters(batch, length, number) {
  const more = number.length ?? 0, up = (tokens) => 32 * Math.ceil(tokens / 32);
  return { B: batch, L: length, T: length + more, o: more + 1, M: up(length), N: up(length + more), r: number.rank, a: number.bottleneck,
    m: number.mlp, l: number.length, n: number.n };
}

function term(monomial, coefficient, size) {
  const [above, below = ""] = monomial.split("/");
  let product = coefficient;
  for (const letter of above) product *= size[letter];
  for (const letter of below) product /= size[letter];
  return product;
}

function said(number) { return number.toLocaleString("en-US"); }

function bytes(number) {
  const [unit, name] = number >= 1e9 ? [1e9, "GB"] : number >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${(number / unit).toPrecision(4)} ${name} (${said(number)} bytes)`;
}
})();
