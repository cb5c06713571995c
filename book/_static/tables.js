// Makes every table.sortable sortable, by mouse and keyboard. Own code rather than DataTables: the book's tables have
// tens of rows, sorting is all they need, and this is 2 kB for the whole book instead of 500 kB for its library.
// Every table can be had as CSV and every figure as SVG, and a table that is wider than its box says so.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll(".bd-article table").forEach(addTools);
  document.querySelectorAll("fieldset.filters").forEach(makeFilters);
  document.querySelectorAll(".bd-article figure img[src^='data:image/svg'], .bd-article figure > svg:first-of-type").forEach(addDownload);
});
window.addEventListener("beforeprint", () => document.querySelectorAll("details.rests-on").forEach((it) => { it.open = true; }));

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

// A table as it is sorted now. Numbers are plain (1234, -0.5), "0.676 ± 0.004" fills two columns, "not run" is empty.
function csv(table) {
  const rows = Array.from(table.rows, (row) => Array.from(row.cells, (cell) =>
    cell.classList.contains("missing") ? "" : cell.textContent.replace(/[↕↑↓#]\s*$/u, "").replace(/\s+/g, " ").trim()));
  const spread = rows[0].map((_, i) => rows.slice(1).some((row) => / ± \d/.test(row[i] ?? "")));
  const plain = (text) => (/^[+−-]?\d{1,3}(,\d{3})+(\.\d+)?$/.test(text) ? text.replace(/,/g, "") : text).replace(/^−(?=\d)/, "-");
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  return rows.map((row, n) => row.flatMap((text, i) => {
    if (!spread[i]) return [plain(text)];
    return n === 0 ? [text, `${text}, sd`] : [...text.split(" ± ").map(plain), ""].slice(0, 2);  // no spread: empty
  }).map(quoted).join(",")).join("\r\n") + "\r\n";
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
  const match = plain.match(/^([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?:$|[±%×(±]|[kMGTB]B?$|[a-zµ]+(?:\/s)?$)/i);
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

// The checkboxes of a fieldset, each a wish about a column, hide the rows of the next table that do not meet all of them.
// A row that does not say (not measured) does not meet a wish.
function makeFilters(fieldset) {
  const box = fieldset.nextElementSibling, table = box.querySelector("table"), count = document.createElement("output");
  const columns = Array.from(table.tHead.rows[0].cells, (head) => head.textContent.trim());
  const meets = { "<=": (a, b) => a <= b, "<": (a, b) => a < b, "=": (a, b) => a === b, "!=": (a, b) => a !== b };
  fieldset.append(count);
  const apply = () => {
    const wishes = [...fieldset.querySelectorAll("input:checked")].map((input) => input.dataset);
    const rows = Array.from(table.tBodies[0].rows);
    rows.forEach((row) => {
      row.hidden = !wishes.every((wish) => {
        const cell = row.cells[columns.indexOf(wish.column)], text = cell.textContent.trim();
        if (cell.classList.contains("missing")) return false;
        return wish.is.startsWith("<") ? meets[wish.is](key(cell), Number(wish.value)) : meets[wish.is](text, wish.value);
      });
    });
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} methods`;
  };
  fieldset.addEventListener("change", apply);
  apply();
}
