// Texts of a page that are too faint on their ground for WCAG 2.1, level AA (1.4.3): 4.5 to 1, of large letters 3 to 1.
// An expression: its value is a function of a theme. Folds are opened, for their text is read, too.
((theme) => {
  document.documentElement.dataset.theme = theme;
  document.querySelectorAll("details").forEach((it) => { it.open = true; });
  const still = document.createElement("style");
  still.textContent = "* { transition: none !important; animation: none !important; }";
  document.head.append(still);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const seen = new Map();
  // Red, green, blue (0 to 255) and alpha (0 to 1) of any colour that CSS can name.
  const rgba = (text) => {
    if (!seen.has(text)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = text;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      seen.set(text, [r, g, b, a / 255]);
    }
    return seen.get(text);
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const share = c[i] / 255;
    return sum + weight * (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
  }, 0);
  const faults = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, words = node.textContent.trim(), of = node.parentElement;
    if (!words || of.closest("script, style, template, noscript, mjx-assistive-mml")) continue;
    if (!of.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const grounds = [];
    let opacity = 1;
    for (let it = of; it; it = it.parentElement) {
      const looks = getComputedStyle(it);
      grounds.push(rgba(looks.backgroundColor));
      opacity *= parseFloat(looks.opacity);
      if (grounds.at(-1)[3] === 1) break;
    }
    const page = rgba(getComputedStyle(document.documentElement).getPropertyValue("--pst-color-background") || "white");
    const ground = grounds.reduceRight((below, top) => over(top, below), page);
    const looks = getComputedStyle(of), color = rgba(of.closest("svg") ? looks.fill : looks.color);
    const shown = over([...color.slice(0, 3), color[3] * opacity], ground);
    const [high, low] = [luminance(shown), luminance(ground)].sort((a, b) => b - a), ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(looks.fontSize), large = size >= 24 || (size >= 18.66 && parseInt(looks.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.005) {
      const where = `${of.tagName.toLowerCase()}.${of.getAttribute("class") ?? ""} in ${of.parentElement.tagName.toLowerCase()}.${of.parentElement.getAttribute("class") ?? ""}`;
      if (!faults.has(where)) faults.set(where, `${ratio.toFixed(2)}: ${where}: ${words.slice(0, 40)}`);
    }
  }
  still.remove();
  return [...faults.values()];
})
