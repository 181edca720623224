// What the server's numbers were over time: the server's own samples of the last hour, and then one for each look.

const HOUR_MS = 36e5;

/** Counters of which rates are drawn, and levels. */
const COUNTERS = ["grants", "hand_overs", "refusals", "deadlocks", "lease_ends", "grace_ends"];
const LEVELS = ["waiters", "locks"];

class Samples {
  constructor() {
    this.list = [];
  }

  /** Begins with what the server has kept. */
  begin({ samples }) {
    this.list = samples;
  }

  add(info, ms) {
    const sample = { at_ms: ms };
    for (const name of [...COUNTERS, ...LEVELS]) sample[name] = info[name];
    const last = this.list.at(-1);
    if (last && last.at_ms >= ms) return;
    this.list.push(sample);
    const old = this.list.findIndex((one) => one.at_ms >= ms - HOUR_MS);
    if (old > 0) this.list.splice(0, old);
  }

  /** How much a counter has grown since so long ago, or since the first sample. */
  growth(name, ms) {
    const last = this.list.at(-1);
    if (!last) return 0;
    const first = this.list.find((one) => one.at_ms >= last.at_ms - ms) ?? last;
    return Math.max(0, last[name] - first[name]);
  }

  /** How often a counter counts in a second at this time: over the last ten seconds, as far as known. */
  now(name) {
    const last = this.list.at(-1);
    const first = last && this.list.find((one) => one.at_ms >= last.at_ms - 12_000);
    const seconds = last ? (last.at_ms - first.at_ms) / 1000 : 0;
    return seconds > 0.5 ? Math.max(0, last[name] - first[name]) / seconds : undefined;
  }

  /** Points `[ms, value]` of the last so many milliseconds: levels as they are, counters by the second. */
  points(name, ms) {
    const since = (this.list.at(-1)?.at_ms ?? 0) - ms;
    const from = Math.max(0, this.list.findIndex((one) => one.at_ms >= since));
    if (LEVELS.includes(name)) return this.list.slice(from).map((one) => [one.at_ms, one[name]]);
    const points = [];
    for (let place = Math.max(1, from); place < this.list.length; place += 1) {
      const [before, one] = [this.list[place - 1], this.list[place]];
      const seconds = (one.at_ms - before.at_ms) / 1000;
      points.push([one.at_ms, Math.max(0, one[name] - before[name]) / seconds]);
    }
    return points;
  }
}
