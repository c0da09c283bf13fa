"use strict";
function sortKey(cell) {
  const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
  const number = text.replace(/,/g, "").replace(/\u2212/g, "-").replace(/^[<>*]\s*/, "");
  const value = parseFloat(number);
  return Number.isNaN(value) || /^[A-Za-z_]/.test(number) ? text.toLowerCase() : value;
}
function compare(a, b) {
  if (typeof a === typeof b) { return a < b ? -1 : a > b ? 1 : 0; }
  return typeof a === "number" ? -1 : 1;
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [sortKey(row.cells[column]), row]);
    rows.sort((a, b) => up ? compare(a[0], b[0]) : compare(b[0], a[0]));
    table.tBodies[0].append(...rows.map((pair) => pair[1]));
  }));
}
// open the folded parts for printing, and close them afterwards
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
