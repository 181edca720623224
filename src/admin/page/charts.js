// Numbers over time.

const CHARTS = [
  { title: "Grants /s", series: [["grants", "all"], ["hand_overs", "handed over"]], marks: [] },
  { title: "Requests that wait", series: [["waiters", ""]], marks: [], isArea: true },
  { title: "Refused /s", series: [["refusals", ""]], marks: ["deadlocks", "lease_ends", "grace_ends"], markTitle: "deadlock, lock lost" },
];
const HEIGHT = 84;
const TOP = 14;

class Chart {
  constructor(plan) {
    this.plan = plan;
    this.readout = make("span", { class: "readout" });
    this.drawing = draw("svg", { role: "img", pointermove: (event) => this.point(event), pointerleave: () => this.unpoint() });
    const named = plan.series.length > 1 ? plan.series : [];
    const legend = named.map(([, title], place) => make("span", { class: `legend series${place}` }, title));
    const marks = plan.markTitle && make("span", { class: "legend marks" }, plan.markTitle);
    const caption = make("figcaption", {}, make("b", {}, plan.title), ...legend, marks, this.readout);
    this.figure = make("figure", { class: "chart" }, caption, this.drawing);
  }

  show(samples, ms) {
    this.ms = ms;
    this.lines = this.plan.series.map(([name]) => thinned(samples.points(name, ms), 400));
    this.marks = this.plan.marks.flatMap((name) => samples.points(name, ms)).filter(([, value]) => value > 0);
    this.end = samples.list.at(-1)?.at_ms ?? 0;
    this.redraw();
  }

  redraw() {
    const width = Math.max(80, this.drawing.clientWidth || 300);
    const height = this.drawing.clientHeight || HEIGHT;
    const top = Math.max(1, ...this.lines.flat().map(([, value]) => value));
    this.x = (ms) => width - ((this.end - ms) / this.ms) * width;
    this.y = (value) => height - 14 - (value / top) * (height - TOP - 14);
    const base = this.y(0);
    const parts = [draw("path", { class: "frame", d: `M0 ${base}H${width}` })];
    const xs = new Set(this.marks.map(([ms]) => Math.round(this.x(ms))));
    for (const x of xs) parts.push(draw("path", { class: "mark", d: `M${x} ${TOP}V${base}` }));
    this.lines.forEach((points, place) => parts.push(...this.line(points, place, base)));
    const last = this.lines.map((points) => points.at(-1)?.[1] ?? 0);
    parts.push(draw("text", { x: 0, y: 10 }, `${rate(top)}`));
    parts.push(draw("text", { x: 0, y: height - 2 }, this.ms < HOUR_MS ? `${this.ms / 6e4} min ago` : "1 h ago"));
    parts.push(draw("text", { x: width, y: height - 2, "text-anchor": "end" }, "now"));
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.drawing.setAttribute("aria-label", `${this.plan.title}: now ${last.map(rate).join(" and ")}, at most ${rate(top)}`);
    this.drawing.replaceChildren(...parts);
    const isEmpty = this.lines.every((points) => points.length < 2);
    this.readout.textContent = isEmpty ? "a line appears after some seconds" : last.map(rate).join(" · ");
  }

  line(points, place, base) {
    if (points.length < 2) return [];
    const path = points.map(([ms, value]) => `${this.x(ms).toFixed(1)} ${this.y(value).toFixed(1)}`).join("L");
    const line = draw("path", { class: `line series${place}`, d: `M${path}` });
    if (!this.plan.isArea) return [line];
    const [first, last] = [this.x(points[0][0]), this.x(points.at(-1)[0])];
    return [draw("path", { class: "area", d: `M${first} ${base}L${path}L${last} ${base}Z` }), line];
  }

  point(event) {
    const box = this.drawing.getBoundingClientRect();
    const ms = this.end - (1 - (event.clientX - box.left) / box.width) * this.ms;
    const nearest = this.lines.map((points) => nearestTo(points, ms));
    if (!nearest[0]) return;
    const time = new Date(nearest[0][0]).toTimeString().slice(0, 8);
    this.readout.textContent = `${time}  ${nearest.map((one) => rate(one?.[1] ?? 0)).join(" · ")}`;
    this.pointer ??= draw("path", { class: "pointer" });
    this.pointer.setAttribute("d", `M${this.x(nearest[0][0])} ${TOP}V${this.y(0)}`);
    this.drawing.append(this.pointer);
  }

  unpoint() {
    this.pointer?.remove();
    this.redraw();
  }
}

/** No more than so many points: of each group the largest, so that no peak is lost. */
function thinned(points, most) {
  if (points.length <= most) return points;
  const size = Math.ceil(points.length / most);
  const kept = [];
  for (let at = 0; at < points.length; at += size) {
    kept.push(points.slice(at, at + size).reduce((one, other) => (other[1] > one[1] ? other : one)));
  }
  return kept;
}

function nearestTo(points, ms) {
  return points.reduce((one, other) => (!one || Math.abs(other[0] - ms) < Math.abs(one[0] - ms) ? other : one), undefined);
}
