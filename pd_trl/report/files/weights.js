// Sliders of the aspects' weights, and what they leave.
function weightRow(state, k) {
  const { deciding } = state;
  const fixed = !(deciding.scales[k] > 0);
  const most = Math.max(2, Math.ceil(2 * deciding.given[k]));
  const id = `weight-${k}`;
  const number = element("input", { type: "number", id, min: 0, max: 1e9, step: "any", value: deciding.given[k], disabled: fixed, inputMode: "decimal" });
  const slider = element("input", { type: "range", min: 0, max: most, step: 0.05, value: deciding.given[k], disabled: fixed, aria: { label: `Weight of ${deciding.shown[k]}` } });
  const follow = (source, other) => source.addEventListener("input", () => {
    if (source.value === "" || !source.checkValidity()) return;
    other.value = source.value;
    setWeight(state, k, source.valueAsNumber);
  });
  follow(slider, number);
  follow(number, slider);
  number.addEventListener("blur", () => { number.value = deciding.weights[k]; });
  const label = element("label", { htmlFor: id, dir: "auto" }, ...breakable(deciding.shown[k]));
  if (fixed) label.append(element("span", { className: "note", textContent: " its gaps decide nothing" }));
  return element("div", { className: "weight" }, label, slider, number);
}

function setWeight(state, k, weight) {
  const fresh = state.deciding.weights.map((value, i) => (i === k ? weight : value));
  byId("weights-problem").hidden = fresh.some((value) => value > 0);
  if (fresh.some((value) => value > 0)) setWeights(state, fresh);
}

function setWeights(state, weights) {
  state.deciding.weights = weights;
  byId("main").setAttribute("aria-busy", "true");
  cancelAnimationFrame(state.deciding.frame);
  state.deciding.frame = requestAnimationFrame(() => {
    const begin = performance.now();
    decide(state);
    countAll(state);
    showNumbers(state);
    state.deciding.milliseconds = performance.now() - begin;
    document.documentElement.dataset.decided = Math.round(state.deciding.milliseconds);
    state.stale = true;
    announce(state);
  });
}

function startWeights(state) {
  const { deciding } = state;
  if (!byId("weights")) return;
  byId("weights").replaceChildren(...deciding.names.map((_, k) => weightRow(state, k)));
  // The first change need not wait for what all of them have in common.
  const prepare = () => { deciding.prepared ??= prepareRanking(deciding); };
  for (const event of ["focusin", "pointerenter"]) byId("weights-body").addEventListener(event, prepare, { once: true });
  byId("weights-reset").addEventListener("click", () => {
    byId("weights").replaceChildren(...deciding.names.map((_, k) => weightRow(state, k)));
    byId("weights-problem").hidden = true;
    setWeights(state, [...deciding.given]);
  });
  byId("save-filter").addEventListener("click", () => download("filter.json", "application/json", filterJson(state)));
  byId("save-sql").addEventListener("click", () => download("selection.sql", "text/plain", `${keptSql(state)}\n`));
  byId("weights-body").hidden = false;
}
