// Sums and counts over the first pairs of a ranking: running totals at every thousandth, and the pairs beyond the last of them.
const SUMS = ["agree", "decided", "longer", "others_agree", "others_decided", "chosen", "rejected", "overall_agree", "overall_decided"];
const STEPS = 1000;

// What is summed and what is counted of each pair, in the order of `columns`: number i of a field is at i * stride + offset.
function plainTable(columns, groups) {
  const fields = [];
  for (const name of [...SUMS, ...Object.keys(groups)]) {
    if (columns[name]) fields.push({ name, size: groups[name] ?? 0, values: columns[name], stride: 1, offset: 0 });
  }
  return fields;
}

// By the width of the numbers alone: a loop over few types of arrays is compiled for each.
const RAW = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };

// The same in one block, a pair's numbers side by side and in another order of the pairs: one place of memory for each pair.
function packedTable(fields, rows) {
  const widest = [...fields].sort((a, b) => b.values.BYTES_PER_ELEMENT - a.values.BYTES_PER_ELEMENT);
  const width = 4 * Math.ceil(fields.reduce((sum, field) => sum + field.values.BYTES_PER_ELEMENT, 0) / 4);
  const block = new ArrayBuffer(width * rows.length);
  let at = 0;
  return widest.map((field) => {
    const bytes = field.values.BYTES_PER_ELEMENT;
    const packed = { ...field, values: new RAW[bytes](block), stride: width / bytes, offset: at / bytes };
    at += bytes;
    fillField(packed, field.values, rows);
    return packed;
  });
}

function fillField({ values, stride, offset }, given, rows) {
  for (let i = 0; i < rows.length; i++) values[i * stride + offset] = given[rows[i]];
}

// The running totals of a table whose pairs are ranked by `order`, or as they are.
function runningTotals(fields, order, total) {
  const step = Math.max(1, Math.ceil(total / STEPS));
  const marks = Math.floor(total / step);
  const running = { fields, order, step, totals: fields.map(({ size }) => (size ? new Uint32Array((marks + 1) * size) : new Float64Array(marks + 1))) };
  for (let mark = 0; mark < marks; mark++) {
    fields.forEach((field, f) => {
      const totals = running.totals[f];
      if (field.size) {
        totals.copyWithin((mark + 1) * field.size, mark * field.size, (mark + 1) * field.size);
        countInto(totals, (mark + 1) * field.size, field, order, mark * step, (mark + 1) * step);
      } else totals[mark + 1] = totals[mark] + sumOf(field, order, mark * step, (mark + 1) * step);
    });
  }
  return running;
}

function sumOf({ values, stride, offset }, order, from, to) {
  let sum = 0;
  if (order) for (let rank = from; rank < to; rank++) sum += values[order[rank] * stride + offset];
  else for (let rank = from; rank < to; rank++) sum += values[rank * stride + offset];
  return sum;
}

function countInto(counts, first, { values, stride, offset }, order, from, to) {
  if (order) for (let rank = from; rank < to; rank++) counts[first + values[order[rank] * stride + offset]] += 1;
  else for (let rank = from; rank < to; rank++) counts[first + values[rank * stride + offset]] += 1;
}

// Sums over the first `pairs` pairs; 0 for what the data do not have.
function sumsUpTo({ fields, order, step, totals }, pairs) {
  const mark = Math.floor(pairs / step);
  const sums = { pairs, ...Object.fromEntries(SUMS.map((name) => [name, 0])) };
  fields.forEach((field, f) => {
    if (!field.size) sums[field.name] = totals[f][mark] + sumOf(field, order, mark * step, pairs);
  });
  return sums;
}

// How many of the first `pairs` pairs are in each group of a field.
function countsUpTo({ fields, order, step, totals }, name, pairs) {
  const f = fields.findIndex((field) => field.name === name);
  const { size } = fields[f];
  const mark = Math.floor(pairs / step);
  const counts = totals[f].slice(mark * size, (mark + 1) * size);
  countInto(counts, 0, fields[f], order, mark * step, pairs);
  return [...counts];
}

// The totals of the page's present ranking.
function totalsOf(state) {
  const { deciding, record, order, counted, total } = state;
  if (!order) return (state.givenTotals ??= runningTotals(plainTable(state.summed, groupSizes(record, state.lengths)), null, total));
  deciding.table ??= packedTable(plainTable(state.summed, groupSizes(record, state.lengths)), deciding.inIdOrder);
  if (!counted) return runningTotals(deciding.table, order, total);
  const fields = deciding.table.map((field) => {
    const values = counted.columns[field.name];
    return values ? { ...field, size: field.size && counted.names.length, values, stride: 1, offset: 0 } : field;
  });
  return runningTotals(fields, order, total);
}

function groupSizes(record, lengths) {
  const sizes = Object.fromEntries(Object.entries(record.groups).map(([key, names]) => [key, names.length]));
  return lengths ? { ...sizes, lengths: lengths.edges.length - 1 } : sizes;
}
