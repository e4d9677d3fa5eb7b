// The selection of the page as `filter.json`, which PDFilter loads, and as SQL for DuckDB.
const keptPairs = (state) => Math.min(state.pairs, state.scored);

// The last pair kept, of all or of each stratum: name, score and pair_id.
function thresholdsOf(state) {
  const { deciding, record, columns } = state;
  const kept = keptPairs(state);
  if (!state.order && kept === record.kept) return deciding.thresholds;
  const last = new Map();
  if (!deciding.strata) last.set("all", kept - 1);
  else for (let rank = 0; rank < kept; rank++) last.set(deciding.strata[deciding.columns.stratum[rowAt(state, rank)]], rank);
  const score = (rank) => (deciding.sign < 0 ? 0 - columns.pd[rank] : columns.pd[rank]);
  const found = [...last].map(([name, rank]) => [name, score(rank), pairId(state, rowAt(state, rank))]);
  return deciding.strata ? deciding.strata.flatMap((name) => found.filter((entry) => entry[0] === name)) : found;
}

// The share of the slider where it is one of all pairs, the filter's own budget where nothing was changed, else a number of pairs.
function budgetOf(state) {
  const { deciding, record } = state;
  if (!state.order && state.pairs === record.kept) {
    const given = deciding.arguments.budget;
    return record.budget_is_share ? pythonNumber(given) : String(given);
  }
  const share = state.share !== null && state.scored === state.total ? pythonNumber(state.share / 1000) : null;
  return share ?? String(keptPairs(state));
}

function filterJson(state) {
  const { deciding } = state;
  const byName = (values) => Object.fromEntries(deciding.names.map((name, k) => [name, values[k]]));
  const content = {
    pd_trl: deciding.version,
    arguments: { ...deciding.arguments, budget: "@budget", weights: byName(deciding.weights) },
    statistics: {
      aspects: deciding.names,
      quantiles: byName(deciding.scales),
      weights: byName(deciding.weights),
      thresholds: Object.fromEntries(thresholdsOf(state).map(([name, score, pair_id]) => [name, { score, pair_id }])),
    },
    report: null,
  };
  return `${JSON.stringify(content, null, 2).replace('"@budget"', () => budgetOf(state))}\n`;
}

// A number as Python writes a float: shortest digits, and an exponent below 1e-4 and from 1e16 on.
function pythonNumber(value) {
  const [, sign, first, rest = "", exponent] = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(value.toExponential());
  const power = Number(exponent);
  const digits = first + rest;
  if (power < -4 || power >= 16) {
    const size = String(Math.abs(power)).padStart(2, "0");
    return `${sign}${first}${rest && `.${rest}`}e${power < 0 ? "-" : "+"}${size}`;
  }
  if (power < 0) return `${sign}0.${"0".repeat(-power - 1)}${digits}`;
  const whole = digits.slice(0, power + 1).padEnd(power + 1, "0");
  return `${sign}${whole}.${digits.slice(power + 1) || "0"}`;
}

const literal = (value) => (/e/.test(pythonNumber(value)) ? pythonNumber(value) : `${pythonNumber(value)}e0`);
const quotedName = (name) => `"${name.replaceAll('"', '""')}"`;
const quotedText = (text) => `'${text.replaceAll("'", "''")}'`;
const numeric = (column) => `CAST(${quotedName(column)} AS DOUBLE)`;

function gapSql({ arguments: { source }, names, voted }, k) {
  const rating = (side) => numeric(`rating_${names[k]}_${side}`);
  const value = source === "rewards" ? numeric(`reward_gap_${names[k]}`)
    : voted[k] ? numeric(`vote_${names[k]}`) : `(${rating("chosen")} - ${rating("rejected")})`;
  return `CAST(CAST(${value} AS REAL) AS DOUBLE)`;
}

function divergenceSql(deciding) {
  const { names, scales, weights } = deciding;
  const ratings = deciding.arguments.source === "ratings";
  let [total, whole, present] = ["0e0", "0e0", "0e0"];
  const voting = names.map((_, k) => k).filter((k) => weights[k] > 0);
  for (const k of voting) {
    const gap = gapSql(deciding, k);
    const own = `"aspect" = ${quotedText(names[k])}`;
    const silent = `${gap} IS NULL OR isnan(${gap})`;
    const ratio = `${gap} / ${literal(scales[k] > 0 ? scales[k] : 1)}`;
    const clipped = `CASE WHEN ${ratio} > 1 THEN 1e0 WHEN ${ratio} < -1 THEN -1e0 ELSE ${ratio} END`;
    const weight = literal(weights[k]);
    total += `\n  - CASE WHEN ${own} THEN 0e0 WHEN ${silent} THEN ${ratings ? "0e0" : "NULL"} ELSE ${weight} * (${clipped}) END`;
    whole += ` + CASE WHEN ${own} THEN 0e0 ELSE ${weight} END`;
    present += ` + CASE WHEN ${own} OR ${silent} THEN 0e0 ELSE ${weight} END`;
  }
  if (!ratings && voting.length > 1) return `(${total})`;
  return `(CASE WHEN ${present} = 0 THEN NULL WHEN ${present} = ${whole} THEN ${total} ELSE (${total}) * ((${whole}) / (${present})) END)`;
}

// The next number in the direction of `sign`, of 32 or 64 bits.
function nextNumber(value, sign, Floats, Integers) {
  const floats = new Floats([value]);
  const bits = new Integers(floats.buffer);
  const one = Integers === BigUint64Array ? 1n : 1;
  if (value === 0) { bits[0] = one; return sign * floats[0]; }
  bits[0] += (value > 0) === (sign > 0) ? one : -one;
  return floats[0];
}

// The lowest and the highest double that rounds to a score of 32 bits.
function boundsOf(score) {
  const low = (nextNumber(score, -1, Float32Array, Uint32Array) + score) / 2;
  const high = (nextNumber(score, 1, Float32Array, Uint32Array) + score) / 2;
  if (new Uint32Array(new Float32Array([score]).buffer)[0] % 2 === 0) return [low, high];
  return [nextNumber(low, 1, Float64Array, BigUint64Array), nextNumber(high, -1, Float64Array, BigUint64Array)];
}

function keptSql(state) {
  const { deciding } = state;
  const thresholds = thresholdsOf(state);
  const divided = divergenceSql(deciding);
  const score = deciding.sign > 0 ? divided : `(-${divided})`;
  const byStratum = (form) => {
    if (!deciding.strata) return form(thresholds[0]);
    const cases = thresholds.map((entry) => `WHEN ${quotedText(entry[0])} THEN ${form(entry)}`);
    return `CASE COALESCE(CAST("aspect" AS VARCHAR), 'None') ${cases.join(" ")} END`;
  };
  const first = byStratum(([, value]) => literal(boundsOf(value)[0]));
  const last = byStratum(([, value]) => literal(boundsOf(value)[1]));
  const ids = byStratum(([, , id]) => quotedText(id));
  return `(${score} < ${first} OR (${score} <= ${last} AND CAST("pair_id" AS VARCHAR) <= ${ids}))`;
}

// A frame may forbid downloads, without an error: the text stands on the page, too.
function download(name, type, text) {
  const saved = byId("saved");
  saved.querySelector("summary").textContent = `${name} as text, if it was not saved`;
  saved.querySelector("pre").textContent = text;
  saved.hidden = false;
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
