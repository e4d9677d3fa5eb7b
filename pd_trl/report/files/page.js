// Slider and numbers.
function showNumbers(state) {
  const { columns, record, pairs, total } = state;
  const kept = sumsUpTo(state.running, pairs);
  const groups = { all: state.sums, kept, dropped: less(state.sums, kept) };
  for (const [key, names] of Object.entries(state.groups)) {
    const table = document.querySelector(`[data-grouping="${key}"]`);
    if (table) showGroups(table, names, countsUpTo(state.running, key, pairs), state.totals[key]);
  }
  for (const [group, sums] of Object.entries(groups)) {
    for (const [name, value] of Object.entries(measures(sums, columns))) showMeasure(name, group, value);
  }
  const now = measures(kept, columns);
  const figures = { kept: thousands(pairs), agreement: percent(now.agreement ?? null), longer: percent(now.longer ?? null) };
  if (columns.pd) figures.last = decimal(columns.pd[Math.min(pairs, state.known) - 1], 3);
  for (const node of document.querySelectorAll("[data-figure]")) node.textContent = figures[node.dataset.figure];
  byId("share").textContent = percent(pairs / total);
  byId("slider").setAttribute("aria-valuetext", `${percent(pairs / total)}, ${thousands(pairs)} pairs`);
  if (document.activeElement !== byId("count")) byId("count").value = pairs;
  const plot = byId("histogram");
  if (plot) plot.setAttribute("aria-label", `Histogram of the PD of ${thousands(state.known)} pairs; the ${thousands(pairs)} kept reach up to ${figures.last}`);
}

function showGroups(table, names, kept, totals) {
  const rows = new Map([...table.tBodies[0].rows].map((row) => [row.dataset.group, row]));
  names.forEach((_, i) => {
    const row = rows.get(String(i));
    if (!row) return;
    const share = ratio(kept[i], totals[i]);
    row.cells[1].textContent = thousands(totals[i]);
    row.querySelector('[data-cell="kept"]').textContent = thousands(kept[i]);
    row.querySelector('[data-cell="share"]').textContent = percent(share);
    row.querySelector(".bar span").style.setProperty("--w", `${100 * share}%`);
  });
}

function showMeasure(name, group, value) {
  const cell = document.querySelector(`#groups [data-row="${name}"] [data-cell="${group}"]`);
  if (!cell) return;
  const isMean = name === "chosen" || name === "rejected";
  cell.querySelector(".value").textContent = value === null ? "-" : isMean ? oneDecimal(value) : percent(value);
  cell.querySelector(".bar span")?.style.setProperty("--w", `${100 * (value ?? 0)}%`);
}

// Totals of all pairs in their present order, and the rows of the table by votes, which other weights change.
function countAll(state) {
  const { columns, record, total } = state;
  state.known = columns.pd ? state.scored : 0;
  state.running = totalsOf(state);
  // Another order of the same values has the same sums.
  if (state.sums && state.votes === state.votesShown) return;
  state.groups = { ...record.groups, ...(record.groups.votes && { votes: state.votes }) };
  state.sums = sumsUpTo(state.running, total);
  state.totals = Object.fromEntries(Object.keys(state.groups).map((key) => [key, countsUpTo(state.running, key, total)]));
  const table = document.querySelector('[data-grouping="votes"]');
  state.votesShown = state.votes;
  if (!table) return;
  const given = state.votes === record.groups.votes;
  state.givenVotes ??= [...table.tBodies[0].rows];
  const order = state.votes.map((_, i) => i).sort((a, b) => (state.votes[a] < state.votes[b] ? -1 : 1));
  table.tBodies[0].replaceChildren(...(given ? state.givenVotes : order.map((i) => votesRow(state.votes[i], i))));
}

function votesRow(name, i) {
  const cells = ["", "kept", "share"].map((cell) => element("td", { className: "n", data: cell ? { cell } : {} }));
  const bar = element("span", { className: "bar", aria: { hidden: "true" } }, element("span"));
  return element("tr", { data: { group: i } }, element("th", { scope: "row", textContent: name }), ...cells, element("td", { className: "wide" }, bar));
}

// Said once the slider rests, so that a screen reader is not flooded.
function announce(state) {
  clearTimeout(state.pause);
  // It holds the selection of before.
  if (byId("saved")) byId("saved").hidden = true;
  state.pause = setTimeout(() => {
    if (state.stale) renewPlots(state);
    const figures = [...document.querySelectorAll(".figures div")].map((node) => `${node.children[0].textContent} ${node.children[1].textContent}`);
    byId("status").textContent = figures.join(", ");
    showExamples(state);
    if (byId("find")) showPair(state);
    byId("main").removeAttribute("aria-busy");
  }, 250);
}

// What was changed while they were drawn is drawn, too.
async function showPlots(state) {
  state.plots = await drawPlots(state);
  for (const plot of state.plots) plot.renew();
}

function renewPlots(state) {
  state.stale = false;
  preparePlots(state);
  showCurveTable(state);
  for (const plot of state.plots) plot.renew();
}

function setPairs(state, pairs) {
  state.pairs = Math.min(state.total, Math.max(1, pairs));
  byId("main").setAttribute("aria-busy", "true");
  cancelAnimationFrame(state.frame);
  state.frame = requestAnimationFrame(() => {
    showNumbers(state);
    for (const plot of state.plots) plot.update();
    announce(state);
  });
}

function startControls(state) {
  const slider = byId("slider");
  const follow = () => { slider.value = Math.max(1, Math.round((1000 * state.pairs) / state.total)); };
  slider.addEventListener("input", () => {
    state.share = slider.valueAsNumber;
    setPairs(state, pairsOf(state.share, state.total));
  });
  byId("count").addEventListener("input", (event) => {
    if (event.target.value && event.target.checkValidity()) { state.share = null; setPairs(state, event.target.valueAsNumber); follow(); }
  });
  byId("count").addEventListener("blur", (event) => { event.target.value = state.pairs; });
  byId("reset").addEventListener("click", () => { state.share = null; setPairs(state, state.record.kept); follow(); });
  byId("budget").hidden = false;
}

async function start() {
  if (!("DecompressionStream" in window)) throw new Error("this browser is too old: it cannot unpack the data");
  const [record, buffer, ids] = await Promise.all([
    unpack("record").then((response) => response.json()), unpack("numbers").then((response) => response.arrayBuffer()),
    unpack("ids").then((response) => response.json()),
  ]);
  const columns = readColumns(record.layout, buffer);
  const state = { record, columns, ids, total: record.total, pairs: record.kept, share: null, plots: [], deciding: decidingOf(record, columns) };
  state.givenScored = columns.pd ? columns.pd.reduce((sum, value) => sum + (value === value), 0) : record.total;
  state.summed = summedColumns(columns);
  prepareLengths(state);
  decide(state);
  countAll(state);
  preparePlots(state);
  startControls(state);
  showNumbers(state);
  showCurveTable(state);
  startExamples(state);
  startWhy(state);
  startWeights(state);
  await loadLibrary();
  await showPlots(state);
  let drawing = Promise.resolve();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawing = drawing.then(() => showPlots(state));
  });
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start().catch((error) => {
  byId("problem").textContent = `The interactive parts could not be shown: ${error.message}. The tables have the numbers at the filter’s budget.`;
  byId("problem").hidden = false;
});
