// Filters of a claim ledger, by verdict and section. A claim that the address names is unfolded, whatever is chosen.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".ledger").forEach((ledger) => {
    const form = ledger.querySelector("form.ledger-filters");
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", () => filter(ledger, form));
    filter(ledger, form);
  });
  openNamed();
});
window.addEventListener("hashchange", openNamed);

function filter(ledger, form) {
  const chosen = Array.from(form.querySelectorAll("select"), (list) => [list.dataset.filter, list.value]);
  const claims = Array.from(ledger.querySelectorAll("details.claim"));
  claims.forEach((claim) => {
    // A claim that repeats another has that one's verdict, and is counted under none.
    claim.hidden = !chosen.every(([name, value]) => !value || (claim.dataset[name] === value && !(name === "verdict" && "repeats" in claim.dataset)));
  });
  form.querySelector("output").textContent = `${claims.filter((claim) => !claim.hidden).length} of ${claims.length} claims`;
}

function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named && named.matches("details.claim")) {
    named.hidden = false;
    named.open = true;
    named.scrollIntoView();
  }
}
