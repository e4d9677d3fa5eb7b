// Plots by BokehJS; their colours are those of the style sheet, light or dark.
const CURVES = {
  agreement: { label: (voters) => `expected agreement: votes of ${voters}`, color: "kept", style: "solid" },
  overall: { label: () => "overall labels that agree (hidden)", color: "dropped", style: "dashed" },
  others: { label: (voters) => `labels of ${voters} that agree (hidden)`, color: "third", style: "dotted" },
  longer: { label: () => "chosen response is the longer one", color: "ink", style: "dashed" },
};

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

async function loadLibrary() {
  const script = document.createElement("script");
  script.textContent = await (await unpack("library")).text();
  document.head.append(script);
}

function newFigure(place, options) {
  const figure = Bokeh.Plotting.figure({
    height: byId(place).clientHeight, sizing_mode: "stretch_width", toolbar_location: null, tools: "", min_border_right: 14,
    background_fill_color: null, border_fill_color: null, outline_line_color: null, ...options,
  });
  for (const axis of [figure.xaxis, figure.yaxis]) {
    axis.axis_label_text_color = axis.major_label_text_color = color("ink");
    axis.axis_line_color = axis.major_tick_line_color = color("soft");
    axis.minor_tick_line_color = null;
    axis.axis_label_text_font_style = "normal";
    axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px";
    axis.axis_label_text_font = axis.major_label_text_font = "system-ui, sans-serif";
  }
  figure.xgrid.grid_line_color = null;
  figure.ygrid.grid_line_color = color("rule");
  return figure;
}

const marker = (figure, location) => {
  const span = new Bokeh.Span({ location, dimension: "height", line_color: color("ink"), line_dash: [5, 4], line_width: 2 });
  figure.add_layout(span);
  return span;
};

async function place(figure, id) {
  byId(id).replaceChildren();
  await Bokeh.Plotting.show(figure, byId(id));
  leaveTabOrder(byId(id));
}

// A picture with a name has nothing to focus; Bokeh puts its canvas into the tab order.
function leaveTabOrder(node) {
  for (const child of node.children) {
    if (child.tabIndex >= 0) child.tabIndex = -1;
    leaveTabOrder(child);
    if (child.shadowRoot) leaveTabOrder(child.shadowRoot);
  }
}

// Between whole numbers there is nothing to name.
function countWhole(axis) {
  axis.ticker = new Bokeh.BasicTicker({ min_interval: 1 });
  axis.formatter = new Bokeh.NumeralTickFormatter({ format: "0,0" });
}

// Each plot has `update`, for another budget, and `renew`, for other weights.
async function drawHistogram(state) {
  const source = new Bokeh.ColumnDataSource({ data: histogramData(state) });
  const labels = new Bokeh.ColumnDataSource({ data: contradicting(state) });
  const { edges } = state.histogram;
  const figure = newFigure("histogram", { x_range: [edges[0], edges[edges.length - 1]], y_range: new Bokeh.DataRange1d({ start: 0 }) });
  figure.xaxis.axis_label = `PD (negative: ${state.record.voters} agree)`;
  figure.yaxis.axis_label = "pairs";
  countWhole(figure.yaxis);
  const sides = { left: { field: "left" }, right: { field: "right" }, source, line_color: color("card"), line_width: 0.5 };
  figure.quad({ ...sides, bottom: 0, top: { field: "kept" }, fill_color: color("kept") });
  figure.quad({ ...sides, bottom: { field: "kept" }, top: { field: "all" }, fill_color: color("dropped") });
  if (state.columns.overall) figure.step({ x: { field: "x" }, y: { field: "y" }, source: labels, mode: "after", line_color: color("ink"), line_width: 2 });
  figure.add_tools(new Bokeh.HoverTool({
    tooltips: [["PD", "@left{0.00} to @right{0.00}"], ["kept", "@kept{0,0}"], ["dropped", "@dropped{0,0}"]],
  }));
  await place(figure, "histogram");
  const update = () => { source.data = histogramData(state); };
  const renew = () => {
    const now = state.histogram.edges;
    figure.x_range.setv({ start: now[0], end: now[now.length - 1] });
    labels.data = contradicting(state);
    update();
  };
  return { update, renew };
}

function histogramData(state) {
  const { bins, edges, all } = state.histogram;
  const kept = countGroups(bins, edges.length - 1, Math.min(state.pairs, bins.length));
  return { left: edges.slice(0, -1), right: edges.slice(1), kept, all, dropped: all.map((count, i) => count - kept[i]) };
}

// Pairs whose label contradicts the overall label, in each bin.
function contradicting(state) {
  const { bins, edges } = state.histogram;
  const { overall } = state.columns;
  const against = new Array(edges.length - 1).fill(0);
  if (overall) for (let rank = 0; rank < bins.length; rank++) if (overall[rowAt(state, rank)] < 0) against[bins[rank]] += 1;
  return { x: edges, y: [...against, against[against.length - 1]] };
}

async function drawCurves(state) {
  const figure = newFigure("curves", { x_range: [0, 1], y_range: [0, 1] });
  figure.xaxis.axis_label = "budget λ";
  figure.yaxis.axis_label = "share of kept";
  for (const axis of [figure.xaxis, figure.yaxis]) axis.formatter = new Bokeh.NumeralTickFormatter({ format: "0 %" });
  const names = Object.keys(CURVES).filter((name) => name in state.curve[0]);
  const values = () => Object.fromEntries(["share", ...names].map((name) => [name, state.curve.map((point) => point[name] ?? NaN)]));
  const source = new Bokeh.ColumnDataSource({ data: values() });
  for (const name of names) {
    const { style, color: own } = CURVES[name];
    const dash = { solid: [], dashed: [9, 5], dotted: [2, 4] }[style];
    figure.line({ x: { field: "share" }, y: { field: name }, source, line_color: color(own), line_width: 2.5, line_dash: dash });
  }
  const span = marker(figure, state.pairs / state.total);
  await place(figure, "curves");
  const update = () => { span.location = state.pairs / state.total; };
  return { update, renew: () => { source.data = values(); update(); } };
}

async function drawLengths(state) {
  const { edges, all } = state.lengths;
  const shares = (counts, total) => counts.map((count) => count / Math.max(total, 1));
  const kept = () => shares(countsUpTo(state.running, "lengths", state.pairs), state.pairs);
  const steps = (values) => [...values, values[values.length - 1]];
  const source = new Bokeh.ColumnDataSource({ data: { x: edges, all: steps(shares(all, state.total)), kept: steps(kept()) } });
  const figure = newFigure("lengths", { x_range: [edges[0], edges[edges.length - 1]], y_range: new Bokeh.DataRange1d({ start: 0 }) });
  figure.xaxis.axis_label = `${state.record.delta_unit}, the ends hold all beyond`;
  figure.yaxis.axis_label = "share of pairs";
  figure.yaxis.formatter = new Bokeh.NumeralTickFormatter({ format: "0.0 %" });
  countWhole(figure.xaxis);
  figure.step({ x: { field: "x" }, y: { field: "all" }, source, mode: "after", line_color: color("soft"), line_width: 2 });
  figure.step({ x: { field: "x" }, y: { field: "kept" }, source, mode: "after", line_color: color("kept"), line_width: 2.5 });
  marker(figure, 0);
  await place(figure, "lengths");
  const update = () => { source.data = { ...source.data, kept: steps(kept()) }; };
  return { update, renew: update };
}

async function drawPlots(state) {
  const drawn = [];
  if (state.histogram) drawn.push(await drawHistogram(state));
  if (byId("curves")) drawn.push(await drawCurves(state));
  if (state.lengths) drawn.push(await drawLengths(state));
  return drawn;
}

// Bins of the length difference, which are the same in any order of the pairs.
function prepareLengths(state) {
  const { delta } = state.columns;
  if (!delta) return;
  const sorted = delta.slice().sort();
  const last = delta.length - 1;
  const reach = Math.max(1, Math.abs(sorted[Math.floor(0.01 * last)]), Math.abs(sorted[Math.ceil(0.99 * last)]));
  // Bins of whole numbers, an odd number of them, so that equal lengths are in the middle and no bin holds more values than another.
  const width = 2 * Math.floor(reach / 61) + 1;
  const half = Math.ceil(reach / width) + 0.5;
  const { bins, edges } = binning(delta, -half * width, half * width, 2 * half);
  state.lengths = { edges, all: countGroups(bins, edges.length - 1, delta.length) };
  state.summed = { ...state.summed, lengths: bins };
}

function preparePlots(state) {
  const { columns, total } = state;
  if (columns.pd) {
    let [low, high] = [Infinity, -Infinity];
    // Pairs without votes, which have no PD, are the last ones.
    const known = columns.pd.subarray(0, state.known);
    for (let i = 0; i < known.length; i++) { low = Math.min(low, known[i]); high = Math.max(high, known[i]); }
    if (low === high) { low -= 0.5; high += 0.5; }
    state.histogram = binning(known, low, high, 80);
    state.histogram.all = countGroups(state.histogram.bins, 80, known.length);
  }
  state.curve = curveOf(state, Math.min(100, total));
}

function showCurveTable(state) {
  const names = Object.keys(CURVES).filter((name) => name in state.curve[0]);
  if (!names.length) return;
  const legend = byId("curves-legend");
  legend.replaceChildren();
  byId("curves-table").replaceChildren();
  for (const name of names) {
    const [item, line] = [document.createElement("li"), document.createElement("i")];
    line.className = `line ${CURVES[name].style} ${CURVES[name].color}`;
    item.append(line, CURVES[name].label(state.record.voters));
    legend.append(item);
  }
  const table = byId("curves-table");
  const head = table.createTHead().insertRow();
  for (const text of ["budget", "pairs", ...names.map((name) => CURVES[name].label(state.record.voters))]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.className = "n";
    cell.textContent = text;
    head.append(cell);
  }
  const body = table.createTBody();
  const step = Math.max(1, Math.round(state.curve.length / 10));
  for (let i = step - 1; i < state.curve.length; i += step) {
    const point = state.curve[i];
    const row = body.insertRow();
    for (const text of [percent(point.share), thousands(point.pairs), ...names.map((name) => percent(point[name]))]) {
      const cell = row.insertCell();
      cell.className = "n";
      cell.textContent = text;
    }
  }
}
