// Makes every table.sortable sortable, by mouse and keyboard. Own code rather than DataTables: the book's tables have
// tens of rows, sorting is all they need, and this is 2 kB for the whole book instead of 500 kB for its library.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
});

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
