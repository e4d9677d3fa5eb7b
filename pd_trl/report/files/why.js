// One pair: each aspect's vote and their sum, as bars; and the search for a pair by its id.
const MAX_FOUND = 8;
const pairId = (state, row) => state.ids[state.deciding.columns.id_place[row]];
const signedText = (value) => (value > 0 ? `+${decimal(value, 2)}` : decimal(value, 2));

// What an aspect says on a pair: its vote, clipped to [-1, 1], or why it has none.
function voteOf({ own, gaps, scales, weights }, row, k) {
  if (own[row] === k) return { silent: "gave the label, no vote" };
  if (!(weights[k] > 0)) return { silent: "weight 0, no vote" };
  const gap = gaps[k][row];
  if (gap !== gap) return { silent: "no rating, no vote" };
  const vote = Math.min(1, Math.max(-1, gap / (scales[k] > 0 ? scales[k] : 1)));
  return { gap, vote, part: -weights[k] * vote };
}

function sidedBar(value, most, mark = null) {
  const size = Math.min(50, (50 * Math.abs(value)) / most);
  const bar = element("span", { className: value > 0 ? "against" : "for" });
  bar.style.setProperty("--from", `${value > 0 ? 50 : 50 - size}%`);
  bar.style.setProperty("--size", `${size}%`);
  const parts = [bar];
  if (mark !== null) {
    const line = element("i");
    line.style.setProperty("--at", `${Math.min(100, Math.max(0, 50 + (50 * mark) / most))}%`);
    parts.push(line);
  }
  return element("div", { className: "sided", aria: { hidden: "true" } }, ...parts);
}

const voteCell = (className, name, verdict, bar, ...notes) => element("li", { className },
  element("span", { className: "name", dir: "auto" }, ...breakable(name)), bar, element("strong", { textContent: verdict }),
  ...notes.filter(Boolean).map((textContent) => element("span", { className: "note", textContent })));

function voteBars(state, row) {
  const { deciding } = state;
  const most = Math.max(...deciding.weights);
  const cells = deciding.names.map((_, k) => {
    const found = voteOf(deciding, row, k);
    const weight = deciding.weights[k] === 1 ? "" : ` × weight ${Number(deciding.weights[k].toFixed(3))}`;
    if (found.silent) return voteCell("silent", deciding.shown[k], "–", sidedBar(0, most), found.silent);
    const verdict = found.vote === 0 ? "undecided, 0" : `${found.vote > 0 ? "agrees" : "contradicts"}, ${signedText(found.part)}`;
    return voteCell("", deciding.shown[k], verdict, sidedBar(found.part, most),
      `gap ${decimal(deciding.gaps[k][row], 2)} ÷ scale ${decimal(deciding.scales[k], 2)}${weight}`,
      Math.abs(deciding.gaps[k][row]) > deciding.scales[k] ? "cut at the scale" : "");
  });
  const rank = rankOf(state, row);
  const pd = state.columns.pd?.[rank];
  if (pd !== undefined && pd === pd) {
    const reach = deciding.weights.reduce((sum, weight, k) => sum + (deciding.own[row] === k ? 0 : weight), 0);
    const parts = deciding.names.map((_, k) => voteOf(deciding, row, k));
    const missing = parts.filter((found) => found.silent === "no rating, no vote").length;
    const last = lastKept(state);
    cells.push(voteCell("sum", "Sum: PD", decimal(pd, 3), sidedBar(pd, Math.max(reach, 1e-9), last),
      last === null ? "" : `last kept ${decimal(last, 3)}`, missing ? `scaled up for ${missing} missing` : ""));
  }
  return element("ul", { className: "votes", aria: { label: `Votes on pair ${pairId(state, row)}` } }, ...cells);
}

// PD of the last pair kept, where all pairs are ranked by it together.
function lastKept(state) {
  if (!state.deciding.sign || state.deciding.strata) return null;
  return state.columns.pd[keptPairs(state) - 1];
}

function whyText(state, row) {
  const [rank, { deciding }] = [rankOf(state, row), state];
  const kept = rank < state.pairs;
  const place = `place ${thousands(rank + 1)} of ${thousands(state.total)}`;
  if (!deciding.sign) return `${kept ? "Kept" : "Dropped"}: ${place} by ${state.record.selector}; ${thousands(state.pairs)} are kept.`;
  if (rank >= state.scored) return "Dropped: no other aspect votes on it, so that it has no PD.";
  const where = deciding.strata ? " of its aspect’s share" : "";
  const last = lastKept(state);
  if (!kept && last !== null && state.columns.pd[rank] === last) return `Dropped: tied with the last kept pair; equal PD is kept by pair_id (${place}).`;
  const most = deciding.sign > 0 ? ["low", "high"] : ["high", "low"];
  return kept ? `Kept: its PD is ${most[0]} enough for the budget${where} (${place}; ${thousands(state.pairs)} are kept).`
    : `Dropped: its PD is too ${most[1]} for the budget${where} (${place}; ${thousands(state.pairs)} are kept).`;
}

function showPair(state) {
  const row = state.pair;
  const rank = rankOf(state, row);
  const facts = [element("span", { className: `state ${rank < state.pairs ? "kept" : "dropped"}`, textContent: rank < state.pairs ? "kept" : "dropped" })];
  facts.push(element("code", { textContent: pairId(state, row).slice(0, 200), dir: "auto" }));
  if (state.record.groups.aspect) facts.push(`label of ${state.record.groups.aspect[state.columns.aspect[row]]}`);
  const parts = [element("p", { className: "facts" }, ...facts), element("p", { textContent: whyText(state, row) })];
  if (state.deciding.gaps.length) parts.push(voteBars(state, row));
  const texts = state.table?.rows.find((entry) => entry.row === row);
  parts.push(texts ? element("details", {}, element("summary", { textContent: "Its texts" }), textsOf(texts))
    : element("p", { className: "note", textContent: "Its texts are not among those on this page." }));
  const open = byId("pair").querySelector("details")?.open;
  byId("pair").replaceChildren(...parts);
  if (open && texts) byId("pair").querySelector("details").open = true;
}

function choosePair(state, row) {
  state.pair = row;
  byId("found-pairs").replaceChildren();
  byId("find-status").textContent = "";
  showPair(state);
}

function findPairs(state, query) {
  const places = [];
  let exact = -1;
  if (query) {
    for (let i = 0; i < state.ids.length; i++) {
      if (state.ids[i] === query) exact = i;
      else if (places.length < MAX_FOUND && state.ids[i].includes(query)) places.push(i);
    }
  }
  const rowOf = (place) => state.deciding.inIdOrder[place];
  if (exact >= 0 || places.length === 1) choosePair(state, rowOf(exact >= 0 ? exact : places[0]));
  byId("find-status").textContent = !query || exact >= 0 || places.length === 1 ? ""
    : places.length ? `${places.length === MAX_FOUND ? "The first " : ""}${places.length} ids with this text:` : "No pair_id has this text.";
  const shown = exact >= 0 || places.length < 2 ? [] : places;
  byId("found-pairs").replaceChildren(...shown.map((place) => element("button", {
    type: "button", textContent: state.ids[place].slice(0, 80), onclick: () => choosePair(state, rowOf(place)),
  })));
}

function startWhy(state) {
  if (!byId("find")) return;
  let pause;
  byId("find").addEventListener("input", (event) => {
    clearTimeout(pause);
    pause = setTimeout(() => findPairs(state, event.target.value.trim()), state.total > 100_000 ? 200 : 0);
  });
  byId("find-tools").hidden = false;
  // The first pair that is dropped, or the last one.
  state.pair = Math.min(state.record.kept, state.total - 1);
  showPair(state);
}
