// The sample of pairs: searched, filtered, sorted, read. Texts of the data only ever become text nodes.
const ROWS_PER_PAGE = matchMedia("(max-width: 46rem)").matches ? 10 : 20;

function element(tag, properties = {}, ...children) {
  const { data = {}, aria = {}, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(data)) node.dataset[name] = value;
  for (const [name, value] of Object.entries(aria)) node.setAttribute(name === "role" ? name : `aria-${name}`, value);
  node.append(...children);
  return node;
}

// A name that may go on in the next line after an underscore.
const breakable = (name) => name.split(/(?<=_)/).flatMap((part, i) => (i ? [element("wbr"), part] : [part]));

function exampleRows(examples) {
  return examples.rank.map((_, i) => {
    const row = Object.fromEntries(Object.keys(examples).map((name) => [name, examples[name][i]]));
    row.row = row.rank;
    row.searched = [row.prompt, row.chosen, row.rejected, row.id, row.reason].join("\n").toLowerCase();
    return row;
  });
}

function exampleColumns(state) {
  const number = (value) => (value === null || value === undefined ? "-" : decimal(value, 2));
  // By the page's weights; that of the filter is in the row.
  const pd = (row) => {
    const value = state.order ? state.columns.pd[rankOf(state, row.row)] : row.pd;
    return value === value ? value : null;
  };
  const columns = [
    { key: "rank", title: "Status", value: (row) => rankOf(state, row.row), cell: (row) => statusCell(state, row) },
  ];
  if (state.columns.pd) columns.push({ key: "pd", title: "PD", value: pd, text: (row) => number(pd(row)), name: "n" });
  if (state.record.groups.aspect) columns.push({ key: "aspect", title: "Label of", value: (row) => row.aspect, text: (row) => row.aspect ?? "-", name: "aspect" });
  state.record.aspects.forEach((name, k) => columns.push({
    key: `gap-${k}`, title: `Gap: ${name}`, value: (row) => row.gaps[k], text: (row) => number(row.gaps[k]), name: "n",
  }));
  columns.push({ key: "prompt", title: "Prompt", value: (row) => row.prompt, cell: promptCell, name: "prompt" });
  columns.push({ key: "reason", title: "Reason", value: (row) => row.reason, text: (row) => row.reason, name: "reason" });
  return columns;
}

function statusCell(state, row) {
  const kept = rankOf(state, row.row) < state.pairs;
  return [element("span", { className: `state ${kept ? "kept" : "dropped"}`, textContent: kept ? "kept" : "dropped" })];
}

function promptCell(row, state) {
  const open = state.table.open.has(row.id);
  const button = element("button", {
    type: "button", textContent: open ? "Close" : "Read", aria: { expanded: open, label: `${open ? "Close" : "Read"} the texts of pair ${row.id}` },
    onclick: () => {
      if (open) state.table.open.delete(row.id); else state.table.open.add(row.id);
      showExamples(state);
      byId("examples").querySelector(`[data-id="${CSS.escape(row.id)}"] button`)?.focus();
    },
  });
  return [element("span", { textContent: row.prompt || "(no prompt)", dir: "auto" }), button];
}

function textsOf(row) {
  const parts = ["prompt", "chosen", "rejected"].map((name) => element("section", {},
    element("h3", { textContent: name }), element("div", { textContent: row[name] || "(empty)", dir: "auto", tabIndex: 0 })));
  return element("div", { className: "texts" }, ...parts, element("p", { textContent: `pair_id ${row.id}` }));
}

function textsRow(state, row, width) {
  const bars = state.deciding.gaps.length && state.ids.length ? [voteBars(state, row.row)] : [];
  return element("tr", { className: "more", aria: { role: "row" } }, element("td", { colSpan: width, aria: { role: "cell" } }, ...bars, textsOf(row)));
}

function sortedExamples(state) {
  const { rows, sort, which, aspect, query } = state.table;
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = rows.filter((row) =>
    (which === "all" || (rankOf(state, row.row) < state.pairs) === (which === "kept"))
    && (!aspect || row.aspect === aspect)
    && words.every((word) => row.searched.includes(word)));
  const value = exampleColumns(state).find((column) => column.key === sort.key).value;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  return found.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sort.sign * compare(x, y) || rankOf(state, a.row) - rankOf(state, b.row);
  });
}

function headRow(state, columns) {
  const cells = columns.map((column) => {
    const active = state.table.sort.key === column.key;
    const cell = element("th", { scope: "col", className: column.name === "n" ? "n" : "", aria: { role: "columnheader" } }, element("button", {
      type: "button",
      onclick: () => {
        state.table.sort = { key: column.key, sign: active ? -state.table.sort.sign : 1 };
        showExamples(state, 0);
        byId("examples").querySelector("[aria-sort] button").focus();
      },
    }, ...breakable(column.title)));
    if (active) cell.setAttribute("aria-sort", state.table.sort.sign > 0 ? "ascending" : "descending");
    return cell;
  });
  return element("thead", { aria: { role: "rowgroup" } }, element("tr", { aria: { role: "row" } }, ...cells));
}

function showExamples(state, page = state.table.page) {
  const columns = exampleColumns(state);
  const found = sortedExamples(state);
  const pages = Math.max(1, Math.ceil(found.length / ROWS_PER_PAGE));
  state.table.page = Math.min(page, pages - 1);
  const first = state.table.page * ROWS_PER_PAGE;
  const body = element("tbody", { aria: { role: "rowgroup" } });
  for (const row of found.slice(first, first + ROWS_PER_PAGE)) {
    const cells = columns.map((column) => element("td", {
      className: column.name ?? "", aria: { role: "cell" }, data: column.cell ? {} : { label: column.title },
    }, ...(column.cell ? column.cell(row, state) : breakable(column.text(row)))));
    body.append(element("tr", { className: "pair", data: { id: row.id }, aria: { role: "row" } }, ...cells));
    if (state.table.open.has(row.id)) body.append(textsRow(state, row, columns.length));
  }
  byId("examples").replaceChildren(headRow(state, columns), body);
  byId("found").textContent = found.length
    ? `${thousands(found.length)} of ${thousands(state.table.rows.length)} pairs match.` : "No pair matches.";
  byId("page").textContent = `Page ${state.table.page + 1} of ${pages}`;
  byId("previous").disabled = state.table.page === 0;
  byId("next").disabled = state.table.page === pages - 1;
}

function startExamples(state) {
  state.table = {
    rows: exampleRows(state.record.examples), open: new Set(), page: 0, which: "all", aspect: "", query: "", sort: { key: "rank", sign: 1 },
  };
  for (const name of state.record.groups.aspect ?? []) byId("aspect").append(element("option", { value: name, textContent: name }));
  byId("aspect").parentElement.hidden = !state.record.groups.aspect;
  const follow = (id, field, event) => byId(id).addEventListener(event, (change) => {
    state.table[field] = change.target.value;
    showExamples(state, 0);
  });
  follow("search", "query", "input");
  follow("which", "which", "change");
  follow("aspect", "aspect", "change");
  byId("previous").addEventListener("click", () => showExamples(state, state.table.page - 1));
  byId("next").addEventListener("click", () => showExamples(state, state.table.page + 1));
  for (const id of ["tools", "pages"]) byId(id).hidden = state.table.rows.length === 0;
  showExamples(state);
}
