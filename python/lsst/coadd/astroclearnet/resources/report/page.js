// Sort a table by the column whose head is pressed; filter rows by text.
"use strict";
function sortBy(head) {
  const table = head.closest("table");
  const column = Array.from(head.parentNode.children).indexOf(head);
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = (row) => {
    const cell = row.children[column];
    return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent;
  };
  const missing = (value) => typeof value === "number" && Number.isNaN(value);
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((first, second) => {
    const a = key(first), b = key(second);
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return ascending ? order : -order;
  });
  table.tBodies[0].append(...rows);
}
function filterRows(input) {
  const words = input.value.toLowerCase();
  const table = document.getElementById(input.dataset.table);
  for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(words);
}
for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => sortBy(button.parentNode));
for (const input of document.querySelectorAll("input.filter"))
  input.addEventListener("input", () => filterRows(input));
document.documentElement.dataset.ready = "yes";
