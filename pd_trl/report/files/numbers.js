// The numbers of all pairs, in rank order: a budget of n pairs keeps the first n.
const byId = (id) => document.getElementById(id);
const thousands = (n) => Math.round(n).toLocaleString("en-US");
// To one decimal as Python rounds: only …25 and …75 are ties in binary, and they go to the even digit.
const oneDecimal = (value) => ((4 * value) % 4 === 1 ? value - 0.05 : value).toFixed(1);
const percent = (share) => (share === null ? "-" : `${oneDecimal(100 * share)} %`);
const ratio = (part, whole) => (whole > 0 ? part / whole : null);
const decimal = (value, digits) => value.toFixed(digits).replace("-", "−");

async function unpack(name) {
  const text = atob(byId(`block-${name}`).textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
}

const ARRAYS = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array,
};

function readColumns(layout, buffer) {
  return Object.fromEntries(layout.map((c) => [c.name, new ARRAYS[c.type](buffer, c.offset, c.length)]));
}

// What the overall labels say, as columns that can be summed.
function summedColumns(columns) {
  const { overall } = columns;
  if (!overall) return columns;
  return { ...columns, overall_agree: Uint8Array.from(overall, (vote) => vote > 0), overall_decided: Uint8Array.from(overall, (vote) => vote !== 0) };
}

const less = (a, b) => Object.fromEntries(Object.keys(a).map((name) => [name, a[name] - b[name]]));

// Shares and means by the names that the rows of the page have.
function measures(sums, columns) {
  const result = {};
  if (columns.decided) result.agreement = ratio(sums.agree, sums.decided);
  if (columns.overall) result.overall = ratio(sums.overall_agree, sums.overall_decided);
  if (columns.others_decided) result.others = ratio(sums.others_agree, sums.others_decided);
  if (columns.longer) result.longer = ratio(sums.longer, sums.pairs);
  if (columns.chosen) result.chosen = ratio(sums.chosen, sums.pairs);
  if (columns.rejected) result.rejected = ratio(sums.rejected, sums.pairs);
  return result;
}

function countGroups(indices, size, to) {
  const counts = new Array(size).fill(0);
  for (let i = 0; i < to; i++) counts[indices[i]] += 1;
  return counts;
}

// The smallest number of pairs that is at least `thousandths` of all, in whole numbers as the filter counts.
const pairsOf = (thousandths, total) => Math.max(1, Math.floor((thousandths * total + 999) / 1000));

// Measures at each of `steps` equal steps of the budget.
function curveOf(state, steps) {
  return Array.from({ length: steps }, (_, i) => {
    const pairs = Math.ceil(((i + 1) * state.total) / steps);
    return { share: pairs / state.total, pairs, ...measures(sumsUpTo(state.running, pairs), state.columns) };
  });
}

function binning(values, low, high, count) {
  const width = (high - low) / count;
  const bins = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    bins[i] = Math.min(count - 1, Math.max(0, Math.floor((values[i] - low) / width)));
  }
  const edges = Array.from({ length: count + 1 }, (_, i) => low + i * width);
  return { bins, edges };
}
