"use strict";
(() => {
// Nothing here builds HTML from text: every string of a model or a data set becomes a text node.
const $ = id => document.getElementById(id);
function add(node, kids) {
  for (const kid of kids.flat(3)) if (kid !== null && kid !== undefined && kid !== false) node.append(kid.nodeType ? kid : String(kid));
  return node;
}
function make(node, options, kids) {
  for (const [key, value] of Object.entries(options || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "tip") tipped(node, value);
    else if (key === "press") pressed(node, value);
    else if (key === "css") Object.assign(node.style, value);
    else node.setAttribute(key, value);
  }
  return add(node, kids);
}
const h = (tag, options, ...kids) => make(document.createElement(tag), options, kids);
const s = (tag, options, ...kids) => make(document.createElementNS("http://www.w3.org/2000/svg", tag), options, kids);
const clear = node => { node.replaceChildren(); return node; };

// What is no button or link and acts on a click: reached by Tab, pressed by Enter or Space
function pressed(node, act) {
  node.setAttribute("role", "button"); node.tabIndex = 0;
  node.addEventListener("click", act);
  node.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(event); } });
}

// Tooltips, by pointer and by focus
function tipped(node, text) {
  const show = event => {
    const tip = $("tip");
    tip.textContent = typeof text === "function" ? text() : text;
    tip.hidden = false;
    const box = node.getBoundingClientRect();
    place(tip, event.clientX || box.left + box.width / 2, event.clientY || box.bottom);
  };
  node.addEventListener("pointermove", show);
  node.addEventListener("focus", show);
  for (const gone of ["pointerleave", "blur"]) node.addEventListener(gone, () => { $("tip").hidden = true; });
}
function place(tip, x, y) {
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (y + 16 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 16) + "px";
}

// Data: base64 of gzip of JSON, each part read when it is first needed
const parts = new Map();
function part(id) {
  if (!parts.has(id)) parts.set(id, (async () => {
    const text = atob($(id).textContent), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    $(id).remove();
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  })());
  return parts.get(id);
}

// State lives in the address, so that every view has a link
const state = new URLSearchParams(location.hash.slice(1));
function keep(changes) {
  for (const [key, value] of Object.entries(changes)) if (value === "" || value === null || value === undefined) state.delete(key); else state.set(key, value);
  history.replaceState(null, "", "#" + state);
}
const get = (key, fallback) => state.has(key) ? state.get(key) : fallback;

const NAMES = { em: "EM", keyword_recall: "keyword recall", rougel: "ROUGE-L", rouge_recall: "ROUGE-L recall", memo: "MEMO", exposure: "exposure", reference_exposure: "reference exposure", extraction_rate: "extraction rate", cloze_prob: "cloze probability", prompted_exposure: "prompted exposure", prompted_extraction_rate: "prompted extraction rate", rouge: "ROUGE-L recall", prob: "probability", truth: "truth ratio", answered: "answered", forget_metric: "Forget metric", retain_metric: "Retain metric", real_metric: "Real metric", ks_quality: "log forget quality (KS)", js_quality: "1 − JSD to gold", minkpp: "MIA (Min-K++)", utility_harmonic: "utility (harmonic)", utility_arithmetic: "utility (arithmetic)", visual_gap: "visual gap", no_picture: "without picture", other_picture: "another's picture", refusal_rate: "refused", coverage: "coverage" };
const nameOf = metric => NAMES[metric] || metric.replace(/^memo_/, "MEMO ");
const num = (value, digits = 2) => value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);
const pc = (value, digits = 1) => value === null || value === undefined || Number.isNaN(value) ? "–" : (100 * value).toFixed(digits); // scores are in per cent
const signed = value => Math.abs(100 * value) < .05 ? "0.0" : (value > 0 ? "" : "−") + pc(Math.abs(value)); // no −0.0
const span = (low, high) => `${pc(low)}–${pc(high)}`;
const FEW = 20; // below so many rows a cell says how many it is the mean of
const GATES = { "memorised": ["✓", "pass"], "not memorised": ["✗", "fail"], "too few rows to say": ["?", "open"], "not asked": ["–", "open"] };
const said = v => v >= core.right; // of a main score: EM is 0 or 1, ROUGE-L lies between
let core, group, G;

function option(key, label, choices, chosen, change) {
  const select = h("select", { "data-key": key, onchange: () => { keep({ [key]: select.value }); change(select.value); } },
    choices.map(([value, text]) => h("option", { value }, text)));
  const wanted = get(key, chosen);
  select.value = choices.some(([value]) => value === String(wanted)) ? wanted : chosen;
  return [h("label", {}, label, select), () => select.value, select];
}
const colour = run => run.role === "gold" ? "var(--gold)" : run.role === "start" ? "var(--start)" : `var(--c${run.tint % 8})`;
const SHAPES = ["M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0", "M-4.5,-4.5h9v9h-9z", "M0,-6L5.5,4.5H-5.5z", "M0,-6.2L6.2,0L0,6.2L-6.2,0z", "M0,6L5.5,-4.5H-5.5z", "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z", "M0,-6L5.7,-1.9L3.5,4.9H-3.5L-5.7,-1.9z", "M-5.5,-2.5L0,-5.5L5.5,-2.5V2.5L0,5.5L-5.5,2.5z"];
const STAR = "M0,-7.5L2,-2.4L7.2,-2.3L3.1,1L4.5,6.2L0,3.2L-4.5,6.2L-3.1,1L-7.2,-2.3L-2,-2.4z";
const shape = run => run.role === "gold" ? STAR : SHAPES[(run.tint + Math.floor(run.tint / 8)) % 8];
const marker = (run, x, y) => s("path", { d: shape(run), transform: `translate(${x},${y})`, fill: run.role === "start" ? "var(--bg)" : colour(run), stroke: run.role === "start" ? colour(run) : "var(--bg)", "stroke-width": run.role === "start" ? 2.2 : 1 });
const label = run => run.role && run.role !== run.short ? `${run.short} (${run.role})` : run.short;

// One frame of a plot: axes, grid, scales
function frame(width, height, x, y, options = {}) {
  const m = { l: 58, r: options.right || 14, t: 12, b: 40 };
  const X = v => m.l + (v - x.min) / (x.max - x.min || 1) * (width - m.l - m.r);
  const Y = v => height - m.b - (v - y.min) / (y.max - y.min || 1) * (height - m.t - m.b);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": options.label || `${y.name} against ${x.name}` });
  svg.style.maxWidth = width + "px";
  const ticks = axis => axis.ticks || [0, .25, .5, .75, 1].map(f => axis.min + f * (axis.max - axis.min));
  for (const v of ticks(y)) svg.append(s("line", { x1: m.l, x2: width - m.r, y1: Y(v), y2: Y(v), class: "grid" }), s("text", { x: m.l - 7, y: Y(v) + 4, "text-anchor": "end", class: "q" }, y.show ? y.show(v) : pc(v, 0)));
  for (const v of ticks(x)) svg.append(s("line", { x1: X(v), x2: X(v), y1: height - m.b, y2: height - m.b + 4, class: "axis" }), s("text", { x: X(v), y: height - m.b + 17, "text-anchor": "middle", class: "q" }, x.show ? x.show(v) : pc(v, 0)));
  svg.append(s("line", { x1: m.l, x2: width - m.r, y1: height - m.b, y2: height - m.b, class: "axis" }), s("text", { x: (m.l + width - m.r) / 2, y: height - 5, "text-anchor": "middle" }, x.name), s("text", { x: 12, y: (height - m.b + m.t) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(height - m.b + m.t) / 2})` }, y.name));
  return { svg, X, Y, width, height, m };
}
const legend = (runs, line, extra) => h("div", { class: "legend" }, runs.map(run => h("span", {}, s("svg", { viewBox: "0 0 30 14", "aria-hidden": "true" }, line ? s("line", { x1: 0, x2: 30, y1: 7, y2: 7, stroke: colour(run), "stroke-width": run.role === "gold" ? 3.5 : 2, "stroke-dasharray": dash(run) }) : null, line && !line.marks ? null : marker(run, 15, 7)), h("bdi", {}, label(run)), extra ? extra(run) : null)));
const dash = run => run.role === "gold" ? "7 4" : run.role === "start" ? "2 3" : run.tint >= 8 ? "9 3 2 3" : null;

const score = (task, metric, run, part = "all") => (((G.scores[task] || {})[metric] || {})[part] || [])[run] || null;
const taskOf = name => G.tasks.find(task => task.task === name);
const forget = () => (G.tasks.find(task => task.split.startsWith("forget")) || G.tasks[0]).task;
const retain = () => (G.tasks.find(task => task.split.startsWith("retain")) || G.tasks.find(task => !task.split.startsWith("forget")) || G.tasks[0]).task;
const exposureOf = task => ["exposure", "prompted_exposure"].find(metric => metric in task.values);
const metricsOf = task => Object.keys(task.values).map(metric => [metric, nameOf(metric)]);
const tasksOf = () => G.tasks.map(task => [task.task, task.label]);
const value = (task, metric, run, row) => { const list = task.values[metric] && task.values[metric][run]; const v = list ? list[row] : -1; return v < 0 ? NaN : v / 10000; };

function nameCell(run) {
  const icon = s("svg", { viewBox: "-8 -8 16 16", width: 14, height: 14, "aria-hidden": "true" }, marker(run, 0, 0));
  Object.assign(icon.style, { width: "14px", display: "inline-block", verticalAlign: "-2px", marginRight: ".45rem" });
  return [icon, h("bdi", { title: run.name }, run.short), run.role && run.role !== run.short ? h("span", { class: "tag" }, run.role === "gold" ? "gold" : "start") : null];
}

// Sections
const SECTIONS = [];
const section = (id, brief, title, lead, draw) => SECTIONS.push({ id, brief, title, lead, draw });

section("summary", "Summary", "Summary", () => [
  "Scores are in per cent. Forget sets: lower is less remembered. Retain: higher is better kept. Small print: 95 % interval over rows, and how many rows where they are fewer than the set has, or fewer than 20. ",
  "“Left” is what remains of the score on the rows that the starting model had memorised: 100 = nothing forgotten. ",
  "“To gold” is the Kolmogorov–Smirnov distance between the exposures of the two models: 0 = like a model that never saw the set, 1 = nothing in common."], box => {
  const columns = [];
  for (const task of G.tasks) {
    const has = metric => metric in task.values, exposure = exposureOf(task), kind = task.split.startsWith("forget");
    const put = (name, part, pick, tip, show = pc) => columns.push({ task, name, part, pick, tip, show });
    const metric = (metric, name, part = "all") => put(name, part, run => score(task.task, metric, run, part), nameOf(metric), core.numbers.includes(metric) ? num : pc);
    const left = (name, of) => put(name, "all", run => { const v = score(task.task, of, run); return v && v[4] !== null ? [v[4], null, null, null, null, v[5]] : null; }, `${nameOf(of)} on the memorised subset`);
    const main = task.main;
    if (kind || !G.scores[task.task][main].forgotten) {
      metric(main, nameOf(main));
      const refused = G.scores[task.task].refusal_rate;
      if (refused && refused.all.some(v => v && v[0] > 0)) { metric("refusal_rate", "refused"); metric("coverage", "coverage"); }
      if (kind) {
        if (G.start !== null) left(`${nameOf(main)} left`, main);
        const memo = Object.keys(task.values).find(name => name.startsWith("memo")); if (memo) metric(memo, nameOf(memo));
      } else if (main === "em") metric("rougel", "ROUGE-L");
      for (const other of task.ofSet) metric(other, nameOf(other));
      for (const other of ["prob", "truth"]) if (has(other)) metric(other, nameOf(other));
      if (exposure) metric(exposure, nameOf(exposure));
      if (kind && exposure) {
        if (G.start !== null) left("exposure left", exposure);
        if (has("reference_exposure")) metric("reference_exposure", "reference exposure");
        const rate = ["extraction_rate", "prompted_extraction_rate"].find(has); if (rate) metric(rate, nameOf(rate));
        if (G.gold !== null) put("to gold (KS)", "all", run => { const d = (G.distances[G.runs[run].name] || {})[task.task]; return d ? [d.ks, null, null, null, null, (score(task.task, exposure, run) || [])[5], `KS p = ${d.ks_p.toPrecision(2)}; Jensen–Shannon distance ${num(d.jsd)}`] : null; }, "distance to gold", num);
      }
    } else {
      metric(main, `${nameOf(main)} of forgotten`, "forgotten"); if (exposure) metric(exposure, `${nameOf(exposure)} of forgotten`, "forgotten");
      metric(main, `${nameOf(main)} of kept`, "kept");
    }
  }
  let [by, down] = get("sort", "").split(":"); by = by === "" ? -1 : +by; down = down === "d";
  const bodies = [], heads = [], grid = h("div", { class: "sets", id: "summarytable" });
  const cellOf = (column, index) => {
    const found = column.pick(index); if (!found) return h("td", { class: "quiet" }, "–");
    const [v, low, high, rows, left, gate, more] = found, bad = gate === "not memorised";
    const few = rows && (more || (rows < FEW || rows < column.task.ids.length ? `${rows} row${rows === 1 ? "" : "s"}` : ""));
    return h("td", { tip: `${column.task.label}, ${column.tip}: ${column.show(v, 2)}` + (rows ? `\n${rows} rows` : "") + (left !== null && left !== undefined ? `\nleft on the memorised subset: ${pc(left)}` : "") + (gate ? `\nstarting point: ${gate}` : "") + (more ? "\n" + more : "") }, column.show(v), bad ? h("span", { class: "fail", "aria-label": "starting point not memorised" }, " †") : null, few ? h("small", {}, few) : null, low !== null && low !== undefined ? h("small", {}, span(low, high)) : null);
  };
  const draw = () => {
    const order = G.runs.map((_, index) => index);
    if (by === -2) order.sort((a, b) => G.runs[a].short.localeCompare(G.runs[b].short) * (down ? -1 : 1));
    if (by >= 0 && columns[by]) order.sort((a, b) => { const u = columns[by].pick(a), v = columns[by].pick(b); return ((u ? u[0] : 9) - (v ? v[0] : 9)) * (down ? -1 : 1); });
    for (const [body, mine] of bodies) {
      clear(body);
      for (const index of order) body.append(h("tr", { class: G.runs[index].role ? "ref" : null }, h("th", { scope: "row" }, nameCell(G.runs[index])), mine.map(column => cellOf(column, index))));
    }
    heads.forEach(([head, index]) => head.setAttribute("aria-sort", by === index ? (down ? "descending" : "ascending") : "none"));
  };
  const sortable = (index, name) => {
    const head = h("th", { scope: "col" }, h("button", { type: "button", onclick: () => { down = by === index ? !down : false; by = index; keep({ sort: `${by}:${down ? "d" : "a"}` }); draw(); } }, name));
    heads.push([head, index]); return head;
  };
  for (const task of G.tasks) {
    const mine = columns.filter(column => column.task === task), cell = G.verdict && G.verdict.cells.find(cell => cell[0] === task.task && cell[1] === "all");
    const gate = cell ? (cell[3] ? cell[2] : "not asked") : "not asked", [sign, kind] = GATES[gate], body = h("tbody");
    const title = h("h3", {}, task.label, " ", h("span", { class: "quiet" }, `${task.ids.length} rows`), cell && !cell[3] ? null : h("span", { class: "tag " + kind, tip: cell ? `Gate: was it there to be forgotten? The starting model: ${gate}` : "Gate: no starting model was given (--start)" }, `gate ${sign} ${gate}`));
    grid.append(h("div", { class: "set" }, title, h("div", { class: "scroll" }, h("table", { class: "scores" }, h("thead", {}, h("tr", {}, sortable(-2, "model"), mine.map(column => sortable(columns.indexOf(column), column.name)))), body))));
    bodies.push([body, mine]);
  }
  box.append(grid); draw();
  if (G.verdict && !G.verdict.passed) box.append(h("div", { class: "notes warn" }, h("p", {}, h("b", {}, G.verdict.outcome === "too few rows to say" ? `Too few rows to say whether the starting model had memorised this: ${G.verdict.advice}.` : "† The starting model had not memorised this: its unlearning scores say nothing.")), G.verdict.reasons.slice(0, 8).map(reason => h("p", { class: "quiet" }, reason)), G.verdict.reasons.length > 8 ? h("p", { class: "quiet" }, `and ${G.verdict.reasons.length - 8} more; see remem gate`) : null));
  if (G.seeds.length) box.append(h("h3", {}, "Several seeds: mean ± standard deviation"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["model", "set", "score", "mean ± sd", "seeds"].map((text, i) => h("th", { class: i < 3 ? "left" : null }, text)))), h("tbody", {}, G.seeds.map(([model, task, metric, mean, sd, n]) => h("tr", {}, h("td", {}, h("bdi", {}, model)), h("td", { class: "left" }, taskOf(task).label), h("td", { class: "left" }, nameOf(metric)), h("td", {}, `${pc(mean)} ± ${pc(sd)}`), h("td", {}, n)))))));
});

section("models", "Models", "What was scored", () => ["How each model was made, as its run record says, and the checkpoint that was scored."], box => {
  const cut = G.runs[0].name.length - G.runs[0].short.length;
  if (cut > 0) box.append(h("p", { class: "quiet" }, "Names leave out the beginning that all share: ", h("bdi", {}, G.runs[0].name.slice(0, cut))));
  box.append(h("div", { class: "scroll" }, h("table", { class: "models" }, h("thead", {}, h("tr", {}, ["model", "method", "steps", "seed", "why it stopped", "checkpoint", "scored"].map((text, i) => h("th", { scope: "col", class: [2, 3].includes(i) ? null : "left" }, text)))),
    h("tbody", {}, G.runs.map(run => h("tr", { class: run.role ? "ref" : null }, h("th", { scope: "row" }, nameCell(run)), h("td", { class: "left" }, run.method || "–"), h("td", {}, run.steps ?? "–"), h("td", {}, run.seed ?? "–"), h("td", { class: "left long" }, run.stopped || "–"), h("td", { class: "left long" }, h("bdi", {}, run.checkpoint || "–")), h("td", { class: "left" }, run.date.replace(/^(\d{4})(\d\d)(\d\d).*$/, "$1-$2-$3") || "–")))))));
});

section("plane", "Trade-off", "Forgetting against keeping", () => ["Up and to the left is better: little left of the forget set, the retain set kept. The line is the Pareto front: no model on it is beaten in both. Whiskers are 95 % intervals."], box => {
  const out = h("div"), tasks = tasksOf(), forgetting = taskOf(forget()), keeping = taskOf(retain());
  const exposure = exposureOf(forgetting);
  const [cx, vx] = option("px", "across: what is forgotten", metricsOf(forgetting), forgetting.main === "em" && exposure || forgetting.main, () => draw());
  const [cy, vy] = option("py", "up: what is kept", metricsOf(keeping), keeping.main, () => draw());
  const [ct, vt] = option("pt", "forget set", tasks, forgetting.task, () => draw());
  const [cr, vr] = option("pr", "set to keep", tasks, keeping.task, () => draw());
  function draw() {
    const found = G.runs.map((run, index) => ({ run, index, x: score(vt(), vx(), index), y: score(vr(), vy(), index) })).filter(p => p.x && p.y);
    clear(out); if (!found.length) { out.append(h("p", { class: "quiet" }, "No model has both scores.")); return; }
    const top = found.filter(p => p.run.role !== "start" && p.run.role !== "gold"), lowest = Math.min(...found.map(p => p.y[1])), from = Math.max(0, Math.floor((lowest - .03) * 10) / 10);
    const narrow = innerWidth < 600, W = narrow ? 380 : 860, H = narrow ? 330 : 430;
    const { svg, X, Y } = frame(W, H, { min: 0, max: 1, name: `${nameOf(vx())} on ${taskOf(vt()).label}, % →  more remembered` }, { min: from, max: 1, ticks: Array.from({ length: Math.round((1 - from) * 10) + 1 }, (_, i) => from + i / 10).filter((_, i, all) => all.length < 7 || !((all.length - 1 - i) % 2)), name: `${nameOf(vy())} on ${taskOf(vr()).label}, %` }, { right: narrow ? 16 : 120 });
    const front = top.filter(p => !top.some(q => q !== p && q.x[0] <= p.x[0] && q.y[0] >= p.y[0] && (q.x[0] < p.x[0] || q.y[0] > p.y[0]))).sort((a, b) => a.x[0] - b.x[0]);
    if (front.length > 1) svg.append(s("path", { d: front.map((p, i) => `${i ? "H" + X(p.x[0]) + "V" : "M" + X(p.x[0]) + ","}${Y(p.y[0])}`).join(""), fill: "none", stroke: "var(--quiet)", "stroke-width": 1.5, "stroke-dasharray": "5 4" }));
    const placed = [], named = found.length <= 14 ? found.filter(p => found.length <= 8 || p.run.step === null) : [];
    for (const p of found) {
      const x = X(p.x[0]), y = Y(p.y[0]), c = colour(p.run);
      svg.append(s("line", { x1: X(p.x[1]), x2: X(p.x[2]), y1: y, y2: y, stroke: c, "stroke-opacity": .45, "stroke-width": 1.5 }), s("line", { x1: x, x2: x, y1: Y(Math.max(from, p.y[1])), y2: Y(p.y[2]), stroke: c, "stroke-opacity": .45, "stroke-width": 1.5 }));
    }
    const taken = []; // markers give way to each other; a line leads from one that moved to its place
    for (const p of found) {
      const x = X(p.x[0]), y = Y(p.y[0]), free = (a, b) => taken.every(([c, d]) => (a - c) ** 2 + (b - d) ** 2 >= 169) && a > 52 && a < W - 8 && b > 6 && b < H - 44;
      let at = [x, y];
      search: for (let r = 0; r <= 5; r++) for (let k = 0; k < (r ? 12 : 1); k++) { const a = x + r * 13 * Math.cos(k * Math.PI / 6 - .5), b = y + r * 13 * Math.sin(k * Math.PI / 6 - .5); if (free(a, b)) { at = [a, b]; break search; } }
      taken.push(at); p.at = at;
      if (at[0] !== x || at[1] !== y) svg.append(s("line", { x1: x, y1: y, x2: at[0], y2: at[1], stroke: colour(p.run), "stroke-width": 1 }), s("circle", { cx: x, cy: y, r: 1.5, fill: colour(p.run) }));
    }
    for (const p of [...found].sort((a, b) => a.at[1] - b.at[1])) {
      const [x, y] = p.at, text = label(p.run) + (p.x[5] === "not memorised" ? " †" : ""), wide = text.length * 6.6 + 12, end = x + wide > W - 4, from0 = end ? x - wide : x; let ly = y - 2;
      if (named.includes(p)) { while (placed.some(([px, py, pw]) => Math.abs(py - ly) < 13 && px < from0 + wide && px + pw > from0)) ly += 13; placed.push([from0, ly, wide]); }
      svg.append(s("g", { tabindex: 0, role: "img", "aria-label": label(p.run), tip: `${label(p.run)}\n${nameOf(vx())} ${pc(p.x[0])} (${span(p.x[1], p.x[2])})\n${nameOf(vy())} ${pc(p.y[0])} (${span(p.y[1], p.y[2])})` + (p.x[5] === "not memorised" ? "\n† starting point not memorised" : "") }, marker(p.run, x, y)));
      if (named.includes(p)) svg.append(s("text", { x: end ? x - 10 : x + 10, y: ly + 5, "text-anchor": end ? "end" : null, class: "halo" }, text));
    }
    out.append(svg); if (named.length < found.length) out.append(legend(found.map(p => p.run)));
  }
  add(box, [h("div", { class: "controls" }, ct, cx, cr, cy), out]); draw();
});

section("silent", "Said and known", "What a model says, and what it still knows", () => [`Each dot is a row of the set. To the right, the secret is among the model’s first guesses (exposure); above the line, the model says it when asked (EM; elsewhere a score of at least ${core.right}). `, h("b", {}, "Below and to the right are secrets that the model keeps quiet about but still holds: "), "a refusal is not forgetting. Click a dot for its row."], box => {
  const usable = G.tasks.filter(task => exposureOf(task));
  if (!usable.length) { box.append(h("p", { class: "quiet" }, "None of these runs measured exposure.")); return; }
  const out = h("div", { class: "panels" });
  const [ct, vt] = option("st", "set", usable.map(task => [task.task, task.label]), usable.some(task => task.task === forget()) ? forget() : usable[0].task, () => draw());
  function draw() {
    clear(out);
    const task = taskOf(vt()), metric = exposureOf(task), n = task.ids.length;
    G.runs.forEach((run, index) => {
      if (!task.values[metric][index]) return;
      let silent = 0, says = 0, asked = 0;
      for (let row = 0; row < n; row++) { const main = value(task, task.main, index, row), e = value(task, metric, index, row); if (Number.isNaN(e)) continue; asked++; if (said(main)) says++; else if (e >= core.known) silent++; }
      const canvas = h("canvas", { tabindex: 0, role: "application", "aria-label": `${run.short}: ${says} of ${asked} said, ${silent} known but not said. Arrow keys go from row to row, Enter opens one` });
      const shown = h("div", { class: "panel" }, h("h3", {}, h("bdi", {}, label(run))), canvas, h("p", {}, `${says} of ${asked} said · `, h("button", { type: "button", class: "text " + (silent / asked > .1 ? "fail" : "quiet"), onclick: () => filterRows({ q: "", rt: task.task, rp: "", ra: "", rh: "", rm: String(index), rs: "silent" }) }, `${silent} not said but known`)));
      out.append(shown); paint(canvas, task, metric, index, n);
    });
  }
  function paint(canvas, task, metric, index, n) {
    const css = getComputedStyle(document.documentElement), seen = {}, c = name => seen[name] ||= css.getPropertyValue(name).trim();
    const W = canvas.clientWidth || 280, H = 150, ratio = devicePixelRatio || 1, spots = [];
    canvas.width = W * ratio; canvas.height = H * ratio;
    const g = canvas.getContext("2d"); g.scale(ratio, ratio);
    const left = 4, right = W - 8, top = 6, bottom = H - 24, middle = (top + bottom) / 2, X = v => left + 6 + v * (right - left - 12);
    g.fillStyle = c("--panel"); g.fillRect(left, top, right - left, bottom - top);
    g.fillStyle = c("--mark"); g.fillRect(X(core.known), middle, right - X(core.known), bottom - middle);
    g.strokeStyle = c("--line"); g.beginPath(); g.moveTo(left, middle); g.lineTo(right, middle); g.stroke();
    g.fillStyle = c("--quiet"); g.font = "11px system-ui, sans-serif"; g.fillText("says it", left + 5, top + 12); g.fillText("does not say it", left + 5, bottom - 5);
    g.fillText("exposure 0 %", left, H - 8); g.textAlign = "center"; g.fillText("50", X(.5), H - 8); g.textAlign = "right"; g.fillText("100 = first guess", right, H - 8);
    const size = n > 3000 ? 1.6 : n > 400 ? 2.4 : 3.4, alpha = n > 3000 ? .35 : n > 400 ? .5 : .75;
    g.globalAlpha = alpha;
    for (let row = 0; row < n; row++) {
      const e = value(task, metric, index, row), says = said(value(task, task.main, index, row)); if (Number.isNaN(e)) continue;
      const jitter = ((row * 2654435761) % 1000 + 1000) % 1000 / 1000, wide = ((row * 40503) % 997) / 997 - .5;
      const x = Math.max(left + 4, Math.min(right - 4, X(e) + wide * 9)), y = says ? top + 18 + jitter * (middle - top - 24) : middle + 7 + jitter * (bottom - middle - 28);
      g.fillStyle = says ? c("--c0") : e >= core.known ? c("--c1") : c("--dot");
      g.beginPath(); g.arc(x, y, size, 0, 7); g.fill(); spots.push([x, y, row]);
    }
    const near = event => { const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top; let best = null, least = 100; for (const [a, b, row] of spots) { const d = (a - x) ** 2 + (b - y) ** 2; if (d < least) { least = d; best = row; } } return best; };
    canvas.onpointermove = event => { const row = near(event), tip = $("tip"); if (row === null) { tip.hidden = true; return; } tell(row, event.clientX, event.clientY); };
    const tell = (row, x, y) => { const tip = $("tip"); tip.textContent = `${task.ids[row]}: ${task.people[task.person[row]]}, ${task.attributes[task.attribute[row]]}\nexposure ${pc(value(task, metric, index, row))} %`; tip.hidden = false; place(tip, x, y); };
    const walk = [...spots].sort((a, b) => b[0] - a[0]); let on = -1; // by the keys: the best known secret first
    canvas.onkeydown = event => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (by && walk.length) { event.preventDefault(); on = on < 0 ? 0 : (on + by + walk.length) % walk.length; const box = canvas.getBoundingClientRect(); tell(walk[on][2], box.left + walk[on][0], box.top + walk[on][1]); }
      if (event.key === "Enter" && on >= 0) openRow(task.task, task.ids[walk[on][2]]);
    };
    canvas.onblur = () => { $("tip").hidden = true; };
    canvas.onpointerleave = () => { $("tip").hidden = true; };
    canvas.onclick = event => { const row = near(event); if (row !== null) openRow(task.task, task.ids[row]); };
  }
  repaint.push(draw); add(box, [h("div", { class: "controls" }, ct), out]); draw();
});

section("steps", "Steps", "Over the steps", () => ["How a score moves during training; step 0 is the starting model."], box => {
  const series = new Map();
  G.runs.forEach((run, index) => { if (run.step !== null) { if (!series.has(run.series)) series.set(run.series, []); series.get(run.series).push([run.step, index]); } });
  if (!series.size) return false;
  const out = h("div"), both = [...new Set(G.tasks.flatMap(task => Object.keys(task.values)))];
  const [cm, vm] = option("tm", "score", both.map(metric => [metric, nameOf(metric)]), both.includes("exposure") ? "exposure" : both[0], () => draw());
  function draw() {
    clear(out); const names = [...series.keys()].sort(), panels = h("div", { class: "row2" });
    const runs = names.map((name, index) => ({ name, short: name, tint: index, role: "" }));
    const most = Math.max(...[...series.values()].flat().map(([step]) => step));
    const moved = task => [...series.values()].flat().some(([, index]) => score(task.task, vm(), index));
    for (const task of G.tasks.filter(task => vm() in task.values && moved(task))) {
      const ticks = [0, .25, .5, .75, 1].map(f => Math.round(f * most));
      const { svg, X, Y } = frame(520, 280, { min: 0, max: most, name: "step", ticks: [...new Set(ticks)], show: v => v }, { min: 0, max: 1, name: `${nameOf(vm())} on ${task.label}, %` });
      names.forEach((name, place) => {
        const points = series.get(name).map(([step, index]) => [step, score(task.task, vm(), index)]).filter(p => p[1]);
        if (G.start !== null) { const begun = score(task.task, vm(), G.start); if (begun && !points.some(p => p[0] === 0)) points.push([0, begun]); }
        points.sort((a, b) => a[0] - b[0]); if (!points.length) return;
        svg.append(s("path", { d: points.map((p, i) => `${i ? "L" : "M"}${X(p[0])},${Y(p[1][1])}`).join("") + [...points].reverse().map(p => `L${X(p[0])},${Y(p[1][2])}`).join("") + "Z", fill: colour(runs[place]), "fill-opacity": .13 }), s("path", { d: points.map((p, i) => `${i ? "L" : "M"}${X(p[0])},${Y(p[1][0])}`).join(""), fill: "none", stroke: colour(runs[place]), "stroke-width": 2 }));
        for (const p of points) svg.append(s("g", { tabindex: 0, tip: `${name}, step ${p[0]}\n${pc(p[1][0])} (${span(p[1][1], p[1][2])})` }, marker(runs[place], X(p[0]), Y(p[1][0]))));
      });
      if (G.gold !== null) { const g = score(task.task, vm(), G.gold); if (g) svg.append(s("line", { x1: X(0), x2: X(most), y1: Y(g[0]), y2: Y(g[0]), stroke: "var(--gold)", "stroke-width": 3, "stroke-dasharray": "7 4" }), s("text", { x: X(most), y: Y(g[0]) - 6, "text-anchor": "end", class: "q" }, "gold")); }
      panels.append(h("div", {}, svg));
    }
    add(out, [legend(runs, { marks: true }), panels]);
  }
  add(box, [h("div", { class: "controls" }, cm), out]); draw();
});

// Heat: one hue from pale to deep, readable without colour vision; numbers are in the cells
const RAMP = { light: [[241, 244, 248], [147, 190, 224], [44, 118, 178], [8, 48, 107]], dark: [[34, 38, 46], [30, 84, 132], [72, 149, 205], [190, 224, 250]] };
const darkNow = () => { const chosen = document.documentElement.dataset.theme; return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches; };
function heat(v) {
  const stops = RAMP[darkNow() ? "dark" : "light"], p = Math.min(.9999, Math.max(0, v)) * 3, i = Math.floor(p), f = p - i, rgb = [0, 1, 2].map(k => Math.round(stops[i][k] + f * (stops[i + 1][k] - stops[i][k])));
  const light = rgb.map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4), L = .2126 * light[0] + .7152 * light[1] + .0722 * light[2];
  return [`rgb(${rgb})`, 1.05 / (L + .05) > (L + .05) / .05 ? "#fff" : "#000"];
}
section("heat", "Heat maps", "Who is forgotten, and what", () => ["The mean score of each cell; deeper is more remembered. Click a cell, or press Enter on it, for its rows. Cells of fewer than ten values say how many (n). A blank cell has no rows."], box => {
  const out = h("div");
  const start = taskOf(get("ht", forget())) || G.tasks[0], single = start.people.length < 3;
  const [ct, vt] = option("ht", "set", tasksOf(), forget(), () => draw());
  const all = [...new Set(G.tasks.flatMap(task => Object.keys(task.values)))].map(metric => [metric, nameOf(metric)]);
  const [cm, vm] = option("hm", "score", all, start.main === "em" && exposureOf(start) || start.main, () => draw());
  const [cr, vr] = option("hr", "down", [["models", "models"], ["people", "people"]], single ? "models" : "people", () => draw());
  const [cc, vc] = option("hc", "across", [["attributes", "attributes"], ["hops", "hops"], ["categories", "categories"], ["people", "people"]], "attributes", () => draw());
  const [cw, vw, sw] = option("hw", "model", G.runs.map((run, index) => [String(index), label(run)]), String(G.runs.findIndex(run => !run.role) < 0 ? 0 : G.runs.findIndex(run => !run.role)), () => draw());
  function draw() {
    clear(out); const task = taskOf(vt()), metric = vm(), n = task.ids.length; cw.hidden = vr() === "models"; cw.style.display = vr() === "models" ? "none" : "";
    if (!(metric in task.values)) { out.append(h("p", { class: "quiet" }, `${nameOf(metric)} was not measured on ${task.label}.`)); return; }
    const axes = { attributes: [task.attributes, task.attribute], people: [task.people, task.person], categories: [task.categories, task.category], hops: [task.hopNames, task.hopIndex] };
    const [across, placeA] = axes[vc()], models = vr() === "models", down = models ? G.runs.map(label) : task.people;
    const sums = down.map(() => across.map(() => [0, 0]));
    for (const index of models ? G.runs.keys() : [+vw()]) for (let row = 0; row < n; row++) { const v = value(task, metric, index, row); if (Number.isNaN(v)) continue; const cell = sums[models ? index : task.person[row]][placeA[row]]; cell[0] += v; cell[1]++; }
    const order = down.map((_, i) => i), cut = 80; const means = sums.map(cells => { const t = cells.reduce((a, c) => [a[0] + c[0], a[1] + c[1]], [0, 0]); return t[1] ? t[0] / t[1] : NaN; });
    if (!models) order.sort((a, b) => (means[b] || 0) - (means[a] || 0));
    const acrossOrder = across.map((_, i) => i).filter(i => sums.some(cells => cells[i][1])).slice(0, cut), few = acrossOrder.length <= 6;
    const fit = Math.max(3, Math.floor((Math.min(out.clientWidth || 1000, 1000) - 210) / 47)); // columns of one table: more go into another below
    for (let from = 0; from < Math.max(1, acrossOrder.length); from += fit) {
      const part = acrossOrder.slice(from, from + fit), body = h("tbody");
      for (const i of order.slice(0, cut)) { if (Number.isNaN(means[i])) continue; body.append(h("tr", {}, h("th", { scope: "row", class: "left" }, h("bdi", {}, models ? down[i] : down[i].replace(/_/g, " "))), paintCell([means[i], 1], "mean of all", null, true), part.map(j => paintCell(sums[i][j], `${down[i]} · ${across[j]}`, () => { const go = { q: "", rt: task.task, rp: "", ra: "", rh: "" }; if (!models) go.rp = down[i]; if (vc() === "attributes") go.ra = across[j]; if (vc() === "people") go.rp = across[j]; if (vc() === "hops") go.rh = String(across[j]).replace("-hop", ""); filterRows(go); })))); }
      out.append(h("div", { class: "scroll" }, h("table", { class: "heat" + (few ? " wide" : "") }, h("thead", {}, h("tr", {}, h("th", {}), h("th", { scope: "col" }, h("span", {}, h("b", {}, "all"))), part.map(j => h("th", { scope: "col" }, h("span", {}, across[j].replace(/_/g, " ")))))), body)));
    }
    if (order.length > cut || across.length > cut) out.append(h("p", { class: "quiet" }, `The first ${cut} of ${Math.max(order.length, across.length)}; those remembered most come first.`));
    const bar = h("i"); bar.style.background = `linear-gradient(to right, ${[0, .25, .5, .75, 1].map(v => heat(v)[0]).join(", ")})`; out.append(h("div", { class: "key" }, "0 %", bar, "100 %"));
  }
  function paintCell([sum, count], name, click, strong) {
    if (!count) return h("td", { class: "none" }, "");
    const v = sum / count, [back, ink] = heat(v), td = h("td", { tip: `${name}\n${pc(v)} %${click ? `, ${count} value${count === 1 ? "" : "s"}` : ""}`, press: click }, pc(v, 0), click && count < 10 ? h("small", {}, `n ${count}`) : null);
    Object.assign(td.style, { background: back, color: ink, fontWeight: strong ? 600 : 400 }); return td;
  }
  repaint.push(draw); add(box, [h("div", { class: "controls" }, ct, cm, cr, cc, cw), out]); draw();
});

section("spread", "Distributions", "The distribution, held against gold", () => ["The share of rows whose score is at most x. A model that forgot as if it had never learned lies on gold’s line; the widest vertical gap is the KS distance."], box => {
  const out = h("div"), all = [...new Set(G.tasks.flatMap(task => Object.keys(task.values)))].filter(metric => metric !== "em" && metric !== "answered");
  const [ct, vt] = option("dt", "set", tasksOf(), forget(), () => draw());
  const [cm, vm] = option("dm", "score", all.map(metric => [metric, nameOf(metric)]), exposureOf(taskOf(forget())) || all[0], () => draw());
  function draw() {
    clear(out); const task = taskOf(vt()), metric = vm(), narrow = innerWidth < 600, shown = [];
    if (!(metric in task.values)) { out.append(h("p", { class: "quiet" }, `${nameOf(metric)} was not measured on ${task.label}.`)); return; }
    const { svg, X, Y } = frame(narrow ? 380 : 860, narrow ? 300 : 380, { min: 0, max: 1, name: `${nameOf(metric)} on ${task.label}, % →  more remembered` }, { min: 0, max: 1, name: "rows at most x, %" });
    const lines = {};
    G.runs.forEach((run, index) => { const list = (task.values[metric][index] || []).filter(v => v >= 0); if (list.length) lines[index] = Float64Array.from(list, v => v / 10000).sort(); });
    for (const [index, sorted] of Object.entries(lines)) {
      const run = G.runs[index], n = sorted.length; shown.push(run);
      let d = `M${X(0)},${Y(0)}`, last = -1;
      for (let i = 0; i < n; i++) if (i === n - 1 || sorted[i + 1] !== sorted[i]) { const x = X(sorted[i]); if (x - last < .3 && i < n - 1) continue; d += `H${x.toFixed(1)}V${Y((i + 1) / n).toFixed(1)}`; last = x; }
      svg.append(s("path", { d: d + `H${X(1)}`, fill: "none", stroke: colour(run), "stroke-width": run.role === "gold" ? 3.5 : 2, "stroke-dasharray": dash(run), tip: label(run) }));
    }
    const gap = index => { const a = lines[index], b = lines[G.gold]; let i = 0, j = 0, most = 0; while (i < a.length && j < b.length) { const v = Math.min(a[i], b[j]); while (i < a.length && a[i] <= v) i++; while (j < b.length && b[j] <= v) j++; most = Math.max(most, Math.abs(i / a.length - j / b.length)); } return most; };
    add(out, [svg, legend(shown, {}, run => G.gold !== null && lines[G.gold] && run.role !== "gold" ? h("span", { class: "quiet" }, `KS ${num(gap(G.runs.indexOf(run)))}`) : null)]);
  }
  add(box, [h("div", { class: "controls" }, ct, cm), out]); draw();
});

section("compare", "Compare", "Two models on the same rows", () => ["Paired bootstrap over rows (1000 draws): the same rows are drawn for both, so what makes a row hard does not count. The smallest p that so many draws can show is 0.002. Scores in per cent, differences in points."], box => {
  if (G.runs.length < 2) return false;
  const out = h("div"), choices = G.runs.map((run, index) => [String(index), label(run)]), second = G.gold !== null ? G.gold : G.start !== null ? G.start : 0;
  const first = G.runs.findIndex((run, index) => !run.role && index !== second);
  const [ca, va] = option("ca", "first", choices, String(first < 0 ? (second ? 0 : 1) : first), () => draw());
  const [cb, vb] = option("cb", "second", choices, String(second), () => draw());
  function draw() {
    clear(out); const a = +va(), b = +vb();
    if (a === b) { out.append(h("p", { class: "quiet" }, "Choose two different models.")); return; }
    const rows = G.pairs.filter(([i, j]) => (i === a && j === b) || (i === b && j === a)).map(([i, , task, metric, mean, low, high, p, n]) => i === a ? [task, metric, mean, low, high, p, n] : [task, metric, -mean, -high, -low, p, n]);
    if (!rows.length) { out.append(h("p", { class: "quiet" }, "They share no set.")); return; }
    const S = 200, bar = (mean, low, high) => { const X = v => S / 2 + v * S / 2 * .96; return s("svg", { viewBox: `0 0 ${S} 18`, width: S, height: 18, "aria-hidden": "true" }, s("line", { x1: S / 2, x2: S / 2, y1: 0, y2: 18, class: "axis" }), s("line", { x1: X(low), x2: X(high), y1: 9, y2: 9, stroke: "var(--c0)", "stroke-width": 3, "stroke-opacity": .5 }), s("circle", { cx: X(mean), cy: 9, r: 4, fill: "var(--c0)" })); };
    out.append(h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["set", "score", "first", "second", "difference", "95 % interval", "−100 … 0 … +100", "p", "rows"].map((text, i) => h("th", { class: i < 2 ? "left" : i === 6 ? "c" : null }, text)))), h("tbody", {}, rows.map(([task, metric, mean, low, high, p, n]) => { const u = score(task, metric, a), v = score(task, metric, b); const plot = bar(mean, low, high); plot.style.width = S + "px"; return h("tr", {}, h("td", {}, taskOf(task).label), h("td", { class: "left" }, nameOf(metric)), h("td", {}, pc(u && u[0])), h("td", {}, pc(v && v[0])), h("td", {}, (mean > 0 && signed(mean) !== "0.0" ? "+" : "") + signed(mean)), h("td", {}, `${signed(low)} to ${signed(high)}`), h("td", {}, plot), h("td", {}, p < .0025 ? "≤ 0.002" : num(p, 3)), h("td", {}, n)); })))));
  }
  add(box, [h("div", { class: "controls" }, ca, cb), out]); draw();
});

let filterRowsNow, openRowNow; // of the rows' section, which is drawn first if it is not yet
const filterRows = go => { drawTo("rows"); return filterRowsNow(go); }, openRow = (task, id) => { drawTo("rows"); return openRowNow(task, id); };
section("rows", "Rows", "Rows", () => [`Every question with its picture and what each model replied. In a model’s column: ✓ says the secret (EM; elsewhere a score of at least ${core.right}); (✓) does not say it but knows it, by an exposure of at least ${pc(core.known, 0)} %; ✗ neither. Below it the exposure in per cent, or where there is none and no EM either, the score.`], box => {
  const out = h("div", { id: "list" }), pager = h("div", { class: "pager", tabindex: -1 }), SIZE = 40;
  const fill = (select, choices) => { clear(select).append(...[["", "all"], ...choices].map(([value, text]) => h("option", { value }, text))); };
  const [ct, vt, st] = option("rt", "set", tasksOf(), forget(), () => { choices(); page(0); });
  const pick = (key, name) => { const [node, val, select] = option(key, name, [["", "all"]], "", () => page(0)); return { key, node, val, select }; };
  const person = pick("rp", "person"), attribute = pick("ra", "attribute"), hop = pick("rh", "hop"), target = pick("rf", "target");
  const [cs, vs, ss] = option("rs", "show", [["", "all rows"], ["leak", "said by some model"], ["silent", "known but not said"], ["differ", "models disagree"], ["unkept", "lost, though to be kept"]], "", () => page(0));
  const [cm, vm, sm] = option("rm", "by which model", [["", "any unlearned one"], ...G.runs.map((run, i) => [String(i), label(run)])], "", () => page(0));
  const [co, vo, so] = option("ro", "order", [["", "as in the data"], ...G.runs.flatMap((run, i) => [[`d${i}`, `exposure, most first: ${run.short}`], [`u${i}`, `exposure, least first: ${run.short}`]])], "", () => page(0));
  let timer; const search = h("input", { type: "search", placeholder: "words in question, answer, replies", value: get("q", ""), oninput: () => { clearTimeout(timer); timer = setTimeout(() => { keep({ q: search.value }); page(0); }, 200); } });
  const all = [person, attribute, hop, target];
  function choices() {
    const task = taskOf(vt()), named = list => list.map(name => [name, name.replace(/_/g, " ")]);
    fill(person.select, named([...task.people].sort())); fill(attribute.select, named([...task.attributes].sort())); fill(hop.select, task.hopNames.map(name => [name.replace("-hop", ""), name])); fill(target.select, [["1", "forgotten"], ["0", "kept"]]); hop.node.style.display = task.hop.some(Boolean) ? "" : "none";
    for (const one of all) { one.select.value = get(one.key, ""); if (one.select.selectedIndex < 0) { one.select.value = ""; keep({ [one.key]: "" }); } }
  }
  let texts = null, loaded = "", turn = 0, shown = 0, pictures = null;
  async function page(at) {
    const mine = ++turn, task = taskOf(vt()), metric = exposureOf(task), n = task.ids.length;
    if (loaded !== task.chunk) { texts = await part(task.chunk); loaded = task.chunk; }
    if (pictures === null) { // the rows need not wait for them
      pictures = [];
      if ($("pictures") || parts.has("pictures")) part("pictures").then(found => { pictures = found; page(shown); });
    }
    if (mine !== turn) return;
    const words = search.value.trim().toLowerCase(), open = get("row", ""), e = (run, row) => metric ? value(task, metric, run, row) : NaN;
    const unlearned = G.runs.map((run, i) => i).filter(i => !G.runs[i].role), judged = vm() !== "" ? [+vm()] : unlearned.length ? unlearned : G.runs.map((_, i) => i);
    let found = [];
    for (let row = 0; row < n; row++) {
      if (person.val() && task.people[task.person[row]] !== person.val()) continue;
      if (attribute.val() && task.attributes[task.attribute[row]] !== attribute.val()) continue;
      if (hop.val() && String(task.hop[row]) !== hop.val()) continue;
      if (target.val() !== "" && String(task.forgotten[row]) !== target.val()) continue;
      const main = i => value(task, task.main, i, row), says = i => said(main(i)), not = i => main(i) < core.right, show = vs();
      if (show === "leak" && !judged.some(says)) continue;
      if (show === "silent" && !judged.some(i => not(i) && e(i, row) >= core.known)) continue;
      if (show === "differ" && new Set(judged.filter(i => !Number.isNaN(main(i))).map(says)).size < 2) continue;
      if (show === "unkept" && (task.forgotten[row] || !judged.some(not))) continue;
      if (words && !(texts.q[row] + "\n" + texts.a[row] + "\n" + texts.r[row].join("\n") + "\n" + task.ids[row]).toLowerCase().includes(words)) continue;
      found.push(row);
    }
    if (vo()) { const i = +vo().slice(1), sign = vo()[0] === "d" ? -1 : 1; found.sort((a, b) => sign * ((e(i, a) || 0) - (e(i, b) || 0))); }
    const opened = open ? found.indexOf(task.ids.indexOf(open)) : -1;
    if (at === null) at = opened >= 0 ? Math.floor(opened / SIZE) : 0;
    const last = Math.max(0, Math.ceil(found.length / SIZE) - 1); at = shown = Math.min(at, last);
    clear(pager).append(h("button", { type: "button", disabled: at === 0 ? "" : null, onclick: () => page(at - 1) }, "← before"), h("span", {}, `${found.length} of ${n} rows` + (last ? `, page ${at + 1} of ${last + 1}` : "")), h("button", { type: "button", disabled: at === last ? "" : null, onclick: () => page(at + 1) }, "after →"));
    const body = h("tbody"), many = G.runs.length > 8; // more models than have a column each
    for (const row of found.slice(at * SIZE, at * SIZE + SIZE)) {
      const mark = i => { const v = value(task, task.main, i, row), x = e(i, row); return [Number.isNaN(v) ? "–" : said(v) ? "✓" : x >= core.known ? h("span", { class: "fail", title: "not said, but known" }, "(✓)") : h("span", { class: "quiet" }, "✗"), Number.isNaN(x) ? task.main === "em" ? null : h("small", {}, pc(v, 0)) : h("small", {}, pc(x, 0))]; };
      const id = task.ids[row], tr = h("tr", { class: "item", "data-row": id, onclick: event => { if (!event.target.closest("a")) toggle(tr, row); } },
        h("td", {}, picture(task, row, texts)), h("td", { class: "q" }, h("a", { href: "#" + linkTo(task.task, id), onclick: event => { event.preventDefault(); toggle(tr, row); } }, h("bdi", {}, short(texts.q[row], 140))), h("small", {}, h("bdi", {}, `${id} · ${task.people[task.person[row]].replace(/_/g, " ")} · ${task.attributes[task.attribute[row]].replace(/_/g, " ")} ${task.hop[row] ? ` · ${task.hop[row]}-hop` : ""}${task.forgotten[row] ? " · to be forgotten" : ""}`))),
        many ? h("td", { class: "chips" }, G.runs.map((run, i) => h("span", {}, h("bdi", {}, run.short), " ", mark(i)))) : G.runs.map((run, i) => h("td", { class: "c" }, mark(i))));
      body.append(tr); if (id === open) detail(tr, row);
    }
    const focused = out.contains(document.activeElement) && document.activeElement.closest("tr.item")?.dataset.row;
    clear(out).append(h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}), h("th", { class: "left" }, "question"), many ? h("th", { class: "left" }, "models") : G.runs.map(run => h("th", { class: "c name" }, h("bdi", {}, run.short))))), body)));
    if (focused) [...out.querySelectorAll("tr.item")].find(tr => tr.dataset.row === focused)?.querySelector("a").focus({ preventScroll: true });
    if (!found.length) out.append(h("p", { class: "quiet" }, "No row matches."));
  }
  const short = (text, most) => text.length > most ? text.slice(0, most) + " …" : text;
  const linkTo = (task, id) => { const link = new URLSearchParams(); link.set("s", "rows"); if (group) link.set("g", group); link.set("rt", task); link.set("row", id); return link; };
  const picture = (task, row) => { const source = pictures[task.picture[row]]; return source ? h("img", { src: source, alt: "", loading: "lazy" }) : null; };
  function toggle(tr, row) {
    const next = tr.nextSibling;
    if (next && next.className === "detailrow") { next.remove(); keep({ row: "" }); return; }
    for (const other of tr.parentNode.querySelectorAll(".detailrow")) other.remove();
    keep({ s: "rows", rt: vt(), row: taskOf(vt()).ids[row] }); detail(tr, row);
  }
  function detail(tr, row) {
    const task = taskOf(vt()), metric = exposureOf(task), M = task.rollouts;
    const replies = G.runs.map((run, i) => {
      if (texts.r[row][i] === null) return null;
      const main = value(task, task.main, i, row), x = metric ? value(task, metric, i, row) : NaN, ranks = texts.k[row][i] || [], bits = texts.b[row][i] || [], guesses = texts.g[row][i] || [], cut = texts.l[row + ":" + i];
      const seen = ranks.map((rank, k) => `secret is guess ${rank > M ? `beyond ${M}` : rank}` + (bits[k] !== undefined ? bits[k] === null ? ", probability 0" : `, ${num(bits[k], 1)} bits (ln p ${num(-bits[k] * Math.LN2, 2).replace("-", "−")})` : "")).join("; ");
      return h("div", { class: "reply" + (said(main) ? " says" : "") }, h("b", {}, h("bdi", {}, label(run))), h("span", { class: "quiet" }, ` ${said(main) ? "✓ says it" : "✗ does not say it"}${task.main === "em" ? "" : ` (${nameOf(task.main)} ${pc(main)} %)`}${Number.isNaN(x) ? "" : ` · exposure ${pc(x)} %`}${seen ? ` · ${seen}` : ""}`), h("blockquote", { dir: "auto" }, texts.r[row][i] === "" ? h("span", { class: "quiet" }, "(nothing)") : texts.r[row][i], cut ? h("span", { class: "quiet" }, ` … and ${cut} more characters`) : null), guesses.map(list => h("ol", { "aria-label": "likeliest guesses after the cloze prompt" }, h("li", {}, "guesses:"), list.map(([text, lnp], k) => h("li", { dir: "auto", class: ranks.some(rank => rank === k + 1) ? "hit" : null }, `${text.trim() ? `“${text.trim()}”` : "(nothing)"} ${lnp <= 0 ? (Math.exp(lnp) * 100).toPrecision(2) + " %" : num(lnp)}`)))));
    });
    const link = h("button", { type: "button", onclick: () => { const address = location.href.split("#")[0] + "#" + linkTo(task.task, task.ids[row]); if (navigator.clipboard) navigator.clipboard.writeText(address).catch(() => {}); link.textContent = "address copied"; } }, "copy link");
    tr.after(h("tr", { class: "detailrow" }, h("td", { colspan: G.runs.length > 8 ? 3 : 2 + G.runs.length }, h("div", { class: "detail" }, h("div", {}, picture(task, row) || h("span", { class: "quiet" }, "no picture")), h("div", {}, h("dl", {}, h("dt", {}, "question"), h("dd", { dir: "auto" }, texts.q[row]), h("dt", {}, "right answer"), h("dd", { dir: "auto" }, texts.a[row]), h("dt", {}, "row"), h("dd", {}, task.ids[row], " ", link)), h("div", { class: "replies" }, replies))))));
  }
  const seen = id => { const tr = [...out.querySelectorAll("tr.item")].find(tr => tr.dataset.row === id); if (tr) { tr.scrollIntoView({ block: "center" }); tr.querySelector("a").focus({ preventScroll: true }); } };
  const afresh = { row: "", s: "rows", q: "", rp: "", ra: "", rh: "", rf: "", rs: "", rm: "" };
  async function show(go, at) {
    keep({ ...afresh, ...go });
    search.value = get("q", ""); st.value = get("rt", forget()); ss.value = get("rs", ""); sm.value = get("rm", ""); so.value = get("ro", ""); choices();
    await page(at);
  }
  filterRowsNow = async go => { await show(go, 0); box.scrollIntoView(); pager.focus({ preventScroll: true }); };
  openRowNow = async (task, id) => { await show({ rt: task, row: id, ro: "" }, null); seen(id); };
  add(box, [h("div", { class: "controls" }, ct, cs, cm, person.node, attribute.node, hop.node, target.node, co, h("label", {}, "search", search)), pager, out]);
  choices(); const wanted = get("row", ""), fresh = page(wanted ? null : 0);
  return wanted ? fresh.then(() => seen(wanted)) : fresh;
});

let repaint = [], drawAll = () => {};
// Sections are drawn when they come near; whoever goes to one has all above it drawn first, so that nothing moves it
let drawTo = () => {};
const coming = new Map(); // of a section that reads its data first: the promise of it
function go2(id) { drawTo(id); const node = $(id); if (!node) return; node.scrollIntoView(); coming.get(id)?.then?.(() => node.scrollIntoView()); const head = $("h-" + id); if (head) head.focus({ preventScroll: true }); }
function build() {
  G = core.groups[group]; repaint = []; const main = clear($("main")), nav = clear($("nav"));
  G.runs.filter(run => !run.role).forEach((run, index) => { run.tint = index; }); G.runs.filter(run => run.role).forEach(run => { run.tint = 7; });
  for (const task of G.tasks) { task.hopNames = [...new Set(task.hop)].sort().map(hop => hop ? `${hop}-hop` : "no hop"); const names = [...new Set(task.hop)].sort(); task.hopIndex = task.hop.map(hop => names.indexOf(hop)); }
  const first = G.tasks[0], suite = first.suite || {};
  clear($("facts")).append([`${G.runs.length} models`, ...G.tasks.map(task => `${task.label} ${task.ids.length} rows`), suite.estimator && `exposure: M = ${suite.rollouts}, ${suite.estimator} guesses`, core.made].filter(Boolean).join(" · "));
  if (core.groups.length > 1) { const [node] = option("g", "These runs must not be compared with each other; show group", core.groups.map((one, i) => [String(i), `${i + 1}: ${one.runs.map(run => run.short).slice(0, 4).join(", ")}${one.runs.length > 4 ? " …" : ""}`]), String(group), chosen => { group = +chosen; for (const key of [...state.keys()]) if (key !== "g") state.delete(key); keep({ g: chosen }); build(); }); main.append(h("div", { class: "controls" }, node)); if (G.why) main.append(h("div", { class: "notes warn" }, h("p", {}, G.why))); }
  if (core.across.rows.length) main.append(h("div", { class: "set", id: "across" }, h("h3", {}, "Across benchmarks"), h("p", { class: "quiet" }, core.across.note), h("div", { class: "scroll" }, h("table", { class: "scores" }, h("thead", {}, h("tr", {}, core.across.heads.map(head => h("th", { scope: "col" }, head)))), h("tbody", {}, core.across.rows.map(row => h("tr", {}, h("th", { scope: "row" }, row[0]), row.slice(1).map(cell => h("td", {}, cell)))))))));
  if (G.conclusion.length) main.append(h("div", { class: "conclusion", id: "conclusion" }, h("h2", {}, "In short"), h("ul", {}, G.conclusion.map(line => h("li", {}, line)))));
  if (core.notes.length) main.append(h("div", { class: "notes" }, core.notes.slice(0, 12).map(note => h("p", {}, note)), core.notes.length > 12 ? h("p", { class: "quiet" }, `and ${core.notes.length - 12} more, in report.md`) : null));
  const waiting = new Map(); coming.clear(); const seen = new IntersectionObserver(entries => { for (const entry of entries) if (entry.isIntersecting) start(entry.target); }, { rootMargin: "600px" });
  const start = node => { const one = waiting.get(node); if (!one) return; waiting.delete(node); seen.unobserve(node); node.style.minHeight = ""; const drawn = one.draw(node); coming.set(one.id, drawn); if (drawn === false) { node.remove(); $("nav-" + one.id)?.remove(); } };
  drawTo = id => { for (const node of [...waiting.keys()]) if (node.id === id || node.compareDocumentPosition($(id) || main) & Node.DOCUMENT_POSITION_FOLLOWING) start(node); };
  for (const one of SECTIONS) {
    const node = h("section", { id: one.id, "aria-labelledby": "h-" + one.id }, h("h2", { id: "h-" + one.id, tabindex: -1 }, one.title, h("a", { class: "anchor", href: "#s=" + one.id, "aria-label": "link to this section", onclick: event => { event.preventDefault(); keep({ s: one.id }); go2(one.id); } }, "#")), h("p", { class: "quiet" }, one.lead()));
    nav.append(h("a", { id: "nav-" + one.id, href: "#s=" + one.id, onclick: event => { event.preventDefault(); keep({ s: one.id }); go2(one.id); } }, one.brief));
    main.append(node); waiting.set(node, one);
    const soon = ["summary", "models", "steps", "compare"].includes(one.id);
    if (soon) start(node); else { node.style.minHeight = "380px"; seen.observe(node); }
  }
  drawAll = () => drawTo(SECTIONS[SECTIONS.length - 1].id);
  const here = new IntersectionObserver(entries => { for (const entry of entries) $("nav-" + entry.target.id)?.classList.toggle("here", entry.isIntersecting); }, { rootMargin: "-45% 0px -50% 0px" });
  main.querySelectorAll("section").forEach(node => here.observe(node));
  const wanted = get("s", ""); if (wanted && $(wanted)) { drawTo(wanted); if (!(wanted === "rows" && get("row", ""))) requestAnimationFrame(() => go2(wanted)); }
}
$("theme").addEventListener("click", () => { document.documentElement.dataset.theme = darkNow() ? "light" : "dark"; try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch (_) {} repaint.forEach(draw => draw()); });
try { const chosen = localStorage.getItem("theme"); if (chosen) document.documentElement.dataset.theme = chosen; } catch (_) {}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => repaint.forEach(draw => draw()));
addEventListener("hashchange", () => { const now = new URLSearchParams(location.hash.slice(1)); for (const key of [...state.keys()]) state.delete(key); for (const [key, value] of now) state.set(key, value); group = Math.min(+get("g", 0) || 0, core.groups.length - 1); build(); });
let theme; // paper is white, and holds every section
addEventListener("beforeprint", () => { theme = document.documentElement.dataset.theme; document.documentElement.dataset.theme = "light"; drawAll(); repaint.forEach(draw => draw()); });
addEventListener("afterprint", () => { if (theme) document.documentElement.dataset.theme = theme; else delete document.documentElement.dataset.theme; repaint.forEach(draw => draw()); });
let resized; let width = innerWidth; addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; repaint.forEach(draw => draw()); } }, 200); });
(async () => {
  try {
    if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack the page (it needs DecompressionStream, in all browsers since 2023); the same numbers are in report.md and results.csv");
    core = await part("core"); group = Math.min(+get("g", 0) || 0, core.groups.length - 1); build();
    document.documentElement.dataset.ready = "1";
  } catch (error) { const note = $("loading") || $("main"); note.textContent = "The report could not be drawn: " + error.message; throw error; }
})();
})();
