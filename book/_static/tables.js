// Makes every table.sortable sortable, by mouse and keyboard. Own code rather than DataTables: the book's tables have
// tens of rows, sorting is all they need, and this is 2 kB for the whole book instead of 500 kB for its library.
// Every table can be had as CSV and every figure as SVG, and a table that is wider than its box says so.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll(".bd-article table").forEach(addTools);
  document.querySelectorAll("fieldset.filters").forEach(makeFilters);
  document.querySelectorAll(".bd-article figure img[src^='data:image/svg'], .bd-article figure > svg:first-of-type").forEach(addDownload);
});
// On paper what a page rests on, and what its claims rest on, is unfolded.
const unfolded = [];
window.addEventListener("beforeprint", () => {
  unfolded.push(...document.querySelectorAll("details.rests-on:not([open]), details.claim:not([open])"));
  unfolded.forEach((it) => { it.open = true; });
});
window.addEventListener("afterprint", () => unfolded.splice(0).forEach((it) => { it.open = false; }));

// A name for a file, from a caption.
function fileName(text, ending) {
  const words = text.toLowerCase().normalize("NFKD").match(/[a-z0-9]+/g) ?? ["download"];
  return `${words.join("-").slice(0, 60).replace(/-$/, "")}.${ending}`;
}

// A quiet line below a box and the lines that say where its numbers come from.
function tools(box) {
  while (box.nextElementSibling?.matches("p.source")) box = box.nextElementSibling;
  const line = document.createElement("div");
  line.className = "tools";
  box.after(line);
  return line;
}

function addTools(table) {
  const box = table.closest(".table-scroll, .pst-scrollable-table-container") ?? table;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "CSV";
  button.title = "Download this table as CSV";
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    const title = table.caption?.textContent ?? document.title;
    link.href = URL.createObjectURL(new Blob(["\ufeff", csv(table)], { type: "text/csv;charset=utf-8" }));
    link.download = fileName(title, "csv");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  const line = tools(box), hint = document.createElement("span");
  line.append(button, hint);
  if (box === table) return;
  const look = () => {
    const wide = box.scrollWidth > box.clientWidth + 1, end = box.scrollLeft + box.clientWidth >= box.scrollWidth - 1;
    box.classList.toggle("more", wide && !end);
    hint.textContent = wide ? (end ? "← more columns" : "more columns →") : "";
    if (wide) { box.tabIndex = 0; box.setAttribute("role", "region"); box.setAttribute("aria-label", table.caption?.textContent ?? "table"); }
    else ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name));
  };
  box.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(box);
}

// A table as it is sorted now. Numbers are plain (1234, -0.5), "0.676 ± 0.004" fills two columns, "0.676 [0.651, 0.701]" three,
// "not run" is empty.
function csv(table) {
  const rows = Array.from(table.rows, (row) => Array.from(row.cells, (cell) =>
    cell.classList.contains("missing") ? "" : cell.textContent.replace(/[↕↑↓#]\s*$/u, "").replace(/\s+/g, " ").trim()));
  const has = (what) => rows[0].map((_, i) => rows.slice(1).some((row) => what.test(row[i] ?? "")));
  const spread = has(/ ± \d/), ends = has(/^\S+ \[\S+, \S+\]/);
  const plain = (text) => (/^[+−-]?\d{1,3}(,\d{3})+(\.\d+)?$/.test(text) ? text.replace(/,/g, "") : text).replace(/^−(?=\d)/, "-");
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  return rows.map((row, n) => row.flatMap((text, i) => {
    if (ends[i]) return n === 0 ? [text, `${text}, low`, `${text}, high`] : inThree(text).map(plain);
    if (!spread[i]) return [plain(text)];
    return n === 0 ? [text, `${text}, sd`] : [...text.split(" ± ").map(plain), ""].slice(0, 2);  // no spread: empty
  }).map(quoted).join(",")).join("\r\n") + "\r\n";
}

// A number, the ends of its interval; the mark of a run that did not learn stays with the number.
function inThree(text) {
  const found = text.match(/^(\S+) \[(\S+), (\S+)\](.*)$/);
  return found ? [found[1] + found[4], found[2], found[3]] : [text, "", ""];
}

function addDownload(picture) {
  const figure = picture.closest("figure"), link = document.createElement("a");
  link.href = picture.src ?? "#";
  link.textContent = "SVG";
  link.title = "Download this figure as SVG";
  link.download = fileName(figure.querySelector("figcaption")?.textContent ?? "figure", "svg");
  if (!picture.src) {
    link.addEventListener("click", () => {
      const shown = [...figure.querySelectorAll(":scope > svg")].find((svg) => svg.getBoundingClientRect().width) ?? picture;
      link.href = URL.createObjectURL(new Blob([standalone(shown)], { type: "image/svg+xml" }));
    });
  }
  tools(figure).append(link);
}

function makeSortable(table) {
  const heads = table.tHead ? table.tHead.rows[table.tHead.rows.length - 1].cells : [];
  Array.from(heads).forEach((head) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(table, heads, head));
  });
}

// Numbers from large to small at the first click, text from A to Z; the second click reverses.
function sortBy(table, heads, head) {
  const column = head.cellIndex, body = table.tBodies[0], rows = Array.from(body.rows);
  const keys = new Map(rows.map((row) => [row, key(row.cells[column])]));
  const filled = [...keys.values()].filter((value) => value !== null);
  const numeric = filled.length > 0 && filled.every((value) => typeof value === "number");
  const now = head.getAttribute("aria-sort");
  const up = now === "none" ? !numeric : now === "descending";
  rows.sort((a, b) => {
    const x = keys.get(a), y = keys.get(b);
    if (x === null || y === null) return (x === null) - (y === null);  // empty cells stay last
    const order = numeric ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
    return up ? order : -order;
  });
  body.append(...rows);
  Array.from(heads).forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}

// What a cell is sorted by: data-sort if given; the leading number of "0.676 ± 0.004", "1,234", "17 %"; else its text.
function key(cell) {
  const text = cell ? (cell.dataset.sort ?? cell.textContent).trim() : "";
  if (text === "" || text === "–" || text === "—" || text === "-") return null;
  const plain = text.replace(/,(?=\d{3})/g, "").replace(/^−/, "-");
  const match = plain.match(/^([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?:$|[±%×(\[]|[kMGTB]B?$|[a-zµ]+(?:\/s)?$)/i);
  return match ? parseFloat(match[1]) : text;
}

// The text of a picture that is drawn by the page's style sheet, with its looks of now in it.
function standalone(svg) {
  const copy = svg.cloneNode(true), from = [svg, ...svg.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  const looks = ["display", "visibility", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family",
    "font-size", "font-weight", "text-anchor", "transform"];
  from.forEach((element, i) => {
    const now = getComputedStyle(element);
    to[i].setAttribute("style", looks.map((name) => `${name}:${now.getPropertyValue(name)}`).join(";"));
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.querySelectorAll("a").forEach((link, i) => link.setAttribute("href", svg.querySelectorAll("a")[i].href.baseVal));
  return new XMLSerializer().serializeToString(copy);
}

// What is chosen in a fieldset decides what the next table says of storage, which of its rows are shown, which points of the
// picture are faded, and which of those left no other beats. Without script all of it is there, for one task.
function makeFilters(fieldset) {
  const box = fieldset.nextElementSibling, table = box.querySelector("table"), count = document.createElement("output");
  const columns = Array.from(table.tHead.rows[0].cells, (head) => head.textContent.trim());
  const numbers = JSON.parse(fieldset.dataset.numbers), points = [...document.querySelectorAll("figure.choice .point")];
  const meets = { "<=": (a, b) => a <= b, "<": (a, b) => a < b, "=": (a, b) => a === b, "!=": (a, b) => a !== b };
  const cell = (row, column) => row.cells[columns.indexOf(column)];
  const label = (row) => row.cells[0].textContent.trim();
  const value = (name) => fieldset.querySelector(`[data-choose=${name}]`)?.value ?? "";
  const beats = (one, other) => {  // as `front` in peftlib/report/choice.py: a score is higher where that has been shown
    const a = numbers[one], b = numbers[other];
    const pairs = [[a.now, b.now], [a.memory, b.memory], [a.time, b.time]].filter((pair) => !pair.includes(null));
    const more = b.below.includes(one) || pairs.some(([x, y]) => x < y);
    return one !== other && more && !a.below.includes(other) && pairs.every(([x, y]) => x <= y);
  };
  fieldset.hidden = false;
  fieldset.append(count);
  const apply = () => {
    Object.values(numbers).forEach((it) => { it.now = it.stored[value("backbone")][Number(value("tasks"))]; });
    const most = value("share") ? Number(value("share")) * numbers[fieldset.dataset.full].now : Infinity;
    const wishes = [...fieldset.querySelectorAll("input:checked")].map((input) => input.dataset);
    const rows = Array.from(table.tBodies[0].rows);
    rows.forEach((row) => {
      const now = numbers[label(row)]?.now ?? null;
      cell(row, "stored").textContent = now === null ? "no place" : now.toLocaleString("en");
      row.hidden = now === null || now > most || !wishes.every((wish) => {
        const there = cell(row, wish.column), text = there.textContent.trim();
        if (there.classList.contains("missing")) return false;  // not measured: does not meet a wish
        return wish.is.startsWith("<") ? meets[wish.is](key(there), Number(wish.value)) : meets[wish.is](text, wish.value);
      });
    });
    const left = rows.filter((row) => !row.hidden).map(label);
    const best = left.filter((name) => !left.some((other) => beats(other, name)));
    rows.forEach((row) => { cell(row, "unbeaten").textContent = best.includes(label(row)) ? "yes" : "no"; });
    points.forEach((point) => {
      const out = !left.includes(point.dataset.label);
      point.classList.toggle("out", out);
      point.classList.toggle("front", best.includes(point.dataset.label));
      if (out) point.setAttribute("tabindex", "-1");  // the keyboard reaches what is left
      else point.removeAttribute("tabindex");
    });
    count.textContent = `${left.length} of ${rows.length} methods, ${best.length} of them unbeaten`;
  };
  fieldset.addEventListener("change", apply);
  apply();
}
