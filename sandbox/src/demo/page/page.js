"use strict";
// Draws the demo from server-sent events. Each event has the whole state of what it is about, so that an
// event that was skipped leaves no trace.

const STATIONS = [
  ["created", "pod", "created"],
  ["running", "pod", "containers ready"],
  ["initial", "target", "initial"],
  ["healthy", "target", "healthy"],
  ["draining", "target", "draining"],
  ["gone", "pod", "gone"],
];
const STATES = { starting: "starting", running: "containers ready", ready: "ready", terminating: "ending", gone: "gone" };
// Milliseconds: of a chip's way, and between two spoken summaries. Chosen.
const MOVE = 450;
const SPEAK_EVERY = 5000;
// Pixels: a pod's row in the chart, the gap between its old and new pods, and the requests. Chosen.
const ROW = 11;
const GAP = 6;
const REQUESTS = 40;
// The number of pods of each revision for which the chart has rows from the beginning.
const REPLICAS = 4;
// The time axis grows by this many milliseconds at a time. Chosen.
const STEP = 5000;
// The widest and the narrowest column of the requests, in milliseconds and pixels. Chosen.
const COLUMN = 250;
const COLUMN_WIDTH = 3;

const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const view = { state: null, cards: [], only: null, paused: false, link: "connecting" };

// What a pod is now, and where it stands in the picture.

const now = (pod) => pod.moments[pod.moments.length - 1];

function station(pod) {
  const { stage, target } = now(pod);
  if (target === "healthy") return "healthy";
  if (target) return target.endsWith("draining") ? "draining" : "initial";
  if (stage === "gone" || stage === "terminating") return "gone";
  return stage === "starting" ? "created" : "running";
}

function mark(moment) {
  if (moment.astray) return "astray";
  if (moment.stage === "gone") return "gone";
  if (moment.stage === "terminating") return "leaving";
  return { "gate shut": "shut", "gate open": "open" }[moment.gate];
}

function words(pod) {
  const { stage, gate, target, astray } = now(pod);
  const elb = target ? `ELB: ${target}${pod.reason ? ` (${pod.reason})` : ""}` : "no target";
  const lost = astray ? "; still gets requests" : "";
  return `${pod.name}, ${pod.new ? "new" : "old"}: ${STATES[stage]}, ${gate}, ${elb}${lost}`;
}

// One card for each rollout.

function makeCard(rollout, number) {
  const card = { number, pods: new Map(), stations: new Map() };
  card.root = $("rollout").content.firstElementChild.cloneNode(true);
  for (const name of ["doing", "lost", "sent", "results", "causes", "picture", "axis", "rows", "table"])
    card[name] = card.root.querySelector(`.${name}`);
  for (const name of ["h2", "caption", "tbody"]) card[name] = card.root.querySelector(name);
  card.chart = card.root.querySelector(".chart svg");
  card.h2.id = `title-${number}`;
  card.h2.textContent = rollout.title;
  card.root.setAttribute("aria-labelledby", card.h2.id);
  card.root.dataset.rollout = number;
  card.table.setAttribute("aria-label", `Pods of ${rollout.title}`);
  for (const [key, what, state] of STATIONS) {
    const item = element("li", "station");
    item.dataset.station = key;
    item.append(element("span"), element("ul"));
    item.firstElementChild.append(element("b", "", what), ` ${state}`);
    card.stations.set(key, item.lastElementChild);
    card.root.querySelector(".stations").append(item);
  }
  $("rollouts").append(card.root);
  new ResizeObserver(() => view.state && drawChart(card, view.state.rollouts[number])).observe(card.picture);
  return card;
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Sets what differs only, because a screen reader may be reading it.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function drawCard(card, rollout) {
  const state = rollout.results ? "measured" : rollout.doing ? "present" : "waiting";
  card.root.dataset.state = state;
  card.root.dataset.loss = rollout.lost > 0 ? "some" : state === "measured" ? "none" : "";
  const doing = { measured: "measured", waiting: "not begun" }[state] ?? `${rollout.doing}, ${seconds(rollout.now)}`;
  say(card.doing, doing);
  say(card.lost, String(rollout.lost));
  say(card.sent, String(rollout.sent));
  say(card.results, results(rollout));
  say(card.causes, causes(rollout));
  card.picture.setAttribute("aria-label", summary(rollout));
  drawPods(card, rollout);
  drawTable(card, rollout);
  drawChart(card, rollout);
}

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(1)} s`;

function results({ results }) {
  if (!results) return "";
  const open = results.healthy_to_open;
  return `rolled in ${seconds(results.rollout)}${open === null ? "" : ` · gates open ${open} ms after healthy`}`;
}

function causes({ lost, causes, results }) {
  if (lost > 0) return `Lost: ${causes}`;
  return results ? "Every request was answered." : "";
}

function summary(rollout) {
  if (!rollout.doing) return `${rollout.title} has not begun.`;
  const pods = rollout.pods.map(now);
  const serving = pods.filter((pod) => pod.target === "healthy" && pod.stage !== "gone").length;
  const shut = pods.filter((pod) => pod.gate === "gate shut" && pod.stage !== "gone").length;
  const astray = pods.filter((pod) => pod.astray).length;
  const parts = [`${serving} pods healthy in the target group`];
  if (shut) parts.push(`${shut} waiting with a shut gate`);
  if (astray) parts.push(`${astray} gone but still sent requests`);
  const doing = rollout.results ? results(rollout) : rollout.doing;
  return `${rollout.title}: ${doing}. ${parts.join(", ")}. ${rollout.lost} of ${rollout.sent} requests lost.`;
}

// The chips. One that changes its station is moved from where it was.

function drawPods(card, rollout) {
  const places = [...card.pods.values()].map((chip) => [chip, chip.getBoundingClientRect()]);
  const names = new Set(rollout.pods.map((pod) => pod.name));
  for (const [name, chip] of card.pods) if (!names.has(name)) { chip.remove(); card.pods.delete(name); }
  let moved = false;
  for (const pod of rollout.pods) {
    const chip = card.pods.get(pod.name) ?? makeChip(card, pod);
    const place = card.stations.get(station(pod));
    if (chip.parentNode !== place) { place.append(chip); moved = true; }
    drawChip(chip, pod);
  }
  if (moved && !still.matches) for (const [chip, before] of places) move(chip, before);
}

function makeChip(card, pod) {
  const chip = element("li", "pod");
  chip.dataset.pod = pod.name;
  card.pods.set(pod.name, chip);
  return chip;
}

function drawChip(chip, pod) {
  const moment = now(pod);
  const drawn = JSON.stringify([moment, pod.new, pod.reason]);
  if (chip.drawn === drawn) return;
  chip.drawn = drawn;
  chip.title = words(pod);
  const glyph = mark(moment);
  const target = moment.target ? ` data-target="${station(pod)}"` : "";
  chip.innerHTML = `<svg class="chip" viewBox="0 0 24 24" data-new="${pod.new}" data-stage="${moment.stage}"` +
    ` data-astray="${moment.astray}"${target}><use href="#${pod.new ? "new" : "old"}"/>` +
    (glyph ? `<use href="#${glyph}"/>` : "") + "</svg>";
}

function move(chip, before) {
  const after = chip.getBoundingClientRect();
  const [x, y] = [before.left - after.left, before.top - after.top];
  if (x || y) chip.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: MOVE, easing: "cubic-bezier(.3,.7,.2,1)" });
}

function drawTable(card, rollout) {
  say(card.caption, summary(rollout));
  while (card.tbody.rows.length > rollout.pods.length) card.tbody.lastElementChild.remove();
  rollout.pods.forEach((pod, at) => {
    const { stage, gate, target, astray } = now(pod);
    const row = card.tbody.rows[at] ?? card.tbody.insertRow();
    const elb = target ? `${target}${pod.reason ? ` (${pod.reason})` : ""}` : "no target";
    const cells = [pod.name, pod.new ? "new" : "old", pod.address, STATES[stage], gate, elb + (astray ? ", still sends requests" : "")];
    cells.forEach((text, column) => say(row.cells[column] ?? row.insertCell(), text));
  });
}

// The chart: over time, two strips for each pod, Kubernetes' and ELB's, and below them the requests.

function drawChart(card, rollout) {
  const width = card.chart.clientWidth;
  if (!width) return;
  const end = Math.max(STEP, ...view.state.rollouts.map((one) => Math.ceil(one.now / STEP) * STEP));
  const x = (time) => (time / end) * width;
  const old = rollout.pods.filter((pod) => !pod.new);
  const fresh = rollout.pods.filter((pod) => pod.new);
  const middle = Math.max(REPLICAS, old.length) * ROW + GAP;
  const below = middle + Math.max(REPLICAS, fresh.length) * ROW + GAP;
  const height = below + REQUESTS;
  const parts = [band(rollout, x, height), grid(end, x, height)];
  old.forEach((pod, at) => parts.push(strips(pod, at * ROW, rollout.now, x)));
  fresh.forEach((pod, at) => parts.push(strips(pod, middle + at * ROW, rollout.now, x)));
  parts.push(columns(rollout, end, width, height));
  card.chart.setAttribute("height", height);
  card.chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  card.chart.innerHTML = parts.join("");
  [ROW * 2 - 6, middle + ROW * 2 - 6, below + REQUESTS / 2 - 6].forEach((top, at) => {
    card.rows.children[at].style.top = `${top}px`;
  });
  drawAxis(card, end);
}

const rect = (kind, x, y, width, height) =>
  width > 0 && height > 0 ? `<rect class="${kind}" x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" height="${height.toFixed(1)}"/>` : "";

// The time from the change of the Deployment to its completion.
function band(rollout, x, height) {
  const at = rollout.marks.findIndex(([, doing]) => doing === "rolling");
  if (at < 0) return "";
  const [from] = rollout.marks[at];
  const [until] = rollout.marks[at + 1] ?? [rollout.now];
  return rect("band", x(from), 0, x(until) - x(from), height);
}

function grid(end, x, height) {
  let lines = "";
  for (let time = 0; time <= end; time += STEP) lines += `<path class="grid" d="M${x(time).toFixed(1)} 0V${height}"/>`;
  return lines;
}

function strips(pod, top, until, x) {
  let drawn = "";
  pod.moments.forEach((moment, at) => {
    const from = x(moment.at);
    const width = x(pod.moments[at + 1]?.at ?? until) - from;
    if (moment.stage === "starting") drawn += rect("starting", from + 0.5, top + 0.5, width - 1, 3);
    else if (moment.stage !== "gone") drawn += rect(moment.stage, from, top, width, 4);
    const target = moment.target && station({ moments: [moment] });
    if (moment.astray) drawn += rect("astray", from, top, width, 9);
    else if (target === "healthy") drawn += rect("healthy", from, top + 5, width, 4);
    else if (target) drawn += rect(target, from, top + 6, width, 2);
  });
  return drawn;
}

// The number of sent and lost requests until a time, between two points by proportion.
function until(points, time) {
  const at = points.findIndex(([after]) => after >= time);
  if (at < 0) return points[points.length - 1];
  if (at === 0) return time <= 0 || points[0][0] === 0 ? [0, 0, 0] : points[0].map((value) => value * (time / points[0][0]));
  const [a, b] = [points[at - 1], points[at]];
  const share = (time - a[0]) / (b[0] - a[0]);
  return a.map((value, index) => value + (b[index] - value) * share);
}

function columns({ requests, now }, end, width, bottom) {
  if (!requests.length) return "";
  const count = Math.max(1, Math.min(Math.floor(end / COLUMN), Math.floor(width / COLUMN_WIDTH)));
  const bins = [];
  for (let at = 0; at < count && (at * end) / count < now; at++) {
    const [a, b] = [until(requests, (at * end) / count), until(requests, Math.min(now, ((at + 1) * end) / count))];
    bins.push([b[1] - a[1], b[2] - a[2]]);
  }
  const most = Math.max(...bins.map(([sent]) => sent), 1);
  const step = width / count;
  return bins.map(([sent, lost], at) => {
    const [all, red] = [(sent / most) * REQUESTS, (Math.min(lost, most) / most) * REQUESTS];
    return rect("answered", at * step, bottom - all, step - 1, Math.max(0, all - red)) +
      rect("lost", at * step, bottom - red, step - 1, red);
  }).join("");
}

function drawAxis(card, end) {
  const every = end > 8 * STEP ? Math.ceil(end / (8 * STEP)) * STEP : STEP;
  const labels = [];
  for (let time = 0; time <= end; time += every) labels.push(time);
  while (card.axis.children.length > labels.length) card.axis.lastElementChild.remove();
  labels.forEach((time, at) => {
    const label = card.axis.children[at] ?? card.axis.appendChild(element("span"));
    say(label, `${time / 1000} s`);
    label.style.left = `${(time / end) * 100}%`;
  });
}

// The page around the cards.

function draw() {
  if (!view.state || view.paused) return;
  const { rollouts, settings } = view.state;
  if (view.cards.length !== rollouts.length) begin(rollouts);
  rollouts.forEach((rollout, number) => drawCard(view.cards[number], rollout));
  say($("settings"), settings.join("\n"));
  drawVerdict();
}

function drawVerdict() {
  const { rollouts, present, complaints } = view.state;
  const losses = rollouts.map(({ title, lost, sent }) => `${title} lost ${lost ? `${lost} of ${sent}` : "none"}`);
  if (complaints === null) {
    const { title, doing } = rollouts[present];
    $("verdict").dataset.state = "waiting";
    say($("verdict"), `Rollout ${present + 1} of ${rollouts.length}: ${title}${doing ? `, ${doing}` : ""}.`);
  } else {
    $("verdict").dataset.state = complaints.length ? "bad" : "good";
    say($("verdict"), complaints.length ? `✗ Not as expected: ${complaints.join(" ")}` : `✓ As expected: ${losses.join("; ")}.`);
  }
}

function begin(rollouts) {
  $("rollouts").replaceChildren();
  $("choices").replaceChildren();
  view.cards = rollouts.map(makeCard);
  const choice = (label, only) => {
    const item = element("li");
    const button = element("button", "", label);
    button.type = "button";
    button.addEventListener("click", () => choose(only));
    item.append(button);
    $("choices").append(item);
  };
  choice("All", null);
  rollouts.forEach((rollout, number) => choice(rollout.title, number));
  choose(null, true);
}

function choose(only, silently) {
  view.only = only;
  [...$("choices").querySelectorAll("button")].forEach((button, at) => button.setAttribute("aria-pressed", String(at === (only ?? -1) + 1)));
  for (const card of view.cards) card.root.hidden = only !== null && card.number !== only;
  if (only === null) delete $("rollouts").dataset.only;
  else $("rollouts").dataset.only = only;
  if (view.state && !view.paused) draw();
  if (!silently) speak(only === null ? "Showing all rollouts." : `Showing ${view.state.rollouts[only].title} only.`);
}

$("pause").addEventListener("click", () => {
  view.paused = !view.paused;
  say($("pause"), view.paused ? "Resume" : "Pause");
  speak(view.paused ? "The picture stands still." : "The picture goes on.");
  draw();
});

$("tables").addEventListener("click", () => {
  const shown = document.body.dataset.tables !== "true";
  document.body.dataset.tables = shown;
  // Only what is seen may be stopped at.
  for (const { table } of view.cards) table.tabIndex = shown ? 0 : -1;
  $("tables").setAttribute("aria-pressed", shown);
  speak(shown ? "Tables are shown." : "Tables are hidden.");
});

// What is spoken: the answer to a key at once, and else a summary now and then.

function speak(text) {
  $("spoken").textContent = text;
  view.spoken = performance.now();
}

function tell() {
  if (!view.state || view.paused || performance.now() - (view.spoken ?? 0) < SPEAK_EVERY) return;
  const ended = view.state.complaints !== null;
  const text = ended ? $("verdict").textContent : summary(view.state.rollouts[view.only ?? view.state.present]);
  // The number of sent requests alone is no news.
  const news = text.replace(/of \d+ requests/, "");
  if (news !== view.told) speak(text);
  view.told = news;
}
setInterval(tell, 1000);

// The stream. The browser connects again by itself, unless the answer was a refusal.

function follow() {
  const stream = new EventSource("/events");
  stream.addEventListener("open", () => link("Live.", "live"));
  stream.addEventListener("picture", (event) => take(JSON.parse(event.data)));
  stream.addEventListener("rollout", (event) => {
    const { present, rollout } = JSON.parse(event.data);
    const rollouts = view.state.rollouts.map((one, number) => (number === present ? rollout : one));
    take({ ...view.state, present, rollouts });
  });
  stream.addEventListener("end", () => {
    stream.close();
    link("The demo has ended. This is its last picture.", "ended");
  });
  stream.addEventListener("error", () => {
    link("The demo does not answer; trying again.", "broken");
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
}

function take(state) {
  view.state = state;
  draw();
}

function link(text, state) {
  say($("link"), text);
  document.body.dataset.link = state;
}

follow();
