"use strict";
// All text goes through textContent: what stands in a log never becomes markup.
const one = (selector, within = document) => within.querySelector(selector);
const every = (selector) => [...document.querySelectorAll(selector)];
const data = JSON.parse(one("#data").textContent);
const plots = every(".plot"), figures = plots.map((plot) => one(".figures", plot.parentNode));
const whole = figures.map((cell) => cell.textContent);
const tip = one("#tip"), detail = one("#detail"), over = one(".over"), flags = one(".flags");
const cursor = one(".cursor"), chosenBand = one(".chosen");
const { bins: all, labels, marks } = data.window;
// What the local clock showed, in seconds: round times are round there.
const local = labels.map((label) => Date.parse(`${label.slice(0, 10)}T${label.slice(11, 19)}Z`) / 1000);
const DAY = 86400, NARROW = 70;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY];
const LAST = STEPS.at(-1);
let from = 0, count = all, chosen = null, begun = null;

const make = (name, parent, text, kind) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  if (parent) parent.append(node);
  return node;
};
const grouped = (value) => {
  const [units, rest] = String(value).split(".");
  const shown = units.length > 4 ? units.replace(/\B(?=(\d{3})+$)/g, "\u202f") : units;
  return rest ? `${shown}.${rest}` : shown;
};
const figure = (lane, bin) => {
  const value = lane.values[bin];
  return value === null ? "not measured" : `${grouped(value)}${lane.unit ? " " + lane.unit : ""}`;
};
const share = (bin) => (bin - from) / count * 100;
const tickText = (label, step) => {
  if (step > LAST) return label.slice(0, 7);
  if (step >= DAY || label.slice(11, 19) === "00:00:00") return label.slice(5, 10);
  return label.slice(11, step < 60 ? 19 : 16) + label.slice(19);
};
const ticks = () => {
  const most = Math.max(2, Math.min(8, over.clientWidth / NARROW)), last = from + count - 1;
  const step = STEPS.find((step) => (local[last] - local[from]) / step <= most) || LAST * (Math.floor((local[last] - local[from]) / (LAST * most)) + 1);
  const found = [];
  for (let bin = from; bin <= last; bin++) {
    const here = Math.floor(local[bin] / step);
    if (bin > 0 ? here !== Math.floor(local[bin - 1] / step) : local[bin] % step === 0) found.push(bin);
  }
  every(".over .grid").forEach((line) => line.remove());
  for (const row of every(".ticks")) {
    row.replaceChildren();
    for (const bin of found) make("span", row, tickText(labels[bin], step)).style.left = share(bin) + "%";
  }
  for (const bin of found) make("i", over, undefined, "grid").style.left = share(bin) + "%";
  every(".date").forEach((cell) => { cell.textContent = labels[from].slice(0, 10) + (data.window.zone ? " " + data.window.zone : ""); });
};
const place = (band, first, width) => {
  band.style.display = first === null ? "none" : "block";
  if (first === null) return;
  band.style.left = share(first) + "%";
  band.style.width = width / count * 100 + "%";
};
const showMarks = () => {
  const lines = every(".over .mark"), texts = [...flags.children], ends = [];
  marks.forEach((mark, at) => {
    const left = share(mark), seen = left >= 0 && left <= 100, text = texts[at];
    lines[at].style.display = text.style.display = seen ? "" : "none";
    if (!seen) return;
    lines[at].style.left = text.style.left = left + "%";
    text.classList.toggle("end", left > 60);
    // In the first line in which it finds room.
    const box = text.getBoundingClientRect();
    let line = 0;
    while ((ends[line] || []).some(([start, end]) => box.left < end + 4 && box.right > start - 4)) line += 1;
    (ends[line] ||= []).push([box.left, box.right]);
    text.style.top = lines[at].style.top = line * 1.2 + "rem";
  });
  flags.style.height = ends.length * 1.2 + "rem";
};
const show = () => {
  for (const plot of plots) plot.setAttribute("viewBox", `${from} 0 ${count} 100`);
  ticks();
  showMarks();
  place(chosenBand, chosen, 1);
  one("#whole").disabled = count === all;
};
const zoom = (start, bins) => {
  count = Math.max(Math.min(5, all), Math.min(all, Math.round(bins)));
  from = Math.max(0, Math.min(all - count, Math.round(start)));
  show();
};
const binAt = (plot, event) => {
  const box = plot.getBoundingClientRect();
  const exact = (x) => Math.min(from + count - 1, Math.max(from, Math.floor(from + (x - box.left) / box.width * count)));
  const bin = exact(event.clientX);
  if (count <= box.width / 3) return bin;
  // Nobody hits a third of a pixel: the largest one near the pointer.
  const values = data.lanes[plot.dataset.lane].values;
  let best = bin;
  for (let near = exact(event.clientX - 2); near <= exact(event.clientX + 2); near++) if ((values[near] || 0) > (values[best] || 0)) best = near;
  return best;
};
const point = (bin) => {
  cursor.style.display = bin === null ? "none" : "block";
  if (bin !== null) cursor.style.left = share(bin + 0.5) + "%";
  figures.forEach((cell, at) => {
    cell.textContent = bin === null ? whole[at] : figure(data.lanes[at], bin);
    cell.classList.toggle("now", bin !== null);
  });
};
const remember = (fragment) => { try { history.replaceState(null, "", fragment || location.pathname); } catch { /* a frame without an address */ } };
const choose = (bin) => {
  chosen = bin;
  place(chosenBand, chosen, 1);
  detail.hidden = bin === null;
  document.body.classList.toggle("open", bin !== null);
  remember(bin === null ? "" : `#bin=${bin}`);
  if (bin === null) return;
  const text = one("#lines");
  one("h3", detail).textContent = `${labels[bin]} (${data.window.width})`;
  text.replaceChildren();
  detail.scrollTop = 0;
  let lines = 0;
  for (const lane of data.lanes) {
    const value = lane.values[bin];
    if (!value) continue;
    make("p", text, `${lane.title}: ${lane.name} – ${figure(lane, bin)}`);
    const kept = lane.lines[bin] || [];
    for (const line of kept) make("div", text, line, "line soft");
    lines += kept.length;
    const rest = value - kept.length;
    if (kept.length && rest > 0 && !lane.unit) make("div", text, `and ${grouped(rest)} more`, "soft");
  }
  if (!lines) make("p", text, "No line of this bin was kept.", "soft");
};
const hasFailed = (bin) => data.lanes.some((lane) => lane.failure && lane.values[bin] > 0);
const step = (by) => {
  let bin = (chosen ?? (by > 0 ? from - 1 : from + count)) + by;
  while (bin >= 0 && bin < all && !hasFailed(bin)) bin += by;
  if (bin < 0 || bin >= all) return;
  if (bin < from || bin >= from + count) zoom(bin - count / 2, count);
  choose(bin);
};
for (const plot of plots) {
  const lane = data.lanes[plot.dataset.lane];
  plot.addEventListener("pointermove", (event) => {
    const bin = binAt(plot, event);
    tip.textContent = `${labels[bin]}  ${lane.title}: ${lane.name}  ${figure(lane, bin)}`;
    tip.style.display = "block";
    tip.style.left = Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = (event.clientY + 24 + tip.offsetHeight > innerHeight ? event.clientY - 12 - tip.offsetHeight : event.clientY + 16) + "px";
    point(bin);
    if (begun !== null) place(chosenBand, Math.min(begun.bin, bin), Math.abs(bin - begun.bin) + 1);
  });
  plot.addEventListener("pointerleave", () => { tip.style.display = "none"; point(null); });
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    begun = { bin: binAt(plot, event), x: event.clientX };
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointerup", (event) => {
    if (begun === null) return;
    const bin = binAt(plot, event), first = begun;
    begun = null;
    // A hand that trembles still clicks.
    if (Math.abs(event.clientX - first.x) >= 6 && bin !== first.bin) zoom(Math.min(first.bin, bin), Math.abs(bin - first.bin) + 1);
    else choose(bin);
  });
  plot.addEventListener("pointercancel", () => { begun = null; place(chosenBand, chosen, 1); });
  plot.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const bin = binAt(plot, event), times = event.deltaY + event.deltaX > 0 ? 1.5 : 1 / 1.5;
    zoom(bin - (bin - from) * times, count * times);
  }, { passive: false });
}
one("#whole").addEventListener("click", () => zoom(0, all));
one("#close").addEventListener("click", () => choose(null));
one("#earlier").addEventListener("click", () => step(-1));
one("#later").addEventListener("click", () => step(1));
addEventListener("resize", show);
document.addEventListener("keydown", (event) => {
  // These are the browser's own.
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const by = Math.max(1, count / 10);
  if (event.key === "ArrowLeft") zoom(from - by, count);
  else if (event.key === "ArrowRight") zoom(from + by, count);
  else if (event.key === "+") zoom(from + count / 6, count / 1.5);
  else if (event.key === "-") zoom(from - count / 4, count * 1.5);
  else if (event.key === "n") step(1);
  else if (event.key === "p") step(-1);
  else if (event.key === "Escape" && chosen !== null) choose(null);
  else if (event.key === "Escape" || event.key === "0") zoom(0, all);
});
// A link may name a bin, as in report.html#bin=12.
const named = /^#bin=(\d{1,6})$/.exec(location.hash);
show();
if (named && Number(named[1]) < all) choose(Number(named[1]));
document.documentElement.dataset.ready = "yes";
