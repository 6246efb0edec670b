// Tables that do not fit: names in them may be broken, and on a phone each row becomes a card whose
// cells say which column they are of. What that looks like is in site.css.
for (const table of document.querySelectorAll(".md-content table:not([class])")) {
  const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  const names = [...table.querySelectorAll("td:first-child code")].map((name) => name.textContent);
  const room = table.closest(".md-content__inner").clientWidth;
  if (table.scrollWidth > room) table.dataset.tight = "";
  const fits = heads.length < 3 || (heads.length === 3 && names.every((name) => name.length < 16));
  if (fits) continue;
  table.dataset.cards = "";
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, column) => { cell.dataset.label = heads[column] ?? ""; });
  }
}
