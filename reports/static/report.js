// SPDX-License-Identifier: Apache-2.0
// Every trial of a run: sorted, filtered and paged from the JSON in the page. Text goes in as text, never as markup.
"use strict";

const PAGE_ROWS = 100;

function fixed(value, digits) {
  const [whole, part] = value.toFixed(digits).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return part === undefined ? grouped : `${grouped}.${part}`;
}

class TrialTable {
  constructor(section) {
    this.section = section;
    this.data = JSON.parse(section.querySelector("script[type='application/json']").textContent);
    this.polls = new Set(this.data.polls);
    this.paper = new Set(this.data.paper);
    this.body = section.querySelector("tbody");
    this.state = { column: 0, descending: false, page: 0 };
    this.order = [];
    this.wanted = null;
    this.texts = new Map();
    this.upgradeHeadings();
    this.upgradeControls();
    this.refresh();
    section.classList.add("live");
  }

  text(row, index) {
    const column = this.data.columns[index];
    const value = row[index];
    if (value === null) return this.data.missing;
    if (column.kind === "point") return this.data.points[value];
    if (column.kind === "phase") return this.data.phases[value];
    if (column.kind === "text") return value;
    if (column.kind === "cpu" && this.polls.has(row[1])) {
      const useful = row[row.length - 1];
      return useful === null ? "polls" : `polls, ${fixed(useful, 0)} % useful`;
    }
    const indicative = column.kind === "cpu" && row[row.length - 2] ? "~" : "";
    return indicative + fixed(value, column.digits);
  }

  upgradeHeadings() {
    this.headings = Array.from(this.section.querySelectorAll("thead th"));
    this.headings.forEach((heading, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => this.sortBy(index));
    });
    this.markHeadings();
  }

  upgradeControls() {
    const find = (name) => this.section.querySelector(`[data-control='${name}']`);
    this.controls = { text: find("text"), point: find("point"), phase: find("phase"), mark: find("mark") };
    this.fill(this.controls.point, this.data.points.map((text, value) => [value, text]));
    const used = new Set(this.data.rows.map((row) => row[3]));
    this.fill(this.controls.phase, this.data.phases.map((text, value) => [value, text]).filter(([v]) => used.has(v)));
    const last = this.data.columns.length - 1;
    const marks = new Set();
    for (const row of this.data.rows) for (const mark of row[last].split("; ")) marks.add(mark.split(":")[0]);
    marks.delete("");
    this.fill(this.controls.mark, Array.from(marks).sort().slice(0, 40).map((mark) => [mark, mark]));
    for (const control of Object.values(this.controls)) {
      control.addEventListener("input", () => this.turnTo(0, true));
    }
    this.count = find("count");
    this.previous = find("previous");
    this.next = find("next");
    this.previous.addEventListener("click", () => this.turnTo(this.state.page - 1));
    this.next.addEventListener("click", () => this.turnTo(this.state.page + 1));
    this.section.querySelectorAll("[data-live]").forEach((element) => { element.hidden = false; });
  }

  fill(select, pairs) {
    for (const [value, text] of pairs) select.append(new Option(text, String(value)));
  }

  sortBy(index) {
    const again = this.state.column === index;
    this.state = { column: index, descending: again && !this.state.descending, page: 0 };
    this.markHeadings();
    this.refresh();
  }

  markHeadings() {
    this.headings.forEach((heading, index) => {
      if (index !== this.state.column) heading.removeAttribute("aria-sort");
      else heading.setAttribute("aria-sort", this.state.descending ? "descending" : "ascending");
    });
  }

  turnTo(page, filtered = false) {
    this.state.page = page;
    if (filtered) this.refresh();
    else this.draw();
  }

  searchable(row) {
    let text = this.texts.get(row);
    if (text === undefined) {
      text = [1, 3, this.data.columns.length - 1].map((index) => this.text(row, index)).join(" ").toLowerCase();
      this.texts.set(row, text);
    }
    return text;
  }

  // Only trials of these points (a set of anchors; null: of all).
  limitTo(anchors) {
    this.wanted = anchors && new Set(this.data.anchors.flatMap((anchor, index) => anchors.has(anchor) ? [index] : []));
    this.turnTo(0, true);
  }

  refresh() {
    const words = this.controls.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { point, phase, mark } = this.controls;
    const last = this.data.columns.length - 1;
    const found = this.data.rows.filter((row) =>
      (!this.wanted || this.wanted.has(row[1])) &&
      (point.value === "" || row[1] === Number(point.value)) &&
      (phase.value === "" || row[3] === Number(phase.value)) &&
      (mark.value === "" || row[last].split("; ").some((text) => text.split(":")[0] === mark.value)) &&
      words.every((word) => this.searchable(row).includes(word)));
    this.order = this.sorted(found);
    this.filtered = found.length < this.data.rows.length;
    this.section.classList.toggle("filtered", this.filtered);
    this.draw();
  }

  // On paper there are no pages to turn: what is printed begins with the first row of its kind.
  toPaper() {
    const rows = this.filtered ? this.order : this.order.filter((row) => this.paper.has(row[3]));
    this.body.replaceChildren(...rows.slice(0, PAGE_ROWS).map((row) => this.row(row)));
  }

  sorted(rows) {
    const { column, descending } = this.state;
    const named = ["point", "phase", "text"].includes(this.data.columns[column].kind);
    const sign = descending ? -1 : 1;
    const missing = rows.filter((row) => row[column] === null);
    const known = rows.filter((row) => row[column] !== null);
    const compare = named
      ? (a, b) => { const x = this.text(a, column), y = this.text(b, column); return x < y ? -1 : x > y ? 1 : 0; }
      : (a, b) => a[column] - b[column];
    known.sort((a, b) => sign * compare(a, b) || a[0] - b[0]);
    return known.concat(missing);
  }

  draw() {
    const pages = Math.max(1, Math.ceil(this.order.length / PAGE_ROWS));
    const page = Math.min(Math.max(0, this.state.page), pages - 1);
    this.state.page = page;
    const first = page * PAGE_ROWS;
    const shown = this.order.slice(first, first + PAGE_ROWS);
    this.body.replaceChildren(...shown.map((row) => this.row(row)));
    const total = this.data.rows.length;
    const of = this.order.length === total ? fixed(total, 0) : `${fixed(this.order.length, 0)} found among ${fixed(total, 0)}`;
    this.count.textContent = shown.length ? `Trials ${fixed(first + 1, 0)} to ${fixed(first + shown.length, 0)} of ${of}` : `No trial matches; there are ${fixed(total, 0)}`;
    this.previous.disabled = page === 0;
    this.next.disabled = page >= pages - 1;
  }

  row(row) {
    const line = document.createElement("tr");
    if (this.paper.has(row[3])) line.className = "paper";
    this.data.columns.forEach((column, index) => {
      const cell = document.createElement(index === 0 ? "th" : "td");
      if (index === 0) cell.scope = "row";
      cell.className = column.kind;
      cell.textContent = this.text(row, index);
      if (row[index] === null) {
        cell.classList.add("missing");
        cell.title = column.why;
      }
      line.append(cell);
    });
    return line;
  }
}

const tables = Array.from(document.querySelectorAll("section.trials"), (section) => new TrialTable(section));

// Points by stack, role, cores and frame, in every table of the page. Charts show all points.
class PointFilter {
  constructor(form, facets) {
    this.form = form;
    this.facets = facets;
    this.status = document.getElementById("filtered");
    this.selects = new Map();
    const points = Object.values(facets);
    for (const name of points.length ? Object.keys(points[0]) : []) {
      const values = Array.from(new Set(points.map((point) => point[name])));
      if (values.length < 2) continue;
      this.add(name, typeof values[0] === "number" ? values.sort((a, b) => a - b) : values);
    }
    form.hidden = this.selects.size === 0;
    form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("hashchange", () => this.show());
    this.show();
  }

  add(name, values) {
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.append(new Option("all", ""));
    for (const value of values) select.append(new Option(String(value), String(value)));
    select.addEventListener("input", () => this.apply());
    label.append(`${name} `, select);
    this.form.append(label);
    this.selects.set(name, select);
  }

  // A link to a point that is filtered out shows it again.
  show() {
    const anchor = decodeURIComponent(location.hash.slice(1));
    if (!(anchor in this.facets) || this.matches(this.facets[anchor])) return;
    for (const select of this.selects.values()) select.value = "";
    this.apply();
    document.getElementById(anchor).scrollIntoView();
  }

  matches(point) {
    return Array.from(this.selects).every(([name, select]) => select.value === "" || String(point[name]) === select.value);
  }

  apply() {
    const shown = new Set(Object.keys(this.facets).filter((anchor) => this.matches(this.facets[anchor])));
    const total = Object.keys(this.facets).length;
    for (const name of document.querySelectorAll("[data-point]")) {
      name.closest("tr, .trouble").hidden = !shown.has(name.dataset.point);
    }
    const all = shown.size === total;
    for (const table of tables) table.limitTo(all ? null : shown);
    this.status.textContent = all ? "" : shown.size
      ? `Tables show ${shown.size} of ${total} points; charts show all.` : `No point matches; there are ${total}.`;
  }
}

new PointFilter(document.getElementById("filter"), JSON.parse(document.getElementById("facets").textContent));

// Closed details hide what a printed page should hold.
window.addEventListener("beforeprint", () => {
  tables.forEach((table) => table.toPaper());
  document.querySelectorAll("details:not([open])").forEach((details) => {
    details.open = true;
    details.dataset.printed = "";
  });
});
window.addEventListener("afterprint", () => {
  tables.forEach((table) => table.draw());
  document.querySelectorAll("details[data-printed]").forEach((details) => {
    details.open = false;
    delete details.dataset.printed;
  });
});
