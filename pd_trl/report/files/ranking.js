// The decision by other weights, as PDFilter makes it: the same sums in the same order, scores in 32 bits, ties by pair_id.
function decidingOf(record, columns) {
  const { decision, total } = record;
  const gaps = decision ? decision.names.map((_, k) => columns[`gap_${k}`]) : [];
  const deciding = { ...decision, columns, own: columns.own, gaps, given: decision?.weights ?? [], weights: [...(decision?.weights ?? [])] };
  deciding.holes = gaps.map((gap, k) => gap.some((value, i) => Number.isNaN(value) && columns.own[i] !== k));
  if (columns.id_place) {
    deciding.inIdOrder = new Uint32Array(total);
    for (let i = 0; i < total; i++) deciding.inIdOrder[columns.id_place[i]] = i;
  }
  return deciding;
}

// Eq. 15 for every pair; NaN where no other aspect votes.
function divergenceOf({ own, gaps, scales, holes }, weights) {
  const n = own.length;
  const total = new Float64Array(n);
  const voting = weights.flatMap((weight, k) => (weight > 0 ? [k] : []));
  const partly = voting.some((k) => holes[k]);
  const [whole, present] = partly ? [new Float64Array(n), new Float64Array(n)] : [];
  for (const k of voting) {
    const [gap, weight, scale] = [gaps[k], weights[k], scales[k] > 0 ? scales[k] : 1];
    for (let i = 0; i < n; i++) {
      if (own[i] === k) continue;
      const ratio = gap[i] / scale;
      const known = ratio === ratio;
      if (known) total[i] -= weight * (ratio > 1 ? 1 : ratio < -1 ? -1 : ratio);
      if (partly) {
        whole[i] += weight;
        if (known) present[i] += weight;
      }
    }
  }
  if (partly) for (let i = 0; i < n; i++) if (present[i] !== whole[i]) total[i] *= whole[i] / present[i];
  if (voting.length === 1) for (let i = 0; i < n; i++) if (own[i] === voting[0]) total[i] = NaN;
  const values = new Float32Array(n);
  for (let i = 0; i < n; i++) values[i] = total[i] + 0;
  return values;
}

// Rows from the lowest score to the highest, NaN last, equal scores in the order of `start`: a radix sort by 11 bits.
function rowsByScore(scores, start, sign) {
  const n = scores.length;
  const signed = sign < 0 ? scores.map((value) => 0 - value) : scores;
  const bits = new Uint32Array(signed.buffer, signed.byteOffset, n);
  let [keys, rows, freshKeys, freshRows] = [new Uint32Array(n), start, new Uint32Array(n), new Uint32Array(n)];
  for (let i = 0; i < n; i++) {
    const row = start[i];
    const bit = bits[row];
    keys[i] = signed[row] === signed[row] ? (bit ^ (bit >>> 31 ? 0xffffffff : 0x80000000)) : 0xffffffff;
  }
  for (const shift of [0, 11, 22]) {
    const places = new Uint32Array(2049);
    for (let i = 0; i < n; i++) places[((keys[i] >>> shift) & 2047) + 1] += 1;
    for (let b = 1; b < 2049; b++) places[b] += places[b - 1];
    for (let i = 0; i < n; i++) {
      const place = places[(keys[i] >>> shift) & 2047]++;
      freshKeys[place] = keys[i];
      freshRows[place] = rows[i];
    }
    [keys, freshKeys, freshRows, rows] = [freshKeys, keys, shift ? rows : new Uint32Array(n), freshRows];
  }
  return rows;
}

// Ranked rows in proportion to the strata: each by (rank in its stratum + 1/2) / its size, then by the stratum's name.
function mergedStrata(rows, strata, size, scored) {
  const parts = Array.from({ length: size }, () => []);
  for (let i = 0; i < scored; i++) parts[strata[rows[i]]].push(rows[i]);
  const next = new Array(size).fill(0);
  const merged = rows.slice();
  for (let i = 0; i < scored; i++) {
    let [best, least] = [-1, Infinity];
    for (let s = 0; s < size; s++) {
      const position = next[s] < parts[s].length ? (next[s] + 0.5) / parts[s].length : Infinity;
      if (position < least) [best, least] = [s, position];
    }
    merged[i] = parts[best][next[best]++];
  }
  return merged;
}

// Votes on each pair, and the groups of the table by votes.
function countVotes({ own, gaps }, weights) {
  const n = own.length;
  const [agree, decided, voters] = [new Uint16Array(n), new Uint16Array(n), new Uint16Array(n)];
  weights.forEach((weight, k) => {
    if (!(weight > 0)) return;
    const gap = gaps[k];
    for (let i = 0; i < n; i++) {
      if (own[i] === k || gap[i] !== gap[i]) continue;
      voters[i] += 1;
      if (gap[i] !== 0) decided[i] += 1;
      if (gap[i] > 0) agree[i] += 1;
    }
  });
  const index = new Map();
  const votes = new Uint16Array(n);
  for (let i = 0; i < n; i++) {
    const code = voters[i] * 65536 + agree[i];
    let group = index.get(code);
    if (group === undefined) index.set(code, (group = index.size));
    votes[i] = group;
  }
  const names = [...index.keys()].map((code) => (code >= 65536 ? `${code % 65536} of ${Math.floor(code / 65536)} agree` : "no votes"));
  return { columns: { agree, decided, voters, votes }, names };
}

// By the width of the numbers alone: a loop over few types of arrays is compiled for each.
const RAW = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };

function gathered(values, rows) {
  const Raw = RAW[values.BYTES_PER_ELEMENT];
  const given = new Raw(values.buffer, values.byteOffset, values.length);
  const result = new Raw(rows.length);
  for (let i = 0; i < rows.length; i++) result[i] = given[rows[i]];
  return new values.constructor(result.buffer);
}

const sameWeights = (a, b) => a.every((weight, k) => weight === b[k]);

// Ranks all pairs by the weights of `deciding`, and puts the columns into that order.
function decide(state) {
  const { deciding } = state;
  if (sameWeights(deciding.weights, deciding.given)) {
    Object.assign(state, { columns: deciding.columns, rows: null, ranks: null, scored: state.givenScored, votes: state.record.groups.votes });
    return;
  }
  const pd = divergenceOf(deciding, deciding.weights);
  let scored = 0;
  for (let i = 0; i < pd.length; i++) if (pd[i] === pd[i]) scored += 1;
  let rows = rowsByScore(pd, deciding.inIdOrder, deciding.sign);
  if (deciding.strata) rows = mergedStrata(rows, deciding.columns.stratum, deciding.strata.length, scored);
  const zeros = (weights) => weights.map((weight) => weight > 0);
  const changed = !sameWeights(zeros(deciding.weights), zeros(deciding.given));
  const votes = changed ? countVotes(deciding, deciding.weights) : { columns: {}, names: state.record.groups.votes };
  const shown = Object.entries({ ...deciding.columns, pd, ...votes.columns })
    .filter(([name]) => !/^(gap_\d+|own|stratum|id_place)$/.test(name));
  const columns = Object.fromEntries(shown.map(([name, values]) => [name, gathered(values, rows)]));
  Object.assign(state, { columns, rows, ranks: null, scored, votes: votes.names });
}

// Place of a pair in the ranking, by its row in the page.
function rankOf(state, row) {
  if (!state.rows) return row;
  if (!state.ranks) {
    state.ranks = new Uint32Array(state.rows.length);
    for (let i = 0; i < state.rows.length; i++) state.ranks[state.rows[i]] = i;
  }
  return state.ranks[row];
}

const rowAt = (state, rank) => (state.rows ? state.rows[rank] : rank);
