/* Copyright (c) 2026, the qemu.guest_agent maintainers
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Sorts and filters the tables, and copies commands; all else works without it. As in page.css, no brace may follow
 * another one directly.
 */
"use strict";
const collator = new Intl.Collator("en", { numeric: true });
const unknown = "\u2013";

// Returns the key that a cell is sorted by. null: it has none, and is last in both directions.
function keyOf(cell, numeric) {
  if (numeric) return "n" in cell.dataset ? BigInt(cell.dataset.n) : null;
  return cell.textContent === unknown ? null : cell.textContent;
}

function compare(a, b) {
  if (typeof a === "string") return collator.compare(a, b);
  return a < b ? -1 : a > b ? 1 : 0;
}

function sort(table, column, rising) {
  const numeric = table.tHead.rows[0].cells[column].classList.contains("n");
  const body = table.tBodies[0];
  const keyed = Array.from(body.rows, (row) => ({ row, key: keyOf(row.cells[column], numeric) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return rising ? compare(a.key, b.key) : compare(b.key, a.key);
  });
  const sorted = document.createDocumentFragment();
  for (const item of keyed) sorted.append(item.row);
  body.append(sorted);
}

function makeSortable(table) {
  const head = Array.from(table.tHead.rows[0].cells);
  head.forEach((cell, column) => {
    if (!cell.textContent) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      const rising = cell.getAttribute("aria-sort") !== "ascending";
      for (const other of head) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sort(table, column, rising);
    });
  });
}

function makeFilter(table, field) {
  const input = field.querySelector("input");
  const output = field.querySelector("output");
  let texts = null;
  let waiting = 0;
  function apply() {
    texts = texts || Array.from(table.tBodies[0].rows, (row) => {
      const cells = Array.from(row.cells, (cell) => `${cell.textContent} ${cell.title}`);
      return { row, text: cells.join(" ").toLowerCase() };
    });
    const words = input.value.toLowerCase().split(" ").filter(Boolean);
    let shown = 0;
    for (const { row, text } of texts) {
      const fits = words.every((word) => text.includes(word));
      if (row.hidden === fits) row.hidden = !fits;
      shown += fits;
    }
    output.textContent = words.length
      ? `${shown.toLocaleString("en")} of ${texts.length.toLocaleString("en")} shown` : "";
  }
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 60);
  });
  field.hidden = false;
}

// Selects the commands, for a person to copy where the page may not. Folded text cannot be selected.
function select(rerun) {
  const fold = rerun.querySelector("details");
  if (fold) fold.open = true;
  const selection = getSelection();
  selection.selectAllChildren(rerun.querySelector("pre").parentElement);
  return selection.toString().length > 0;
}

// A page that is opened from a file has no navigator.clipboard in some browsers, and may be refused in others.
async function copy(rerun) {
  const commands = Array.from(rerun.querySelectorAll("code"), (code) => code.textContent);
  try {
    await navigator.clipboard.writeText(commands.join("\n"));
    return true;
  } catch {
    return select(rerun) && document.execCommand("copy");
  }
}

function makeCopyable(rerun) {
  const button = document.createElement("button");
  const label = rerun.querySelectorAll("code").length > 1 ? "Copy the commands" : "Copy the command";
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", async () => {
    const copied = await copy(rerun);
    button.textContent = copied ? "Copied" : "Not copied: select and copy";
    setTimeout(() => { button.textContent = label; }, copied ? 2000 : 6000);
  });
  rerun.querySelector("p").append(button);
}

for (const rerun of document.querySelectorAll(".rerun")) makeCopyable(rerun);
for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
for (const field of document.querySelectorAll(".find")) makeFilter(field.parentElement.querySelector("table"), field);
