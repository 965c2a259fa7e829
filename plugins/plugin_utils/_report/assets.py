# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the page looks like and how its tables sort: CSS and JavaScript.

The page's security policy names both by their digest, so nothing else on it is a style or a script. No brace may follow
another brace, a percent or a number sign directly: Jinja would take them for its own.
"""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f6f8;
  --card: #ffffff;
  --line: #dfe4ea;
  --soft: #eceff3;
  --hover: #eef3f9;
  --ink: #18212c;
  --dim: #566373;
  --link: #1b5fc1;
  --failed: #c62f3b;
  --skipped: #a3660a;
  --corrected: #1d63c9;
  --unchanged: #65717e;
  --slewing: #7a4bc0;
  --failed-tint: #fdecee;
  --skipped-tint: #fdf3e1;
  --good-tint: #e7f4ec;
  --good: #1c7a46;
  --band: #1c7a4617;
  --edge: #1c7a4688;
  --grid: #e7ebf0;
  --zero: #9aa6b4;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #0e1319;
    --card: #161d25;
    --line: #2a3440;
    --soft: #1d2630;
    --hover: #1f2a36;
    --ink: #dde4ec;
    --dim: #95a3b3;
    --link: #7fb2ff;
    --failed: #ff7d7d;
    --skipped: #e5ac4d;
    --corrected: #6aa9ff;
    --unchanged: #8794a3;
    --slewing: #b797f5;
    --failed-tint: #361a1e;
    --skipped-tint: #33270f;
    --good-tint: #12301f;
    --good: #63c98f;
    --band: #63c98f1c;
    --edge: #63c98f77;
    --grid: #222c37;
    --zero: #566474;
  }
}
* {
  box-sizing: border-box;
}
[hidden] {
  display: none !important;
}
html {
  background: var(--page);
  -webkit-text-size-adjust: 100%;
}
body {
  margin: 0 auto;
  max-width: 1240px;
  padding: 28px 24px 48px;
  color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", "DejaVu Sans",
    sans-serif;
  font-variant-numeric: tabular-nums lining-nums;
}
/* A name that is written from right to left turns nothing round it. */
b, code, i, td, th, li, p, h1 {
  unicode-bidi: isolate;
}
a {
  color: var(--link);
}
code {
  font: 0.92em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
:focus-visible {
  outline: 2px solid var(--link);
  outline-offset: 1px;
  border-radius: 3px;
}
.failed {
  --own: var(--failed);
}
.skipped {
  --own: var(--skipped);
}
.corrected {
  --own: var(--corrected);
}
.unchanged {
  --own: var(--unchanged);
}
.slewing {
  --own: var(--slewing);
}
.any {
  --own: var(--dim);
}

header h1 {
  margin: 0;
  font-size: 24px;
  line-height: 1.2;
  font-weight: 650;
  letter-spacing: -0.01em;
  overflow-wrap: anywhere;
}
header ul {
  display: flex;
  flex-wrap: wrap;
  gap: 2px 22px;
  margin: 6px 0 0;
  padding: 0;
  list-style: none;
  color: var(--dim);
}
header li {
  overflow-wrap: anywhere;
}
header li b {
  color: var(--ink);
  font-weight: 550;
}
.check {
  margin: 16px 0 0;
  padding: 9px 14px;
  border: 1px dashed var(--skipped);
  border-radius: 8px;
  background: var(--skipped-tint);
}
.check b {
  color: var(--skipped);
}
.verdict {
  margin: 16px 0 0;
  padding: 12px 16px;
  border-radius: 8px;
  border-left: 5px solid var(--tone);
  background: var(--tint);
  font-size: 17px;
  font-weight: 550;
}
.verdict a {
  color: inherit;
}
.verdict.bad {
  --tone: var(--failed);
  --tint: var(--failed-tint);
}
.verdict.fair {
  --tone: var(--skipped);
  --tint: var(--skipped-tint);
}
.verdict.good {
  --tone: var(--good);
  --tint: var(--good-tint);
}
.verdict.idle {
  --tone: var(--zero);
  --tint: var(--soft);
}

.tiles {
  display: grid;
  grid-template-columns: repeat(8, minmax(0, 1fr));
  gap: 10px;
  margin: 12px 0 0;
  padding: 0;
  list-style: none;
}
.tiles li {
  padding: 10px 12px 9px;
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 8px;
  border-top: 3px solid var(--own, var(--line));
  min-width: 0;
}
.tiles li.nil {
  border-top-color: var(--line);
}
.tiles span {
  display: block;
  color: var(--dim);
  font-size: 12px;
  white-space: nowrap;
  overflow: hidden;
  text-overflow: ellipsis;
}
.tiles b {
  display: block;
  font-size: 23px;
  line-height: 1.25;
  font-weight: 620;
  letter-spacing: -0.01em;
  white-space: nowrap;
  color: var(--ink);
}
.tiles .failed b, .tiles .skipped b {
  color: var(--own);
}
.tiles .nil b {
  color: var(--dim);
  font-weight: 450;
}
.tiles .long b {
  font-size: 16px;
  line-height: 29px;
}

section {
  margin: 14px 0 0;
  padding: 16px 18px 18px;
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 10px;
}
section > h2 {
  margin: 0 0 8px;
  font-size: 16px;
  font-weight: 640;
}
section > p {
  margin: -4px 0 10px;
  color: var(--dim);
}
.none {
  color: var(--dim);
}
.legend {
  display: flex;
  flex-wrap: wrap;
  gap: 2px 18px;
  margin: 8px 0 2px;
  padding: 0;
  list-style: none;
  color: var(--dim);
  font-size: 13px;
}
.legend svg {
  width: 14px;
  height: 14px;
  vertical-align: -2px;
  margin-right: 5px;
}

.chart {
  display: grid;
  grid-template-columns: fit-content(170px) minmax(0, 1fr);
  gap: 16px;
  margin-top: 8px;
}
.chart > svg {
  display: block;
  overflow: visible;
}
.chart ol {
  margin: 0;
  padding: 22px 0 36px;
  list-style: none;
}
.chart.rows li {
  height: 22px;
  line-height: 22px;
  white-space: nowrap;
  overflow: hidden;
  text-overflow: ellipsis;
}
.chart li b {
  font-weight: 550;
}
.chart li span {
  color: var(--dim);
  font-size: 12px;
}
.chart.rows li span {
  margin-left: 7px;
}
.chart .names {
  width: 112px;
}
.chart text {
  fill: var(--dim);
  font-size: 11px;
  text-anchor: middle;
}
.chart .names text {
  text-anchor: start;
}
.chart text.lane {
  fill: var(--ink);
  font-size: 13px;
  font-weight: 600;
}
.chart text.side, .chart text.start {
  text-anchor: start;
}
.chart text.end {
  text-anchor: end;
}
.chart text.tolerance {
  fill: var(--good);
  font-weight: 600;
}
.chart .band {
  fill: var(--band);
}
.chart line.grid {
  stroke: var(--grid);
}
.chart line.zero {
  stroke: var(--zero);
}
.chart line.edge {
  stroke: var(--edge);
  stroke-dasharray: 3 3;
}
.chart line.row {
  stroke: var(--line);
}
.chart line.way {
  stroke: var(--own);
  stroke-width: 2;
  opacity: 0.35;
}
.chart line.whisker, .legend line {
  stroke: var(--own);
  stroke-width: 1.5;
}
.chart circle, .chart .mark > path, .legend circle, .legend path {
  fill: var(--own);
  stroke: var(--own);
  stroke-width: 1.5;
}
.chart circle.hollow, .chart .hollow > path, .legend .hollow {
  fill: var(--card);
}
.chart.hills circle, .chart.hills svg .mark > path {
  stroke-width: 0;
}
.chart.hills svg .path > path {
  fill: none;
  stroke: var(--own);
  stroke-linecap: round;
  vector-effect: non-scaling-stroke;
}
.chart .hover {
  fill: transparent;
}
.chart .hover:hover {
  fill: var(--edge);
  opacity: 0.35;
}
.t1, .t2, .t3, .t4 {
  display: none;
}
@media (min-width: 380px) {
  .t1 {
    display: inline;
  }
}
@media (min-width: 700px) {
  .t2 {
    display: inline;
  }
}
@media (min-width: 1180px) {
  .t3 {
    display: inline;
  }
}

.group {
  margin: 14px 0 0;
  padding: 0 0 0 14px;
  border-left: 3px solid var(--own);
}
.group h3 {
  margin: 0;
  font-size: 14px;
  font-weight: 500;
  color: var(--dim);
}
.group h3 code {
  color: var(--own);
  font-weight: 650;
  margin-right: 6px;
}
.group > p, .group code {
  overflow-wrap: anywhere;
}
.group > p {
  margin: 2px 0 6px;
}
.group summary {
  margin-top: 4px;
  color: var(--link);
  cursor: pointer;
}
.group td {
  vertical-align: top;
  overflow-wrap: anywhere;
}
.group .who {
  width: 24%;
  font-weight: 550;
}
.group .where {
  width: 18%;
  color: var(--dim);
}
.group i {
  display: block;
  color: var(--dim);
  font-style: normal;
}

table {
  width: 100%;
  border-collapse: collapse;
}
th, td {
  padding: 3px 7px;
  text-align: left;
  border-bottom: 1px solid var(--soft);
  overflow: hidden;
  text-overflow: ellipsis;
}
.fleet {
  font-size: 13px;
}
.fleet th, .fleet td {
  white-space: nowrap;
}
.fleet tbody th {
  font-weight: 550;
}
.fleet tbody tr:hover {
  background: var(--hover);
}
.fleet thead {
  position: sticky;
  top: 0;
  z-index: 1;
  background: var(--card);
  color: var(--dim);
}
.fleet thead tr > * {
  font-weight: 600;
  border-bottom: 1px solid var(--zero);
}
.fleet thead button {
  all: unset;
  display: block;
  width: 100%;
  cursor: pointer;
}
.fleet thead button:hover {
  color: var(--link);
}
.fleet thead button:focus-visible {
  outline: 2px solid var(--link);
  border-radius: 3px;
}
.fleet thead [aria-sort] {
  color: var(--ink);
}
.fleet thead [aria-sort=ascending] button::after {
  content: " \\2191";
}
.fleet thead [aria-sort=descending] button::after {
  content: " \\2193";
}
.hypervisors tbody th {
  max-width: 260px;
}
.hypervisors .bar {
  width: 22%;
  min-width: 90px;
}
.n {
  text-align: right;
}
.fleet td i {
  display: inline-block;
  min-width: 62px;
  color: var(--dim);
  font-style: normal;
  font-weight: 400;
}
.fleet .u {
  color: var(--dim);
}
.fleet .s {
  color: var(--own);
  font-weight: 550;
}
.fleet .s::before {
  content: "";
  display: inline-block;
  width: 8px;
  height: 8px;
  margin-right: 7px;
  border-radius: 50%;
  background: var(--own);
}
.fleet .failed.s::before {
  border-radius: 0;
  transform: rotate(45deg) scale(0.9);
}
.fleet .skipped.s::before {
  border-radius: 0;
  clip-path: polygon(50% 0, 100% 100%, 0 100%);
}
.fleet .off {
  color: var(--failed);
  font-weight: 600;
}
.share {
  display: block;
  width: 100%;
  height: 9px;
  border-radius: 2px;
}
.share rect {
  fill: var(--own);
}

.find {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  gap: 6px 12px;
  margin: 0 0 8px;
}
.find label {
  color: var(--dim);
}
.find input {
  width: min(340px, 100%);
  padding: 5px 10px;
  font: inherit;
  color: var(--ink);
  background: var(--page);
  border: 1px solid var(--line);
  border-radius: 6px;
}
.find output, .find small {
  color: var(--dim);
  font-size: 13px;
}
.find output:empty {
  display: none;
}
footer {
  margin: 18px 2px 0;
  color: var(--dim);
  font-size: 13px;
}
footer dl {
  display: grid;
  grid-template-columns: max-content minmax(0, 1fr);
  gap: 2px 14px;
  margin: 0;
}
footer dt {
  color: var(--ink);
  font-weight: 550;
}
footer dd {
  margin: 0;
}

/* A row that is out of sight costs nothing this way: ten thousand open in a second or two instead of ten. */
@media screen {
  .guests, .guests thead, .guests tbody {
    display: block;
  }
  .guests tr {
    display: grid;
    grid-template-columns:
      minmax(0, 11fr) minmax(0, 11fr) minmax(0, 9.6fr) minmax(0, 14fr) minmax(0, 14fr) minmax(0, 8fr)
      minmax(0, 8.6fr) minmax(0, 8fr) minmax(0, 6.2fr) minmax(0, 9.6fr);
    height: 27px;
  }
  .guests tbody tr {
    content-visibility: auto;
    contain-intrinsic-size: auto 27px;
  }
}

@media (min-width: 1061px) {
  .tiles.more {
    grid-template-columns: repeat(9, minmax(0, 1fr));
  }
}
@media (max-width: 1060px) {
  .tiles {
    grid-template-columns: repeat(4, minmax(0, 1fr));
  }
}
@media (max-width: 1000px) {
  .wide {
    overflow-x: auto;
  }
  .wide > .guests {
    min-width: 1100px;
  }
  .wide > .hypervisors {
    min-width: 680px;
  }
}
@media (max-width: 560px) {
  body {
    padding: 16px 12px 32px;
  }
  section {
    padding: 12px 12px 14px;
  }
  .tiles {
    grid-template-columns: repeat(2, minmax(0, 1fr));
    gap: 8px;
  }
  .chart {
    gap: 8px;
    grid-template-columns: fit-content(84px) minmax(0, 1fr);
  }
  .chart.rows li span {
    display: none;
  }
  .chart .names {
    width: 66px;
  }
  .chart .names .more {
    display: none;
  }
  .group td, .group tr, .group tbody {
    display: block;
    width: auto !important;
    border: 0;
    padding: 0;
  }
  .group tr {
    padding: 5px 0;
    border-bottom: 1px solid var(--soft);
  }
}
@media print {
  @page {
    size: landscape;
    margin: 12mm;
  }
  :root {
    --page: #ffffff;
    color-scheme: only light;
  }
  body {
    max-width: none;
    padding: 0;
    font-size: 10.5px;
  }
  * {
    print-color-adjust: exact;
    -webkit-print-color-adjust: exact;
  }
  section {
    padding: 10px 0;
    border: 0;
    border-top: 1px solid var(--line);
    border-radius: 0;
  }
  .find {
    display: none;
  }
  .fleet {
    font-size: 9px;
  }
  .fleet thead {
    position: static;
  }
  .wide {
    overflow: visible;
  }
  tr, .tiles, .chart, .group h3 {
    break-inside: avoid;
  }
  h2, h3 {
    break-after: avoid;
  }
  th, td {
    padding: 2px 5px;
  }
  .fleet td i {
    min-width: 0;
  }
}
"""

SCRIPT = """
"use strict";
const collator = new Intl.Collator("en", { numeric: true });
const unknown = "\\u2013";

// What a cell is sorted by; null: it has nothing, and stands last in both directions.
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
      const cells = Array.from(row.cells, (cell) => cell.textContent + " " + cell.title);
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
      ? shown.toLocaleString("en") + " of " + texts.length.toLocaleString("en") + " shown" : "";
  }
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 60);
  });
  field.hidden = false;
}

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
for (const field of document.querySelectorAll(".find")) makeFilter(field.parentElement.querySelector("table"), field);
"""
