// Tables, by how much room they have: one that is too wide gets smaller type. If that does not do,
// names in it may be broken; on a phone each row becomes a card, titled with its first cell, whose
// other cells say which column they are of. What that looks like is in site.css.
const phone = matchMedia("(max-width: 44.9375em)");
const MOST_LINES = 8; // of a row, before a card is easier to read

function fits(table, lines) {
  const around = table.closest(".doc-contents, .md-content__inner");
  const { paddingLeft, paddingRight, width } = getComputedStyle(around);
  const room = parseFloat(width) - parseFloat(paddingLeft) - parseFloat(paddingRight);
  const tallest = Math.max(...[...table.rows].map((row) => row.offsetHeight));
  const line = 1.6 * parseFloat(getComputedStyle(table).fontSize);
  return table.scrollWidth <= room + 1 && tallest <= lines * line;
}

function shape(table) {
  const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, column) => { cell.dataset.label = heads[column] ?? ""; });
    row.toggleAttribute("data-continues", !row.cells[0].textContent.trim());
  }
  const cards = phone.matches && heads.length > 2;
  for (table.dataset.shape of ["plain", "tight", cards ? "cards" : "broken"]) {
    if (fits(table, cards ? MOST_LINES : Infinity)) break;
  }
}

function shapeAll() {
  document.querySelectorAll(".md-content table:not([class])").forEach(shape);
}

phone.addEventListener("change", shapeAll);
shapeAll();
