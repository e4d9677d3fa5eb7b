// The decision by other weights, as PDFilter makes it: the same sums in the same order, scores in 32 bits, ties by pair_id.
// A row is a pair's place in the filter's ranking, a place its place among the sorted ids.
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

// What an aspect says of a pair, in bits: it is asked (the label is not its own), it votes, it is decided, it agrees.
const [ASKED, VOTES, DECIDED, AGREES] = [1, 2, 4, 8];

// What all weights have in common, by place, made before the first change: each aspect's clipped vote, and the buffers of the sort.
function prepareRanking(deciding) {
  const { own, gaps, scales, inIdOrder } = deciding;
  const n = own.length;
  const parts = gaps.map(() => new Float64Array(n));
  const bits = gaps.map(() => new Uint8Array(n));
  gaps.forEach((gap, k) => {
    const [part, bit, scale] = [parts[k], bits[k], scales[k] > 0 ? scales[k] : 1];
    for (let place = 0; place < n; place++) {
      const row = inIdOrder[place];
      if (own[row] === k) continue;
      const value = gap[row];
      bit[place] = ASKED;
      if (value !== value) continue;
      part[place] = Math.max(-1, Math.min(1, value / scale));
      bit[place] = ASKED | VOTES | (value !== 0 ? DECIDED : 0) | (value > 0 ? AGREES : 0);
    }
  });
  const buffers = Array.from({ length: 5 }, () => new Uint32Array(n));
  return { parts, bits, keys: buffers[0], ping: buffers.slice(1, 3), pong: buffers.slice(3), pd: new Float32Array(n), sorted: new Float32Array(n) };
}

// Pairs at a time, whose sums stay in the processor's nearest memory.
const BLOCK = 2048;

// Eq. 15 for every pair, by place; NaN where no other aspect votes.
function divergenceOf({ holes, prepared: { parts, bits, pd } }, weights) {
  const voting = weights.flatMap((weight, k) => (weight > 0 ? [k] : []));
  const partly = voting.some((k) => holes[k]);
  const total = new Float64Array(BLOCK);
  const [whole, present] = partly ? [new Float64Array(BLOCK), new Float64Array(BLOCK)] : [];
  for (let start = 0; start < pd.length; start += BLOCK) {
    const size = Math.min(BLOCK, pd.length - start);
    total.fill(0);
    if (partly) [whole, present].forEach((sums) => sums.fill(0));
    for (const k of voting) {
      addPart(total, parts[k], weights[k], start, size);
      if (partly) addVoters(whole, present, bits[k], weights[k], start, size);
    }
    if (partly) for (let i = 0; i < size; i++) if (present[i] !== whole[i]) total[i] *= whole[i] / present[i];
    if (voting.length === 1) for (let i = 0; i < size; i++) if (!(bits[voting[0]][start + i] & ASKED)) total[i] = NaN;
    for (let i = 0; i < size; i++) pd[start + i] = total[i] + 0;
  }
  return pd;
}

function addPart(total, part, weight, start, size) {
  for (let i = 0; i < size; i++) total[i] -= weight * part[start + i];
}

function addVoters(whole, present, bits, weight, start, size) {
  for (let i = 0; i < size; i++) {
    const bit = bits[start + i];
    if (bit & ASKED) whole[i] += weight;
    if (bit & VOTES) present[i] += weight;
  }
}

// Whole numbers in the order of the scores: `sign` times PD, NaN last.
function keysOf(pd, keys, sign) {
  const bits = new Uint32Array(pd.buffer, pd.byteOffset, pd.length);
  const zero = new Uint32Array(new Float32Array([-0]).buffer)[0];
  let scored = 0;
  for (let i = 0; i < pd.length; i++) {
    const known = pd[i] === pd[i];
    if (known) scored += 1;
    const bit = sign < 0 && bits[i] !== 0 ? bits[i] ^ zero : bits[i];
    keys[i] = known ? bit ^ (bit >>> 31 ? 0xffffffff : zero) : 0xffffffff;
  }
  return scored;
}

// PD by rank, from sorted keys.
function divergenceOfKeys(keys, sorted, sign) {
  const bits = new Uint32Array(sorted.buffer, sorted.byteOffset, sorted.length);
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i];
    const bit = key >>> 31 ? key ^ 0x80000000 : ~key;
    bits[i] = key === 0xffffffff ? 0x7fc00000 : sign < 0 && bit !== 0 ? bit ^ 0x80000000 : bit;
  }
  return sorted;
}

// Places from the lowest key to the highest, equal ones by place: a radix sort by 11 bits.
function sortedPlaces({ keys, ping, pong }) {
  const n = keys.length;
  const counts = [0, 11, 22].map(() => new Uint32Array(2049));
  for (let i = 0; i < n; i++) {
    const key = keys[i];
    counts[0][(key & 2047) + 1] += 1;
    counts[1][((key >>> 11) & 2047) + 1] += 1;
    counts[2][(key >>> 22) + 1] += 1;
  }
  for (const starts of counts) for (let b = 1; b < 2049; b++) starts[b] += starts[b - 1];
  const [firstKeys, firstPlaces] = ping;
  for (let i = 0; i < n; i++) {
    const at = counts[0][keys[i] & 2047]++;
    firstKeys[at] = keys[i];
    firstPlaces[at] = i;
  }
  sortPass(ping, pong, counts[1], 11);
  sortPass(pong, ping, counts[2], 22);
  return ping;
}

function sortPass([keys, places], [sortedKeys, sorted], starts, shift) {
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i];
    const at = starts[(key >>> shift) & 2047]++;
    sortedKeys[at] = key;
    sorted[at] = places[i];
  }
}

// Ranked places in proportion to the strata: each by (rank in its stratum + 1/2) / its size, then by the stratum's name.
function mergedStrata(places, strata, size, scored) {
  const parts = Array.from({ length: size }, () => []);
  for (let i = 0; i < scored; i++) parts[strata[places[i]]].push(places[i]);
  const next = new Array(size).fill(0);
  const merged = places.slice();
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

// Votes on each pair, by place, and the groups of the table by votes.
function countVotes({ prepared: { bits } }, weights) {
  const n = bits[0].length;
  const [agree, decided, voters, votes] = Array.from({ length: 4 }, () => new Uint16Array(n));
  weights.forEach((weight, k) => {
    if (!(weight > 0)) return;
    const bit = bits[k];
    for (let i = 0; i < n; i++) {
      voters[i] += bit[i] & VOTES ? 1 : 0;
      decided[i] += bit[i] & DECIDED ? 1 : 0;
      agree[i] += bit[i] & AGREES ? 1 : 0;
    }
  });
  const most = bits.length + 1;
  const groups = new Int32Array(most * most);
  const names = [];
  for (let i = 0; i < n; i++) {
    const code = voters[i] * most + agree[i];
    if (groups[code] === 0) groups[code] = names.push(voters[i] ? `${agree[i]} of ${voters[i]} agree` : "no votes");
    votes[i] = groups[code] - 1;
  }
  return { columns: { agree, decided, voters, votes }, names };
}

const sameWeights = (a, b) => a.every((weight, k) => weight === b[k]);

// Ranks all pairs by the weights of `deciding`: `order` holds the places by rank, null for the filter's own ranking.
function decide(state) {
  const { deciding } = state;
  state.ranks = null;
  if (sameWeights(deciding.weights, deciding.given)) {
    Object.assign(state, { columns: deciding.columns, order: null, scored: state.givenScored, votes: state.record.groups.votes, counted: null });
    return;
  }
  const prepared = (deciding.prepared ??= prepareRanking(deciding));
  const pd = divergenceOf(deciding, deciding.weights);
  const scored = keysOf(pd, prepared.keys, deciding.sign);
  let [sortedKeys, order] = sortedPlaces(prepared);
  if (deciding.strata) {
    deciding.strataByPlace ??= gathered(deciding.columns.stratum, deciding.inIdOrder);
    order = mergedStrata(order, deciding.strataByPlace, deciding.strata.length, scored);
    for (let rank = 0; rank < order.length; rank++) prepared.sorted[rank] = pd[order[rank]];
  } else divergenceOfKeys(sortedKeys, prepared.sorted, deciding.sign);
  const zeros = (weights) => weights.map((weight) => weight > 0).join();
  const changed = zeros(deciding.weights) !== zeros(deciding.given);
  if (changed && deciding.zeros !== zeros(deciding.weights)) {
    deciding.counted = countVotes(deciding, deciding.weights);
    deciding.zeros = zeros(deciding.weights);
  }
  const counted = changed ? deciding.counted : null;
  Object.assign(state, {
    columns: { ...deciding.columns, pd: prepared.sorted }, order, scored, counted, votes: counted ? counted.names : state.record.groups.votes,
  });
}

function gathered(values, rows) {
  const result = new values.constructor(rows.length);
  for (let i = 0; i < rows.length; i++) result[i] = values[rows[i]];
  return result;
}

// Rank of a pair, by its row in the page.
function rankOf(state, row) {
  const { order, deciding } = state;
  if (!order) return row;
  const place = deciding.columns.id_place[row];
  if (deciding.strata) {
    if (!state.ranks) {
      state.ranks = new Uint32Array(order.length);
      for (let rank = 0; rank < order.length; rank++) state.ranks[order[rank]] = rank;
    }
    return state.ranks[place];
  }
  const { keys, ping: [sorted] } = deciding.prepared;
  const key = keys[place];
  let [low, high] = [0, order.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < key || (sorted[middle] === key && order[middle] < place)) low = middle + 1;
    else high = middle;
  }
  return low;
}

const rowAt = (state, rank) => (state.order ? state.deciding.inIdOrder[state.order[rank]] : rank);
