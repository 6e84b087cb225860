"use strict";
// All text goes through textContent: what stands in a log never becomes markup.
const data = JSON.parse(document.getElementById("data").textContent);
const plots = [...document.querySelectorAll(".plot")];
const tip = document.getElementById("tip"), detail = document.getElementById("detail");
const all = data.window.bins;
let from = 0, count = all;

const make = (name, parent, text, kind) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  if (parent) parent.append(node);
  return node;
};
const figure = (lane, bin) => {
  const value = lane.values[bin];
  return value === null ? "not measured" : `${value}${lane.unit ? " " + lane.unit : ""}`;
};
const show = () => {
  for (const plot of plots) plot.setAttribute("viewBox", `${from} 0 ${count} 100`);
  const ticks = document.querySelectorAll(".axis span");
  ticks.forEach((tick, at) => {
    const bin = Math.min(all - 1, Math.floor(from + count * at / Math.max(1, ticks.length - 1)));
    tick.textContent = data.window.labels[bin].slice(at === 0 ? 0 : 11);
  });
  document.getElementById("whole").disabled = count === all;
};
const zoom = (start, bins) => {
  count = Math.max(Math.min(5, all), Math.min(all, Math.round(bins)));
  from = Math.max(0, Math.min(all - count, Math.round(start)));
  show();
};
const binAt = (plot, event) => {
  const box = plot.getBoundingClientRect();
  const share = Math.min(0.999999, Math.max(0, (event.clientX - box.left) / box.width));
  return Math.min(all - 1, Math.floor(from + share * count));
};
const place = (name, bin, width) => {
  for (const plot of plots) {
    const rect = plot.querySelector("." + name);
    rect.setAttribute("x", bin);
    rect.setAttribute("width", width);
  }
};
const choose = (bin) => {
  place("chosen", bin, 1);
  detail.replaceChildren();
  make("h3", detail, `${data.window.labels[bin]} (${data.window.width})`);
  let lines = 0;
  for (const lane of data.lanes) {
    const value = lane.values[bin];
    if (!value) continue;
    make("p", detail, `${lane.title}: ${lane.name} – ${figure(lane, bin)}`);
    const kept = lane.lines[bin] || [];
    for (const line of kept) make("div", detail, line, "line soft");
    lines += kept.length;
    const rest = value - kept.length;
    if (kept.length && rest > 0 && !lane.unit) make("div", detail, `and ${rest} more`, "soft");
  }
  if (!lines) make("p", detail, "No line of this bin was kept.", "soft");
};
let begun = null;
for (const plot of plots) {
  const lane = data.lanes[Number(plot.dataset.lane)];
  plot.addEventListener("pointermove", (event) => {
    const bin = binAt(plot, event);
    tip.textContent = `${data.window.labels[bin]}  ${lane.title}: ${lane.name}  ${figure(lane, bin)}`;
    tip.style.display = "block";
    tip.style.left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = event.clientY + 16 + "px";
    if (begun !== null) place("chosen", Math.min(begun, bin), Math.abs(bin - begun) + 1);
  });
  plot.addEventListener("pointerleave", () => { tip.style.display = "none"; });
  plot.addEventListener("pointerdown", (event) => { begun = binAt(plot, event); plot.setPointerCapture(event.pointerId); });
  plot.addEventListener("pointerup", (event) => {
    const bin = binAt(plot, event);
    if (begun !== null && Math.abs(bin - begun) >= 2) { zoom(Math.min(begun, bin), Math.abs(bin - begun) + 1); place("chosen", 0, 0); }
    else choose(bin);
    begun = null;
  });
  plot.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const bin = binAt(plot, event), times = event.deltaY + event.deltaX > 0 ? 1.5 : 1 / 1.5;
    zoom(bin - (bin - from) * times, count * times);
  }, { passive: false });
}
document.getElementById("whole").addEventListener("click", () => zoom(0, all));
document.addEventListener("keydown", (event) => {
  const step = Math.max(1, count / 10);
  if (event.key === "ArrowLeft") zoom(from - step, count);
  else if (event.key === "ArrowRight") zoom(from + step, count);
  else if (event.key === "+") zoom(from + count / 6, count / 1.5);
  else if (event.key === "-") zoom(from - count / 4, count * 1.5);
  else if (event.key === "Escape" || event.key === "0") zoom(0, all);
});
// A link may name a bin, as in report.html#bin=12.
const named = /^#bin=(\d{1,6})$/.exec(location.hash);
show();
if (named && Number(named[1]) < all) choose(Number(named[1]));
document.documentElement.dataset.ready = "yes";
