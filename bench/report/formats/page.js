"use strict";

// Sorting: a header is a button; ascending, descending, and back to the order of the page.
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
const collator = new Intl.Collator("en", { numeric: true });

function order(column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const numeric = column.some((cell) => cell.dataset.key !== undefined);
  const key = (cell) => (numeric ? cell.dataset.key : cell.textContent || undefined);
  return (a, b) => {
    const [left, right] = [key(column[a]), key(column[b])];
    if (left === undefined || right === undefined) return (left === undefined) - (right === undefined); // always last
    return sign * (numeric ? left - right : collator.compare(left, right));
  };
}

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    if (!button.textContent) button.setAttribute("aria-label", "Row");
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = NEXT[head.getAttribute("aria-sort")];
      for (const other of heads) other.setAttribute("aria-sort", other === head ? direction : "none");
      const places = [...rows.keys()];
      if (direction !== "none") places.sort(order(rows.map((row) => row.cells[place]), direction));
      body.append(...places.map((i) => rows[i]));
      table.classList.toggle("sorted", direction !== "none");
    });
  });
}

// Filters: a choice for each column that names rows. Rows that are left out are hidden, and sorting leaves them so.
function choice(name, values) {
  const select = document.createElement("select");
  for (const value of [null, ...values]) select.add(new Option(value ?? "all", value ?? ""));
  const label = document.createElement("label");
  label.append(`${name.trim() || "row"}: `, select);
  return [label, select];
}

for (const table of document.querySelectorAll("table.grouped")) {
  const rows = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells];
  const controls = table.closest(".shown").querySelector(".controls");
  const filters = [];
  for (const place of heads.keys()) {
    if (place >= table.dataset.labels && !heads[place].classList.contains("rows")) continue;
    const values = [...new Set(rows.map((row) => row.cells[place].textContent))].filter(Boolean);
    if (values.length < 2 || values.length > 40) continue;
    const [label, select] = choice(heads[place].textContent, values);
    controls.insertBefore(label, controls.children[filters.length] ?? null);
    filters.push([place, select]);
    select.addEventListener("change", () => {
      const wanted = (row) => filters.every(([at, { value }]) => !value || row.cells[at].textContent === value);
      for (const row of rows) row.hidden = !wanted(row);
      table.classList.toggle("filtered", filters.some(([, { value }]) => value));
    });
  }
}

// Light and dark: the system's choice, until the reader makes one.
const root = document.documentElement;
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");

function remembered(choice) {
  try {
    if (choice) localStorage.setItem("bench-theme", choice);
    return localStorage.getItem("bench-theme");
  } catch {
    return choice; // a browser that keeps nothing
  }
}

function show(choice) {
  root.dataset.theme = choice ?? (system.matches ? "dark" : "light");
  button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
}

button.hidden = false;
button.addEventListener("click", () => show(remembered(root.dataset.theme === "dark" ? "light" : "dark")));
system.addEventListener("change", () => show(remembered()));
show(remembered());
