"use strict";
// Tables sort by the column whose heading is clicked: numbers by value, the rest by name.
const value = (row, column) => {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
};
const compare = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === typeof b ? a.localeCompare(b, "en", { numeric: true })
      : typeof a === "number" ? 1 : -1;
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const direction = heading.ariaSort === "ascending" ? "descending" : "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.ariaSort = direction;
    const sign = direction === "ascending" ? 1 : -1;
    const body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex;
    body.append(...[...body.rows].sort((a, b) => sign * compare(value(a, column), value(b, column))));
  });
}
// A figure opens at the window's size, grows by steps and goes back to its place when closed.
const dialog = document.querySelector("dialog");
const stage = document.querySelector("#stage");
let home = null;
let width = 0;
const resize = (factor) => {
  width = Math.min(Math.max(width * factor, 300), 6000);
  stage.style.width = `${width}px`;
};
for (const button of document.querySelectorAll(".zoom")) {
  button.addEventListener("click", () => {
    home = button;
    stage.append(button.firstElementChild);
    dialog.showModal();
    width = Math.max(dialog.clientWidth, 900);
    resize(1);
  });
}
document.querySelector("#larger").addEventListener("click", () => resize(1.4));
document.querySelector("#smaller").addEventListener("click", () => resize(1 / 1.4));
document.querySelector("#close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => { home.append(stage.firstElementChild); home.focus(); });
// A link to a claim opens it; a page that is printed shows all of them.
const reveal = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", reveal);
reveal();
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll('details[id^="claim-"], figcaption details')) details.open = true;
});
