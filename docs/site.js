// On a phone, a table of many columns is shown as cards: each cell says which column it is of.
// What a card looks like is in site.css.
for (const table of document.querySelectorAll(".md-content table:not([class])")) {
  const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  if (heads.length < 4) continue;
  table.dataset.cards = "";
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, column) => { cell.dataset.label = heads[column] ?? ""; });
  }
}
